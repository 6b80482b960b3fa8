//! The samples that were measured, and their medians.

use std::fmt::Write as _;

/// Samples of one operation of one contender at one size.
pub struct Row {
    pub size: String,
    pub operation: String,
    pub contender: String,
    pub unit: &'static str,
    pub samples: Vec<f64>,
}

impl Row {
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn max(&self) -> f64 {
        self.samples.iter().copied().fold(0.0, f64::max)
    }
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// All rows, in the order in which they were first measured.
#[derive(Default)]
pub struct Results(pub Vec<Row>);

impl Results {
    /// Adds a sample. Samples are added in the order of the rounds, so that samples of two rows at
    /// the same position were taken in the same round.
    pub fn add(
        &mut self,
        size: &str,
        operation: &str,
        contender: &str,
        unit: &'static str,
        sample: f64,
    ) {
        if let Some(row) = self.position(size, operation, contender) {
            self.0[row].samples.push(sample);
        } else {
            self.0.push(Row {
                size: size.into(),
                operation: operation.into(),
                contender: contender.into(),
                unit,
                samples: vec![sample],
            });
        }
    }

    fn position(&self, size: &str, operation: &str, contender: &str) -> Option<usize> {
        self.0.iter().position(|row| {
            row.size == size && row.operation == operation && row.contender == contender
        })
    }

    pub fn row(&self, size: &str, operation: &str, contender: &str) -> Option<&Row> {
        self.position(size, operation, contender)
            .map(|row| &self.0[row])
    }

    pub fn median(&self, size: &str, operation: &str, contender: &str) -> Option<f64> {
        self.row(size, operation, contender).map(Row::median)
    }

    /// Returns the different values of a column, in the order in which they first occur.
    pub fn distinct<'a>(&'a self, column: impl Fn(&'a Row) -> &'a str) -> Vec<&'a str> {
        let mut values = Vec::new();
        for row in &self.0 {
            let value = column(row);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    pub fn csv(&self) -> String {
        let mut csv = String::from("size,operation,contender,unit,median,min,max,samples\n");
        for row in &self.0 {
            writeln!(
                csv,
                "{},\"{}\",{},{},{:.5},{:.5},{:.5},{}",
                row.size,
                row.operation,
                row.contender,
                row.unit,
                row.median(),
                row.min(),
                row.max(),
                row.samples.len()
            )
            .expect("a String takes everything");
        }
        csv
    }
}

/// Returns the median of the ratios within each round, where both were measured back to back.
pub fn ratio_by_round(ours: &Row, theirs: &Row) -> f64 {
    let ratios: Vec<_> = ours
        .samples
        .iter()
        .zip(&theirs.samples)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    median(&ratios)
}

/// Writes a number with about three digits.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
