//! A disk without room, and compactions that make some.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sealstone::test_seam::{Folder, Operations};
use sealstone::{CompactionStats, Digest, Error, Options, Store};
use tempfile::TempDir;

use crate::child;
use crate::common::hash::new_options;
use crate::common::workload::{
    Contents, ENOSPC, assert_holds, assert_same, assert_unchanged, assert_undamaged,
    assert_verifies, content, contents, put_all, settle, snapshot, walk,
};

/// Runs of the set index would take room in the background, so there are none.
fn options() -> Options {
    new_options()
        .segment_bytes_max(20_000)
        .set_index_minimum(usize::MAX, u64::MAX)
}

#[track_caller]
fn needed_bytes<T>(result: Result<T, Error>, available: u64) -> u64 {
    match result {
        Err(Error::NoSpace {
            needed_bytes,
            available_bytes,
            ..
        }) => {
            assert!(available_bytes == available && needed_bytes > available);
            needed_bytes
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

/// A file system that reports an amount of free room, which need not be true.
#[derive(Clone, Debug, Default)]
struct Saying(Arc<AtomicU64>);

impl Operations for Saying {
    fn available_bytes(&self, _path: &Folder) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire))
    }
}

impl Saying {
    fn say(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Release);
    }
}

/// Creates a store on a disk with room for everything, until the disk says otherwise.
fn open_on_a_saying_disk() -> (TempDir, Saying, Store) {
    let folder = TempDir::new().unwrap();
    let disk = Saying::default();
    disk.say(u64::MAX);
    let store = options()
        .operations(Arc::new(disk.clone()))
        .open(folder.path())
        .unwrap();
    (folder, disk, store)
}

#[test]
fn a_compaction_without_room_says_how_much_it_needs_and_changes_nothing() {
    let (folder, disk, store) = open_on_a_saying_disk();
    let held = contents(0, 200, 1000);
    put_all(&store, &held);
    settle(folder.path());
    let before = snapshot(folder.path());
    disk.say(0);
    needed_bytes(store.begin_compaction(), 0);
    assert_unchanged(folder.path(), &before);

    disk.say(u64::MAX);
    drop(store.begin_compaction().unwrap());
    settle(folder.path());
    let is_live = |digest: &Digest| digest.as_bytes()[0].is_multiple_of(2);
    let live_bytes = 1000 * held.keys().filter(|digest| is_live(digest)).count() as u64;
    let before = snapshot(folder.path());
    disk.say(5000);
    let needed = needed_bytes(store.compact(is_live), 5000);
    assert!(needed > live_bytes && needed < 2 * live_bytes, "{needed}");
    disk.say(needed - 1);
    assert_eq!(needed_bytes(store.compact(is_live), needed - 1), needed);
    assert_unchanged(folder.path(), &before);
    assert_same(&walk(&store), &held);
    disk.say(needed);
    store.compact(is_live).unwrap();
    assert!(walk(&store).keys().all(is_live));
}

/// Returns the objects of the oldest segments, all of which will be dropped.
fn oldest(store: &Store, segments: usize) -> Contents {
    let objects = store.iter().map(|object| object.unwrap());
    let first: Vec<_> = objects.take(19 * segments).collect();
    let contents = first
        .iter()
        .map(|object| (*object.digest(), object.to_vec()));
    contents.collect()
}

#[test]
fn a_compaction_that_copies_nothing_needs_next_to_no_room() {
    let (_folder, disk, store) = open_on_a_saying_disk();
    put_all(&store, &contents(0, 200, 1000));
    drop(store.begin_compaction().unwrap());
    let dead = oldest(&store, 3);
    disk.say(0);
    let is_live = |digest: &Digest| !dead.contains_key(digest);
    let needed = needed_bytes(store.compact(is_live), 0);
    assert!(needed <= 16 << 10, "{needed}");
    disk.say(needed);
    let stats = store.compact(is_live).unwrap();
    assert_eq!(stats.segments_before - stats.segments_after, 3);
    assert_eq!(walk(&store).len(), 200 - dead.len());
}

/// Runs a test on a file system of one MiB of memory, or skips it where that is not allowed.
fn run_on_a_small_disk(test: &str) {
    let folder = TempDir::new().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=1m none '{}'",
        folder.path().display()
    );
    let launcher = ["unshare", "-rm"];
    let probe = Command::new(launcher[0])
        .args([launcher[1], "sh", "-c", &mount])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: this user may not mount a file system in memory");
        return;
    }
    let setup = format!("{mount} && exec \"$0\" \"$@\"");
    child::assert_success(&child::run(&launcher, &setup, test, folder.path()));
}

/// Fills the disk up to this many free bytes.
fn fill_but(folder: &Path, left: u64) -> File {
    let filler = File::create(folder.join("filler")).unwrap();
    let mut end = 0;
    while filler.write_all_at(&[1; 4096], end).is_ok() {
        end += 4096;
    }
    filler.set_len(end.saturating_sub(left)).unwrap();
    filler
}

/// Puts until the disk is full.
fn fill_with_objects(store: &Store, held: &mut Contents) {
    for number in 0.. {
        let content = content(number, 1000);
        match store.put(&content) {
            Ok(digest) => drop(held.insert(digest, content)),
            Err(Error::Io { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(ENOSPC));
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Compacts, and frees as much as the error asks for until that works: each time it must be enough
/// for the step that failed.
fn compact_freeing(
    store: &Store,
    filler: &File,
    is_live: impl Fn(&Digest) -> bool + Sync,
    held: &Contents,
) -> (CompactionStats, u64) {
    let mut freed = 0;
    for _ in 0..3 {
        match store.compact(&is_live) {
            Ok(stats) => return (stats, freed),
            Err(Error::NoSpace {
                needed_bytes,
                available_bytes,
                ..
            }) => {
                assert_same(&walk(store), held);
                let missing = needed_bytes - available_bytes;
                let len = filler.metadata().unwrap().len();
                assert!(missing <= len, "{missing} of {len}");
                filler.set_len(len - missing).unwrap();
                freed += missing;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("freeing what the error asked for was not enough");
}

/// The child of the next test. In an ordinary test run it does nothing.
#[test]
fn compacts_a_full_disk() {
    let Some(folder) = child::folder_of_child() else {
        return;
    };
    let root = folder.join("store");
    let store = options().open(&root).unwrap();
    let mut held = contents(1 << 40, 300, 1000);
    put_all(&store, &held);
    store.sync().unwrap();
    settle(&root);
    let synced = held.clone();
    let filler = fill_but(&folder, 100_000);
    fill_with_objects(&store, &mut held);
    assert!(held.len() > synced.len() + 20);
    assert_holds(&store, &held);
    // The last acknowledged objects are in memory only, so a sync fails, unless a seal has freed a
    // block.
    if let Err(error) = store.sync() {
        assert!(
            matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(ENOSPC)),
            "{error}"
        );
    }
    fs::remove_file(folder.join("filler")).unwrap();
    drop(filler);
    store.sync().unwrap();
    // Puts use up the disk, so a seal may have found no room; the next segment makes the store try
    // again.
    let more = contents(1 << 45, 20, 1000);
    put_all(&store, &more);
    held.extend(more);
    settle(&root);
    let filler = fill_but(&folder, 0);

    let dead = oldest(&store, 2);
    let is_live = |digest: &Digest| !dead.contains_key(digest);
    let (stats, freed) = compact_freeing(&store, &filler, is_live, &held);
    println!("\nfound: dropping whole segments, {freed} bytes had to be freed");
    assert!(stats.bytes_reclaimed > 30_000 && freed < 64 << 10);
    held.retain(|digest, _| is_live(digest));
    assert_same(&walk(&store), &held);

    let filler = {
        drop(filler);
        fs::remove_file(folder.join("filler")).unwrap();
        fill_but(&folder, 0)
    };
    let is_live = |digest: &Digest| !digest.as_bytes()[0].is_multiple_of(4);
    let (stats, freed) = compact_freeing(&store, &filler, is_live, &held);
    println!("found: dropping every fourth object, {freed} bytes had to be freed");
    assert!(stats.bytes_reclaimed > 50_000, "{stats:?}");
    held.retain(|digest, _| is_live(digest));
    assert_same(&walk(&store), &held);
    put_all(&store, &contents(1 << 50, 20, 1000));
    store.close().unwrap();
    held.extend(contents(1 << 50, 20, 1000));
    let store = options().open(&root).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), &held);
    assert_verifies(&store);
}

#[test]
fn h1_a_full_disk_is_compacted_with_the_room_that_the_error_asks_for() {
    run_on_a_small_disk("full_disk::compacts_a_full_disk");
}
