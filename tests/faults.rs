//! A system that fails: no space, no file descriptors, an fsync that fails, power that goes.
//!
//! A seam below the store records what it asks of the system and lets any of it fail. What the
//! power leaves is worked out from what was synced ([`Medium`]), so nothing is really synced here.

#[path = "common/workload.rs"]
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sealstone::dir::Operations;
use sealstone::{Digest, Error, Options, Repair, SegmentState, Store};
use tempfile::TempDir;
use workload::{
    Contents, EIO, EMFILE, ENOSPC, Kind, Step, Verdict, assert_holds, assert_lacks, assert_same,
    assert_undamaged, assert_verifies, content, contents, eventually, names, put_all, seam, settle,
    snapshot, system_error, walk, without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 2000;

fn options() -> Options {
    Options::new()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

/// Waits until full segments are sealed. Gives up where the background thread cannot go on.
fn await_sealed(store: &Store, is_stuck: impl Fn() -> bool) {
    let is_sealing = || {
        let segments = store.stats().segments;
        let sealing = SegmentState::Sealing;
        segments.iter().any(|segment| segment.state == sealing)
    };
    eventually("full segments are sealed", || is_stuck() || !is_sealing());
}

#[track_caller]
fn assert_system_error<T>(result: Result<T, Error>, code: i32) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(code)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

#[track_caller]
fn assert_poisoned<T>(result: Result<T, Error>) {
    match result {
        Err(Error::Poisoned { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

// --- Order (H11, H12) ---

/// What a store asks of the system, in order.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Step>>>);

impl Record {
    /// Records, and does all but syncing.
    fn operations(&self) -> Arc<dyn Operations> {
        let record = self.clone();
        seam(move |step| {
            record.0.lock().unwrap().push(step.clone());
            match step.kind {
                Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
                _ => Verdict::Go,
            }
        })
    }

    fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn list(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| format!("{step}\n"));
    lines.collect()
}

/// The rules that hold for every history of operations.
///
/// - A file gets its final name only when all that was written to it is synced.
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
        // Before an output has a name, a durable manifest says that it is nothing yet.
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
        position(&steps, Kind::SyncFile, "MANIFEST.tmp"),
        position(&steps, Kind::Rename, "MANIFEST.tmp"),
        position(&steps, Kind::Remove, "seg-000000.jnl"),
    ];
    assert!(order.is_sorted(), "{}", list(&steps));
}

/// A cut that is not synced may be undone by the power, beside a manifest that says how long the
/// file is.
#[test]
fn h11_a_seal_syncs_a_tail_that_was_cut_off_before() {
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
        // Without it: a writer before this one may have cut it and been killed.
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

    // Whoever created the files may have died before it could sync the names.
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
    let named = |steps: &[Step]| steps.iter().any(|s| s.kind == Kind::SyncDir && is_copy(s));
    assert!(
        named(&steps[commit..first_link]) && named(&steps[linked..]),
        "{}",
        list(&steps)
    );
}

// --- No space (H1) ---

/// A disk with so many bytes left. Removing and cutting free nothing, `free` frees everything.
#[derive(Clone)]
struct Disk(Arc<AtomicU64>);

impl Disk {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    fn fill_up_to(&self, left: u64) {
        self.0.store(left, Ordering::Release);
    }

    fn free(&self) {
        self.fill_up_to(u64::MAX);
    }

    fn operations(&self) -> Arc<dyn Operations> {
        let left = Arc::clone(&self.0);
        seam(move |step| match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            Kind::Write => {
                let len = step.len as u64;
                let take = |left: u64| Some(left.saturating_sub(len));
                let had = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                    if left == u64::MAX {
                        Some(left)
                    } else {
                        take(left)
                    }
                });
                match had.unwrap() {
                    had if had >= len => Verdict::Go,
                    // As the system does: first less than all, then nothing.
                    0 => system_error(ENOSPC),
                    had => Verdict::Short(usize::try_from(had).unwrap()),
                }
            }
            _ => Verdict::Go,
        })
    }
}

#[test]
fn h1_a_full_disk_loses_nothing_and_works_again_when_there_is_space() {
    let lens = [300, 40, 0, 700, 300_000, 5, 1900, 64];
    for left in (0..12_000).step_by(271).chain([200_000, 300_900, 301_800]) {
        let folder = TempDir::new().unwrap();
        let disk = Disk::new();
        let options = options().operations(disk.operations());
        let store = options.open(folder.path()).unwrap();
        let mut held = contents(1 << 40, 10, 200);
        put_all(&store, &held);
        store.sync().unwrap();
        let synced = held.clone();
        await_sealed(&store, || false);
        disk.fill_up_to(left);
        let mut failures = 0;
        for (number, len) in (0..).zip(lens.iter().cycle().take(40)) {
            let content = content(number, *len);
            match store.put(&content) {
                Ok(digest) => drop(held.insert(digest, content)),
                failed => {
                    failures += 1;
                    assert_system_error(failed, ENOSPC);
                    let digest = Digest::of(&content);
                    assert_eq!(store.contains(&digest).unwrap(), held.contains_key(&digest));
                }
            }
            if number % 3 == 0
                && let failed @ Err(_) = store.sync()
            {
                failures += 1;
                assert_system_error(failed, ENOSPC);
            }
            // What was acknowledged is there, also what could not be written yet.
            assert_holds(&store, &held);
        }
        assert!(failures > 0 || left > 300_000);
        if let failed @ Err(_) = store.compact(|digest| synced.contains_key(digest)) {
            assert_system_error(failed, ENOSPC);
        } else {
            held.clone_from(&synced);
        }
        assert_same(&walk(&store), &held);

        disk.free();
        let more = contents(1 << 50, 20, 250);
        put_all(&store, &more);
        store.sync().unwrap();
        held.extend(more);
        assert_same(&walk(&store), &held);
        await_sealed(&store, || false);
        assert_verifies(&store);
        // As after kill -9: without what closing would do.
        let copy = TempDir::new().unwrap();
        workload::copy_store(folder.path(), copy.path());
        store.close().unwrap();
        for folder in [&copy, &folder] {
            let store = options.open(folder.path()).unwrap();
            assert_undamaged(&store);
            assert_same(&walk(&store), &held);
            assert_verifies(&store);
        }
    }
}

/// Records go to the disk in blocks, which end in the middle of a record.
#[test]
fn h1_a_block_that_the_disk_has_no_room_for_loses_nothing() {
    blocks_that_the_disk_has_no_room_for(true, 2 << 20);
    blocks_that_the_disk_has_no_room_for(false, 256 << 10);
}

fn blocks_that_the_disk_has_no_room_for(huge_page_writes: bool, block_bytes: u64) {
    let sync_never = u64::MAX;
    for (left, sync_every) in [
        (0, sync_never),
        (10_000, sync_never),
        (block_bytes - 1, sync_never),
        (block_bytes, sync_never),
        (block_bytes + 1, sync_never),
        (2 * block_bytes - 10_000, sync_never),
        (block_bytes + 20_000, 25),
        (3 * block_bytes, 7),
    ] {
        let what = format!("{left} bytes left, a sync every {sync_every}");
        let folder = TempDir::new().unwrap();
        let disk = Disk::new();
        let options = Options::new().huge_page_writes(huge_page_writes);
        let options = options.operations(disk.operations());
        let store = options.open(folder.path()).unwrap();
        // Away from the beginning of a block.
        let mut held = contents(1 << 40, 10, 200);
        put_all(&store, &held);
        store.sync().unwrap();
        disk.fill_up_to(left);
        let mut failures = 0;
        for (number, len) in (0..100).zip((90_000..).step_by(10)) {
            let content = content(number, len);
            match store.put(&content) {
                Ok(digest) => drop(held.insert(digest, content)),
                failed => {
                    failures += 1;
                    assert_system_error(failed, ENOSPC);
                    assert_eq!(store.get(&Digest::of(&content)).unwrap(), None, "{what}");
                    if failures % 4 == 0 {
                        disk.free();
                    }
                }
            }
            if (number + 1).is_multiple_of(sync_every)
                && let failed @ Err(_) = store.sync()
            {
                failures += 1;
                assert_system_error(failed, ENOSPC);
            }
            assert_eq!(store.len(), held.len() as u64, "{what}");
        }
        assert!(failures > 0, "{what}");
        disk.free();
        assert_holds(&store, &held);
        // As after kill -9: what was written ends in the middle of a record.
        let copy = TempDir::new().unwrap();
        workload::copy_store(folder.path(), copy.path());
        store.sync().unwrap();
        let synced = TempDir::new().unwrap();
        workload::copy_store(folder.path(), synced.path());
        store.close().unwrap();
        for folder in [&synced, &folder] {
            let store = options.open(folder.path()).unwrap();
            assert_undamaged(&store);
            assert_same(&walk(&store), &held);
            assert_verifies(&store);
        }
        let store = options.open(copy.path()).unwrap();
        let found = walk(&store);
        assert!(found.len() > 10, "{what}");
        assert!(
            found
                .iter()
                .all(|(digest, content)| held.get(digest) == Some(content))
        );
        assert_verifies(&store);
    }
}

#[test]
fn h1_a_half_written_append_that_cannot_be_cut_off_ends_writing_not_reading() {
    let folder = TempDir::new().unwrap();
    let is_failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&is_failing);
    let halves = AtomicUsize::new(0);
    let operations = seam(move |step| match step.kind {
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        Kind::Cut if fails.load(Ordering::Acquire) => system_error(EIO),
        Kind::Write if fails.load(Ordering::Acquire) && step.is(Kind::Write, ".dat") => {
            match halves.fetch_add(1, Ordering::AcqRel) {
                0 => Verdict::Short(step.len / 2),
                _ => system_error(ENOSPC),
            }
        }
        _ => Verdict::Go,
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let synced = contents(0, 3, 200);
    put_all(&store, &synced);
    store.sync().unwrap();
    let mut held = synced.clone();
    held.extend(contents(1000, 3, 200));
    put_all(&store, &held);
    is_failing.store(true, Ordering::Release);
    assert_system_error(store.sync(), ENOSPC);
    is_failing.store(false, Ordering::Release);
    assert_poisoned(store.put(b"new"));
    assert_poisoned(store.sync());
    assert_poisoned(store.begin_compaction());
    assert_holds(&store, &held);
    drop(store);
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_holds(&store, &synced);
    assert_verifies(&store);
}

// --- No file descriptors (H4) ---

#[test]
fn h4_every_file_that_cannot_be_created_is_an_error_and_loses_nothing() {
    for failing in 0.. {
        let folder = TempDir::new().unwrap();
        let left = Arc::new(AtomicUsize::new(failing));
        let counted = Arc::clone(&left);
        // From one creation on three fail: one alone is often made up for in the background.
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

/// What the store asked for since an fsync was made to fail.
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
        match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            _ => Verdict::Go,
        }
    });
    (operations, armed, since)
}

/// After a failed fsync: no write is accepted, reads go on, and nothing is synced, renamed or
/// removed any more, since nobody knows what is on the disk.
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
    // The outputs of a compaction are synced side by side: another may have been about to be.
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
    // A copy changes nothing in the store. It is refused, unless all that it needs is sealed.
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
        // Enough for one roll: the background thread seals the full segment.
        for (digest, content) in contents(1000, 9, 200) {
            if store.put(&content).is_ok() {
                held.insert(digest, content);
            }
        }
        eventually("the background has met it", || {
            !since.0.lock().unwrap().is_empty()
        });
        // The thread that met it may not have said so yet.
        eventually("sync reports it", || store.sync().is_err());
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

// --- Crashes at every operation (H13, H18) ---

/// What a disk holds when the power goes, worked out from what was synced.
///
/// A file's bytes are durable after its fsync, a name after the fsync of its folder. Of the rest,
/// anything may have reached the disk: each name the old one or the new, each file any part of what
/// was appended to it, or zeros in its place.
struct Medium {
    root: PathBuf,
    next: u64,
    /// Which file a name leads to. Files are numbered, since a name can lead to another later.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    durable_bytes: HashMap<u64, Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Image {
    /// As after kill -9: everything that was done.
    Everything,
    /// What was synced and nothing else.
    Synced,
    /// Of the names, that of the manifest and no other.
    ManifestFirst,
    /// All names but that of the manifest.
    ManifestLast,
    Random(u64),
}

impl Image {
    const fn is_random(self) -> bool {
        matches!(self, Self::Random(_))
    }
}

impl Medium {
    /// All that is there already is durable.
    fn new(root: &Path) -> Self {
        let mut medium = Self {
            root: root.to_owned(),
            next: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            durable_bytes: HashMap::new(),
        };
        for (path, seen) in snapshot(root) {
            let file = medium.new_file();
            medium.names.insert(path, file);
            medium
                .durable_bytes
                .insert(file, seen.bytes.unwrap_or_default());
        }
        medium.durable_names = medium.names.clone();
        medium
    }

    fn new_file(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Before a step is carried out.
    fn note(&mut self, step: &Step) {
        let path = step.path.clone();
        match step.kind {
            Kind::Create | Kind::CreateDir if !path.exists() => {
                let file = self.new_file();
                self.names.insert(path, file);
            }
            Kind::Rename => {
                if let (Some(file), Some(to)) = (self.names.remove(&path), step.to.clone()) {
                    self.names.insert(to, file);
                }
            }
            Kind::Remove => _ = self.names.remove(&path),
            Kind::SyncFile => {
                if let Some(file) = self.names.get(&path) {
                    self.durable_bytes.insert(*file, fs::read(&path).unwrap());
                }
            }
            Kind::SyncDir => {
                let is_in = |name: &PathBuf| name.parent() == Some(&path);
                self.durable_names.retain(|name, _| !is_in(name));
                let names = self.names.iter().filter(|(name, _)| is_in(name));
                self.durable_names
                    .extend(names.map(|(name, file)| (name.clone(), *file)));
            }
            _ => {}
        }
    }

    /// Writes what is left into another folder.
    fn write(&self, image: Image, target: &Path) {
        let mut rng = SmallRng::seed_from_u64(match image {
            Image::Random(seed) => seed,
            _ => 0,
        });
        let mut is_new = |name: &Path| match image {
            // The root was there before the store.
            _ if name == self.root => true,
            Image::Everything => true,
            Image::Synced => false,
            Image::ManifestFirst => name.ends_with("MANIFEST"),
            Image::ManifestLast => !name.ends_with("MANIFEST"),
            Image::Random(_) => rng.random(),
        };
        let all: BTreeSet<&PathBuf> = self.names.keys().chain(self.durable_names.keys()).collect();
        let current: HashMap<u64, &PathBuf> = self.names.iter().map(|(n, f)| (*f, n)).collect();
        let mut left = Vec::new();
        for name in all {
            let (now, before) = (self.names.get(name), self.durable_names.get(name));
            let file = if is_new(name) { now } else { before };
            left.extend(file.map(|file| (name, *file)));
        }
        let seed = rng.random();
        let mut rng = SmallRng::seed_from_u64(seed);
        for (name, file) in left {
            let target = target.join(name.strip_prefix(&self.root).unwrap());
            if name == &self.root || name.ends_with("segments") {
                fs::create_dir_all(target).unwrap();
                continue;
            }
            let synced = self.durable_bytes.get(&file).cloned().unwrap_or_default();
            let now = current.get(&file).map(|path| fs::read(path).unwrap());
            let now = now.unwrap_or_else(|| synced.clone());
            let bytes = match image {
                Image::Everything => now,
                Image::Synced | Image::ManifestFirst | Image::ManifestLast => synced,
                Image::Random(_) => mixed(&mut rng, synced, &now),
            };
            // Its folder may not be durable; then neither is anything in it.
            if target.parent().unwrap().exists() {
                fs::write(target, bytes).unwrap();
            }
        }
    }
}

/// Some of what was written behind the synced bytes.
fn mixed(rng: &mut SmallRng, synced: Vec<u8>, now: &[u8]) -> Vec<u8> {
    if now.len() <= synced.len() {
        return synced;
    }
    let reached = rng.random_range(synced.len()..=now.len());
    let mut bytes = now[..reached].to_vec();
    match rng.random_range(0..3) {
        // The length reached the disk and the bytes did not.
        0 => bytes.resize(now.len(), 0),
        // Not even in order.
        1 if reached < now.len() => {
            bytes[synced.len()..].fill(0);
            bytes.extend_from_slice(&now[reached..]);
        }
        _ => {}
    }
    bytes
}

/// Operations that die at one of them.
#[derive(Clone)]
struct Crash {
    medium: Arc<Mutex<Medium>>,
    count: Arc<AtomicUsize>,
    at: usize,
}

impl Crash {
    fn new(root: &Path, at: usize) -> Self {
        Self {
            medium: Arc::new(Mutex::new(Medium::new(root))),
            count: Arc::default(),
            at,
        }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn has_come(&self) -> bool {
        self.count() > self.at
    }

    fn operations(&self) -> Arc<dyn Operations> {
        let crash = self.clone();
        seam(move |step| {
            // Operations of several threads are noted as they are counted.
            let mut medium = crash.medium.lock().unwrap();
            let count = crash.count.fetch_add(1, Ordering::AcqRel);
            if count > crash.at || (count == crash.at && step.kind != Kind::Write) {
                return system_error(EIO);
            }
            medium.note(step);
            match step.kind {
                Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
                // The one at which it dies is half done.
                Kind::Write if count == crash.at => Verdict::Short(step.len / 2),
                _ => Verdict::Go,
            }
        })
    }
}

/// What an application knows of the store when it dies.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Acknowledged by a sync.
    synced: Contents,
    put: Contents,
    /// To be dropped by a compaction that has not ended.
    dropping: Contents,
    dropped: BTreeSet<Digest>,
    ever_put: BTreeSet<Digest>,
}

impl Known {
    fn put(&mut self, store: &Store, content: Vec<u8>) -> Result<(), Error> {
        let digest = Digest::of(&content);
        self.ever_put.insert(digest);
        // It may come back from here on, whether this succeeds or not.
        self.dropped.remove(&digest);
        store.put(&content)?;
        self.put.insert(digest, content);
        Ok(())
    }

    fn sync(&mut self, store: &Store) -> Result<(), Error> {
        store.sync()?;
        self.synced.clone_from(&self.put);
        Ok(())
    }

    /// With puts in the middle, old and new.
    fn compact(&mut self, store: &Store, dead: &Contents) -> Result<(), Error> {
        self.sync(store)?;
        for digest in dead.keys() {
            self.put.remove(digest);
            self.synced.remove(digest);
        }
        self.dropping.clone_from(dead);
        let compaction = store.begin_compaction()?;
        let (pinned, content) = dead.first_key_value().unwrap();
        self.dropping.remove(pinned);
        self.put(store, content.clone())?;
        self.put(store, content_of(dead.len() as u64 + 7000))?;
        compaction.finish(|digest| !dead.contains_key(digest))?;
        self.dropped.extend(self.dropping.keys());
        self.dropping.clear();
        // A compaction syncs what was put again.
        let put_again = self.put.get_key_value(pinned).unwrap();
        self.synced.insert(*put_again.0, put_again.1.clone());
        Ok(())
    }
}

fn content_of(number: u64) -> Vec<u8> {
    content(number, 300)
}

/// A store's life, until it dies.
fn live(root: &Path, crash: &Crash, known: &mut Known) -> Result<(), Error> {
    let options = options().operations(crash.operations());
    let store = options.open(root)?;
    // So that the operations come in the same order every time. The last of a seal is to remove the
    // journal.
    let settle = || {
        await_sealed(&store, || crash.has_come());
        let is_removed = || names(root, &[".jnl"]).len() == 1;
        eventually("journals are removed", || crash.has_come() || is_removed());
    };
    for number in 0..9 {
        known.put(&store, content_of(number))?;
        settle();
    }
    known.sync(&store)?;
    for number in 100..104 {
        known.put(&store, content_of(number))?;
        settle();
    }
    let third = |known: &Known| known.put.clone().into_iter().step_by(3).collect();
    known.compact(&store, &third(known))?;
    settle();
    known.put(&store, content(200, 270_000))?;
    settle();
    // Dropped before, and again there.
    known.put(&store, content_of(0))?;
    known.sync(&store)?;
    known.put(&store, content(201, 0))?;
    known.put(&store, content(202, 1))?;
    known.sync(&store)?;
    known.compact(&store, &third(known))?;
    settle();
    known.put(&store, content_of(300))?;
    store.close()?;
    known.synced.clone_from(&known.put);
    Ok(())
}

fn assert_recovers(root: &Path, known: &Known, is_random: bool, what: &str) {
    let store = options()
        .open(root)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_undamaged(&store);
    let left = walk(&store);
    for digest in known.synced.keys() {
        assert!(
            left.contains_key(digest),
            "{what}: {digest:?} was synced and is lost"
        );
    }
    for digest in left.keys() {
        assert!(
            !known.dropped.contains(digest),
            "{what}: {digest:?} came back"
        );
        // Where the disk holds something else than what was written last, that may be taken for an
        // object: it has the right digest, and nobody asks for it.
        let is_known = known.ever_put.contains(digest);
        assert!(is_known || is_random, "{what}: {digest:?} was never put");
    }
    let undropped = known
        .dropping
        .keys()
        .filter(|digest| left.contains_key(digest))
        .count();
    let is_whole = undropped == 0 || undropped == known.dropping.len();
    assert!(
        is_whole,
        "{what}: {undropped} of {} are left",
        known.dropping.len()
    );
    assert_holds(&store, &left);
    assert_lacks(&store, &known.dropped);
    assert_verifies(&store);
    let new = store.put(b"put after the crash").unwrap();
    store.close().unwrap();
    let store = options().open(root).unwrap();
    // Garbage without a journal may be a foreign file as well; it is left alone every time.
    let is_ignored = |repair: &&Repair| matches!(repair, Repair::IgnoredFile { .. });
    let ignored = store.recovery().repairs.iter().filter(is_ignored).count();
    let all = &store.recovery().repairs;
    assert!(
        all.len() == ignored && (ignored == 0 || is_random),
        "{what}: {all:?}"
    );
    assert!(store.contains(&new).unwrap());
    assert_eq!(walk(&store).len(), left.len() + 1);
    await_sealed(&store, || false);
    let segments = store.stats().segments.len();
    assert_eq!(names(root, &[".dat"]).len(), segments + ignored, "{what}");
    assert_eq!(names(root, &[".tmp"]), [""; 0], "{what}");
}

fn images(seed: usize) -> [Image; 6] {
    let seed = seed as u64;
    [
        Image::Everything,
        Image::Synced,
        Image::ManifestFirst,
        Image::ManifestLast,
        Image::Random(2 * seed),
        Image::Random(2 * seed + 1),
    ]
}

/// A life that ends at an operation, and what is left of it.
fn die_at(at: usize) -> (TempDir, Crash, Known, bool) {
    let folder = TempDir::new().unwrap();
    let crash = Crash::new(folder.path(), at);
    let mut known = Known::default();
    let died = live(folder.path(), &crash, &mut known).is_err();
    (folder, crash, known, died)
}

#[test]
fn h13_a_crash_at_any_operation_loses_nothing_and_brings_nothing_back() {
    for at in 0.. {
        let (_folder, crash, known, died) = die_at(at);
        for image in images(at) {
            let target = TempDir::new().unwrap();
            crash.medium.lock().unwrap().write(image, target.path());
            let what = format!("operation {at}, {image:?}");
            assert_recovers(target.path(), &known, image.is_random(), &what);
        }
        if !died {
            eprintln!("{at} operations");
            assert!(at > 100 && known.dropped.len() > 3, "{at}");
            return;
        }
    }
}

#[test]
fn h18_a_crash_at_any_operation_of_a_recovery_is_recovered() {
    let (_folder, crash, ..) = die_at(usize::MAX);
    let operations = crash.count();
    // A sample that meets another part of each kind of operation in every run of it.
    for at in (0..operations).step_by(11) {
        let (_folder, crash, known, _) = die_at(at);
        for image in images(at) {
            for at_again in 0.. {
                let what = format!("operations {at} and {at_again}, {image:?}");
                let first = TempDir::new().unwrap();
                crash.medium.lock().unwrap().write(image, first.path());
                let again = Crash::new(first.path(), at_again);
                let opened = options().operations(again.operations()).open(first.path());
                if let Ok(store) = &opened {
                    await_sealed(store, || again.has_come());
                }
                drop(opened);
                let second = TempDir::new().unwrap();
                let seed = operations * at + at_again;
                let second_image = images(seed)[at_again % 6];
                let medium = again.medium.lock().unwrap();
                medium.write(second_image, second.path());
                let is_random = image.is_random() || second_image.is_random();
                assert_recovers(second.path(), &known, is_random, &what);
                drop(medium);
                if !again.has_come() {
                    break;
                }
            }
        }
    }
}
