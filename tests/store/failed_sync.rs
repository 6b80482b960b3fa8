//! An fsync that fails is never tried again, and files that cannot be created lose nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sealstone::test_seam::Operations;
use sealstone::{Digest, Store};
use tempfile::TempDir;

use crate::common::workload::{
    Contents, EIO, EMFILE, Kind, Step, Verdict, assert_holds, assert_same, assert_undamaged,
    assert_verifies, contents, eventually, pretend_to_sync, put_all, seam, system_error, walk,
};
use crate::faults::{Record, assert_poisoned, assert_system_error, list, options};

// --- No file descriptors (H4) ---

#[test]
fn h4_every_file_that_cannot_be_created_is_an_error_and_loses_nothing() {
    for failing in 0.. {
        let folder = TempDir::new().unwrap();
        let left = Arc::new(AtomicUsize::new(failing));
        let counted = Arc::clone(&left);
        // Three creations in a row fail: a single failure is often made up for in the background.
        let is_one = move || {
            let count = counted.load(Ordering::Acquire);
            counted.store(count.wrapping_sub(1), Ordering::Release);
            count == 0 || count.wrapping_add(2) < 2
        };
        let operations = seam(move |step| match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            Kind::Create if is_one() => system_error(EMFILE),
            _ => Verdict::Go,
        });
        let (plain, options) = (options(), options().operations(operations));
        let store = loop {
            match options.open(folder.path()) {
                Ok(store) => break store,
                failed => assert_system_error(failed.map(drop), EMFILE),
            }
        };
        let held = contents(0, 30, 300);
        for content in held.values() {
            while let failed @ Err(_) = store.put(content) {
                assert_system_error(failed, EMFILE);
            }
        }
        store.sync().unwrap();
        let is_live = |digest: &Digest| digest.as_bytes()[0].is_multiple_of(2);
        while let failed @ Err(_) = store.compact(is_live) {
            assert_system_error(failed.map(drop), EMFILE);
            assert_same(&walk(&store), &held);
        }
        let mut live = held;
        live.retain(|digest, _| is_live(digest));
        assert_same(&walk(&store), &live);
        drop(store);
        let store = plain.open(folder.path()).unwrap();
        assert_undamaged(&store);
        assert_same(&walk(&store), &live);
        assert_verifies(&store);
        if left.load(Ordering::Acquire) < usize::MAX / 2 {
            assert!(failing > 20, "{failing}");
            return;
        }
    }
}

// --- An fsync that fails (H9, H10) ---

/// Lets one fsync fail, and records every step from then on.
fn failing_once(
    kind: Kind,
    ending: &'static str,
) -> (Arc<dyn Operations>, Arc<AtomicBool>, Record) {
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let since = Record::default();
    let record = since.clone();
    let has_failed = AtomicBool::new(false);
    let operations = seam(move |step| {
        if has_failed.load(Ordering::Acquire) {
            record.0.lock().unwrap().push(step.clone());
        } else if step.is(kind, ending) && trigger.load(Ordering::Acquire) {
            has_failed.store(true, Ordering::Release);
            record.0.lock().unwrap().push(step.clone());
            return system_error(EIO);
        }
        pretend_to_sync(step)
    });
    (operations, armed, since)
}

/// Checks a store after a failed fsync: it accepts no write, goes on reading, and syncs, renames
/// and removes nothing, since nobody knows what is on the disk.
fn assert_refuses_writes(store: &Store, held: &Contents, since: &Record) {
    for _ in 0..3 {
        assert_poisoned(store.put(b"new"));
        assert_poisoned(store.put_many(&[b"new"]));
        assert_poisoned(store.sync());
        assert_poisoned(store.begin_compaction());
    }
    assert_holds(store, held);
    assert_same(&walk(store), held);
    let steps = since.0.lock().unwrap().clone();
    let (failed, later) = steps.split_first().unwrap();
    let changes = [Kind::SyncFile, Kind::SyncDir, Kind::Rename];
    // A compaction syncs its outputs side by side, so another sync may have been under way.
    let is_beside = |step: &Step| {
        step.path != failed.path
            && failed.is(Kind::SyncFile, ".tmp")
            && step.is(Kind::SyncFile, ".dat.tmp")
    };
    for step in later {
        assert!(
            !changes.contains(&step.kind) || is_beside(step),
            "{step} after the failed {failed}"
        );
        assert!(
            !step.is(Kind::Remove, ".dat"),
            "{step} after the failed {failed}"
        );
    }
    // A checkpoint changes nothing in the store. It is refused unless all segments that it needs
    // are sealed.
    let target = store.root().join("copy");
    if store.checkpoint(&target).is_ok() {
        assert_same(&walk(&options().open(target).unwrap()), held);
    }
}

#[test]
fn h10_an_fsync_that_failed_in_sync_is_never_tried_again() {
    for (kind, ending) in [(Kind::SyncFile, ".dat"), (Kind::SyncDir, "segments")] {
        let folder = TempDir::new().unwrap();
        let (operations, armed, since) = failing_once(kind, ending);
        let store = options()
            .operations(operations)
            .open(folder.path())
            .unwrap();
        let mut held = contents(0, 3, 200);
        put_all(&store, &held);
        let mut synced = Contents::new();
        if kind == Kind::SyncFile {
            // The name of a segment is synced once, with the first sync.
            store.sync().unwrap();
            synced.clone_from(&held);
        }
        held.extend(contents(1000, 3, 200));
        put_all(&store, &held);
        armed.store(true, Ordering::Release);
        assert_system_error(store.sync(), EIO);
        assert_refuses_writes(&store, &held, &since);
        let clone = store.clone();
        drop(store);
        assert_poisoned(clone.close());
        let steps = since.take();
        let syncs = steps
            .iter()
            .filter(|step| matches!(step.kind, Kind::SyncFile | Kind::SyncDir));
        assert_eq!(syncs.count(), 1, "{}", list(&steps));

        let store = options().open(folder.path()).unwrap();
        assert_undamaged(&store);
        assert_holds(&store, &synced);
        assert_verifies(&store);
    }
}

#[test]
fn h9_an_fsync_that_failed_in_the_background_is_reported_by_sync() {
    for (kind, ending) in [
        (Kind::SyncFile, ".dat"),
        (Kind::SyncFile, ".idx.tmp"),
        (Kind::SyncFile, "MANIFEST.tmp"),
        (Kind::SyncDir, "segments"),
    ] {
        let folder = TempDir::new().unwrap();
        let (operations, armed, since) = failing_once(kind, ending);
        let store = options()
            .operations(operations)
            .open(folder.path())
            .unwrap();
        let synced = contents(0, 3, 200);
        put_all(&store, &synced);
        store.sync().unwrap();
        armed.store(true, Ordering::Release);
        let mut held = synced.clone();
        // These puts fill one segment, which the background thread seals.
        for (digest, content) in contents(1000, 9, 200) {
            if store.put(&content).is_ok() {
                held.insert(digest, content);
            }
        }
        eventually("the background thread has met the failure", || {
            !since.0.lock().unwrap().is_empty()
        });
        // The thread that met the failure may not have reported it yet.
        eventually("sync reports the failure", || store.sync().is_err());
        assert_refuses_writes(&store, &held, &since);
        drop(store);
        let store = options().open(folder.path()).unwrap();
        assert_undamaged(&store);
        assert_holds(&store, &synced);
        assert_verifies(&store);
    }
}

#[test]
fn h9_an_fsync_that_failed_in_a_compaction_leaves_the_old_set() {
    for (kind, ending) in [
        (Kind::SyncFile, ".dat.tmp"),
        (Kind::SyncFile, ".idx.tmp"),
        (Kind::SyncFile, "MANIFEST.tmp"),
        (Kind::SyncDir, "segments"),
        (Kind::Rename, "MANIFEST.tmp"),
        (Kind::Rename, ".dat.tmp"),
    ] {
        let folder = TempDir::new().unwrap();
        let (operations, armed, since) = failing_once(kind, ending);
        let store = options()
            .operations(operations)
            .open(folder.path())
            .unwrap();
        let held = contents(0, 30, 200);
        put_all(&store, &held);
        store.sync().unwrap();
        let live: BTreeSet<Digest> = held.keys().copied().step_by(2).collect();
        let compaction = store.begin_compaction().unwrap();
        armed.store(true, Ordering::Release);
        let finished = compaction.finish(|digest| live.contains(digest));
        assert_system_error(finished, EIO);
        assert_refuses_writes(&store, &held, &since);
        drop(store);
        let store = options().open(folder.path()).unwrap();
        assert_undamaged(&store);
        let left = walk(&store);
        assert!(
            left.len() == held.len() || left.keys().copied().eq(live),
            "{kind:?} {ending}"
        );
        assert_holds(&store, &left);
        assert_verifies(&store);
    }
}
