//! Puts of content that comes from a reader.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealstone::format::Manifest;
use sealstone::{Digest, Error, HashFunction, Options, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::{content, data_name, file};
use crate::common::workload::{
    Kind, Verdict, assert_undamaged, assert_verifies, names, pretend_to_sync, seam, without_syncing,
};
use crate::small::edit;

const SEGMENT_BYTES_MAX: u64 = 8000;
/// Longer content gets a segment of its own.
const COLLECTED_BYTES: usize = 1000;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

fn options(function: HashFunction) -> Options {
    Options::new()
        .hash_function(function)
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

fn open(folder: &TempDir) -> Store {
    let options = new_options().segment_bytes_max(SEGMENT_BYTES_MAX);
    options
        .operations(without_syncing())
        .open(folder.path())
        .unwrap()
}

/// Gives some bytes at a time, is interrupted now and then, and ends with `end`.
struct InParts<'a> {
    rest: &'a [u8],
    reads: usize,
    end: fn() -> io::Result<usize>,
}

impl<'a> InParts<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self::ending(bytes, || Ok(0))
    }

    fn ending(rest: &'a [u8], end: fn() -> io::Result<usize>) -> Self {
        Self {
            rest,
            reads: 0,
            end,
        }
    }
}

impl Read for InParts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(7) {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.rest.is_empty() {
            return (self.end)();
        }
        let part = self.rest.len().min(1 + self.reads * 997 % 5000);
        { self.rest }
            .take(part as u64)
            .read(buffer)
            .inspect(|&read| {
                self.rest = &self.rest[read..];
            })
    }
}

#[test]
fn content_of_any_length_is_stored_once_whatever_the_hash_function() {
    let long = [
        PIECE_BYTES - 1,
        PIECE_BYTES,
        PIECE_BYTES + 1,
        2 * PIECE_BYTES,
    ];
    let long = long.map(|len| COLLECTED_BYTES + 1 + len);
    let short = [0, 1, COLLECTED_BYTES, COLLECTED_BYTES + 1, 9000];
    for &function in HashFunction::ALL {
        let folder = TempDir::new().unwrap();
        let store = options(function).open(folder.path()).unwrap();
        let mut expected = Vec::new();
        for (number, len) in (0..).zip(short.into_iter().chain(long)) {
            let content = content(number, len);
            let digest = function.digest(&content);
            let stored = store.put_reader(InParts::new(&content)).unwrap();
            assert_eq!((stored.digest, stored.bytes), (digest, len as u64));
            assert!(stored.is_new);
            // The copy is found whichever way it is put.
            assert!(!store.put_reader(&content[..]).unwrap().is_new);
            assert!(!store.put_reader_as(digest, &content[..]).unwrap().is_new);
            assert_eq!(store.put(&content).unwrap(), digest);
            assert_eq!(store.get(digest).unwrap().unwrap(), content);
            if len > COLLECTED_BYTES {
                let reader = Options::new().read_only(true).open(folder.path()).unwrap();
                assert_eq!(reader.get(digest).unwrap().unwrap(), content);
            }
            expected.push((digest, content));
        }
        assert_eq!(store.len(), expected.len() as u64);
        store.close().unwrap();
        let store = options(function).open(folder.path()).unwrap();
        assert_undamaged(&store);
        assert_verifies(&store);
        for (digest, content) in expected {
            assert_eq!(store.get(digest).unwrap().unwrap(), content);
        }
    }
}

/// Returns the names of all files, and the next id.
fn state(folder: &TempDir) -> (Vec<String>, u64) {
    let manifest = fs::read(folder.path().join("segments/MANIFEST")).unwrap();
    let next_id = Manifest::parse(&manifest).unwrap().next_id;
    (names(folder.path(), &[""]), next_id)
}

#[test]
fn a_reader_that_fails_or_panics_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    // The first long content makes the manifest.
    store.put_reader(&content(2, 5000)[..]).unwrap();
    let before = state(&folder);
    for len in [0, 10, COLLECTED_BYTES, 5000, 2 * PIECE_BYTES] {
        let content = content(1, len);
        let fails = InParts::ending(&content, || Err(ErrorKind::TimedOut.into()));
        match store.put_reader(fails) {
            Err(Error::Content { source }) => assert_eq!(source.kind(), ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
        let panics = InParts::ending(&content, || panic!("a caller's bug"));
        let put = catch_unwind(AssertUnwindSafe(|| store.put_reader(panics)));
        assert!(put.is_err());
        let other = digest_of(b"other");
        match store.put_reader_as(other, &content[..]) {
            Err(Error::DigestMismatch(mismatch)) => {
                assert_eq!(mismatch.expected, other);
                assert_eq!(mismatch.actual, digest_of(&content));
            }
            other => panic!("{other:?}"),
        }
        assert!(!store.contains(digest_of(&content)).unwrap());
        assert_eq!(state(&folder), before);
    }
    // No id was used up.
    store.put_reader(&content(1, 5000)[..]).unwrap();
    assert_eq!(state(&folder).1, before.1 + 2);
    let reader = Options::new().read_only(true).open(folder.path()).unwrap();
    assert!(matches!(
        reader.put_reader(&b"content"[..]),
        Err(Error::ReadOnly)
    ));
}

#[test]
fn a_full_disk_leaves_nothing_of_long_content() {
    for (kind, ending) in [
        (Kind::Create, ".dat.tmp"),
        (Kind::Write, ".dat.tmp"),
        (Kind::Create, ".idx.tmp"),
        (Kind::Write, ".idx.tmp"),
        (Kind::Write, "MANIFEST.tmp"),
    ] {
        let folder = TempDir::new().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let is_full = Arc::clone(&full);
        let operations = seam(move |step| {
            if is_full.load(Ordering::Relaxed) && step.is(kind, ending) {
                return Verdict::Fail(ErrorKind::StorageFull.into());
            }
            pretend_to_sync(step)
        });
        let options = new_options().segment_bytes_max(SEGMENT_BYTES_MAX);
        let store = options.operations(operations).open(folder.path()).unwrap();
        let content = content(1, 5000);
        full.store(true, Ordering::Relaxed);
        match store.put_reader(&content[..]) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::StorageFull),
            other => panic!("{kind:?} {ending}: {other:?}"),
        }
        assert!(!store.contains(digest_of(&content)).unwrap());
        assert_eq!(names(folder.path(), &[".tmp"]), [""; 0]);
        full.store(false, Ordering::Relaxed);
        assert!(store.put_reader(&content[..]).unwrap().is_new);
        store.close().unwrap();
        let store = open(&folder);
        assert_undamaged(&store);
        assert_verifies(&store);
        assert_eq!(store.get(digest_of(&content)).unwrap().unwrap(), content);
    }
}

/// Does something with the store at each read.
struct Meanwhile<'a, R> {
    content: R,
    work: RefCell<Box<dyn FnMut() + 'a>>,
}

impl<R: Read> Read for Meanwhile<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.work.borrow_mut())();
        self.content.read(buffer)
    }
}

/// The work is done in the thread that puts, so it would hang if the put held a lock.
#[test]
fn while_a_reader_is_waited_for_everything_else_goes_on() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let long = content(1, 3 * PIECE_BYTES);
    let mut number = 100;
    let work = || {
        number += 1;
        let other = content(number, 3000);
        let digest = store.put(&other).unwrap();
        assert!(!store.contains(digest_of(&long)).unwrap());
        store.sync().unwrap();
        match number % 4 {
            0 => drop(store.compact(|live| *live == digest).unwrap()),
            1 => drop(store.trim(SEGMENT_BYTES_MAX).unwrap()),
            2 => drop(store.put_reader(&content(number + 1000, 2000)[..]).unwrap()),
            _ => assert_verifies(&store),
        }
    };
    let stored = store.put_reader(Meanwhile {
        content: InParts::new(&long),
        work: RefCell::new(Box::new(work)),
    });
    assert!(stored.unwrap().is_new);
    assert_eq!(store.get(digest_of(&long)).unwrap().unwrap(), long);
    store.close().unwrap();
    let store = open(&folder);
    assert_undamaged(&store);
    assert_verifies(&store);
    assert_eq!(store.get(digest_of(&long)).unwrap().unwrap(), long);
}

/// The content consists of bytes that would be records, and the store is so young that an opening keeps
/// what a killed process has left.
#[test]
fn what_a_kill_leaves_of_long_content_is_no_object() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let record = [&[4, 0, 0, 0][..], b"fake"].concat();
    let long = record.repeat(8 * PIECE_BYTES / record.len());
    let killed = TempDir::new().unwrap();
    let copy = || {
        for file in fs::read_dir(folder.path().join("segments")).unwrap() {
            let file = file.unwrap();
            fs::create_dir_all(killed.path().join("segments")).unwrap();
            let to = killed.path().join("segments").join(file.file_name());
            fs::copy(file.path(), to).unwrap();
        }
    };
    let stored = store.put_reader(Meanwhile {
        content: &long[..],
        work: RefCell::new(Box::new(copy)),
    });
    assert!(stored.unwrap().is_new);
    let written = names(killed.path(), &[".dat.tmp"]);
    assert_eq!(written.len(), 1);
    let written = killed.path().join("segments").join(&written[0]);
    assert!(fs::metadata(written).unwrap().len() > PIECE_BYTES as u64);

    let store = open(&killed);
    assert!(store.is_empty(), "{:?}", store.recovery());
}

#[test]
fn long_content_that_is_put_during_a_compaction_is_kept() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let [old, new, dead] = [1, 2, 3].map(|number| content(number, 5000));
    store.put_reader(&old[..]).unwrap();
    store.put_reader(&dead[..]).unwrap();
    let compaction = store.begin_compaction().unwrap();
    assert!(!store.put_reader(&old[..]).unwrap().is_new);
    assert!(store.put_reader(&new[..]).unwrap().is_new);
    compaction.finish(|_| false).unwrap();
    for kept in [&old, &new] {
        assert_eq!(store.get(digest_of(kept)).unwrap().unwrap(), *kept);
    }
    assert!(!store.contains(digest_of(&dead)).unwrap());
    assert_eq!(store.len(), 2);
}

#[test]
fn long_content_that_is_put_again_repairs_a_damaged_copy() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let content = content(1, 5000);
    let digest: Digest = store.put_reader(&content[..]).unwrap().digest;
    let segments = store.stats().segments;
    let own = segments.iter().find(|segment| segment.objects == 1);
    let path = file(folder.path(), &data_name(own.unwrap().id));
    edit(&path, |bytes| bytes[4000] ^= 1);
    assert!(matches!(store.get(digest), Err(Error::Corrupt { .. })));
    assert!(store.put_reader(&content[..]).unwrap().is_new);
    assert_eq!(store.get(digest).unwrap().unwrap(), content);
}

#[test]
fn content_longer_than_a_record_can_be_is_refused_and_removed() {
    let folder = TempDir::new().unwrap();
    // What is written is not kept, for the time that it would take.
    let operations = seam(|step| match step.kind {
        Kind::Write if step.is(Kind::Write, ".dat.tmp") => Verdict::Pretend,
        _ => Verdict::Go,
    });
    let function = HashFunction::ALL.last().copied().unwrap_or_default();
    let options = Options::new().hash_function(function);
    let store = options.operations(operations).open(folder.path()).unwrap();
    let before = names(folder.path(), &[""]);
    match store.put_reader(io::repeat(7).take(1 << 33)) {
        Err(Error::TooLarge { bytes }) => assert!(bytes < (1 << 32) + (64 << 20), "{bytes}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(folder.path(), &[""]), before);
    assert!(store.is_empty());
}
