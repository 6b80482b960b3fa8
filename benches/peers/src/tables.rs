//! The results as Markdown.

use std::fmt::Write as _;

use crate::figures::SEALSTONE;
use crate::hash_functions;
use crate::kinds::kinds;
use crate::larger_than_memory;
use crate::results::{Results, Row, ratio_by_round, short};

/// Returns all results as a page.
pub fn markdown(machine: &[String], results: &Results) -> String {
    let mut text = String::from("# Sealstone and its peers\n\n");
    for line in machine {
        writeln!(text, "- {line}").expect("a String takes everything");
    }
    text += "\nThe figures are medians of the rounds, with the least and the greatest; us are \
             microseconds for an object. The second table of each size has the time of Sealstone \
             divided by that of each peer: the ratio of the medians, and the median of the ratios \
             of each round. Below 1, Sealstone is faster.\n";
    for size in results.distinct(|row| &row.size) {
        let rows: Vec<_> = results.0.iter().filter(|row| row.size == size).collect();
        write!(text, "\n## {size}\n\n").expect("a String takes everything");
        if size == "figures" {
            figures(&mut text, &rows);
        } else if size == hash_functions::PART || size == larger_than_memory::PART {
            comparison(&mut text, &rows);
        } else {
            comparison(&mut text, &rows);
            ratios(&mut text, &rows);
        }
    }
    text
}

fn distinct<'a>(rows: &[&'a Row], column: impl Fn(&'a Row) -> &'a str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for &row in rows {
        let value = column(row);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn header(text: &mut String, first: &str, names: &[&str]) {
    let columns = names.join(" | ");
    let rule = "---:|".repeat(names.len());
    write!(text, "| {first} | {columns} |\n|---|{rule}\n").expect("a String takes everything");
}

/// Returns the contenders in the order of [`kinds`], followed by those that are not stores.
fn contenders<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let kinds = kinds();
    let mut contenders = distinct(rows, |row| &row.contender);
    contenders.sort_by_key(|name| {
        kinds
            .iter()
            .position(|kind| kind.name() == *name)
            .unwrap_or(usize::MAX)
    });
    contenders
}

/// Writes a table with an operation a line and a contender a column.
fn comparison(text: &mut String, rows: &[&Row]) {
    let contenders = contenders(rows);
    header(text, "", &contenders);
    for operation in distinct(rows, |row| &row.operation) {
        let of_operation: Vec<_> = rows
            .iter()
            .filter(|row| row.operation == operation)
            .collect();
        write!(text, "| {operation}, {} |", of_operation[0].unit)
            .expect("a String takes everything");
        for contender in &contenders {
            let row = of_operation.iter().find(|row| row.contender == *contender);
            let cell = row.map_or("-".into(), |row| with_spread(row));
            write!(text, " {cell} |").expect("a String takes everything");
        }
        text.push('\n');
    }
}

fn with_spread(row: &Row) -> String {
    if row.samples.len() == 1 {
        return short(row.median());
    }
    format!(
        "**{}** ({} to {})",
        short(row.median()),
        short(row.min()),
        short(row.max())
    )
}

/// Writes the time of each way of reading Sealstone, divided by the time of each peer.
fn ratios(text: &mut String, rows: &[&Row]) {
    let is_ours = |name: &str| name.starts_with(SEALSTONE);
    let (ours, peers): (Vec<_>, Vec<_>) =
        contenders(rows).into_iter().partition(|name| is_ours(name));
    text.push('\n');
    header(text, "Sealstone's share", &peers);
    for operation in distinct(rows, |row| &row.operation) {
        for name in &ours {
            let find = |contender: &str| {
                rows.iter()
                    .find(|row| row.operation == operation && row.contender == contender)
            };
            let Some(our) = find(name) else { continue };
            let way = name.strip_prefix(SEALSTONE).unwrap_or_default();
            write!(
                text,
                "| {operation}{}{way} |",
                if way.is_empty() { "" } else { ":" }
            )
            .expect("a String takes everything");
            for peer in &peers {
                let cell = find(peer).map_or("-".into(), |their| {
                    let of_medians = our.median() / their.median();
                    format!("{of_medians:.2} ({:.2})", ratio_by_round(our, their))
                });
                write!(text, " {cell} |").expect("a String takes everything");
            }
            text.push('\n');
        }
    }
}

fn figures(text: &mut String, rows: &[&Row]) {
    header(text, "Sealstone", &["unit", "median", "least", "greatest"]);
    for row in rows {
        writeln!(
            text,
            "| {} | {} | **{}** | {} | {} |",
            row.operation,
            row.unit,
            short(row.median()),
            short(row.min()),
            short(row.max())
        )
        .expect("a String takes everything");
    }
}
