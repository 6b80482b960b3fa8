//! Figures of Sealstone alone. Whatever bounds them, as hashing and copying, is measured in the
//! same run.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use sealstone::{Digest, Options, SEGMENT_BYTES_MAX_DEFAULT, Store};

use crate::child;
use crate::contents::{Contents, Size, draw};
use crate::hashing;
use crate::kinds::new_folder;
use crate::operations::{checked, microseconds_each, unchecked};
use crate::results::Results;
use crate::workload::Workload;

pub const SEALSTONE: &str = "Sealstone";
pub const HASH: &str = "hash of a hot buffer";
pub const LONGEST_PUT: &str = "longest single put while segments roll over";
pub const PUT: &str = "put, one by one, one sync";
pub const PUT_FOR_HUGE_PAGES: &str = "bulk put, one sync, written for huge pages, 1 KiB";
pub const GET_IN_FEW: &str = "get, checked, 8 segments";
pub const GET_IN_MANY: &str = "get, checked, 512 segments";
pub const OPEN_SMALL: &str = "open after a clean close, 1 M objects";
pub const OPEN_LARGE: &str = "open after a clean close, 8 M objects";
pub const OPEN_AFTER_KILL: &str = "open after kill -9, 200 MiB synced in the active segment";
pub const HEAP: &str = "heap, 8 M objects";
pub const COMPACT: &str = "compaction that drops a random half, surviving bytes";
pub const COMPACT_FOR_HUGE_PAGES: &str =
    "compaction that drops a random half, surviving bytes, written for huge pages";
pub const COPY: &str = "copy of a file of as many bytes, with fsync";
pub const VERIFY: &str = "verify";

/// The size of objects for all figures but [`OPEN_LARGE`] and [`HEAP`].
const SIZE: Size = Size::Fixed(1 << 10);

const OPEN_LARGE_SIZE: Size = Size::Fixed(256);

const FEW_SEGMENTS: u64 = 8;
const MANY_SEGMENTS: u64 = 512;

/// Content in the active segment at the kill.
const KILL_BYTES: f64 = 200.0 * 1_048_576.0;

/// Most rounds of a measurement that takes long.
const LONG_ROUNDS: usize = 3;

/// The share of all numbers of objects; with 1 they are what the names of the figures say.
#[derive(Clone, Copy)]
pub struct Scale(pub f64);

impl Scale {
    /// Returns that share of `number`, and at least `least`.
    pub fn of(self, number: f64, least: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of objects"
        )]
        let scaled = (number * self.0) as u64;
        scaled.max(least)
    }
}

pub fn run(scale: Scale, rounds: usize, folder: &Path, results: &mut Results) {
    let folder = &folder.join("figures");
    let objects = scale.of(1e6, 2_000);
    hashes(rounds, results);
    let contents = Contents::generate(SIZE, 0, objects);
    longest_put(&contents, rounds, folder, results);
    put_for_huge_pages(&contents, rounds, folder, results);
    few_and_many_segments(&contents, rounds, folder, results);
    compaction(&contents, rounds, folder, results);
    drop(contents);
    after_kill(scale, rounds, folder, results);
    large(scale.of(8e6, 10_000), rounds, folder, results);
    fs::remove_dir_all(folder).expect("the folder can be removed");
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn megabytes_a_second(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// Adds a sample of a figure.
fn add(results: &mut Results, name: &str, unit: &'static str, sample: f64) {
    results.add("figures", name, SEALSTONE, unit, sample);
}

/// Measures BLAKE2b of one stream, for each size.
fn hashes(rounds: usize, results: &mut Results) {
    for bytes in [256, 1 << 10, 4 << 10, 64 << 10] {
        let size = Size::Fixed(bytes);
        let contents = Contents::generate(size, 0, 1);
        let content = contents.iter().next().expect("one object");
        let times = (256 << 20) / bytes;
        for _ in 0..rounds {
            let start = Instant::now();
            for _ in 0..times {
                black_box(hashing::digest(black_box(content)));
            }
            let name = format!("{HASH}, {size}");
            let rate = megabytes_a_second((times * bytes) as u64, start);
            add(results, &name, "MB/s", rate);
        }
    }
}

/// Measures single puts on one thread. Segments have the default size, or a fourth of the content
/// if that is smaller.
fn longest_put(contents: &Contents, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: single puts");
    let segment_bytes_max = SEGMENT_BYTES_MAX_DEFAULT.min(contents.bytes() as u64 / 4);
    for _ in 0..rounds.min(LONG_ROUNDS) {
        new_folder(folder);
        let options = Options::new().segment_bytes_max(segment_bytes_max);
        let store = options.open(folder).expect("Sealstone opens");
        let mut longest = 0.0_f64;
        let mut objects = 0;
        let start = Instant::now();
        for content in contents.iter() {
            let start = Instant::now();
            store.put(content).expect("Sealstone puts");
            longest = longest.max(milliseconds(start));
            objects += 1;
        }
        store.sync().expect("Sealstone syncs");
        add(results, PUT, "us", microseconds_each(start, objects));
        add(results, LONGEST_PUT, "ms", longest);
    }
}

/// Measures bulk puts with default options, which the puts of the comparison do not have.
fn put_for_huge_pages(contents: &Contents, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: bulk puts");
    let batches = contents.batches();
    for _ in 0..rounds.min(LONG_ROUNDS) {
        new_folder(folder);
        let store = Store::open(folder).expect("Sealstone opens");
        let start = Instant::now();
        for batch in &batches {
            store.put_many(batch).expect("Sealstone puts");
        }
        store.sync().expect("Sealstone syncs");
        let objects = contents.iter().count();
        add(
            results,
            PUT_FOR_HUGE_PAGES,
            "us",
            microseconds_each(start, objects),
        );
    }
}

/// Fills a store so that it has about `segments` segments, and closes it.
fn fill(folder: &Path, contents: &Contents, segments: u64) {
    new_folder(folder);
    let segment_bytes_max = contents.bytes() as u64 / segments + (1 << 10);
    let options = Options::new().segment_bytes_max(segment_bytes_max);
    let store = options.open(folder).expect("Sealstone opens");
    for batch in contents.batches() {
        store.put_many(&batch).expect("Sealstone puts");
    }
    store.close().expect("Sealstone closes");
}

/// Measures gets of the same objects in 8 and in 512 segments, and opens and verifies the first
/// store.
fn few_and_many_segments(contents: &Contents, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: few and many segments");
    let digests = contents.digests();
    let few = folder.join("few");
    let many = folder.join("many");
    fill(&few, contents, FEW_SEGMENTS);
    fill(&many, contents, MANY_SEGMENTS);
    open_rounds(OPEN_SMALL, rounds, &few, &digests, results);
    let stores = [few, many].map(|folder| Store::open(folder).expect("Sealstone opens"));
    let names = [GET_IN_FEW, GET_IN_MANY];
    for (store, name) in stores.iter().zip(names) {
        eprintln!("  {} segments for {name}", store.stats().segments.len());
        unchecked(&store, &digests);
    }
    for round in 0..rounds {
        let picks = draw(&digests, digests.len() / 2, round as u64);
        for (store, name) in stores.iter().zip(names) {
            let start = Instant::now();
            checked(&store, &picks);
            add(results, name, "us", microseconds_each(start, picks.len()));
        }
    }
    for _ in 0..rounds {
        let start = Instant::now();
        let report = stores[0].verify(|_| ControlFlow::Continue(()));
        let rate = megabytes_a_second(contents.bytes() as u64, start);
        assert!(report.expect("Sealstone verifies").is_clean());
        add(results, VERIFY, "MB/s", rate);
    }
}

fn open_rounds(
    name: &str,
    rounds: usize,
    folder: &Path,
    digests: &[Digest],
    results: &mut Results,
) {
    for round in 0..rounds {
        let digest = draw(digests, 1, round as u64)[0];
        open_and_get(name, folder, &digest, results);
    }
}

fn open_and_get(name: &str, folder: &Path, digest: &Digest, results: &mut Results) {
    let start = Instant::now();
    let store = Store::open(folder).expect("Sealstone opens");
    add(results, name, "ms", milliseconds(start));
    let start = Instant::now();
    let found = store.get(digest).expect("Sealstone gets");
    add(
        results,
        &format!("first get, {name}"),
        "ms",
        milliseconds(start),
    );
    assert!(found.is_some(), "the object is there");
}

/// Measures compactions by turns with a copy of as many bytes as survive, which bounds their speed.
fn compaction(contents: &Contents, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: compaction");
    let is_live = |digest: &Digest| digest.as_bytes()[31].is_multiple_of(2);
    let kinds = [(COMPACT, false), (COMPACT_FOR_HUGE_PAGES, true)];
    for (name, for_huge_pages) in kinds.repeat(rounds.min(LONG_ROUNDS)) {
        fill(
            folder,
            contents,
            1.max(contents.bytes() as u64 / SEGMENT_BYTES_MAX_DEFAULT),
        );
        let options = Options::new().huge_page_writes(for_huge_pages);
        let store = options.open(folder).expect("Sealstone opens");
        let start = Instant::now();
        store.compact(is_live).expect("Sealstone compacts");
        let seconds = start.elapsed().as_secs_f64();
        let surviving = store.stats().content_bytes;
        drop(store);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = surviving as f64 / 1e6 / seconds;
        add(results, name, "MB/s", rate);
        copy(surviving, contents, folder, results);
    }
}

fn copy(bytes: u64, contents: &Contents, folder: &Path, results: &mut Results) {
    new_folder(folder);
    let path = folder.join("original");
    let mut original = File::create(&path).expect("a file can be made");
    let mut left = usize::try_from(bytes).expect("64 bits");
    for content in contents.iter() {
        let part = &content[..content.len().min(left)];
        original.write_all(part).expect("a file can be written");
        left -= part.len();
    }
    original.sync_all().expect("a file can be synced");
    let start = Instant::now();
    let mut original = File::open(&path).expect("the file is there");
    let mut copy = File::create(folder.join("copy")).expect("a file can be made");
    io::copy(&mut original, &mut copy).expect("a file can be copied");
    copy.sync_all().expect("a file can be synced");
    add(results, COPY, "MB/s", megabytes_a_second(bytes, start));
}

fn after_kill(scale: Scale, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: kill -9");
    // A short run fills the segment too; only a tiny one does not.
    let bytes = Scale((scale.0 * 20.0).min(1.0)).of(KILL_BYTES, 1 << 20);
    let digest = child::filled_first();
    for _ in 0..rounds {
        new_folder(folder);
        child::fill_and_kill(folder, bytes);
        open_and_get(OPEN_AFTER_KILL, folder, &digest, results);
    }
}

/// Measures opening and heap of a store with many objects.
fn large(objects: u64, rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("figures: {objects} objects");
    new_folder(folder);
    let store = Store::open(folder).expect("Sealstone opens");
    let mut digests = Vec::new();
    let step = 1_000_000;
    for first in (0..objects).step_by(1_000_000) {
        let contents = Contents::generate(OPEN_LARGE_SIZE, first, step.min(objects - first));
        for batch in contents.batches() {
            digests.extend(store.put_many(&batch).expect("Sealstone puts"));
        }
    }
    store.close().expect("Sealstone closes");
    open_rounds(OPEN_LARGE, rounds, folder, &digests, results);
    let workload = Workload {
        size: OPEN_LARGE_SIZE,
        objects,
        lookups: 0,
    };
    for _ in 0..rounds.min(LONG_ROUNDS) {
        let bytes = child::heap(SEALSTONE, folder, &workload);
        add(results, HEAP, "bytes an object", bytes);
    }
}
