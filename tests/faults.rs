//! A system that fails: no space, no file descriptors, an fsync that fails.
//!
//! A seam below the store records what it asks of the system and lets any of it fail. Nothing is
//! really synced here; what the power leaves is looked at in `crash/`.

#[path = "common/workload.rs"]
mod workload;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sealstone::dir::Operations;
use sealstone::{Digest, Error, Options, SegmentState, Store};
use tempfile::TempDir;
use workload::{
    Contents, EIO, EMFILE, ENOSPC, Kind, Step, Verdict, assert_holds, assert_same,
    assert_undamaged, assert_verifies, content, contents, eventually, put_all, seam, settle,
    system_error, walk, without_syncing,
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
    let is_copy_file = |step: &Step| step.path.starts_with(folder.path().join("copy/segments"));
    let named = |steps: &[Step]| steps.iter().any(|s| s.kind == Kind::SyncDir && is_copy(s));
    assert!(
        named(&steps[commit..first_link]) && named(&steps[linked..]),
        "{}",
        list(&steps)
    );
    // The segment above comes last, as a compaction by another program would leave it.
    let is_above = |step: &Step| step.is(Kind::Create, ".dat") && is_copy_file(step);
    let above = steps.iter().position(is_above).unwrap();
    assert!(named(&steps[linked..above]), "{}", list(&steps));
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

/// A store that is opened anew holds just this, undamaged.
#[track_caller]
fn assert_reopens_with(options: &Options, root: &Path, held: &Contents) {
    let store = options.open(root).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), held);
    assert_verifies(&store);
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
            assert_reopens_with(&options, folder.path(), &held);
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
            assert_reopens_with(&options, folder.path(), &held);
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

/// A file system that refuses a write as a whole unless there is room for all of it, as ext4 and xfs
/// may where one write is one piece of the page cache.
fn whole_writes_only(left: &Arc<AtomicU64>) -> Arc<dyn Operations> {
    let left = Arc::clone(left);
    seam(move |step| match step.kind {
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        Kind::Write if step.is(Kind::Write, ".dat") => {
            let take = |left: u64| left.checked_sub(step.len as u64);
            match left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
                Ok(_) => Verdict::Go,
                Err(_) => system_error(ENOSPC),
            }
        }
        _ => Verdict::Go,
    })
}

#[test]
fn h1_a_disk_without_room_for_a_block_is_used_up_record_by_record() {
    const RECORD_BYTES: u64 = 1004;
    for room in [0, 1, 1003, 1004, 1005, 2008, 100_000, 1_000_000, 2_000_000] {
        let folder = TempDir::new().unwrap();
        let left = Arc::new(AtomicU64::new(room));
        let options = Options::new().operations(whole_writes_only(&left));
        let store = options.open(folder.path()).unwrap();
        let mut held = Contents::new();
        let refused = (0..).find_map(|number| {
            let content = content(number, 1000);
            match store.put(&content) {
                Ok(digest) => {
                    held.insert(digest, content);
                    None
                }
                refused => Some(refused),
            }
        });
        assert_system_error(refused.unwrap(), ENOSPC);
        // Others read every record that there was room for, and this store what it acknowledged.
        let reader = Options::new().read_only(true).open(folder.path()).unwrap();
        assert_eq!(reader.len(), room / RECORD_BYTES, "{room} bytes");
        assert_holds(&store, &held);
        assert_system_error(store.sync(), ENOSPC);
        assert_holds(&store, &held);

        // A little more room is used up as well, though a sync cannot succeed yet.
        left.fetch_add(10 * RECORD_BYTES, Ordering::AcqRel);
        assert_system_error(store.sync(), ENOSPC);
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.len(), room / RECORD_BYTES + 10, "{room} bytes");
        assert!(
            walk(&reader)
                .iter()
                .all(|(digest, content)| held[digest] == *content)
        );

        left.store(u64::MAX, Ordering::Release);
        store.sync().unwrap();
        store.close().unwrap();
        assert_reopens_with(&options, folder.path(), &held);
    }
}

#[test]
fn h1_a_block_that_fits_only_in_pieces_is_no_error() {
    let folder = TempDir::new().unwrap();
    let operations = seam(|step| match step.kind {
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        Kind::Write if step.len > 5000 => system_error(ENOSPC),
        _ => Verdict::Go,
    });
    let options = Options::new()
        .huge_page_writes(false)
        .operations(operations);
    let store = options.open(folder.path()).unwrap();
    let held = contents(0, 600, 1000);
    put_all(&store, &held);
    store.sync().unwrap();
    assert_holds(&store, &held);
    store.close().unwrap();
    // What recovery writes over itself takes no room.
    let plain = Options::new().operations(without_syncing());
    assert_reopens_with(&plain, folder.path(), &held);
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
