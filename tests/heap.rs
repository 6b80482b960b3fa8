//! What an object in a sealed segment costs in heap: less than a byte, so that a store may hold more
//! objects than memory has room for (B7).
//!
//! A binary of its own with one test, since it counts what the whole process allocates.

#![expect(unsafe_code, reason = "an allocator that counts has to be one")]

#[path = "common/layout.rs"]
mod layout;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use layout::scratch;
use sealstone::{Digest, Options, ReadMode, Store};

const SEGMENT_BYTES_MAX: u64 = 256 << 10;
const OBJECTS_SMALL: u64 = 50_000;
const OBJECTS_LARGE: u64 = 350_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Counting;

/// What is allocated and not yet freed.
static HEAP_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to `System` as it came, and its answer comes back as it is; counting
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

fn content(number: u64) -> [u8; 12] {
    let mut content = *b"........heap";
    content[..8].copy_from_slice(&number.to_le_bytes());
    content
}

/// A store in which everything is sealed.
fn fill(root: &Path, objects: u64) {
    let options = Options::new().segment_bytes_max(SEGMENT_BYTES_MAX);
    let store = options.open(root).unwrap();
    for first in (0..objects).step_by(10_000) {
        let contents: Vec<_> = (first..objects.min(first + 10_000)).map(content).collect();
        store.put_many(&contents).unwrap();
    }
    // Beginning a compaction seals what is active.
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
}

/// The heap that an open store takes once it was read from.
fn heap_bytes(root: &Path, options: &Options, objects: u64) -> usize {
    let before = HEAP_BYTES.load(Ordering::Relaxed);
    let store = options.open(root).unwrap();
    await_runs(&store);
    let reader = store.reader();
    for number in (0..objects).step_by(7) {
        let digest = Digest::of(&content(number));
        assert!(store.get(&digest).unwrap().is_some());
        assert!(reader.get(&digest).unwrap().is_some());
        let absent = Digest::of(&content(number + (1 << 40)));
        assert!(store.get(&absent).unwrap().is_none());
    }
    HEAP_BYTES.load(Ordering::Relaxed).saturating_sub(before)
}

/// Waits until the background thread has nothing to build.
fn await_runs(store: &Store) {
    let begin = Instant::now();
    while store.stats().set_index_runs == 0 {
        assert!(begin.elapsed() < PATIENCE, "no run was built");
        std::thread::yield_now();
    }
}

/// Two stores that differ in nothing else, so that buffers and threads do not count.
#[test]
fn an_object_in_a_sealed_segment_takes_less_than_a_byte_of_heap() {
    let (small, large) = (scratch(), scratch());
    fill(small.path(), OBJECTS_SMALL);
    fill(large.path(), OBJECTS_LARGE);
    let objects = OBJECTS_LARGE - OBJECTS_SMALL;
    let growth_bytes = |options: Options| {
        let options = options.segment_bytes_max(SEGMENT_BYTES_MAX);
        // Once for what is allocated once a process.
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
    // Without a map the indexes are in the heap, which this would not miss.
    let read = Options::new().read_only(true).read_mode(ReadMode::Pread);
    let bytes = growth_bytes(read);
    assert!(bytes > 10 * objects, "{bytes}");
}
