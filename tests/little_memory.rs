//! Walks through a store that is larger than memory (H46): waits for the disk are counted, not timed.
//!
//! A program of its own, since it gives its process little memory, page cache included. Where that is
//! not permitted, the test says so and checks nothing.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process;

use common::layout::{content, segments};
use common::page_cache::{drop_from_memory, major_faults};
use sealstone::{Digest, Options, Store};

const OBJECTS: u64 = 160_000;
const OBJECT_BYTES: usize = 700;
const MEMORY_BYTES: u64 = 64 << 20;
/// One object in so many is warm: 2,000 objects, which have some 8 MiB of pages.
const WARM_STEP: usize = 80;

/// A control group with [`MEMORY_BYTES`] of memory that this process is in.
struct LittleMemory {
    root: &'static Path,
    group: PathBuf,
}

impl LittleMemory {
    /// Returns `None` if it is not permitted.
    fn enter() -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        versions.into_iter().find_map(|(root, limit)| {
            let root = Path::new(root);
            let group = root.join(format!("sealstone-{}", process::id()));
            // Version 2 has no such folder, and version 1 no group right in the root.
            if !root.join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
                return None;
            }
            let entered = Self { root, group };
            fs::write(entered.group.join(limit), MEMORY_BYTES.to_string()).ok()?;
            join(&entered.group)?;
            Some(entered)
        })
    }
}

impl Drop for LittleMemory {
    fn drop(&mut self) {
        join(self.root);
        let _ = fs::remove_dir(&self.group);
    }
}

fn join(group: &Path) -> Option<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string()).ok()
}

/// Builds a store that is larger than memory and has its objects in one segment.
fn build(folder: &Path) -> Vec<Digest> {
    let store = Options::new().set_index_minimum(1, 1).open(folder).unwrap();
    let contents = (0..OBJECTS).map(|seed| content(seed, OBJECT_BYTES));
    let digests = store.put_many(&contents.collect::<Vec<_>>()).unwrap();
    store.compact(|_| true).unwrap();
    store.close().unwrap();
    digests
}

/// The sidecar and the run are read in random order, and the warm objects again and again. The data of a
/// walk, which is longer than memory, must drive out neither.
#[test]
fn h46_a_walk_keeps_the_index_and_what_gets_keep_warm_in_little_memory() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let digests = build(folder.path());
    let segments = segments(folder.path());
    drop_from_memory(&segments);
    let Some(_memory) = LittleMemory::enter() else {
        eprintln!("skipped: the system does not let this process limit its memory");
        return;
    };
    let faults = |work: &dyn Fn()| {
        let before = major_faults();
        work();
        major_faults() - before
    };
    let walk = |what: &str, walk: &dyn Fn(&Store)| {
        drop_from_memory(&segments);
        let options = Options::new().read_only(true);
        let store = options.open(folder.path()).unwrap();
        let read_warm = || {
            for digest in digests.iter().step_by(WARM_STEP) {
                assert!(store.get(digest).unwrap().is_some());
            }
        };
        read_warm();
        let of_walk = faults(&|| walk(&store));
        // Each page of the index was read several times, 1,700 reads and more.
        assert!(of_walk <= 400, "{what}: {of_walk}");
        let of_warm = faults(&read_warm);
        assert!(of_warm <= 100, "{what}: {of_warm} of warm objects");
    };
    walk("iter", &|store| {
        assert_eq!(store.iter().count() as u64, OBJECTS);
    });
    walk("verify", &|store| {
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        assert!(report.is_clean());
    });
}
