//! The cost of a read, an object and an opening (H40, H41, H43): no system call, hardly any heap,
//! and no reading of old content.
//!
//! A program of its own, whose tests take turns, since they measure the whole process.

#![expect(unsafe_code, reason = "an allocator that counts has to be one")]

mod common;

use common::layout;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::layout::{file, is_kind, read_files, scratch, write_files};
use sealstone::{Digest, Error, Options, ReadMode, Store};

const SEGMENT_BYTES_MAX: u64 = 256 << 10;
const OBJECTS_SMALL: u64 = 50_000;
const OBJECTS_LARGE: u64 = 350_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Counting;

/// The bytes that are allocated and not yet freed.
static HEAP_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to `System` unchanged, and its answer is returned unchanged; counting
// does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller got the pointer from `alloc` with this layout, so from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Lets one test run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn content(number: u64) -> [u8; 12] {
    let mut content = *b"........heap";
    content[..8].copy_from_slice(&number.to_le_bytes());
    content
}

/// Creates a store in which everything is sealed.
fn fill(root: &Path, objects: u64) {
    let options = Options::new().segment_bytes_max(SEGMENT_BYTES_MAX);
    let store = options.open(root).unwrap();
    for first in (0..objects).step_by(10_000) {
        let contents: Vec<_> = (first..objects.min(first + 10_000)).map(content).collect();
        store.put_many(&contents).unwrap();
    }
    // Beginning a compaction seals the active segment.
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
}

/// Returns the heap that an open store takes after it was read from.
fn heap_bytes(root: &Path, options: &Options, objects: u64) -> usize {
    let before = HEAP_BYTES.load(Ordering::Relaxed);
    let store = options.open(root).unwrap();
    await_runs(&store);
    let reader = store.reader();
    for number in (0..objects).step_by(7) {
        let digest = Digest::of(content(number));
        assert!(store.get(digest).unwrap().is_some());
        assert!(reader.get(digest).unwrap().is_some());
        let absent = Digest::of(content(number + (1 << 40)));
        assert!(store.get(absent).unwrap().is_none());
    }
    HEAP_BYTES.load(Ordering::Relaxed).saturating_sub(before)
}

/// Waits until the background thread has no run to build.
fn await_runs(store: &Store) {
    let begin = Instant::now();
    while store.stats().set_index_runs == 0 {
        assert!(begin.elapsed() < PATIENCE, "no run was built");
        std::thread::yield_now();
    }
}

/// The two stores differ in nothing else, so buffers and threads cancel out.
#[test]
fn h41_an_object_in_a_sealed_segment_takes_less_than_a_byte_of_heap() {
    let _alone = alone();
    let (small, large) = (scratch(), scratch());
    fill(small.path(), OBJECTS_SMALL);
    fill(large.path(), OBJECTS_LARGE);
    let objects = OBJECTS_LARGE - OBJECTS_SMALL;
    let growth_bytes = |options: Options| {
        let options = options.segment_bytes_max(SEGMENT_BYTES_MAX);
        // The first opening allocates what a process allocates once.
        heap_bytes(small.path(), &options, OBJECTS_SMALL);
        let few_bytes = heap_bytes(small.path(), &options, OBJECTS_SMALL);
        let many_bytes = heap_bytes(large.path(), &options, OBJECTS_LARGE);
        eprintln!("{few_bytes} and {many_bytes} bytes");
        many_bytes.saturating_sub(few_bytes) as u64
    };
    for read_only in [true, false] {
        let bytes = growth_bytes(Options::new().read_only(read_only));
        let what = format!("{bytes} bytes of heap for {objects} objects, read-only: {read_only}");
        assert!(bytes < objects, "{what}");
    }
    // Without a map, the indexes are in the heap, which this measurement must show.
    let read = Options::new().read_only(true).read_mode(ReadMode::Pread);
    let bytes = growth_bytes(read);
    assert!(bytes > 10 * objects, "{bytes}");
}

/// Earlier, an object that was not in a file yet held the whole buffer.
#[test]
fn h69_an_object_read_before_its_block_is_written_holds_only_its_content() {
    const OBJECTS: u64 = 16;
    const BLOCK_BYTES: usize = 2 << 20;
    let _alone = alone();
    for length in [0, 256, 60_000, 250_000] {
        let folder = scratch();
        let store = Store::open(folder.path()).unwrap();
        let mut next_block = {
            let (store, mut seed) = (store.clone(), 1 << 32);
            move || {
                for _ in 0..=BLOCK_BYTES / 200_000 {
                    store.put(layout::content(seed, 200_000)).unwrap();
                    seed += 1;
                }
            }
        };
        // Both buffers exist, and take turns.
        (0..3).for_each(|_| next_block());
        let before = HEAP_BYTES.load(Ordering::Relaxed);
        let mut kept = Vec::new();
        for seed in 0..OBJECTS {
            let content = layout::content(seed, length);
            let digest = store.put(&content).unwrap();
            let reader = store.reader();
            kept.push(store.get(digest).unwrap().unwrap());
            kept.extend(
                store
                    .get_many(&[digest, digest])
                    .into_iter()
                    .flatten()
                    .flatten(),
            );
            kept.push(reader.get(digest).unwrap().unwrap().into_object());
            assert!(
                kept.iter()
                    .rev()
                    .take(4)
                    .all(|object| object[..] == content)
            );
            next_block();
        }
        let heap_bytes = HEAP_BYTES.load(Ordering::Relaxed).saturating_sub(before);
        let content_bytes = kept.len() * (length + 64);
        assert!(
            heap_bytes < content_bytes + BLOCK_BYTES,
            "{heap_bytes} bytes, {length} each"
        );
        drop(kept);
    }
}

/// Returns how many reads the process has asked the system for.
#[cfg(target_os = "linux")]
fn reads() -> u64 {
    let counters = fs::read_to_string("/proc/self/io").unwrap();
    let line = counters
        .lines()
        .find_map(|line| line.strip_prefix("syscr: "));
    line.unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn h40_a_get_makes_no_system_call() {
    const GETS: u64 = 2000;
    let _alone = alone();
    let folder = scratch();
    fill(folder.path(), OBJECTS_SMALL);
    let reads_of_gets = |mode: ReadMode| {
        let options = Options::new().read_only(true).read_mode(mode);
        let store = options.open(folder.path()).unwrap();
        // The first reads load what is read only once.
        for turn in 0..2 {
            let before = reads();
            for number in 0..GETS {
                let object = store.get(Digest::of(content(number))).unwrap().unwrap();
                assert_eq!(object[..], content(number));
            }
            if turn == 1 {
                return reads() - before;
            }
        }
        unreachable!("there is a second turn");
    };
    // Reading the count takes a read or two itself.
    let mapped = reads_of_gets(ReadMode::Mmap);
    assert!(mapped < 10, "{mapped}");
    let positional = reads_of_gets(ReadMode::Pread);
    assert!(positional >= GETS, "{positional}");
}

/// Inverts every byte of a range of a file.
fn spoil(path: &Path, bytes: std::ops::Range<usize>) {
    let mut content = fs::read(path).unwrap();
    content[bytes].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(path, content).unwrap();
}

#[test]
fn h43_opening_reads_no_sealed_content_and_no_entry_of_a_sidecar() {
    let _alone = alone();
    let folder = scratch();
    fill(folder.path(), OBJECTS_SMALL);
    let mut spoiled = 0;
    for (name, bytes) in read_files(folder.path()) {
        let path = file(folder.path(), &name);
        if is_kind(&name, "dat") && !bytes.is_empty() {
            spoil(&path, 0..bytes.len());
            spoiled += 1;
        } else if is_kind(&name, "idx") {
            // These are all bytes but the checksum, which the manifest has as well.
            spoil(&path, 0..bytes.len() - 32);
            spoiled += 1;
        } else if is_kind(&name, "run") {
            spoil(&path, 8192..bytes.len());
            spoiled += 1;
        }
    }
    assert!(spoiled > 6, "{spoiled}");
    for read_only in [true, false] {
        let options = Options::new().read_only(read_only);
        let store = options.open(folder.path()).unwrap();
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_eq!(store.len(), OBJECTS_SMALL);
        // The first request for an object notices what the opening did not read.
        for number in (0..OBJECTS_SMALL).step_by(1000) {
            match store.get(Digest::of(content(number))) {
                Err(Error::Corrupt { .. } | Error::CorruptIndex { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok(found) => panic!("{number}: {found:?}"),
            }
        }
    }
}

#[test]
fn h43_opening_after_a_kill_hashes_no_synced_object() {
    let _alone = alone();
    let (folder, killed) = (scratch(), scratch());
    let store = Store::open(folder.path()).unwrap();
    let contents: Vec<Vec<u8>> = (0..100).map(|seed| layout::content(seed, 1000)).collect();
    let digests = store.put_many(&contents).unwrap();
    store.sync().unwrap();
    write_files(killed.path(), &read_files(folder.path()));
    drop(store);

    let data = file(killed.path(), &layout::data_name(0));
    let records = contents.len();
    for record in 0..records {
        // A bit of each content flips; the headers stay as they were.
        let begin = record * 1004 + 4;
        spoil(&data, begin..begin + 1);
    }
    let store = Store::open(killed.path()).unwrap();
    assert_eq!(store.len(), records as u64);
    for digest in &digests {
        match store.get(digest) {
            Err(Error::Corrupt { digest: named, .. }) => assert_eq!(named, *digest),
            other => panic!("{other:?}"),
        }
    }
}
