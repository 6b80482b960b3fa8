//! Criterion benchmarks that guard the figures of Sealstone against regressions.
//! `cargo bench --bench store` takes some minutes.
//!
//! Each benchmark names the target of `benches/peers` that it guards, B1 to B9, and measures the
//! side of Sealstone on a small store: if it gets slower here, it gets slower there. A test in
//! `tests/cost.rs` guards B7, the heap.

use std::cell::OnceCell;
use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use sealstone::{Digest, Options, Store, VerifyReads};
use tempfile::TempDir;

/// Content bytes in the stores that are read from.
const STORE_BYTES: usize = 64 << 20;
const SEGMENT_BYTES: u64 = 16 << 20;
const SMALL: usize = 256;
const MEDIUM: usize = 1024;
const LARGE: usize = 64 << 10;
const SIZES: [usize; 3] = [SMALL, MEDIUM, LARGE];
/// Digests that are looked up together.
const BATCH: usize = 32;
/// Contents that are put together.
const PUT_BATCH: usize = 1024;

fn contents(count: usize, bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let content = || {
        let mut content = vec![0; bytes];
        random.fill_bytes(&mut content);
        content
    };
    std::iter::repeat_with(content).take(count).collect()
}

fn open(root: &Path) -> Store {
    let options = Options::new().segment_bytes_max(SEGMENT_BYTES);
    options.open(root).unwrap()
}

/// A closed store.
struct Filled {
    folder: TempDir,
    /// In random order, unlike the records.
    digests: Vec<Digest>,
}

impl Filled {
    fn new(bytes: usize, segment_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new().segment_bytes_max(segment_bytes);
        let store = options.open(folder.path()).unwrap();
        let contents = contents(STORE_BYTES / bytes, bytes, 1);
        let mut digests = store.put_many(&contents).unwrap();
        // Closing builds the set index over the segments that are sealed by then.
        store.close().unwrap();
        digests.shuffle(&mut SmallRng::seed_from_u64(2));
        Self { folder, digests }
    }

    fn reader(&self, verify: VerifyReads) -> Store {
        let options = Options::new().read_only(true).verify_reads(verify);
        options.open(self.folder.path()).unwrap()
    }
}

/// One store for each size, filled at its first use.
#[derive(Default)]
struct Stores([OnceCell<Filled>; SIZES.len()]);

impl Stores {
    fn of(&self, bytes: usize) -> &Filled {
        let at = SIZES.iter().position(|&size| size == bytes).unwrap();
        self.0[at].get_or_init(|| Filled::new(bytes, SEGMENT_BYTES))
    }
}

fn copy_store(root: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("segments");
    fs::create_dir(&target).unwrap();
    for entry in fs::read_dir(root.join("segments")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    folder
}

/// Measures a get, of each digest in turn.
fn gets(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    digests: &[Digest],
    get: impl Fn(&Digest),
) {
    let mut turn = digests.iter().cycle();
    group.bench_function(id, |bencher| {
        bencher.iter(|| turn.by_ref().take(1).for_each(&get));
    });
}

/// B1: a checked random get, and its bound, the hash of a hot buffer of its size.
fn checked_get(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B1_checked_get");
    for bytes in SIZES {
        let filled = stores.of(bytes);
        let store = filled.reader(VerifyReads::EveryRead);
        group.throughput(Throughput::Bytes(bytes as u64));
        let id = BenchmarkId::new("get", bytes);
        gets(&mut group, id, &filled.digests, |digest| {
            black_box(store.get(digest).unwrap().unwrap());
        });
        let content = contents(1, bytes, 3).remove(0);
        group.bench_function(BenchmarkId::new("hash", bytes), |bencher| {
            bencher.iter(|| Digest::of(black_box(&content)));
        });
    }
    group.finish();
}

/// B2: checked gets in batches of 32, which overlap their cache misses and hash in lanes.
fn get_many(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B2_get_many");
    group.throughput(Throughput::Elements(BATCH as u64));
    for bytes in [SMALL, MEDIUM] {
        let filled = stores.of(bytes);
        let store = filled.reader(VerifyReads::EveryRead);
        let reader = store.reader();
        let mut turn = filled.digests.chunks_exact(BATCH).cycle();
        group.bench_function(BenchmarkId::new("store", bytes), |bencher| {
            bencher.iter(|| turn.next().map(|digests| store.get_many(digests)));
        });
        group.bench_function(BenchmarkId::new("reader", bytes), |bencher| {
            bencher.iter(|| drop(turn.next().map(|digests| reader.get_many(digests))));
        });
    }
    group.finish();
}

/// B3: a get of an object that was checked before, with `VerifyReads::FirstRead`.
fn get_checked_before(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B3_get_checked_before");
    for bytes in [SMALL, MEDIUM] {
        let filled = stores.of(bytes);
        let store = filled.reader(VerifyReads::FirstRead);
        let reader = store.reader();
        // The first pass checks.
        for digests in filled.digests.chunks(BATCH) {
            let found = store.get_many(digests);
            assert!(found.into_iter().all(|found| found.unwrap().is_some()));
        }
        let id = BenchmarkId::new("store", bytes);
        gets(&mut group, id, &filled.digests, |digest| {
            black_box(store.get(digest).unwrap().unwrap());
        });
        let id = BenchmarkId::new("reader", bytes);
        gets(&mut group, id, &filled.digests, |digest| {
            black_box(reader.get(digest).unwrap().unwrap());
        });
    }
    group.finish();
}

/// B4: two threads with a pinned reader each read as fast as one, and a miss costs no more than a
/// hit. The time for two threads is that of one get in each of them, so it should equal that of
/// one.
fn get_in_threads_and_miss(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B4_pinned_reader");
    for bytes in [SMALL, MEDIUM] {
        let filled = stores.of(bytes);
        let store = filled.reader(VerifyReads::EveryRead);
        for threads in [1, 2] {
            let id = BenchmarkId::new(format!("threads_{threads}"), bytes);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| {
                    get_in_threads(threads, iterations, &store, &filled.digests)
                });
            });
        }
    }
    let filled = stores.of(SMALL);
    let reader = filled.reader(VerifyReads::EveryRead).reader();
    let absent = Digest::of_many(&contents(10_000, 40, 4));
    let id = BenchmarkId::new("miss", SMALL);
    gets(&mut group, id, &absent, |digest| {
        assert!(reader.get(digest).unwrap().is_none());
    });
    group.finish();
}

/// Returns the time of the slowest thread.
fn get_in_threads(threads: usize, iterations: u64, store: &Store, digests: &[Digest]) -> Duration {
    let barrier = Barrier::new(threads);
    let get = |thread: usize| {
        let reader = store.reader();
        let iterations = usize::try_from(iterations).unwrap();
        let begin = thread * digests.len() / threads;
        let turn = digests.iter().cycle().skip(begin).take(iterations);
        barrier.wait();
        let begin = Instant::now();
        for digest in turn {
            black_box(reader.get(digest).unwrap().unwrap());
        }
        begin.elapsed()
    };
    thread::scope(|scope| {
        let spawn = |thread| scope.spawn(move || get(thread));
        let spawned: Vec<_> = (0..threads).map(spawn).collect();
        let took = spawned.into_iter().map(|thread| thread.join().unwrap());
        took.max().unwrap()
    })
}

/// B5: the same objects in few and in many segments.
fn get_in_many_segments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("B5_get_in_segments");
    let objects = STORE_BYTES / MEDIUM;
    for segments in [8, 512] {
        let segment_bytes = objects / segments * (MEDIUM + 4);
        let filled = Filled::new(MEDIUM, segment_bytes as u64);
        let store = filled.reader(VerifyReads::EveryRead);
        let count = store.stats().segments.len();
        assert!((segments..=segments + 1).contains(&count), "{count}");
        let id = BenchmarkId::from_parameter(segments);
        gets(&mut group, id, &filled.digests, |digest| {
            black_box(store.get(digest).unwrap().unwrap());
        });
    }
    group.finish();
}

/// B6: opening after a clean close and after a crash, and closing.
fn open_and_close(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B6_open");
    group.sample_size(20);
    let root = stores.of(MEDIUM).folder.path();
    group.bench_function("read_only", |bencher| {
        let options = Options::new().read_only(true);
        bencher.iter_with_large_drop(|| options.open(root).unwrap());
    });
    group.bench_function("writer", |bencher| {
        // The store is dropped after the measured time, and before the next one is opened.
        bencher.iter_batched(|| (), |()| open(root), BatchSize::PerIteration);
    });
    group.bench_function("close", |bencher| {
        let close = |store: Store| store.close().unwrap();
        bencher.iter_batched(|| open(root), close, BatchSize::PerIteration);
    });
    group.sample_size(10);
    let image = crash_image();
    group.bench_function("after_a_crash", |bencher| {
        bencher.iter_batched(
            || copy_store(image.path()),
            // The default size keeps everything in one segment, as in the crash.
            |folder| (Store::open(folder.path()).unwrap(), folder),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Copies the files of a store that was not closed; its active segment was synced.
fn crash_image() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let contents = contents(STORE_BYTES / 2 / MEDIUM, MEDIUM, 5);
    for contents in contents.chunks(PUT_BATCH) {
        store.put_many(contents).unwrap();
    }
    store.sync().unwrap();
    copy_store(folder.path())
}

/// B8: putting one by one and many together.
fn put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("B8_put");
    group.measurement_time(Duration::from_secs(1));
    group.sample_size(20);
    let mut seed = 100;
    let mut fresh = |count, bytes| {
        seed += 1;
        contents(count, bytes, seed)
    };
    for bytes in [SMALL, MEDIUM] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("put", bytes), |bencher| {
            let fresh = || fresh(1, bytes).remove(0);
            let put = |content: Vec<u8>| store.put(&content).unwrap();
            bencher.iter_batched(fresh, put, BatchSize::SmallInput);
        });
        group.throughput(Throughput::Bytes((bytes * PUT_BATCH) as u64));
        group.bench_function(BenchmarkId::new("put_many", bytes), |bencher| {
            let fresh = || fresh(PUT_BATCH, bytes);
            let put_many = |contents: Vec<Vec<u8>>| store.put_many(&contents).unwrap();
            bencher.iter_batched(fresh, put_many, BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// B9: a compaction that drops a random half, and a full check.
fn compact_and_verify(criterion: &mut Criterion, stores: &Stores) {
    let mut group = criterion.benchmark_group("B9_whole_store");
    group.sample_size(10);
    let filled = stores.of(MEDIUM);
    group.throughput(Throughput::Bytes(STORE_BYTES as u64 / 2));
    group.bench_function("compact_half", |bencher| {
        bencher.iter_batched(
            || {
                let folder = copy_store(filled.folder.path());
                (open(folder.path()), folder)
            },
            |(store, folder)| {
                let keep = |digest: &Digest| digest.as_bytes()[31].is_multiple_of(2);
                let stats = store.compact(keep).unwrap();
                (store, folder, stats)
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Bytes(STORE_BYTES as u64));
    group.bench_function("verify", |bencher| {
        let store = filled.reader(VerifyReads::EveryRead);
        bencher.iter(|| {
            let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
            assert!(report.is_clean());
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let stores = Stores::default();
    checked_get(&mut criterion, &stores);
    get_many(&mut criterion, &stores);
    get_checked_before(&mut criterion, &stores);
    get_in_threads_and_miss(&mut criterion, &stores);
    get_in_many_segments(&mut criterion);
    open_and_close(&mut criterion, &stores);
    put(&mut criterion);
    compact_and_verify(&mut criterion, &stores);
    criterion.final_summary();
}
