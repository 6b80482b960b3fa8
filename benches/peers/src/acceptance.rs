//! The targets of Sealstone, and whether this run met them.

use std::fmt::Write as _;

use crate::figures;
use crate::operations::{BATCH_OBJECTS, HashAlone, Operation};
use crate::results::{Results, Row, short};
use crate::workload::{BULK_PUT, DISK};

const OURS: &str = "Sealstone";
const READER: &str = "Sealstone reader";
const FIRST_READ: &str = "Sealstone FirstRead";
const READER_FIRST_READ: &str = "Sealstone reader FirstRead";
const LMDB: &str = "LMDB";
const PARITY_DB: &str = "parity-db";

/// The range that a figure has to be in.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit}"),
            Self::AtLeast(limit) => format!("at least {limit}"),
            Self::Below(limit) => format!("below {limit}"),
        }
    }
}

struct Check {
    id: &'static str,
    what: String,
    target: Target,
    measured: Option<f64>,
}

/// Collects the checks, with the results that they look at.
struct Checks<'a> {
    results: &'a Results,
    checks: Vec<Check>,
}

impl Checks<'_> {
    fn add(
        &mut self,
        id: &'static str,
        what: impl Into<String>,
        target: Target,
        measured: Option<f64>,
    ) {
        self.checks.push(Check {
            id,
            what: what.into(),
            target,
            measured,
        });
    }

    /// The median of an operation of a contender at a size.
    fn median(&self, size: &str, operation: &str, contender: &str) -> Option<f64> {
        self.results.median(size, operation, contender)
    }

    fn operation(&self, size: &str, operation: Operation, contender: &str) -> Option<f64> {
        self.median(size, &operation.name(), contender)
    }

    fn figure(&self, name: &str) -> Option<f64> {
        self.median("figures", name, OURS)
    }
}

fn ratio(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below?)
}

/// Returns the table of targets as Markdown.
pub fn markdown(machine: &[String], is_whole: bool, results: &Results) -> String {
    let mut checks = Checks {
        results,
        checks: Vec::new(),
    };
    reads(&mut checks);
    store(&mut checks);
    writes(&mut checks);

    let mut text = String::from("# Acceptance\n\n");
    for line in machine {
        writeln!(text, "- {line}").expect("a String takes everything");
    }
    if !is_whole {
        text += "\nThis was not a whole run: the targets are for more objects.\n";
    }
    text += "\n| | what | target | measured | |\n|---|---|---:|---:|---|\n";
    for check in &checks.checks {
        let (measured, verdict) = match check.measured {
            Some(value) if check.target.is_met(value) => (short(value), "met"),
            Some(value) => (short(value), "**missed**"),
            None => ("-".into(), "not measured"),
        };
        let (id, what, target) = (check.id, &check.what, check.target.text());
        writeln!(
            text,
            "| {id} | {what} | {target} | {measured} | {verdict} |"
        )
        .expect("a String takes everything");
    }
    let met = |check: &&Check| {
        check
            .measured
            .is_some_and(|value| check.target.is_met(value))
    };
    let count = checks.checks.iter().filter(met).count();
    write!(text, "\n{count} of {} met.\n", checks.checks.len()).expect("a String takes everything");
    text
}

/// Adds B1 to B4.
fn reads(checks: &mut Checks) {
    let limits = [("256 B", 0.36, 0.65), ("1 KiB", 0.58, 0.87)];
    for ours in [OURS, READER] {
        for (size, lmdb, parity_db) in limits {
            for (peer, limit) in [(LMDB, lmdb), (PARITY_DB, parity_db)] {
                let measured = ratio(
                    checks.operation(size, Operation::Checked, ours),
                    checks.operation(size, Operation::Checked, peer),
                );
                let what = format!("{ours}: random checked get, {size}, of {peer}'s time");
                checks.add("B1", what, Target::AtMost(limit), measured);
            }
        }
        let measured = ratio(
            checks.operation("64 KiB", Operation::Checked, ours),
            checks.operation("64 KiB", Operation::Checked, HashAlone::NAME),
        );
        let what = format!("{ours}: random checked get, 64 KiB, of hashing a hot buffer");
        checks.add("B1", what, Target::AtMost(1.10), measured);
    }
    for ours in [OURS, READER] {
        for (size, limit) in [("256 B", 0.13), ("1 KiB", 0.27)] {
            let measured = ratio(
                checks.operation(size, Operation::Batch(BATCH_OBJECTS), ours),
                checks.operation(size, Operation::Checked, LMDB),
            );
            let what = format!("{ours}: an object in batches of 32, {size}, of LMDB's checked get");
            checks.add("B2", what, Target::AtMost(limit), measured);
        }
    }
    for ours in [FIRST_READ, READER_FIRST_READ] {
        for size in ["256 B", "1 KiB"] {
            for (peer, limit) in [(PARITY_DB, 0.25), (LMDB, 0.15)] {
                let measured = ratio(
                    checks.operation(size, Operation::Unchecked, ours),
                    checks.operation(size, Operation::Unchecked, peer),
                );
                let what = format!("{ours}: unchecked get, {size}, of {peer}'s time");
                checks.add("B3", what, Target::AtMost(limit), measured);
            }
        }
    }
    for size in ["256 B", "1 KiB"] {
        let measured = ratio(
            checks.operation(size, Operation::Checked, OURS),
            checks.operation(size, Operation::Threads(2), OURS),
        );
        let what = format!("throughput of two threads, {size}, of one thread's");
        checks.add("B4", what, Target::AtLeast(1.9), measured);
    }
    let measured = ratio(
        checks.operation("256 B", Operation::Miss, OURS),
        checks.operation("256 B", Operation::Checked, OURS),
    );
    checks.add(
        "B4",
        "a miss, 256 B, of a hit",
        Target::AtMost(1.0),
        measured,
    );
}

/// Adds B5 to B7.
fn store(checks: &mut Checks) {
    let measured = ratio(
        checks.figure(figures::GET_IN_MANY),
        checks.figure(figures::GET_IN_FEW),
    );
    let what = "get in 512 segments, of a get in 8";
    checks.add("B5", what, Target::AtMost(1.25), measured);
    for (name, limit) in [
        (figures::OPEN_SMALL, 10.0),
        (figures::OPEN_LARGE, 10.0),
        (figures::OPEN_AFTER_KILL, 30.0),
    ] {
        let measured = checks.figure(name);
        checks.add("B6", format!("{name}, ms"), Target::AtMost(limit), measured);
    }
    let measured = checks.figure(figures::HEAP);
    let what = format!("{}, bytes an object", figures::HEAP);
    checks.add("B7", what, Target::AtMost(1.0), measured);
    for (size, limit) in [("1 KiB", 1.06), ("256 B", 1.25)] {
        let measured = checks.median(size, DISK, OURS);
        let what = format!("disk, {size}, of the content");
        checks.add("B7", what, Target::AtMost(limit), measured);
    }
}

/// Adds B8 and B9.
fn writes(checks: &mut Checks) {
    for size in ["256 B", "1 KiB"] {
        for (peer, limit) in [(PARITY_DB, 3.0), (LMDB, 5.0)] {
            let measured = ratio(
                checks.median(size, BULK_PUT, peer),
                checks.median(size, BULK_PUT, OURS),
            );
            let what = format!("bulk put with one sync, {size}, of {peer}'s rate");
            checks.add("B8", what, Target::AtLeast(limit), measured);
        }
    }
    let longest = checks.results.row("figures", figures::LONGEST_PUT, OURS);
    let what = format!("{}, of all rounds, ms", figures::LONGEST_PUT);
    checks.add("B8", what, Target::Below(20.0), longest.map(Row::max));
    let measured = ratio(
        checks.figure(figures::COMPACT),
        checks.figure(figures::COPY),
    );
    let what = "compaction that drops a random half, of the rate of a copy with fsync";
    checks.add("B9", what, Target::AtLeast(0.7), measured);
    let measured = ratio(
        checks.figure(figures::VERIFY),
        checks.figure(&format!("{}, 1 KiB", figures::HASH)),
    );
    let what = "verify, of the rate of single-stream BLAKE2b";
    checks.add("B9", what, Target::AtLeast(2.5), measured);
}
