//! A compaction merges undersized segments, and goes on without that where it cannot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sealstone::{Digest, Error, Options, Store};
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::layout::{data_name, file};
use crate::common::workload::{
    Contents, ENOSPC, Kind, Verdict, assert_holds, assert_same, assert_undamaged, assert_verifies,
    contents, pretend_to_sync, put_all, seam, system_error, walk, without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 64 << 10;

fn options() -> Options {
    new_options()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

/// Seals what was put, as a checkpoint does.
fn seal(store: &Store) {
    drop(store.begin_compaction().unwrap());
}

/// The lengths of the data files of sealed segments, by id.
fn sealed(store: &Store) -> Vec<(u32, u64)> {
    let segments = store.stats().segments.into_iter();
    let sealed = segments.filter(|segment| segment.index_bytes > 0);
    sealed
        .map(|segment| (segment.id, segment.data_bytes))
        .collect()
}

/// Makes a store with these many objects of 100 bytes in each of its sealed segments.
fn with_segments(options: &Options, root: &Path, objects: &[u64]) -> (Store, Contents) {
    let store = options.clone().open(root).unwrap();
    let mut held = Contents::new();
    for (number, &count) in (1..).zip(objects) {
        let new = contents(number << 32, count, 100);
        put_all(&store, &new);
        seal(&store);
        held.extend(new);
    }
    assert_eq!(sealed(&store).len(), objects.len());
    (store, held)
}

#[test]
fn small_segments_become_one_although_nothing_is_dropped() {
    let folder = TempDir::new().unwrap();
    let (store, held) = with_segments(&options(), folder.path(), &[10, 20, 10, 5, 5]);
    let compaction = store.begin_compaction().unwrap();
    let planned = compaction.plan(|_| true).unwrap();
    let stats = compaction.finish(|_| true).unwrap();
    assert_eq!(stats, planned);
    assert_eq!((stats.segments_before, stats.segments_after), (5, 1));
    assert_eq!((stats.live_objects, stats.dropped_objects), (50, 0));
    let [(_, bytes)] = sealed(&store)[..] else {
        panic!("{:?}", sealed(&store));
    };
    assert_eq!(bytes, 50 * 104);
    assert_same(&walk(&store), &held);
    assert_verifies(&store);
    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_holds(&store, &held);
}

#[test]
fn a_segment_is_left_that_is_large_against_its_younger_neighbours() {
    let folder = TempDir::new().unwrap();
    let (store, held) = with_segments(&options(), folder.path(), &[300, 10, 10]);
    let before = sealed(&store);
    let stats = store.compact(|_| true).unwrap();
    assert_eq!((stats.segments_before, stats.segments_after), (3, 2));
    assert_eq!(sealed(&store)[0], before[0]);
    assert_holds(&store, &held);
    // Nothing is left to merge.
    let after = sealed(&store);
    store.compact(|_| true).unwrap();
    assert_eq!(sealed(&store), after);
}

/// A store that is compacted now and then has few small segments, and writes each byte few times.
#[test]
fn segments_of_many_checkpoints_stay_few() {
    let folder = TempDir::new().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let operations = seam(move |step| {
        if step.is(Kind::Write, ".dat.tmp") {
            count.fetch_add(step.len as u64, Ordering::Relaxed);
        }
        pretend_to_sync(step)
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let mut held = Contents::new();
    for number in 1..=200 {
        let new = contents(number << 32, 8, 100);
        put_all(&store, &new);
        held.extend(new);
        seal(&store);
        store.compact(|_| true).unwrap();
        let bytes: u64 = sealed(&store).iter().map(|(_, bytes)| bytes).sum();
        // Each is more than twice as long as all younger ones, or full.
        let few = 6 + 2 * bytes / SEGMENT_BYTES_MAX;
        let segments = sealed(&store);
        assert!(segments.len() as u64 <= few, "{segments:?}");
    }
    let bytes: u64 = sealed(&store).iter().map(|(_, bytes)| bytes).sum();
    let times = written.load(Ordering::Relaxed) / bytes;
    assert!(times <= 8, "each byte was written {times} times");
    assert_same(&walk(&store), &held);
}

#[test]
fn a_compaction_drops_what_is_dead_where_there_is_no_room_to_merge() {
    let folder = TempDir::new().unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    // The first new segment after that finds no room.
    let operations = seam(move |step| {
        if step.is(Kind::Write, ".dat.tmp") && full.swap(false, Ordering::Relaxed) {
            return system_error(ENOSPC);
        }
        Verdict::Go
    });
    let options = options().operations(operations);
    let (store, mut held) = with_segments(&options, folder.path(), &[40, 40, 40]);
    let dead: Vec<Digest> = contents(1 << 32, 40, 100).into_keys().collect();
    is_full.store(true, Ordering::Relaxed);
    let stats = store.compact(|digest| !dead.contains(digest)).unwrap();
    assert!(!is_full.load(Ordering::Relaxed), "nothing was copied");
    assert_eq!((stats.dropped_objects, stats.segments_after), (40, 2));
    held.retain(|digest, _| !dead.contains(digest));
    assert_same(&walk(&store), &held);
}

#[test]
fn a_rotten_object_that_merging_would_copy_does_not_hinder_a_compaction() {
    let folder = TempDir::new().unwrap();
    let (store, mut held) = with_segments(&options(), folder.path(), &[10, 10, 10]);
    let [_, (id, _), _] = sealed(&store)[..] else {
        panic!("{:?}", sealed(&store));
    };
    store.close().unwrap();
    let path = file(folder.path(), &data_name(id));
    let mut data = fs::read(&path).unwrap();
    data[50] ^= 1;
    fs::write(&path, data).unwrap();
    let store = options().open(folder.path()).unwrap();
    let is_rotten = |digest: &&Digest| matches!(store.get(digest), Err(Error::Corrupt { .. }));
    let rotten: Vec<Digest> = held.keys().filter(is_rotten).copied().collect();
    assert_eq!(rotten.len(), 1);

    let dead = *contents(1 << 32, 10, 100).keys().next().unwrap();
    let stats = store.compact(|digest| *digest != dead).unwrap();
    assert_eq!((stats.dropped_objects, stats.segments_after), (1, 3));
    held.remove(&dead);
    held.remove(&rotten[0]);
    assert_holds(&store, &held);
    // Where the rotten object has to be copied, the compaction fails as before.
    let beside = *held
        .keys()
        .find(|digest| contents(2 << 32, 10, 100).contains_key(*digest))
        .unwrap();
    let refused = store.compact(|digest| *digest != beside);
    assert!(matches!(refused, Err(Error::Corrupt { digest, .. }) if digest == rotten[0]));
    assert_holds(&store, &held);
}
