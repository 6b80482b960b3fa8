//! Sealstone compared with LMDB, redb, fjall and parity-db. Linux only.
//!
//! A short run takes some minutes, with fewer objects and every operation:
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- --short
//!
//! The figures of `benches/README.md` take about 20 minutes, 10 GiB of disk and 20 GiB of memory:
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml
//!
//! It prints the tables, and writes `results.csv`, `results.md`, `acceptance.md` and three
//! pictures.
//!
//! # What is compared
//!
//! Each is used as a content-addressed store: the key is the digest of the content, and putting
//! includes hashing it. Each is opened as its documentation recommends for speed; see [`peers`].
//!
//! - Contents are random bytes, made before the clock starts ([`contents`]).
//! - A *bulk put* gets batches of 16 MiB as they come, and syncs once. Batches are hashed on all
//!   cores, with BLAKE2b in lanes, for all stores alike: by the store itself or for it. Trees get
//!   each batch sorted. The *load of everything sorted* shows what a tree gains if all content is
//!   known beforehand and sorted as a whole.
//! - *Puts with a sync each 1,000* are hashed one by one on one thread.
//! - A *checked get* hashes the content and compares. Sealstone does it by itself; for the others
//!   the benchmark does it, with the same BLAKE2b. In batches and scans, the others' contents are
//!   hashed in lanes, 32 at a time, which is the fastest way for them.
//! - An *unchecked get* looks at the first byte. Sealstone has it with `FirstRead`, once everything
//!   was read before.
//! - All stores of a size are filled and open at the same time, and everything was read once: the
//!   page cache is warm, and so are the caches of redb and fjall, which hold everything. In each
//!   round all stores do the same, one after the other, so that whatever else the machine does hits
//!   all of them alike.
//! - Only `--only cold` measures stores that do not fit into memory ([`larger_than_memory`]).

mod acceptance;
mod arguments;
mod child;
mod contents;
mod disk;
mod figures;
mod hash_functions;
mod hashing;
mod kinds;
mod larger_than_memory;
mod machine;
mod operations;
mod peer;
mod peers;
mod picture;
mod results;
mod tables;
mod workload;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::Arguments;
use contents::Size;
use figures::Scale;
use operations::{BATCH_OBJECTS, HashAlone, Operation};
use picture::Bar;
use results::Results;
use workload::Workload;

/// For each size, the objects in the store and the gets of a round.
const READS: [(Size, f64, f64); 5] = [
    (Size::Fixed(256), 4e6, 5e5),
    (Size::Fixed(1 << 10), 1e6, 5e5),
    (Size::Fixed(4 << 10), 250e3, 2e5),
    (Size::Fixed(64 << 10), 20e3, 1e4),
    (Size::Mix, 200e3, 1e5),
];

/// For each size, the objects that are put.
const WRITES: [(Size, f64); 2] = [(Size::Fixed(256), 1e6), (Size::Fixed(1 << 10), 1e6)];

/// Puts take long, as each round needs a new folder.
const WRITE_ROUNDS: usize = 3;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == child::CHILD) {
        child::run(&words[1..]);
        return ExitCode::SUCCESS;
    }
    match Arguments::parse() {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => print!("{}", arguments::HELP),
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments) {
    let start = Instant::now();
    fs::create_dir_all(&arguments.out).expect("--out can be made");
    let folder = tempfile::tempdir_in(&arguments.folder).expect("--folder can be written to");
    let mut machine = machine::describe(folder.path());
    if machine::file_system(folder.path()) == "tmpfs" {
        machine.push("syncs cost nothing, as the folder is in memory: give a `--folder`".into());
    }
    for line in &machine {
        println!("{line}");
    }
    let results = measure(arguments, folder.path(), &mut machine);
    machine.push(format!(
        "{} rounds, {:.0} % of the objects of a whole run, {:.0} minutes",
        arguments.rounds,
        arguments.scale * 100.0,
        start.elapsed().as_secs_f64() / 60.0
    ));
    write(arguments, &machine, &results);
}

fn measure(arguments: &Arguments, folder: &Path, machine: &mut Vec<String>) -> Results {
    let scale = Scale(arguments.scale);
    let rounds = arguments.rounds;
    let is_chosen = |part: &str| arguments.only.iter().any(|chosen| chosen == part);
    let mut results = Results::default();
    if is_chosen("put") {
        for (size, objects) in WRITES {
            let workload = Workload {
                size,
                objects: scale.of(objects, 1_000),
                lookups: 0,
            };
            workload::write(&workload, rounds.min(WRITE_ROUNDS), folder, &mut results);
        }
    }
    for (size, objects, lookups) in READS {
        if is_chosen(&size.key()) {
            let lookups = scale.of(lookups, 500);
            let workload = Workload {
                size,
                objects: scale.of(objects, 500),
                lookups: usize::try_from(lookups).expect("64 bits"),
            };
            workload::read(&workload, rounds, folder, &mut results);
        }
    }
    if is_chosen("figures") {
        figures::run(scale, rounds, folder, &mut results);
    }
    if is_chosen("hash") {
        hash_functions::run(rounds, folder, &mut results);
    }
    if is_chosen(arguments::COLD) {
        let lines = larger_than_memory::run(scale, rounds, folder, &mut results);
        for line in &lines {
            println!("{line}");
        }
        machine.extend(lines);
    }
    results
}

fn write(arguments: &Arguments, machine: &[String], results: &Results) {
    #[expect(clippy::float_cmp, reason = "the scale is given, not computed")]
    let is_whole = arguments.scale == 1.0;
    let tables = tables::markdown(machine, results);
    let acceptance = acceptance::markdown(machine, is_whole, results);
    println!("\n{tables}\n{acceptance}");
    let save = |name: &str, text: &str| {
        fs::write(arguments.out.join(name), text).expect("--out can be written to");
    };
    save("results.csv", &results.csv());
    save("results.md", &tables);
    save("acceptance.md", &acceptance);
    for (name, picture) in pictures(results) {
        if let Some(picture) = picture {
            save(name, &picture);
        }
    }
    println!("written to {}", arguments.out.display());
}

/// The file name of each picture, and the picture if its operations were measured.
fn pictures(results: &Results) -> [(&'static str, Option<String>); 3] {
    let sizes: Vec<_> = READS.iter().map(|read| read.0.to_string()).collect();
    let checked = Operation::Checked.name();
    let batch = Operation::Batch(BATCH_OBJECTS).name();
    let unchecked = Operation::Unchecked.name();
    let of = |operation, contenders: &[&'static str]| {
        let bar = |&contender| Bar {
            name: contender,
            operation,
            contender,
        };
        contenders.iter().map(bar).collect::<Vec<_>>()
    };
    let peers = ["LMDB", "redb", "fjall", "parity-db"];
    let everybody = ["Sealstone", "LMDB", "redb", "fjall", "parity-db"];

    let mut one_by_one = of(
        &checked,
        &[HashAlone::NAME, "Sealstone", "Sealstone reader"],
    );
    one_by_one.extend(of(&checked, &peers));

    let mut faster = of(&batch, &everybody);
    for bar in &mut faster {
        bar.name = match bar.contender {
            "Sealstone" => "Sealstone, batch of 32",
            "LMDB" => "LMDB, batch of 32",
            "redb" => "redb, batch of 32",
            "fjall" => "fjall, batch of 32",
            _ => "parity-db, batch of 32",
        };
    }
    let unchecked_names = [
        ("Sealstone FirstRead", "Sealstone, unchecked"),
        ("Sealstone reader FirstRead", "Sealstone reader, unchecked"),
        ("LMDB", "LMDB, unchecked"),
        ("redb", "redb, unchecked"),
        ("fjall", "fjall, unchecked"),
        ("parity-db", "parity-db, unchecked"),
    ];
    faster.extend(unchecked_names.map(|(contender, name)| Bar {
        name,
        operation: &unchecked,
        contender,
    }));

    let put = of(workload::BULK_PUT, &everybody);
    let draw = |title, bars: &[Bar]| picture::draw(title, &sizes, bars, results);
    [
        ("get.svg", draw("Random get, checked", &one_by_one)),
        (
            "batch.svg",
            draw(
                "Random get in batches of 32, checked; and unchecked",
                &faster,
            ),
        ),
        ("put.svg", draw("Bulk put with one sync", &put)),
    ]
}
