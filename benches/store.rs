//! Criterion benchmarks of the operations that users wait for: `cargo bench --bench store`.

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use sealstone::{Digest, Hashed, Options, Store};
use tempfile::TempDir;

/// Content bytes in the stores that are read from.
const STORE_BYTES: usize = 64 << 20;
const SEGMENT_BYTES: u64 = 16 << 20;
const SIZES: [usize; 3] = [256, 1024, 64 << 10];

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

fn filled_store(bytes: usize) -> (TempDir, Store, Vec<Digest>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let digests = store
        .put_many(&contents(STORE_BYTES / bytes, bytes, 1))
        .unwrap();
    store.close().unwrap();
    let store = open(folder.path());
    (folder, store, digests)
}

fn put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    for bytes in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut seed = 100;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            let fresh = || {
                seed += 1;
                contents(1, bytes, seed).remove(0)
            };
            let put = |content: Vec<u8>| store.put(&content).unwrap();
            bencher.iter_batched(fresh, put, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn get(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get");
    for bytes in SIZES {
        let (_folder, store, digests) = filled_store(bytes);
        let mut random = SmallRng::seed_from_u64(2);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                let digest = &digests[random.random_range(0..digests.len())];
                black_box(store.get(digest).unwrap().unwrap())
            });
        });
    }
    let (_folder, store, _) = filled_store(1024);
    let absent = *Hashed::new(b"absent").digest();
    group.throughput(Throughput::Elements(1));
    group.bench_function("absent", |bencher| {
        bencher.iter(|| black_box(store.get(black_box(&absent)).unwrap()));
    });
    group.finish();
}

fn open_and_close(criterion: &mut Criterion) {
    let (folder, store, _) = filled_store(1024);
    store.close().unwrap();
    criterion.bench_function("open", |bencher| {
        // The store is dropped after the measured time.
        bencher.iter_with_large_drop(|| {
            let options = Options::new().read_only(true);
            options.open(folder.path()).unwrap()
        });
    });
    let mut group = criterion.benchmark_group("open_and_close");
    group.sample_size(20);
    group.bench_function("writer", |bencher| {
        bencher.iter(|| open(folder.path()).close().unwrap());
    });
    group.finish();
}

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(STORE_BYTES as u64 / 2));
    group.bench_function("half_of_1024", |bencher| {
        bencher.iter_batched(
            || filled_store(1024),
            |(folder, store, _)| {
                let keep = |digest: &Digest| digest.as_bytes()[31].is_multiple_of(2);
                let stats = store.compact(keep).unwrap();
                (folder, store, stats)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, put, get, open_and_close, compact);
criterion_main!(benches);
