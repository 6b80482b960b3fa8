//! Builds the stores of one size side by side, measures them round by round, and deletes them.

use std::path::Path;

use sealstone::Digest;

use crate::child;
use crate::contents::{Contents, Size, absent, draw};
use crate::kinds::{Kind, disk_bytes, kinds, new_folder, writers};
use crate::machine;
use crate::operations::{HashAlone, OPERATIONS, Operation, Picks};
use crate::results::Results;

pub const BULK_PUT: &str = "bulk put, one sync";
pub const BULK_PUT_LONGEST: &str = "longest batch of the bulk put";
pub const LOAD_SORTED: &str = "load of everything sorted, one sync";
pub const PUT_WITH_SYNCS: &str = "put, a sync each 1,000";
pub const OPEN: &str = "open after a clean close";
pub const FIRST_GET: &str = "first get after it";
pub const HEAP: &str = "heap after 1,000 gets";
pub const DISK: &str = "disk";

/// Objects between two syncs.
const SYNC_EVERY: usize = 1_000;

/// A scan reads everything; more rounds take long and say little.
const SCAN_ROUNDS: usize = 3;

/// The objects of one size, and how many of them are read.
pub struct Workload {
    pub size: Size,
    pub objects: u64,
    /// Gets in each round.
    pub lookups: usize,
}

/// Measures reading: all stores of a size exist, and are open, at the same time.
pub fn read(workload: &Workload, rounds: usize, folder: &Path, results: &mut Results) {
    let size = workload.size.to_string();
    eprintln!("{size}: {} objects", workload.objects);
    let folder = folder.join("read");
    let digests = build(workload, &folder, results);
    machine::quiet_disk();
    for kind in writers() {
        let path = folder.join(kind.folder());
        let bytes = child::heap(kind.name(), &path, workload);
        results.add(&size, HEAP, kind.name(), "bytes an object", bytes);
    }
    open_rounds(&size, rounds, &folder, &digests, results);
    get_rounds(workload, rounds, &folder, &digests, results);
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

/// Puts everything into each store and settles it.
fn build(workload: &Workload, folder: &Path, results: &mut Results) -> Vec<Digest> {
    let size = workload.size.to_string();
    let contents = Contents::generate(workload.size, 0, workload.objects);
    for kind in writers() {
        eprintln!("  build {}", kind.name());
        let path = folder.join(kind.folder());
        new_folder(&path);
        kind.build(&path, &contents);
        kind.settle(&path);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let ratio = disk_bytes(&path) as f64 / contents.bytes() as f64;
        results.add(&size, DISK, kind.name(), "of the content", ratio);
    }
    contents.digests()
}

/// Opens each store and gets an object, by turns.
fn open_rounds(
    size: &str,
    rounds: usize,
    folder: &Path,
    digests: &[Digest],
    results: &mut Results,
) {
    for round in 0..rounds {
        let digest = draw(digests, 1, round as u64)[0];
        for kind in writers() {
            let (open, get) = kind.open_and_get(&folder.join(kind.folder()), &digest);
            results.add(size, OPEN, kind.name(), "ms", open.as_secs_f64() * 1e3);
            results.add(size, FIRST_GET, kind.name(), "ms", get.as_secs_f64() * 1e3);
        }
    }
}

/// Measures the operations on open stores: in each round all do the same gets, one after the other.
fn get_rounds(
    workload: &Workload,
    rounds: usize,
    folder: &Path,
    digests: &[Digest],
    results: &mut Results,
) {
    let size = workload.size.to_string();
    let mut contenders: Vec<_> = kinds()
        .iter()
        .map(|kind| kind.open(&folder.join(kind.folder())))
        .collect();
    if let Size::Fixed(bytes) = workload.size {
        let content = Contents::generate(Size::Fixed(bytes), 0, 1);
        let content = content.iter().next().expect("one object").to_vec();
        contenders.push(Box::new(HashAlone(content)));
    }
    for contender in &contenders {
        eprintln!("  warm {}", contender.name());
        contender.warm(digests);
    }
    for operation in OPERATIONS {
        let name = operation.name();
        eprintln!("  {name}");
        let rounds = if operation == Operation::Scan {
            rounds.min(SCAN_ROUNDS)
        } else {
            rounds
        };
        for round in 0..rounds {
            let picks = Picks {
                held: draw(digests, workload.lookups, round as u64),
                absent: absent(workload.lookups, round as u64),
            };
            for contender in &contenders {
                if let Some(sample) = contender.measure(operation, &picks) {
                    results.add(&size, &name, contender.name(), "us", sample);
                }
            }
        }
    }
}

/// Measures writing: each store fills a new folder, by turns.
pub fn write(workload: &Workload, rounds: usize, folder: &Path, results: &mut Results) {
    let size = workload.size.to_string();
    eprintln!("{size}: putting {} objects", workload.objects);
    let folder = folder.join("write");
    let contents = Contents::generate(workload.size, 0, workload.objects);
    let some = Contents::generate(workload.size, 0, workload.objects.div_ceil(10));
    for _ in 0..rounds {
        for kind in writers() {
            eprintln!("  put {}", kind.name());
            write_once(kind.as_ref(), &size, &folder, [&contents, &some], results);
        }
    }
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

fn write_once(
    kind: &dyn Kind,
    size: &str,
    folder: &Path,
    [contents, some]: [&Contents; 2],
    results: &mut Results,
) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = |contents: &Contents, time: std::time::Duration| {
        time.as_secs_f64() * 1e6 / contents.iter().count() as f64
    };

    new_folder(folder);
    let written = kind.bulk_put(folder, contents);
    let time = each(contents, written.total);
    results.add(size, BULK_PUT, kind.name(), "us", time);
    let longest = written.longest.as_secs_f64() * 1e3;
    results.add(size, BULK_PUT_LONGEST, kind.name(), "ms", longest);

    new_folder(folder);
    if let Some(written) = kind.put_with_syncs(folder, some, SYNC_EVERY) {
        let time = each(some, written.total);
        results.add(size, PUT_WITH_SYNCS, kind.name(), "us", time);
    }

    new_folder(folder);
    let start = std::time::Instant::now();
    let digests = contents.digests();
    let mut objects: Vec<_> = digests.into_iter().zip(contents.iter()).collect();
    objects.sort_unstable_by_key(|object| object.0);
    let sorting = start.elapsed();
    if let Some(loading) = kind.load_sorted(folder, &objects) {
        let time = each(contents, sorting + loading);
        results.add(size, LOAD_SORTED, kind.name(), "us", time);
    }
}
