//! Crash states: what a power failure may leave of a store at any point of its life, and what the
//! engine recovers from it (H11, H12, H13, H18).
//!
//! A life is recorded through the seam below the store ([`log`]). For each point of it, a disk that
//! respects fsync and no more ([`disk`]) makes images. Each image is opened and compared with what
//! the application knows ([`known`], [`check`]). Some images begin further lives, which crash
//! again.
//!
//! `SEALSTONE_CRASH_IMAGES=1000000 cargo test --release --test crash` is the long run;
//! `SEALSTONE_CRASH_SEED` chooses where the lives begin.

mod check;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod explore;
mod image;
mod known;
mod log;
mod nedb;
mod sites;
mod workload;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use sealstone::HashFunction;

use common::hash::hash_function;
use explore::{Exploration, Plan};

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Explores lives of stores with this hash function, and fails if a promise was broken.
fn explore(function: HashFunction, images: u64) {
    let begin = Instant::now();
    let explored = Exploration::run(Plan {
        function,
        first_seed: number_from("SEALSTONE_CRASH_SEED").unwrap_or(1),
        images,
        unsynced: None,
        with_sites: false,
        moments_every: 4,
        random_images: 8,
        nested_every: 200,
    });
    let counts = &explored.counts;
    let nested = counts.nested.load(Relaxed);
    eprintln!(
        "{function}: {counts:?} in {:.1} s, {} violations",
        begin.elapsed().as_secs_f32(),
        u8::from(explored.violation.lock().unwrap().is_some()),
    );
    if let Some(what) = &*explored.violation.lock().unwrap() {
        panic!("{what}");
    }
    assert!(
        nested * 20 > counts.checked.load(Relaxed),
        "{nested} nested"
    );
}

#[test]
fn h13_h18_no_crash_loses_synced_objects_or_brings_back_dropped_ones() {
    let images = number_from("SEALSTONE_CRASH_IMAGES").unwrap_or(20_000);
    explore(hash_function(), images);
}

/// A store of another function than the default must have its manifest before it holds anything.
#[test]
fn h13_h18_no_crash_loses_synced_objects_whatever_the_hash_function() {
    for &function in HashFunction::ALL {
        if function != hash_function() {
            explore(function, 2_000);
        }
    }
}
