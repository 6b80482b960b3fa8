//! A system that fails: it has no space or no file descriptors, or an fsync fails.
//!
//! A seam below the store records each request to the system and can let it fail. Nothing is really
//! synced here; `crash/` looks at what a power failure leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sealstone::test_seam::Operations;
use sealstone::{Digest, Error, Options, SegmentState, Store};
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::workload::{
    Kind, Step, contents, eventually, pretend_to_sync, put_all, seam, settle, without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 2000;

pub fn options() -> Options {
    new_options()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

/// Waits until full segments are sealed, or until the background thread cannot go on.
pub fn await_sealed(store: &Store, is_stuck: impl Fn() -> bool) {
    let is_sealing = || {
        let segments = store.stats().segments;
        let sealing = SegmentState::Sealing;
        segments.iter().any(|segment| segment.state == sealing)
    };
    eventually("full segments are sealed", || is_stuck() || !is_sealing());
}

#[track_caller]
pub fn assert_system_error<T>(result: Result<T, Error>, code: i32) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(code)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

#[track_caller]
pub fn assert_poisoned<T>(result: Result<T, Error>) {
    match result {
        Err(Error::Poisoned { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

// --- Order (H11, H12) ---

/// The requests of a store to the system, in order.
#[derive(Clone, Default)]
pub struct Record(pub Arc<Mutex<Vec<Step>>>);

impl Record {
    /// Records each request and carries it out, unless it is a sync.
    pub fn operations(&self) -> Arc<dyn Operations> {
        let record = self.clone();
        seam(move |step| {
            record.0.lock().unwrap().push(step.clone());
            pretend_to_sync(step)
        })
    }

    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub fn list(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| format!("{step}\n"));
    lines.collect()
}

/// The rules that hold for every history of operations.
///
/// A file gets its final name only when all that was written to it is synced.
/// - When a manifest gets its name, the names of the files that it speaks of are durable.
/// - A data file is removed only when the manifest that retires it, and its name, are durable.
#[track_caller]
fn assert_ordered(steps: &[Step]) {
    let mut unsynced: BTreeSet<&Path> = BTreeSet::new();
    let mut unsynced_names: BTreeSet<PathBuf> = BTreeSet::new();
    let mut manifest_is_durable = false;
    for (at, step) in steps.iter().enumerate() {
        let history = || list(&steps[..=at]);
        let is_segment_file = [".dat", ".idx"]
            .iter()
            .any(|end| step.name().ends_with(end));
        match step.kind {
            Kind::Write | Kind::Cut => _ = unsynced.insert(&step.path),
            Kind::SyncFile => _ = unsynced.remove(&*step.path),
            Kind::SyncDir => {
                unsynced_names.retain(|name| name.parent() != Some(&step.path));
                manifest_is_durable = true;
            }
            Kind::Rename => {
                assert!(
                    !unsynced.contains(&*step.path),
                    "not synced:\n{}",
                    history()
                );
                if step.name() == "MANIFEST.tmp" {
                    assert!(
                        unsynced_names.is_empty(),
                        "{unsynced_names:?}:\n{}",
                        history()
                    );
                    manifest_is_durable = false;
                } else {
                    unsynced_names.extend(step.to.clone());
                }
            }
            Kind::Link => unsynced_names.extend(step.to.clone()),
            Kind::Remove if is_segment_file => {
                assert!(manifest_is_durable, "removed too early:\n{}", history());
            }
            Kind::Remove | Kind::Create | Kind::CreateDir => {}
        }
    }
}

fn position(steps: &[Step], kind: Kind, ending: &str) -> usize {
    let found = steps.iter().position(|step| step.is(kind, ending));
    found.unwrap_or_else(|| panic!("no {kind:?} {ending}:\n{}", list(steps)))
}

fn last_position(steps: &[Step], kind: Kind, ending: &str) -> usize {
    let found = steps.iter().rposition(|step| step.is(kind, ending));
    found.unwrap_or_else(|| panic!("no {kind:?} {ending}:\n{}", list(steps)))
}

#[test]
fn h11_a_compaction_removes_its_inputs_after_its_outputs_are_durable() {
    let folder = TempDir::new().unwrap();
    let record = Record::default();
    let store = options()
        .operations(record.operations())
        .open(folder.path())
        .unwrap();
    let held = contents(0, 30, 300);
    put_all(&store, &held);
    let live = |digest: &Digest| held.keys().position(|d| d == digest).unwrap() % 2 == 0;
    let compaction = store.begin_compaction().unwrap();
    settle(folder.path());
    record.take();
    compaction.finish(live).unwrap();
    settle(folder.path());
    let steps = record.take();
    assert_ordered(&steps);
    let removed = position(&steps, Kind::Remove, ".dat");
    let commit = last_position(&steps, Kind::Rename, "MANIFEST.tmp");
    for ending in [".dat.tmp", ".idx.tmp"] {
        let created = steps.iter().filter(|step| step.is(Kind::Create, ending));
        assert!(created.count() > 1, "{}", list(&steps));
        let written = last_position(&steps, Kind::Write, ending);
        let synced = last_position(&steps, Kind::SyncFile, ending);
        let renamed = position(&steps, Kind::Rename, ending);
        let last_renamed = last_position(&steps, Kind::Rename, ending);
        assert!(written < synced && synced < renamed, "{}", list(&steps));
        let named = steps[last_renamed..commit]
            .iter()
            .any(|s| s.kind == Kind::SyncDir);
        assert!(named, "{}", list(&steps));
        // Before an output has a name, a durable manifest says that the output does not count yet.
        let announced = position(&steps, Kind::Rename, "MANIFEST.tmp");
        let durable = steps[announced..renamed]
            .iter()
            .any(|s| s.kind == Kind::SyncDir);
        assert!(durable, "{}", list(&steps));
    }
    let committed = steps[commit..removed]
        .iter()
        .any(|step| step.kind == Kind::SyncDir);
    assert!(committed, "{}", list(&steps));
}

#[test]
fn h11_a_seal_syncs_the_data_before_the_sidecar_before_the_manifest() {
    let folder = TempDir::new().unwrap();
    let record = Record::default();
    let store = options()
        .operations(record.operations())
        .open(folder.path())
        .unwrap();
    put_all(&store, &contents(0, 8, 300));
    settle(folder.path());
    let steps = record.take();
    assert_ordered(&steps);
    let order = [
        position(&steps, Kind::Write, "seg-000000.dat"),
        position(&steps, Kind::SyncFile, "seg-000000.dat"),
        position(&steps, Kind::Write, "seg-000000.idx.tmp"),
        position(&steps, Kind::SyncFile, "seg-000000.idx.tmp"),
        position(&steps, Kind::Rename, "seg-000000.idx.tmp"),
        last_position(&steps, Kind::SyncFile, "MANIFEST.tmp"),
        last_position(&steps, Kind::Rename, "MANIFEST.tmp"),
        position(&steps, Kind::Remove, "seg-000000.jnl"),
    ];
    assert!(order.is_sorted(), "{}", list(&steps));
}

/// A power failure may undo a cut that was not synced, while the manifest says how long the file
/// is.
#[test]
fn h11_a_seal_syncs_data_whose_tail_was_cut_off_before() {
    for is_cut in [true, false] {
        let folder = TempDir::new().unwrap();
        let store = options().open(folder.path()).unwrap();
        put_all(&store, &contents(0, 3, 300));
        store.close().unwrap();
        if is_cut {
            let path = folder.path().join("segments/seg-000000.dat");
            let mut data = fs::read(&path).unwrap();
            data.extend([7; 100]);
            fs::write(path, data).unwrap();
        }
        // A seal syncs the data also without a cut: an earlier writer may have cut it and been
        // killed.
        let record = Record::default();
        let store = options()
            .operations(record.operations())
            .open(folder.path())
            .unwrap();
        drop(store.begin_compaction().unwrap());
        let steps = record.take();
        let cuts = steps.iter().filter(|s| s.is(Kind::Cut, ".dat")).count();
        assert_eq!(cuts, usize::from(is_cut), "{}", list(&steps));
        let synced = position(&steps, Kind::SyncFile, "seg-000000.dat");
        let sealed = position(&steps, Kind::Create, "seg-000000.idx.tmp");
        assert!(synced < sealed, "{}", list(&steps));
        if is_cut {
            let cut = position(&steps, Kind::Cut, "seg-000000.dat");
            assert!(cut < synced, "{}", list(&steps));
        }
    }
}

#[test]
fn h12_names_are_durable_when_the_first_sync_returns() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("a/b");
    let record = Record::default();
    let store = options()
        .operations(record.operations())
        .open(&root)
        .unwrap();
    store.put(b"first").unwrap();
    store.sync().unwrap();
    let steps = record.take();
    assert_ordered(&steps);
    let created = last_position(&steps, Kind::Create, ".dat");
    let segments = root.join("segments");
    let named = last_position(&steps, Kind::SyncDir, "segments");
    assert!(created < named, "{}", list(&steps));
    assert!(position(&steps, Kind::SyncFile, ".dat") > position(&steps, Kind::Write, ".dat"));
    for path in [folder.path().join("a"), root.clone(), segments] {
        let is_made = |step: &Step| step.kind == Kind::CreateDir && step.path == path;
        let made = steps.iter().position(is_made).unwrap();
        let is_named =
            |step: &Step| step.kind == Kind::SyncDir && Some(&*step.path) == path.parent();
        assert!(
            steps[made..].iter().any(is_named),
            "{}:\n{}",
            path.display(),
            list(&steps)
        );
    }
    drop(store);

    // An earlier writer may have created the files and died before it could sync their names.
    record.take();
    let store = options()
        .operations(record.operations())
        .open(&root)
        .unwrap();
    store.put(b"second").unwrap();
    store.sync().unwrap();
    position(&record.take(), Kind::SyncDir, "segments");
}

#[test]
fn h12_a_checkpoint_is_durable_when_it_returns() {
    let folder = TempDir::new().unwrap();
    let record = Record::default();
    let root = folder.path().join("store");
    let store = options()
        .operations(record.operations())
        .open(root)
        .unwrap();
    put_all(&store, &contents(0, 20, 300));
    store.checkpoint(folder.path().join("copy")).unwrap();
    let steps = record.take();
    assert_ordered(&steps);
    // The manifest comes first, so that an interrupted checkpoint lacks segments and says so.
    let linked = last_position(&steps, Kind::Link, "");
    let first_link = position(&steps, Kind::Link, "");
    let commit = last_position(&steps, Kind::Rename, "MANIFEST.tmp");
    let is_copy = |step: &Step| step.path == folder.path().join("copy/segments");
    let is_copy_file = |step: &Step| step.path.starts_with(folder.path().join("copy/segments"));
    let named = |steps: &[Step]| steps.iter().any(|s| s.kind == Kind::SyncDir && is_copy(s));
    assert!(
        named(&steps[commit..first_link]) && named(&steps[linked..]),
        "{}",
        list(&steps)
    );
    // The segment above comes last; a compaction by another program would leave such a segment.
    let is_above = |step: &Step| step.is(Kind::Create, ".dat") && is_copy_file(step);
    let above = steps.iter().position(is_above).unwrap();
    assert!(named(&steps[linked..above]), "{}", list(&steps));
}
