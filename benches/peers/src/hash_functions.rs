//! The hash functions that a store can have: hashing alone, beside the crates that others use, and
//! checked gets of a store of each.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use sealstone::{Digest, HashFunction, Options};

use crate::contents::{Contents, Size, draw};
use crate::hashing::LANES_GROUP;
use crate::operations::microseconds_each;
use crate::results::Results;

/// The part of the results.
pub const PART: &str = "hash functions";
const SIZES: [usize; 4] = [256, 1 << 10, 4 << 10, 64 << 10];
/// Bytes that are hashed for one sample.
const HASHED_BYTES: usize = 64 << 20;
/// Bytes of content of a store.
const STORE_BYTES: usize = 64 << 20;

pub fn run(rounds: usize, folder: &Path, results: &mut Results) {
    eprintln!("hash functions");
    for bytes in SIZES {
        let size = Size::Fixed(bytes);
        let contents = Contents::generate(size, 0, LANES_GROUP as u64);
        let contents: Vec<&[u8]> = contents.iter().collect();
        for _ in 0..rounds {
            alone(&contents, bytes, results);
            side_by_side(&contents, bytes, results);
        }
    }
    for bytes in [1 << 10, 64 << 10] {
        for &function in HashFunction::ALL {
            gets(
                function,
                bytes,
                rounds,
                &folder.join("hash-function"),
                results,
            );
        }
    }
}

fn add(results: &mut Results, name: &str, who: &str, microseconds: f64) {
    results.add(PART, name, who, "us", microseconds);
}

/// Hashes one content after the other, each contender in turn.
fn alone(contents: &[&[u8]], bytes: usize, results: &mut Results) {
    let name = format!("one content of {}", Size::Fixed(bytes));
    let mut measure = |who: &str, hash: &dyn Fn(&[u8])| {
        let times = HASHED_BYTES / bytes;
        let start = Instant::now();
        for content in contents.iter().cycle().take(times) {
            hash(black_box(content));
        }
        add(results, &name, who, microseconds_each(start, times));
    };
    for function in HashFunction::ALL {
        measure(function.name(), &|content| {
            black_box(function.digest(content));
        });
    }
    measure("crate blake2b_simd", &|content| {
        black_box(blake2b_simd::blake2b(content));
    });
    measure("crate blake2", &|content| {
        black_box(<blake2::Blake2b512 as blake2::Digest>::digest(content));
    });
}

/// Hashes batches, each contender in turn. The time is that of one content.
fn side_by_side(contents: &[&[u8]], bytes: usize, results: &mut Results) {
    let name = format!("{LANES_GROUP} contents of {} together", Size::Fixed(bytes));
    let mut measure = |who: &str, hash: &dyn Fn(&[&[u8]])| {
        let times = HASHED_BYTES / bytes / contents.len();
        let start = Instant::now();
        for _ in 0..times {
            hash(black_box(contents));
        }
        add(
            results,
            &name,
            who,
            microseconds_each(start, times * contents.len()),
        );
    };
    for function in HashFunction::ALL {
        measure(function.name(), &|contents| {
            black_box(function.digest_many(contents));
        });
    }
    measure("crate blake2b_simd", &|contents| {
        use blake2b_simd::many::{HashManyJob, hash_many};
        let parameters = blake2b_simd::Params::new();
        let jobs = contents
            .iter()
            .map(|content| HashManyJob::new(&parameters, content));
        let mut jobs: Vec<HashManyJob<'_>> = jobs.collect();
        hash_many(&mut jobs);
        for job in &jobs {
            black_box(job.to_hash());
        }
    });
}

/// Measures random checked gets of a store.
fn gets(function: HashFunction, bytes: usize, rounds: usize, folder: &Path, results: &mut Results) {
    let objects = STORE_BYTES / bytes;
    let contents = Contents::generate(Size::Fixed(bytes), 0, objects as u64);
    let options = Options::new()
        .hash_function(function)
        .segment_bytes_max(16 << 20);
    let store = options.open(folder).expect("Sealstone opens");
    let mut digests: Vec<Digest> = Vec::new();
    for batch in contents.batches() {
        digests.extend(store.put_many(&batch).expect("Sealstone puts"));
    }
    store.close().expect("Sealstone closes");
    let store = Options::new().open(folder).expect("Sealstone opens");
    let name = format!("random checked get, {}", Size::Fixed(bytes));
    for round in 0..rounds {
        let picks = draw(&digests, objects.min(50_000), round as u64);
        let start = Instant::now();
        for pick in &picks {
            black_box(
                store
                    .get(pick)
                    .expect("Sealstone gets")
                    .expect("it is there"),
            );
        }
        add(
            results,
            &name,
            function.name(),
            microseconds_each(start, picks.len()),
        );
    }
    drop(store);
    fs::remove_dir_all(folder).expect("the folder can be removed");
}
