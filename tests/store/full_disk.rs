//! A disk that is full and later has room again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use sealstone::Options;
use sealstone::test_seam::Operations;
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    self, Contents, EIO, ENOSPC, Kind, Verdict, assert_holds, assert_same, assert_undamaged,
    assert_verifies, content, contents, put_all, seam, system_error, walk, without_syncing,
};
use crate::faults::{assert_poisoned, assert_system_error, await_sealed, options};

// --- No space (H1) ---

/// A disk with a number of bytes left. Removing and cutting free nothing, `free` frees everything.
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
                    // A full disk first takes a part of a write, then nothing.
                    0 => system_error(ENOSPC),
                    had => Verdict::Short(usize::try_from(had).unwrap()),
                }
            }
            _ => Verdict::Go,
        })
    }
}

/// Opens a store anew and checks that it holds just these objects, undamaged.
#[track_caller]
fn assert_reopens_with(options: &Options, root: &Path, held: &Contents) {
    let store = options.open(root).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), held);
    assert_verifies(&store);
}

#[test]
fn h1_a_full_disk_loses_nothing_and_a_store_works_again_when_there_is_space() {
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
                    let digest = digest_of(&content);
                    assert_eq!(store.contains(digest).unwrap(), held.contains_key(&digest));
                }
            }
            if number % 3 == 0
                && let failed @ Err(_) = store.sync()
            {
                failures += 1;
                assert_system_error(failed, ENOSPC);
            }
            // Acknowledged objects are there, also those that could not be written yet.
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
        // The store goes as after kill -9, without the steps of closing.
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
        let options = new_options().huge_page_writes(huge_page_writes);
        let options = options.operations(disk.operations());
        let store = options.open(folder.path()).unwrap();
        // The writes begin away from the beginning of a block.
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
                    assert_eq!(store.get(digest_of(&content)).unwrap(), None, "{what}");
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
        // The store goes as after kill -9: the written data ends in the middle of a record.
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

/// Refuses a whole write unless there is room for all of it, as ext4 and xfs may where one write is
/// one piece of the page cache.
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
        let options = new_options().operations(whole_writes_only(&left));
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
        // Others read every record that there was room for; this store reads all that it
        // acknowledged.
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
    let options = new_options().huge_page_writes(false).operations(operations);
    let store = options.open(folder.path()).unwrap();
    let held = contents(0, 600, 1000);
    put_all(&store, &held);
    store.sync().unwrap();
    assert_holds(&store, &held);
    store.close().unwrap();
    // Recovery writes over existing blocks, which takes no room.
    let plain = new_options().operations(without_syncing());
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
