//! Damage to files, a bit or a cut at a time: whatever is hit, a read gives the right bytes or an
//! error that names the object, never other bytes and never "not found" for what was synced.
//!
//! By default a sample of the data's bits is flipped, and every bit of the other files. All of them:
//! `cargo test --release --test corruption -- --ignored`.

#[path = "../common/layout.rs"]
mod layout;
mod set_index;
mod swapped;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use layout::{
    Files, content, data_name, file, is_kind, read_files, records, scratch, segment_of,
    sidecar_name, write_files,
};
use sealstone::dir::{Folder, Operations};
use sealstone::format::{Entry, Manifest, index, journal};
use sealstone::{Digest, Error, Options, ReadMode, Repair, Store, VerifyReport};

const SEGMENT_BYTES_MAX: u64 = 4096;
const MANIFEST: &str = "MANIFEST";

/// An object and where it lies.
#[derive(Clone, Debug)]
struct Placed {
    digest: Digest,
    content: Vec<u8>,
    segment: u32,
    /// Of the content.
    offset: usize,
}

impl Placed {
    fn end(&self) -> usize {
        self.offset + self.content.len()
    }
}

/// A store that was closed: two sealed segments, an active one with a journal, 10 KiB of content.
/// Everything in it was synced.
struct Sample {
    files: Files,
    objects: Vec<Placed>,
}

const ACTIVE: u32 = 2;

/// The objects of all data files, where they lie.
fn objects_of(files: &Files) -> Vec<Placed> {
    let mut objects = Vec::new();
    for (name, data) in files.iter().filter(|(name, _)| is_kind(name, "dat")) {
        objects.extend(records(data).into_iter().map(|(offset, content)| Placed {
            digest: Digest::of(content),
            content: content.to_vec(),
            segment: segment_of(name).unwrap(),
            offset: usize::try_from(offset).unwrap(),
        }));
    }
    objects
}

impl Sample {
    fn new() -> Self {
        let folder = scratch();
        let store = options().open(folder.path()).unwrap();
        for (seed, len) in (0..).zip(Self::lengths()) {
            store.put(&content(seed, len)).unwrap();
            // Several frames and sync marks in the journal.
            if seed % 4 == 3 {
                store.sync().unwrap();
            }
        }
        store.close().unwrap();
        let files = read_files(folder.path());
        let objects = objects_of(&files);
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

    /// The store in a folder of its own.
    fn folder(&self) -> tempfile::TempDir {
        let folder = scratch();
        write_files(folder.path(), &self.files);
        folder
    }
}

/// Everything but the flushing: power does not fail here, and a flush can take milliseconds.
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
    Options::new()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(Arc::new(Unflushed))
}

fn reader(read_mode: ReadMode) -> Options {
    options().read_only(true).read_mode(read_mode)
}

/// A writer and a reader in both ways of reading.
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

/// One thing that goes wrong with one file.
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

    /// The damaged file.
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

    /// Whether a byte of this object's content is no longer what it was.
    fn hits(&self, object: &Placed) -> bool {
        self.is_in(object)
            && match *self {
                Self::Flip { bit, .. } => (object.offset..object.end()).contains(&(bit / 8)),
                Self::Cut { len, .. } => len < object.end() && !object.content.is_empty(),
            }
    }

    /// Whether it hit the length of a record.
    fn hits_header(&self, object: &Placed) -> bool {
        match *self {
            Self::Flip { bit, .. } => {
                self.is_in(object) && (object.offset - 4..object.offset).contains(&(bit / 8))
            }
            Self::Cut { .. } => false,
        }
    }

    /// The empty object has no content that could be hit; cut off, it may be either.
    fn leaves_open(&self, object: &Placed) -> bool {
        let is_cut_off = matches!(*self, Self::Cut { len, .. } if len < object.end());
        object.content.is_empty() && is_cut_off && self.is_in(object)
    }
}

/// Every `step`th flip of each data file, and every flip of each other file.
fn flips(files: &Files, step: usize) -> Vec<Damage> {
    let mut all = Vec::new();
    for (name, bytes) in files {
        let step = if is_kind(name, "dat") { step } else { 1 };
        all.extend((0..8 * bytes.len()).step_by(step).map(|bit| Damage::Flip {
            name: name.clone(),
            bit,
        }));
    }
    all
}

/// Each file cut at every length.
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

/// Runs `check` for each damage, on two threads with a folder each, and fails with those for which it
/// panicked: in an assertion or in the engine.
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

/// Reads every object: those that are not hit give their bytes, those that are an error that names
/// them.
fn assert_reads(store: &Store, sample: &Sample, is_hit: impl Fn(&Placed) -> bool, damage: &Damage) {
    let mut errors = 0;
    for object in &sample.objects {
        match store.get(&object.digest) {
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
        assert!(store.contains(&object.digest).unwrap());
    }
    assert_eq!(store.iter().filter(Result::is_err).count(), errors);
    assert_eq!(store.iter().count(), sample.objects.len());
}

/// What `verify` has to say: the objects that are hit and no others, and other damage where it is.
fn assert_names_the_damage(report: &VerifyReport, sample: &Sample, damage: &Damage) {
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
    let names_segment = |segment| report.problems.iter().any(|p| p.segment == Some(segment));
    if let Some(object) = sample
        .objects
        .iter()
        .find(|object| damage.hits_header(object))
    {
        assert!(names_segment(object.segment), "{report:?}");
    }
    // What was put right at opening is in its report instead.
    if is_kind(damage.name(), "dat") && matches!(damage, Damage::Cut { .. }) {
        assert!(!report.is_clean(), "{report:?}");
    }
}

/// Opens for writing, looks at everything, and does so again or repairs by putting again.
fn check_as_writer(root: &Path, sample: &Sample, damage: &Damage, read_mode: ReadMode) {
    let options = options().read_mode(read_mode);
    let damaged = damage.bytes(&sample.files);
    write_files(root, &sample.files);
    fs::write(file(root, damage.name()), &damaged).unwrap();
    let segment = segment_of(damage.name());

    let store = options.open(root).unwrap();
    assert_reads(&store, sample, |object| damage.hits(object), damage);
    let report = verify(&store);
    assert_names_the_damage(&report, sample, damage);
    let repairs = &store.recovery().repairs;
    if is_kind(damage.name(), "idx") {
        let rebuilt = repairs
            .iter()
            .any(|r| matches!(r, Repair::RebuiltSidecar { segment: s } if Some(*s) == segment));
        let named = report.problems.iter().any(|p| p.segment == segment);
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
    // Every other time, so that the same number of openings covers both.
    let puts_again = match *damage {
        Damage::Flip { bit, .. } => bit % 2 == 0,
        Damage::Cut { len, .. } => len % 2 == 0,
    };
    let is_repaired = |object: &Placed| puts_again && damage.hits(object);
    for object in sample.objects.iter().filter(|object| is_repaired(object)) {
        assert_eq!(store.put(&object.content).unwrap(), object.digest);
        assert_eq!(
            &store.get(&object.digest).unwrap().unwrap()[..],
            object.content
        );
    }
    drop(store);

    let store = options.open(root).unwrap();
    let is_hit = |object: &Placed| damage.hits(object) && !is_repaired(object);
    assert_reads(&store, sample, is_hit, damage);
    let report = verify(&store);
    assert_names_the_damage(&report, sample, damage);
    if is_kind(damage.name(), "dat") {
        // Nothing was cut, healed or written over; what was put again lies behind it.
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
            assert!(found() == *bytes, "{name} is not what it was");
        } else if name == MANIFEST && !is_kind(damage.name(), "dat") {
            let sealed = |bytes: &[u8]| Manifest::parse(bytes).unwrap().sealed;
            assert_eq!(sealed(&found()), sealed(bytes));
        }
    }
}

/// Opens for reading, looks at everything, and expects that nothing was changed.
fn check_as_reader(root: &Path, sample: &Sample, damage: &Damage, read_mode: ReadMode) {
    let mut files = sample.files.clone();
    files.insert(damage.name().to_owned(), damage.bytes(&sample.files));
    write_files(root, &files);

    let store = reader(read_mode).open(root).unwrap();
    assert_reads(&store, sample, |object| damage.hits(object), damage);
    let report = verify(&store);
    assert_names_the_damage(&report, sample, damage);
    if is_kind(damage.name(), "idx") {
        let named = report
            .problems
            .iter()
            .any(|p| p.segment == segment_of(damage.name()));
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

/// No multiple of 2, so that the sample meets every bit of a byte.
const SAMPLE_STEP: usize = 13;

#[test]
fn h5_h17_h21_a_writer_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, SAMPLE_STEP);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn h5_h21_h31_a_reader_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, SAMPLE_STEP);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_reader(root, sample, damage, ReadMode::Pread);
    });
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn h5_h17_h21_h31_every_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, 1);
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        for_each(&sample, &damages, |root, sample, damage| {
            check_as_writer(root, sample, damage, read_mode);
            check_as_reader(root, sample, damage, read_mode);
        });
    }
}

#[test]
fn h5_h17_h30_a_writer_survives_every_cut() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn h30_h31_a_reader_survives_every_cut() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_reader(root, sample, damage, ReadMode::Pread);
    });
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn h5_h30_every_cut_in_the_other_ways_of_reading() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Pread);
        check_as_reader(root, sample, damage, ReadMode::Mmap);
    });
}

/// The content of `object` with a bit flipped, in its place in the files.
fn rot(sample: &Sample, object: &Placed) -> (Damage, tempfile::TempDir) {
    let damage = Damage::Flip {
        name: data_name(object.segment),
        bit: 8 * (object.offset + object.content.len() / 2) + 3,
    };
    let folder = sample.folder();
    fs::write(
        file(folder.path(), damage.name()),
        damage.bytes(&sample.files),
    )
    .unwrap();
    (damage, folder)
}

/// A large object of each segment.
fn one_of_each_segment(sample: &Sample) -> impl Iterator<Item = &Placed> {
    (0..=ACTIVE).map(|segment| {
        let largest = sample
            .of_segment(segment)
            .max_by_key(|object| object.content.len());
        largest.unwrap()
    })
}

#[test]
fn h17_what_was_put_again_stays_and_a_compaction_removes_the_damage() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (_, folder) = rot(&sample, object);
        let store = options().open(folder.path()).unwrap();
        store.put(&object.content).unwrap();
        assert_eq!(
            verify(&store).corrupt.len(),
            1,
            "the damaged copy is still there"
        );
        store.close().unwrap();

        let store = options().open(folder.path()).unwrap();
        let stats = store.compact(|_| true).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (24, 0));
        for store in [
            store.clone(),
            reader(ReadMode::Mmap).open(folder.path()).unwrap(),
        ] {
            for object in &sample.objects {
                assert_eq!(
                    &store.get(&object.digest).unwrap().unwrap()[..],
                    object.content
                );
            }
            assert!(verify(&store).is_clean());
            assert_eq!(store.len(), 24);
        }
    }
}

#[test]
fn h21_a_compaction_refuses_to_keep_what_is_rotten_and_leaves_the_store_as_it_was() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (damage, folder) = rot(&sample, object);
        let root = folder.path();
        let store = options().open(root).unwrap();
        // Something else in the same segment is dead, or it would be kept as it is.
        let dead = sample
            .of_segment(object.segment)
            .find(|o| o.digest != object.digest);
        let dead = dead.unwrap().digest;
        let result = store.compact(|digest| *digest != dead);
        let Err(Error::Corrupt {
            digest,
            segment,
            offset,
        }) = result
        else {
            panic!("{result:?}");
        };
        let named = (digest, segment, offset);
        assert_eq!(named, (object.digest, object.segment, object.offset as u64));
        assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        drop(store);

        let files = read_files(root);
        for (name, bytes) in &sample.files {
            if is_kind(name, "dat") && name != damage.name() {
                assert!(files[name] == *bytes, "{name} was changed");
            }
        }
        assert!(files[damage.name()] == damage.bytes(&sample.files));
        assert!(
            !files.keys().any(|name| is_kind(name, "tmp")),
            "{:?}",
            files.keys()
        );
        for options in all_options() {
            let store = options.open(root).unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        }
    }
}

#[test]
fn h21_a_compaction_drops_what_is_rotten_only_when_told_to() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (damage, folder) = rot(&sample, object);
        let store = options().open(folder.path()).unwrap();
        // All of it is live, so the segment stays as it is, and so does what is known of the damage.
        store.compact(|_| true).unwrap();
        assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        let stats = store.compact(|digest| *digest != object.digest).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (23, 1));
        assert!(store.get(&object.digest).unwrap().is_none());
        assert!(verify(&store).is_clean());
    }
}

#[test]
fn h20_sixteen_mebibytes_of_zeros_behind_the_mark_are_cut_and_not_parsed() {
    const ZEROS: usize = 16 << 20;
    let sample = Sample::new();
    let name = data_name(ACTIVE);
    for options in all_options().into_iter().rev() {
        let folder = sample.folder();
        let path = file(folder.path(), &name);
        let whole = sample.files[&name].len() as u64;
        let data = File::options().write(true).open(&path).unwrap();
        data.set_len(whole + ZEROS as u64).unwrap();
        let store = options.open(folder.path()).unwrap();
        for object in &sample.objects {
            assert_eq!(
                &store.get(&object.digest).unwrap().unwrap()[..],
                object.content
            );
        }
        assert_eq!(store.iter().count(), sample.objects.len());
        assert!(verify(&store).corrupt.is_empty());
        let is_writer = store.put(b"more").is_ok();
        let repairs = store.recovery().repairs.clone();
        store.close().unwrap();
        if is_writer {
            // One empty record may be real; that no more was read is what makes it fast.
            let cut = repairs.iter().find_map(|repair| match repair {
                Repair::CutTail {
                    segment: ACTIVE,
                    bytes,
                    saved_as: None,
                } => Some(*bytes),
                _ => None,
            });
            assert!(
                cut.is_some_and(|bytes| bytes >= ZEROS as u64 - 4),
                "{repairs:?}"
            );
            let rehashed = repairs.iter().find_map(|repair| match repair {
                Repair::RehashedTail { bytes, .. } => Some(*bytes),
                _ => None,
            });
            assert!(rehashed.is_none_or(|bytes| bytes <= 4), "{repairs:?}");
            assert!(fs::metadata(path).unwrap().len() < whole + 100);
        }
    }
}

#[test]
fn h24_a_missing_sealed_segment_is_named() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        let folder = sample.folder();
        let path = file(folder.path(), &data_name(missing));
        fs::remove_file(&path).unwrap();
        for options in all_options() {
            let result = options.open(folder.path());
            let Err(Error::MissingSegment { segment, path: p }) = result else {
                panic!("{result:?}");
            };
            assert_eq!((segment, &p), (missing, &path));
        }
        let mut files = sample.files.clone();
        files.remove(&data_name(missing));
        assert!(
            read_files(folder.path()) == files,
            "the refusal changed something"
        );
    }
}

#[test]
fn h24_a_store_goes_on_without_a_segment_and_takes_it_back() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        for lost in [
            &[data_name(missing)][..],
            &[data_name(missing), sidecar_name(missing)],
        ] {
            let folder = sample.folder();
            let root = folder.path();
            for name in lost {
                fs::remove_file(file(root, name)).unwrap();
            }
            let without = |options: Options| options.allow_missing_segments(true).open(root);
            for options in all_options() {
                let store = without(options).unwrap();
                let repair = Repair::MissingSegment { segment: missing };
                assert!(
                    store.recovery().repairs.contains(&repair),
                    "{:?}",
                    store.recovery()
                );
                for object in &sample.objects {
                    let read = store.get(&object.digest).unwrap();
                    let expected = (object.segment != missing).then_some(&object.content[..]);
                    assert_eq!(read.as_deref(), expected);
                }
            }
            // Everything that writes a manifest has to go on listing it.
            let store = without(options()).unwrap();
            let new: Vec<Vec<u8>> = (0..30).map(|i| content(500 + i, 300)).collect();
            let digests = store.put_many(&new).unwrap();
            store.sync().unwrap();
            store.compact(|digest| *digest != digests[3]).unwrap();
            store.put(&new[3]).unwrap();
            store.close().unwrap();
            let refused = options().open(root);
            assert!(
                matches!(refused, Err(Error::MissingSegment { segment, .. }) if segment == missing),
                "{refused:?}"
            );

            for name in lost {
                fs::write(file(root, name), &sample.files[name]).unwrap();
            }
            for options in all_options() {
                let store = options.open(root).unwrap();
                assert!(store.recovery().is_clean(), "{:?}", store.recovery());
                for content in sample
                    .objects
                    .iter()
                    .map(|object| &object.content)
                    .chain(&new)
                {
                    let read = store.get(&Digest::of(content)).unwrap();
                    assert_eq!(read.as_deref(), Some(&content[..]));
                }
                assert!(verify(&store).is_clean());
            }
        }
    }
}

#[test]
fn h24_verify_names_a_missing_segment() {
    let sample = Sample::new();
    for options in all_options() {
        let folder = sample.folder();
        fs::remove_file(file(folder.path(), &data_name(1))).unwrap();
        let store = options
            .allow_missing_segments(true)
            .open(folder.path())
            .unwrap();
        let report = verify(&store);
        assert!(
            report.problems.iter().any(|p| p.segment == Some(1)),
            "{report:?}"
        );
    }
}

/// Its journal says that there was synced data.
#[test]
fn h24_a_missing_active_segment_is_named() {
    let sample = Sample::new();
    for options in all_options() {
        let folder = sample.folder();
        fs::remove_file(file(folder.path(), &data_name(ACTIVE))).unwrap();
        match options.open(folder.path()) {
            Err(Error::MissingSegment { segment, .. }) => assert_eq!(segment, ACTIVE),
            Err(error) => panic!("{error}"),
            Ok(store) => {
                for object in sample.of_segment(ACTIVE) {
                    let read = store.get(&object.digest);
                    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
                }
            }
        }
    }
}

#[test]
fn h24_a_missing_sidecar_is_rebuilt_bit_for_bit() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        let folder = sample.folder();
        let root = folder.path();
        let name = sidecar_name(missing);
        fs::remove_file(file(root, &name)).unwrap();
        let mut files = sample.files.clone();
        files.remove(&name);
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let store = reader(read_mode).open(root).unwrap();
            for object in &sample.objects {
                assert_eq!(
                    &store.get(&object.digest).unwrap().unwrap()[..],
                    object.content
                );
            }
            assert!(read_files(root) == files, "a reader changed something");
        }
        let store = options().open(root).unwrap();
        let repairs = &store.recovery().repairs;
        assert_eq!(repairs[..], [Repair::RebuiltSidecar { segment: missing }]);
        assert!(fs::read(file(root, &name)).unwrap() == sample.files[&name]);
    }
}

/// The data is the only truth.
#[test]
fn h6_whatever_is_derived_from_the_data_can_be_lost_or_be_garbage() {
    let sample = Sample::new();
    let derived: Vec<&String> = sample
        .files
        .keys()
        .filter(|name| !is_kind(name, "dat"))
        .collect();
    for lost in 0_usize..1 << derived.len() {
        for garbage in [None, Some(content(1, 500)), Some(Vec::new())] {
            for options in all_options() {
                let folder = sample.folder();
                for (position, name) in derived.iter().enumerate() {
                    let path = file(folder.path(), name);
                    match &garbage {
                        _ if lost & (1 << position) == 0 => {}
                        None => fs::remove_file(path).unwrap(),
                        Some(bytes) => fs::write(path, bytes).unwrap(),
                    }
                }
                let store = options.open(folder.path()).unwrap();
                for object in &sample.objects {
                    let read = store.get(&object.digest).unwrap();
                    assert_eq!(read.as_deref(), Some(&object.content[..]));
                }
                assert_eq!(store.len(), 24);
                assert!(verify(&store).corrupt.is_empty());
            }
        }
    }
}

#[test]
fn h31_a_file_that_is_cut_while_it_is_open_is_an_error_with_positional_reads() {
    let sample = Sample::new();
    for is_read_only in [false, true] {
        let options = options().read_mode(ReadMode::Pread).read_only(is_read_only);
        for name in sample
            .files
            .keys()
            .filter(|name| segment_of(name).is_some())
        {
            let folder = sample.folder();
            let store = options.open(folder.path()).unwrap();
            let len = 3 * sample.files[name].len() / 5;
            let open = File::options().write(true).open(file(folder.path(), name));
            open.unwrap().set_len(len as u64).unwrap();
            let cut = Damage::Cut {
                name: name.clone(),
                len,
            };
            for object in &sample.objects {
                match store.get(&object.digest) {
                    Ok(Some(read)) => {
                        assert_eq!(&read[..], object.content);
                        assert!(!cut.hits(object));
                    }
                    Err(Error::Corrupt { .. } | Error::Io { .. }) => assert!(cut.hits(object)),
                    unexpected => panic!("{unexpected:?}"),
                }
            }
        }
    }
}

/// Uses a store in every way. Whatever is damaged, what is read has the digest that was asked for, and
/// nothing panics.
fn assert_no_wrong_bytes(root: &Path, options: &Options, sample: &Sample) {
    let Ok(store) = options.open(root) else {
        return;
    };
    let read_all = || {
        for object in &sample.objects {
            if let Ok(Some(read)) = store.get(&object.digest) {
                assert_eq!(&read[..], object.content);
            }
            let _ = store.contains(&object.digest);
        }
        for object in store.iter().flatten() {
            assert_eq!(Digest::of(&object), *object.digest());
        }
    };
    read_all();
    let _ = store.find("7");
    let _ = (store.stats(), store.len(), store.digests().count());
    let _ = verify(&store);
    if store.put(&sample.objects[0].content).is_ok() {
        for object in sample.objects.iter().step_by(5) {
            store.put(&object.content).unwrap();
            let read = store.get(&object.digest).unwrap().unwrap();
            assert_eq!(&read[..], object.content, "it was put just now");
        }
        if let Ok(compaction) = store.begin_compaction() {
            let _ = compaction.plan(|digest| digest.as_bytes()[0] % 2 == 0);
            let _ = compaction.finish(|_| true);
        }
        read_all();
        for object in sample.objects.iter().step_by(5) {
            let read = store.get(&object.digest).unwrap().unwrap();
            assert_eq!(
                &read[..],
                object.content,
                "it was put before the compaction"
            );
        }
        store.sync().unwrap();
    }
}

/// A sidecar with a valid checksum, in the order given.
fn sidecar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = index::MAGIC.to_vec();
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for entry in entries {
        bytes.extend_from_slice(&entry.to_bytes());
    }
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn h35_a_sidecar_forged_together_with_the_manifest_gives_no_wrong_bytes() {
    type Change = fn(&mut Vec<Entry>);
    let changes: [(&str, Change); 15] = [
        ("nothing", |_| ()),
        ("none", Vec::clear),
        ("one is missing", |entries| _ = entries.pop()),
        ("the highest offset", |entries| entries[3].offset = u64::MAX),
        ("an end beyond u64", |entries| {
            entries[3].offset = u64::MAX - 1;
        }),
        ("an offset at the end", |entries| {
            entries[3].offset = 1 << 12;
        }),
        ("offset zero", |entries| entries[3].offset = 0),
        ("offset one", |entries| entries[3].offset = 1),
        ("the largest length", |entries| entries[3].len = u32::MAX),
        ("all are the largest", |entries| {
            for entry in entries {
                entry.len = u32::MAX;
            }
        }),
        ("all at one place", |entries| {
            let (offset, len) = (entries[0].offset, entries[0].len);
            for entry in entries {
                (entry.offset, entry.len) = (offset, len);
            }
        }),
        ("places are swapped", |entries| {
            let moved = entries.clone();
            for (entry, other) in entries.iter_mut().zip(moved.iter().rev()) {
                (entry.offset, entry.len) = (other.offset, other.len);
            }
        }),
        ("one digest a hundred times", |entries| {
            let first = entries[0];
            entries.extend((0..100).map(|i| Entry { offset: i, ..first }));
            entries.sort_unstable();
        }),
        ("one digest for all", |entries| {
            let digest = entries[0].digest;
            for entry in entries {
                entry.digest = digest;
            }
        }),
        ("not sorted", |entries| entries.reverse()),
    ];
    let sample = Sample::new();
    for (what, change) in changes {
        println!("{what}");
        for data_bytes in [None, Some(0), Some(5), Some(1 << 40), Some(u64::MAX)] {
            for options in all_options() {
                let folder = sample.folder();
                let root = folder.path();
                let mut manifest = Manifest::parse(&sample.files[MANIFEST]).unwrap();
                for (&id, segment) in &mut manifest.sealed {
                    let entries = sample.of_segment(id).map(|object| Entry {
                        digest: object.digest,
                        offset: object.offset as u64,
                        len: u32::try_from(object.content.len()).unwrap(),
                    });
                    let mut entries: Vec<Entry> = entries.collect();
                    entries.sort_unstable();
                    change(&mut entries);
                    let forged = sidecar(&entries);
                    segment.data_bytes = data_bytes.unwrap_or(segment.data_bytes);
                    segment.objects = u32::try_from(entries.len()).unwrap();
                    let checksum: [u8; 32] = *forged.last_chunk().unwrap();
                    segment.sidecar_checksum = checksum.into();
                    fs::write(file(root, &sidecar_name(id)), forged).unwrap();
                }
                fs::write(file(root, MANIFEST), manifest.encode()).unwrap();
                assert_no_wrong_bytes(root, &options, &sample);
                assert_no_wrong_bytes(root, &options, &sample);
            }
        }
    }
}

#[test]
fn h35_a_forged_journal_gives_no_wrong_bytes() {
    let sample = Sample::new();
    let honest: Vec<Entry> = sample
        .of_segment(ACTIVE)
        .map(|object| Entry {
            digest: object.digest,
            offset: object.offset as u64,
            len: u32::try_from(object.content.len()).unwrap(),
        })
        .collect();
    let end = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.end().unwrap());
    let mut swapped = honest.clone();
    (swapped[0].digest, swapped[1].digest) = (swapped[1].digest, swapped[0].digest);
    let mut beyond = honest.clone();
    beyond.push(Entry {
        digest: sample.objects[5].digest,
        offset: end(&honest) + 4,
        len: u32::MAX,
    });
    let mut foreign = honest.clone();
    foreign[2].digest = sample.objects[7].digest;
    let one = vec![Entry {
        digest: sample.objects[3].digest,
        offset: 4,
        len: u32::try_from(end(&honest) - 4).unwrap(),
    }];
    for entries in [honest.clone(), swapped, beyond, foreign, one] {
        for synced in 0..=entries.len() {
            for options in all_options() {
                let folder = sample.folder();
                let (header, chain) = journal::encode_header(ACTIVE);
                let mut bytes = header.to_vec();
                let chain = journal::encode_entries(&mut bytes, chain, &entries, end(&entries));
                journal::encode_sync_mark(&mut bytes, chain, end(&entries[..synced]));
                fs::write(file(folder.path(), "seg-000002.jnl"), bytes).unwrap();
                assert_no_wrong_bytes(folder.path(), &options, &sample);
                assert_no_wrong_bytes(folder.path(), &options, &sample);
            }
        }
    }
}

/// Several damages of several kinds to any files, as they come.
fn damage_at_random(files: &mut Files, seed: u64) {
    let numbers = content(seed, 400);
    let mut numbers = numbers
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let mut below = |limit: usize| {
        let number = usize::try_from(numbers.next().unwrap() >> 1).unwrap();
        number % limit.max(1)
    };
    for _ in 0..=below(4) {
        let names: Vec<String> = files.keys().cloned().collect();
        let name = names[below(names.len())].clone();
        let other = files[&names[below(names.len())]].clone();
        let mut bytes = files.remove(&name).unwrap();
        let len = bytes.len();
        match below(7) {
            0 if len > 0 => bytes[below(len)] ^= 1 << below(8),
            1 => bytes.truncate(below(len)),
            2 => {
                let begin = below(len);
                let end = (begin + below(200)).min(len);
                bytes[begin..end].fill(0);
            }
            3 => continue, // It is gone.
            4 => bytes.extend_from_slice(&content(seed, below(600))),
            5 => bytes.resize(len + below(5000), 0),
            _ => bytes = other,
        }
        files.insert(name, bytes);
        if files.is_empty() {
            break;
        }
    }
}

#[test]
fn h4_h35_damage_upon_damage_gives_no_wrong_bytes() {
    const CASES: u64 = 1500;
    let sample = Sample::new();
    for seed in 0..CASES {
        let mut files = sample.files.clone();
        damage_at_random(&mut files, seed);
        let result = catch_unwind(|| {
            let folder = scratch();
            for options in all_options().into_iter().rev() {
                write_files(folder.path(), &files);
                assert_no_wrong_bytes(folder.path(), &options, &sample);
            }
            assert_no_wrong_bytes(folder.path(), &options(), &sample);
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}
