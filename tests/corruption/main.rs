//! Damage to files, one bit or one cut at a time: wherever it hits, a read gives the right bytes or
//! an error that names the object, never other bytes and never "not found" for a synced object.
//!
//! By default a sample of the data's bits is flipped, and a third of the bits of the other files.
//! `cargo test --release --test corruption -- --ignored` flips all of them.

#[path = "../common/mod.rs"]
mod common;
mod forged;
mod missing;
mod rotten;
mod set_index;
mod swapped;
mod sweeps;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::hash::{hash_function, new_options, options_of};
use common::layout::{
    Files, content, file, is_kind, read_files, records, scratch, segment_of, write_files,
};
use sealstone::format::Manifest;
use sealstone::test_seam::{Folder, Operations};
use sealstone::{Digest, Error, HashFunction, Options, ReadMode, Repair, Store, VerifyReport};

const SEGMENT_BYTES_MAX: u64 = 4096;

const MANIFEST: &str = "MANIFEST";

/// An object and the place where it lies.
#[derive(Clone, Debug)]
struct Placed {
    digest: Digest,
    content: Vec<u8>,
    segment: u32,
    /// The offset of the content.
    offset: usize,
}

impl Placed {
    fn end(&self) -> usize {
        self.offset + self.content.len()
    }
}

/// A closed store: two sealed segments, an active one with a journal, 10 KiB of content, all of it
/// synced.
struct Sample {
    files: Files,
    objects: Vec<Placed>,
}

const ACTIVE: u32 = 2;

/// Returns the objects of all data files with their places.
fn objects_of(files: &Files, function: HashFunction) -> Vec<Placed> {
    let mut objects = Vec::new();
    for (name, data) in files.iter().filter(|(name, _)| is_kind(name, "dat")) {
        objects.extend(records(data).into_iter().map(|(offset, content)| Placed {
            digest: function.digest(content),
            content: content.to_vec(),
            segment: segment_of(name).unwrap(),
            offset: usize::try_from(offset).unwrap(),
        }));
    }
    objects
}

impl Sample {
    fn new() -> Self {
        Self::of(hash_function())
    }

    fn of(function: HashFunction) -> Self {
        let folder = scratch();
        let options = with_small_segments(options_of(function));
        let store = options.open(folder.path()).unwrap();
        for (seed, len) in (0..).zip(Self::lengths()) {
            store.put(content(seed, len)).unwrap();
            // The journal gets several frames and sync marks.
            if seed % 4 == 3 {
                store.sync().unwrap();
            }
        }
        store.close().unwrap();
        let files = read_files(folder.path());
        let objects = objects_of(&files, function);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "LOCK",
                MANIFEST,
                "seg-000000.dat",
                "seg-000000.idx",
                "seg-000001.dat",
                "seg-000001.idx",
                "seg-000002.dat",
                "seg-000002.jnl",
            ]
        );
        assert_eq!(objects.len(), Self::lengths().len());
        Self { files, objects }
    }

    fn lengths() -> Vec<usize> {
        let few = [0, 1, 2, 3, 5, 17, 64, 100, 255, 256, 257];
        let mut lengths = few.to_vec();
        lengths.extend([
            900, 1500, 700, 1200, 600, 900, 1300, 300, 40, 4, 333, 111, 650,
        ]);
        lengths
    }

    fn of_segment(&self, segment: u32) -> impl Iterator<Item = &Placed> {
        self.objects
            .iter()
            .filter(move |object| object.segment == segment)
    }

    /// Returns a folder that holds the store.
    fn folder(&self) -> tempfile::TempDir {
        let folder = scratch();
        write_files(folder.path(), &self.files);
        folder
    }
}

/// Operations that flush nothing: power does not fail here, and a flush can take milliseconds.
#[derive(Debug)]
struct Unflushed;

impl Operations for Unflushed {
    fn sync_file(&self, _: &File, _: &Path, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Folder) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> Options {
    with_small_segments(new_options())
}

/// Returns options that leave it to the store by which function its objects are named.
fn options_without_function() -> Options {
    with_small_segments(Options::new())
}

fn with_small_segments(options: Options) -> Options {
    options
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(Arc::new(Unflushed))
}

fn reader(read_mode: ReadMode) -> Options {
    options().read_only(true).read_mode(read_mode)
}

/// Returns options for a writer and a reader in both ways of reading.
fn all_options() -> [Options; 4] {
    [
        options(),
        options().read_mode(ReadMode::Pread),
        reader(ReadMode::Mmap),
        reader(ReadMode::Pread),
    ]
}

fn verify(store: &Store) -> VerifyReport {
    store.verify(|_| ControlFlow::Continue(())).unwrap()
}

/// One damage to one file.
#[derive(Clone, Debug)]
enum Damage {
    Flip { name: String, bit: usize },
    Cut { name: String, len: usize },
}

impl Damage {
    fn name(&self) -> &str {
        match self {
            Self::Flip { name, .. } | Self::Cut { name, .. } => name,
        }
    }

    /// Returns the damaged file.
    fn bytes(&self, files: &Files) -> Vec<u8> {
        let mut bytes = files[self.name()].clone();
        match *self {
            Self::Flip { bit, .. } => bytes[bit / 8] ^= 1 << (bit % 8),
            Self::Cut { len, .. } => bytes.truncate(len),
        }
        bytes
    }

    fn is_in(&self, object: &Placed) -> bool {
        is_kind(self.name(), "dat") && segment_of(self.name()) == Some(object.segment)
    }

    /// Returns whether a byte of this object's content has changed or is missing.
    fn hits(&self, object: &Placed) -> bool {
        self.is_in(object)
            && match *self {
                Self::Flip { bit, .. } => (object.offset..object.end()).contains(&(bit / 8)),
                Self::Cut { len, .. } => len < object.end() && !object.content.is_empty(),
            }
    }

    /// Returns whether the damage hit the length of this record.
    fn hits_header(&self, object: &Placed) -> bool {
        match *self {
            Self::Flip { bit, .. } => {
                self.is_in(object) && (object.offset - 4..object.offset).contains(&(bit / 8))
            }
            Self::Cut { .. } => false,
        }
    }

    /// Returns whether this is the empty object and its record is cut off: it has no content to
    /// hit, so it may be reported or found.
    fn leaves_open(&self, object: &Placed) -> bool {
        let is_cut_off = matches!(*self, Self::Cut { len, .. } if len < object.end());
        object.content.is_empty() && is_cut_off && self.is_in(object)
    }
}

/// Which flips are tried: one of so many bits of a data file, and of any other file.
struct Steps {
    data: usize,
    others: usize,
}

impl Steps {
    const ALL: Self = Self { data: 1, others: 1 };
}

/// Returns flips of each file.
fn flips(files: &Files, steps: &Steps) -> Vec<Damage> {
    let mut all = Vec::new();
    for (name, bytes) in files {
        let is_data = is_kind(name, "dat");
        let step = if is_data { steps.data } else { steps.others };
        all.extend((0..8 * bytes.len()).step_by(step).map(|bit| Damage::Flip {
            name: name.clone(),
            bit,
        }));
    }
    all
}

/// Returns each file cut at every length.
fn cuts(files: &Files) -> Vec<Damage> {
    let mut all = Vec::new();
    for (name, bytes) in files {
        all.extend((0..bytes.len()).map(|len| Damage::Cut {
            name: name.clone(),
            len,
        }));
    }
    all
}

/// Runs `check` for each damage, on two threads with a folder each, and fails with the damages for
/// which it panicked, in an assertion or in the engine.
fn for_each(sample: &Sample, damages: &[Damage], check: impl Fn(&Path, &Sample, &Damage) + Sync) {
    const THREADS: usize = 2;
    const FAILURES_MAX: usize = 20;
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let folder = scratch();
                while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked =
                        catch_unwind(AssertUnwindSafe(|| check(folder.path(), sample, damage)));
                    if checked.is_err() {
                        let mut failures = failures.lock().unwrap();
                        failures.push(format!("{damage:?}"));
                        if failures.len() > FAILURES_MAX {
                            return;
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    println!("{} cases", damages.len());
}

/// Reads every object: an object that is hit gives an error that names it, any other gives its
/// bytes.
fn assert_reads(store: &Store, sample: &Sample, is_hit: impl Fn(&Placed) -> bool, damage: &Damage) {
    let mut errors = 0;
    for object in &sample.objects {
        match store.get(object.digest) {
            Ok(Some(read)) => {
                assert_eq!(&read[..], object.content);
                assert!(!is_hit(object));
            }
            Err(Error::Corrupt {
                digest,
                segment,
                offset,
            }) => {
                let named = (digest, segment, offset);
                let expected = (object.digest, object.segment, object.offset as u64);
                assert_eq!(named, expected);
                assert!(is_hit(object) || damage.leaves_open(object));
                errors += 1;
            }
            unexpected => panic!("{unexpected:?} for {object:?}"),
        }
        assert!(store.contains(object.digest).unwrap());
    }
    assert_eq!(store.iter().filter(Result::is_err).count(), errors);
    assert_eq!(store.iter().count(), sample.objects.len());
}

/// Checks that `verify` reports exactly the objects that are hit, and other damage where it is.
fn assert_reports_the_damage(report: &VerifyReport, sample: &Sample, damage: &Damage) {
    let named: BTreeSet<Digest> = report
        .corrupt
        .iter()
        .map(|corrupt| corrupt.digest)
        .collect();
    for object in &sample.objects {
        let is_named = named.contains(&object.digest);
        assert!(
            is_named == damage.hits(object) || damage.leaves_open(object),
            "{report:?}"
        );
    }
    let names_segment = |segment| report.problems.iter().any(|p| p.segment() == Some(segment));
    if let Some(object) = sample
        .objects
        .iter()
        .find(|object| damage.hits_header(object))
    {
        assert!(names_segment(object.segment), "{report:?}");
    }
    // The recovery report, not this one, names what opening put right.
    if is_kind(damage.name(), "dat") && matches!(damage, Damage::Cut { .. }) {
        assert!(!report.is_clean(), "{report:?}");
    }
}

/// Opens for writing, checks everything, puts damaged objects again every other time, and checks
/// once more.
fn check_as_writer(root: &Path, sample: &Sample, damage: &Damage, read_mode: ReadMode) {
    let options = options_without_function().read_mode(read_mode);
    let damaged = damage.bytes(&sample.files);
    write_files(root, &sample.files);
    fs::write(file(root, damage.name()), &damaged).unwrap();
    let segment = segment_of(damage.name());

    let store = options.open(root).unwrap();
    assert_reads(&store, sample, |object| damage.hits(object), damage);
    let report = verify(&store);
    assert_reports_the_damage(&report, sample, damage);
    let repairs = &store.recovery().repairs;
    if is_kind(damage.name(), "idx") {
        let rebuilt = repairs
            .iter()
            .any(|r| matches!(r, Repair::RebuiltSidecar { segment: s } if Some(*s) == segment));
        let named = report.problems.iter().any(|p| p.segment() == segment);
        assert!(rebuilt || named, "{repairs:?} {report:?}");
    } else if damage.name() == MANIFEST {
        let ignored = repairs
            .iter()
            .any(|r| matches!(r, Repair::IgnoredManifest { .. }));
        assert!(ignored, "{repairs:?}");
    } else if is_kind(damage.name(), "dat") && matches!(damage, Damage::Cut { .. }) {
        let short = repairs
            .iter()
            .any(|r| matches!(r, Repair::ShortData { segment: s, .. } if Some(*s) == segment));
        assert!(short, "{repairs:?}");
    }
    // Only every other damage is repaired, so the same number of openings covers both cases.
    let puts_again = match *damage {
        Damage::Flip { bit, .. } => bit % 2 == 0,
        Damage::Cut { len, .. } => len % 2 == 0,
    };
    let is_repaired = |object: &Placed| puts_again && damage.hits(object);
    for object in sample.objects.iter().filter(|object| is_repaired(object)) {
        assert_eq!(store.put(&object.content).unwrap(), object.digest);
        assert_eq!(
            &store.get(object.digest).unwrap().unwrap()[..],
            object.content
        );
    }
    drop(store);

    let store = options.open(root).unwrap();
    let is_hit = |object: &Placed| damage.hits(object) && !is_repaired(object);
    assert_reads(&store, sample, is_hit, damage);
    let report = verify(&store);
    assert_reports_the_damage(&report, sample, damage);
    if is_kind(damage.name(), "dat") {
        // Nothing was cut, repaired or written over; an object that was put again lies behind the
        // damage.
        let kept = fs::read(file(root, damage.name())).unwrap();
        assert!(kept.starts_with(&damaged));
    } else {
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert!(report.is_clean(), "{report:?}");
    }
    drop(store);
    for (name, bytes) in &sample.files {
        let found = || fs::read(file(root, name)).unwrap();
        if is_kind(name, "idx") {
            assert!(found() == *bytes, "{name} has changed");
        } else if name == MANIFEST && !is_kind(damage.name(), "dat") {
            let sealed = |bytes: &[u8]| Manifest::parse(bytes).unwrap().sealed;
            assert_eq!(sealed(&found()), sealed(bytes));
        }
    }
}

/// Opens for reading, checks everything, and expects that no file has changed.
fn check_as_reader(root: &Path, sample: &Sample, damage: &Damage, read_mode: ReadMode) {
    let mut files = sample.files.clone();
    files.insert(damage.name().to_owned(), damage.bytes(&sample.files));
    write_files(root, &files);

    let options = options_without_function().read_mode(read_mode);
    let store = options.read_only(true).open(root).unwrap();
    assert_reads(&store, sample, |object| damage.hits(object), damage);
    let report = verify(&store);
    assert_reports_the_damage(&report, sample, damage);
    if is_kind(damage.name(), "idx") {
        let named = report
            .problems
            .iter()
            .any(|p| p.segment() == segment_of(damage.name()));
        assert!(named, "{report:?}");
    } else if damage.name() == MANIFEST {
        let repairs = &store.recovery().repairs;
        let ignored = repairs
            .iter()
            .any(|r| matches!(r, Repair::IgnoredManifest { .. }));
        assert!(
            ignored && !report.problems.is_empty(),
            "{repairs:?} {report:?}"
        );
    }
    drop(store);
    assert!(read_files(root) == files, "a reader changed something");
}
