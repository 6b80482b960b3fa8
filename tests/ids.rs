//! Segment ids, of which each is used once and none is wasted.

#[path = "common/workload.rs"]
mod workload;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealstone::format::Manifest;
use sealstone::{Error, Options, Store};
use tempfile::TempDir;
use workload::{
    EMFILE, Kind, Step, Verdict, assert_same, contents, names, put_all, seam, settle, system_error,
    walk,
};

const FAILURES: usize = 2000;

/// Opens a store in which such steps fail while the switch is on.
fn open(root: &Path, fails: fn(&Step) -> bool) -> (Store, Arc<AtomicBool>) {
    let is_short = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_short);
    let operations = seam(move |step| {
        if switch.load(Ordering::Relaxed) && fails(step) {
            return system_error(EMFILE);
        }
        match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            _ => Verdict::Go,
        }
    });
    let options = Options::new()
        .segment_bytes_max(2000)
        .operations(operations);
    (options.open(root).unwrap(), is_short)
}

fn next_id(root: &Path) -> u64 {
    let manifest = fs::read(root.join("segments/MANIFEST")).unwrap();
    Manifest::parse(&manifest).unwrap().next_id
}

#[track_caller]
fn assert_is_shortage<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(EMFILE)),
        other => panic!("{other:?}"),
    }
}

/// Whichever of the two files of a new segment cannot be created.
#[test]
fn h61_puts_that_fail_use_up_no_segment_id() {
    let fails: [fn(&Step) -> bool; 2] = [
        |step| step.is(Kind::Create, ".dat"),
        |step| step.is(Kind::Create, ".jnl"),
    ];
    for fails in fails {
        let folder = TempDir::new().unwrap();
        let (store, is_short) = open(folder.path(), fails);
        let held = contents(0, 1, 1900);
        put_all(&store, &held);
        is_short.store(true, Ordering::Relaxed);
        for content in contents(1, FAILURES as u64, 1900).values() {
            assert_is_shortage(store.put(content));
        }
        // At most the one that could not be completed.
        assert!(names(folder.path(), &[".dat"]).len() <= 2);
        is_short.store(false, Ordering::Relaxed);
        let mut all = held;
        all.extend(contents(10_000, 3, 1900));
        put_all(&store, &all);
        store.sync().unwrap();
        settle(folder.path());
        // Segments 0 to 3, one after the other.
        assert_eq!(next_id(folder.path()), 4);
        assert_eq!(names(folder.path(), &[".dat"]).len(), 4);
        store.close().unwrap();
        let store = Options::new().open(folder.path()).unwrap();
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_same(&walk(&store), &all);
    }
}

#[test]
fn h61_compactions_that_fail_use_up_no_segment_id() {
    let folder = TempDir::new().unwrap();
    let (store, is_short) = open(folder.path(), |step| {
        step.is(Kind::Create, ".dat.tmp") || step.is(Kind::Create, ".idx.tmp")
    });
    let all = contents(0, 12, 600);
    put_all(&store, &all);
    store.sync().unwrap();
    let is_live = |digest: &_| all.keys().position(|held| held == digest).unwrap() % 2 == 0;
    // Seals what was appended to.
    drop(store.begin_compaction().unwrap());
    settle(folder.path());
    let before = next_id(folder.path());
    is_short.store(true, Ordering::Relaxed);
    for _ in 0..200 {
        assert_is_shortage(store.compact(is_live));
    }
    is_short.store(false, Ordering::Relaxed);
    let stats = store.compact(is_live).unwrap();
    let outputs = names(folder.path(), &[".dat"]).len() as u64;
    assert_eq!(stats.live_objects, 6);
    let after = next_id(folder.path());
    assert!(after <= before + 1 + outputs, "{before} {after} {outputs}");
    store.sync().unwrap();
}

/// A compaction takes ids while the journal of the next segment cannot be created: the segment that was
/// begun is not the newest any more, and another takes its place.
#[test]
fn h61_a_segment_that_was_begun_is_given_up_when_others_are_newer() {
    let folder = TempDir::new().unwrap();
    let (store, is_short) = open(folder.path(), |step| step.is(Kind::Create, ".jnl"));
    let all = contents(0, 8, 900);
    put_all(&store, &all);
    let compaction = store.begin_compaction().unwrap();
    put_all(&store, &contents(100, 2, 900));
    is_short.store(true, Ordering::Relaxed);
    assert_is_shortage(store.put(&[7; 900]));
    let first = all.keys().next().unwrap();
    // It needs a segment above its own.
    assert_is_shortage(compaction.finish(|digest| digest != first));
    is_short.store(false, Ordering::Relaxed);
    store.compact(|digest| digest != first).unwrap();
    store.put(&[7; 900]).unwrap();
    store.sync().unwrap();
    let ids = store.stats().segments;
    let newest = ids.iter().map(|segment| segment.id).max();
    let active = ids
        .iter()
        .find(|segment| segment.state == sealstone::SegmentState::Active);
    assert_eq!(active.map(|segment| segment.id), newest);
    assert_eq!(store.len(), 7 + 2 + 1);
    store.close().unwrap();
    let store = Options::new().open(folder.path()).unwrap();
    assert_eq!(walk(&store).len(), 10);
}
