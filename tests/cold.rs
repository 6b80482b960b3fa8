//! What is read from the disk where nothing is in memory (H46, H47): counted, not timed.
//!
//! A program of its own, whose tests take turns, since the system counts for the whole process. Its
//! stores are beside its executable, since the usual scratch folder may be in memory. Where the system
//! does not drop a file from memory when asked, the tests say so and check nothing.

#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::layout::{content, segments};
use common::page_cache::{drop_from_memory, major_faults};
use rustix::fs::{Advice, fadvise};
use sealstone::{Digest, Options, ReadMode, Store, VerifyReads};

const OBJECTS: u64 = 24_000;
const OBJECT_BYTES: usize = 1 << 10;
const RECORD_BYTES: u64 = OBJECT_BYTES as u64 + 4;
/// A get reads one page, and a record that crosses a page reads two.
const GET_BYTES_MAX: u64 = 8 << 10;
const PAGE_BYTES: u64 = 4 << 10;

/// Lets one test run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sealed store on a disk.
struct Cold {
    folder: tempfile::TempDir,
    digests: Vec<Digest>,
}

impl Cold {
    fn with(contents: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Options::new().segment_bytes_max(8 << 20);
        let options = options.set_index_minimum(1, 1);
        let store = options.open(folder.path()).unwrap();
        let digests = store.put_many(contents).unwrap();
        store.compact(|_| true).unwrap();
        store.close().unwrap();
        Self { folder, digests }
    }

    fn of_small_objects() -> Self {
        let contents = (0..OBJECTS).map(|seed| content(seed, OBJECT_BYTES));
        Self::with(&contents.collect::<Vec<_>>())
    }

    /// Drops all files from memory and opens the store. `None` if they stay in memory.
    fn open(&self) -> Option<Store> {
        self.open_with(VerifyReads::EveryRead)
    }

    fn open_with(&self, verify: VerifyReads) -> Option<Store> {
        let folder = segments(self.folder.path());
        drop_from_memory(&folder);
        if !reads_from_disk(&folder) {
            eprintln!("skipped: the system does not drop files from memory");
            return None;
        }
        drop_from_memory(&folder);
        let options = Options::new().read_only(true).verify_reads(verify);
        Some(options.open(self.folder.path()).unwrap())
    }

    /// Digests in an order that has nothing to do with that of the files.
    fn picks(&self, count: usize) -> Vec<Digest> {
        let mut sorted = self.digests.clone();
        sorted.sort_unstable();
        sorted.truncate(count);
        sorted
    }

    fn bytes_of(&self, extension: &str) -> u64 {
        let files = fs::read_dir(segments(self.folder.path())).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
        files.map(|path| fs::metadata(path).unwrap().len()).sum()
    }
}

/// Does [`drop_from_memory`] for files that this process has mapped.
#[allow(unsafe_code)]
fn drop_mapped_from_memory(folder: &Path) {
    for map in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        if map.contains(folder.to_str().unwrap()) {
            let (range, _) = map.split_once(' ').unwrap();
            let (begin, end) = range.split_once('-').unwrap();
            let [begin, end] = [begin, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            let begin_pointer = ptr::with_exposed_provenance_mut(begin);
            // SAFETY: the pages are those of a file, and come back with the same bytes.
            let result = unsafe { libc::madvise(begin_pointer, end - begin, libc::MADV_PAGEOUT) };
            assert_eq!(result, 0);
        }
    }
    drop_from_memory(folder);
}

/// Whether a file of the store has to be read from the disk.
fn reads_from_disk(folder: &Path) -> bool {
    let before = Work::now();
    let data = fs::read(folder.join("seg-000000.dat"));
    let data = data.or_else(|_| fs::read(folder.join("seg-000001.dat")));
    let bytes = data.map_or(0, |data| data.len() as u64);
    bytes > 0 && Work::since(before).bytes >= bytes / 2
}

/// What this process has had the disk do.
#[derive(Clone, Copy, Debug)]
struct Work {
    bytes: u64,
    /// Accesses to memory that waited for a read which nobody had asked for.
    faults: u64,
}

impl Work {
    fn now() -> Self {
        let io = fs::read_to_string("/proc/self/io").unwrap();
        let bytes = io
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes: "));
        Self {
            bytes: bytes.unwrap().parse().unwrap(),
            faults: major_faults(),
        }
    }

    fn since(before: Self) -> Self {
        let now = Self::now();
        Self {
            bytes: now.bytes - before.bytes,
            faults: now.faults - before.faults,
        }
    }

    fn of(work: impl FnOnce()) -> Self {
        let before = Self::now();
        work();
        Self::since(before)
    }
}

fn get_all(store: &Store, digests: &[Digest]) {
    for digest in digests {
        assert_eq!(store.get(digest).unwrap().unwrap().digest(), digest);
    }
}

#[test]
fn h46_a_get_reads_the_pages_of_its_record_only() {
    let _alone = alone();
    let cold = Cold::of_small_objects();
    let Some(store) = cold.open() else { return };
    let work = Work::of(|| get_all(&store, &cold.picks(1_000)));
    let indexes = cold.bytes_of("run");
    assert!(work.bytes <= 1_000 * GET_BYTES_MAX + indexes, "{work:?}");
    // The program itself may have been dropped from memory with the files.
    assert!(work.faults <= 1_500, "{work:?}");
}

#[test]
fn h46_a_long_record_is_read_with_few_requests() {
    let _alone = alone();
    for (len, objects, faults_max) in [(64 << 10, 300, 3), (1 << 20, 24, 12)] {
        let contents: Vec<Vec<u8>> = (0..objects).map(|seed| content(seed, len)).collect();
        let cold = Cold::with(&contents);
        let Some(store) = cold.open() else { return };
        let picks = cold.picks(contents.len() / 2);
        let work = Work::of(|| get_all(&store, &picks));
        let count = picks.len() as u64;
        let bytes_max = count * (len as u64 + 2 * PAGE_BYTES) + cold.bytes_of("idx");
        assert!(work.bytes <= bytes_max, "{len}: {work:?}");
        assert!(work.faults <= count * faults_max, "{len}: {work:?}");
    }
}

/// The average length says nothing of a short record.
#[test]
fn h46_short_records_among_long_records_are_read_alone() {
    const PAIRS: u64 = 64;
    let _alone = alone();
    let len = |seed: u64| if seed.is_multiple_of(2) { 100 } else { 1 << 20 };
    let contents: Vec<Vec<u8>> = (0..2 * PAIRS)
        .map(|seed| content(seed, len(seed)))
        .collect();
    let cold = Cold::with(&contents);
    let Some(store) = cold.open() else { return };
    let short: Vec<Digest> = cold.digests.iter().copied().step_by(2).collect();
    let work = Work::of(|| get_all(&store, &short));
    let indexes = cold.bytes_of("run") + cold.bytes_of("idx");
    // The first few are taken to be long, by 128 KiB each.
    assert!(
        work.bytes <= PAIRS * GET_BYTES_MAX + indexes + (1 << 20),
        "{work:?}"
    );
}

/// After reads from memory nothing is asked for beforehand, and the first access has to show the wait.
#[test]
fn h46_a_long_record_is_read_with_few_requests_after_reads_from_memory() {
    const GROUPS: u64 = 32;
    const GROUP: usize = 40;
    let _alone = alone();
    // Page by page it would be one for each 4 KiB.
    for (long, faults_max) in [(32 << 10, 6), (64 << 10, 8), (128 << 10, 12), (1 << 20, 40)] {
        let len = |seed: u64| {
            if seed.is_multiple_of(GROUP as u64) {
                long
            } else {
                100
            }
        };
        let contents = (0..GROUPS * GROUP as u64).map(|seed| content(seed, len(seed)));
        let cold = Cold::with(&contents.collect::<Vec<_>>());
        let Some(store) = cold.open() else { return };
        let work = Work::of(|| {
            for group in cold.digests.chunks(GROUP) {
                for _ in 0..3 {
                    get_all(&store, &group[1..]);
                }
                get_all(&store, &group[..1]);
            }
        });
        assert!(work.faults <= GROUPS * faults_max, "{long}: {work:?}");
    }
}

/// The ends of each record are in memory, and its middle is on the disk.
#[test]
fn h46_a_long_record_is_read_with_few_requests_if_its_ends_are_in_memory() {
    const RECORDS: usize = 150;
    const LEN: usize = 256 << 10;
    const END_BYTES: usize = 12 << 10;
    let _alone = alone();
    let long = (0..RECORDS as u64).map(|seed| content(seed, LEN));
    let short = (1_000..1_100).map(|seed| content(seed, 100));
    let cold = Cold::with(&long.chain(short).collect::<Vec<_>>());
    let (long, short) = cold.digests.split_at(RECORDS);
    let Some(store) = cold.open() else { return };
    // After these the store counts as being in memory.
    get_all(&store, short);
    let mut end = vec![0; END_BYTES];
    for entry in fs::read_dir(segments(cold.folder.path())).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|found| found == "dat") {
            let data = File::open(path).unwrap();
            fadvise(&data, 0, None, Advice::Random).unwrap();
            let records = data.metadata().unwrap().len() / (LEN as u64 + 4);
            for record in 1..=records {
                let offset = record * (LEN as u64 + 4) - END_BYTES as u64;
                data.read_exact_at(&mut end, offset).unwrap();
            }
        }
    }
    let work = Work::of(|| get_all(&store, long));
    // Page by page it would be 61 for each.
    assert!(work.faults <= 12 * RECORDS as u64, "{work:?}");
}

#[test]
fn h47_all_records_of_a_batch_are_asked_for_before_one_is_read() {
    let _alone = alone();
    let cold = Cold::of_small_objects();
    let Some(store) = cold.open() else { return };
    let picks = cold.picks(2_000);
    let work = Work::of(|| {
        for object in store.get_many(&picks) {
            assert_eq!(object.unwrap().unwrap().len(), OBJECT_BYTES);
        }
    });
    let indexes = cold.bytes_of("run");
    assert!(work.bytes <= 2_000 * GET_BYTES_MAX + indexes, "{work:?}");
    // One by one, each object waits.
    assert!(work.faults <= 200, "{work:?}");
}

/// A batch guesses how long its records are. With `FirstRead` whoever has an object that was verified
/// before reads it, after the batch.
#[test]
fn h47_long_records_of_a_batch_are_read_with_few_requests() {
    const GROUPS: u64 = 10;
    const GROUP: u64 = 30;
    let _alone = alone();
    let len = |seed: u64| {
        if seed.is_multiple_of(GROUP) {
            1 << 20
        } else {
            8 << 10
        }
    };
    let contents = (0..GROUPS * GROUP).map(|seed| content(seed, len(seed)));
    let cold = Cold::with(&contents.collect::<Vec<_>>());
    let Some(store) = cold.open_with(VerifyReads::FirstRead) else {
        return;
    };
    let read_all = || {
        for batch in cold.picks(cold.digests.len()).chunks(100) {
            for object in store.get_many(batch) {
                let object = object.unwrap().unwrap();
                let pages = object.iter().step_by(1 << 12);
                black_box(pages.fold(0, |sum, byte| sum ^ byte));
            }
        }
    };
    // Page by page it would be 2,560 more.
    for _ in 0..2 {
        let work = Work::of(read_all);
        assert!(work.faults <= 1_000, "{work:?}");
        drop_mapped_from_memory(&segments(cold.folder.path()));
    }
}

#[test]
fn h46_walks_read_ahead_and_read_everything_once() {
    let _alone = alone();
    let cold = Cold::of_small_objects();
    let all = OBJECTS * RECORD_BYTES + cold.bytes_of("idx") + cold.bytes_of("run");
    let check = |what: &str, work: Work| {
        assert!(work.bytes <= all + all / 10, "{what}: {work:?}");
        // Page by page it would be 6,000.
        assert!(work.faults <= 600, "{what}: {work:?}");
    };
    let Some(store) = cold.open() else { return };
    check(
        "iter",
        Work::of(|| assert_eq!(store.iter().count() as u64, OBJECTS)),
    );
    drop(store);
    let Some(store) = cold.open() else { return };
    let verify = || {
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        assert!(report.is_clean());
    };
    check("verify", Work::of(verify));
    drop(store);
    if cold.open().is_none() {
        return;
    }
    let store = Store::open(cold.folder.path()).unwrap();
    let compact = || {
        let mut number = 0_u8;
        let is_live = Mutex::new(|_: &Digest| {
            number = number.wrapping_add(1);
            number.is_multiple_of(2)
        });
        store
            .compact(|digest| (is_live.lock().unwrap())(digest))
            .unwrap();
    };
    check("compact", Work::of(compact));
}

/// Reads by system calls, which need no map, are checked for their answers only.
#[test]
fn a_cold_store_that_reads_by_position_gives_every_object() {
    let _alone = alone();
    let cold = Cold::of_small_objects();
    drop_from_memory(&segments(cold.folder.path()));
    let options = Options::new().read_only(true).read_mode(ReadMode::Pread);
    let store = options.open(cold.folder.path()).unwrap();
    get_all(&store, &cold.picks(100));
    assert!(
        store
            .get_many(&cold.digests)
            .into_iter()
            .all(|object| object.unwrap().is_some())
    );
}
