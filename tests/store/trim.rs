//! A trim drops the oldest segments, keeps the bound, and loses nothing else.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sealstone::{Digest, Error, Options, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::{data_name, file, record, segments};
use crate::common::workload::{
    Contents, Kind, Verdict, assert_lacks, assert_same, assert_undamaged, assert_verifies, content,
    contents, disk_bytes, eventually, names, pretend_to_sync, seam, walk, without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 4096;

fn options() -> Options {
    new_options()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

/// Puts objects of 200 bytes in the order of their numbers.
fn put_numbered(store: &Store, numbers: std::ops::Range<u64>) -> Vec<Digest> {
    let put = numbers.map(|number| store.put(content(number, 200)).unwrap());
    put.collect()
}

#[test]
fn the_oldest_segments_go_until_the_data_files_are_within_the_bound() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let digests = put_numbered(&store, 0..400);
    store.flush().unwrap();
    let bound = 30_000;
    let stats = store.trim(bound).unwrap();

    let after = store.stats();
    assert_eq!(stats.bytes_after, after.data_file_bytes);
    assert!(
        stats.bytes_before > 2 * bound && stats.bytes_after <= bound,
        "{stats:?}"
    );
    assert!(stats.bytes_after > bound - SEGMENT_BYTES_MAX, "{stats:?}");
    let dropped = usize::try_from(stats.dropped_objects).unwrap();
    assert_lacks(&store, &digests[..dropped]);
    let kept = (0..400).skip(dropped).map(|number| content(number, 200));
    let kept: Contents = kept.map(|content| (digest_of(&content), content)).collect();
    assert_same(&walk(&store), &kept);
    assert_verifies(&store);
    eventually("the files of dropped segments are removed", || {
        let stats = store.stats();
        let bytes = stats.data_file_bytes + stats.index_file_bytes;
        disk_bytes(folder.path(), &[".dat", ".idx"]) == bytes
    });

    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), &kept);
    assert_lacks(&store, &digests[..dropped]);
}

/// A cache that puts and trims without a pause, on a disk that is slow to remove files.
#[test]
fn files_of_dropped_segments_do_not_pile_up() {
    let folder = TempDir::new().unwrap();
    let operations = seam(|step| {
        if step.kind == Kind::Remove {
            thread::sleep(Duration::from_millis(2));
        }
        pretend_to_sync(step)
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let bound = 3 * SEGMENT_BYTES_MAX;
    // A trim drops two segments, and another eight, which it leaves to the thread that seals.
    for puts in [40, 160] {
        let mut most = 0;
        for round in 0..300 {
            put_numbered(&store, round * puts..(round + 1) * puts);
            store.trim(bound).unwrap();
            most = most.max(names(folder.path(), &[".dat"]).len());
        }
        // A few are held by a run that is being built. When that thread removed all, there were 422.
        assert!(most <= 60, "{puts} puts: {most} data files");
    }
}

/// To remove files takes long: a trim of many segments does not wait for it, and the next one makes
/// sure that it is done.
#[test]
fn files_of_many_dropped_segments_are_removed_behind_the_trim() {
    let folder = TempDir::new().unwrap();
    let blocked = Arc::new(AtomicBool::new(true));
    let is_blocked = Arc::clone(&blocked);
    let trimming = thread::current().id();
    let operations = seam(move |step| {
        let is_elsewhere = thread::current().id() != trimming;
        while step.is(Kind::Remove, ".dat") && is_blocked.load(Ordering::Relaxed) {
            assert!(is_elsewhere, "the trim removes {step:?}");
            thread::sleep(Duration::from_millis(1));
        }
        pretend_to_sync(step)
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    put_numbered(&store, 0..200);
    let stats = store.trim(0).unwrap();
    assert!(stats.dropped_segments > 4, "{stats:?}");
    blocked.store(false, Ordering::Relaxed);
    store.trim(0).unwrap();
    eventually("the files of dropped segments are removed", || {
        names(folder.path(), &[".dat"]).len() == store.stats().segments.len()
    });
}

#[test]
fn a_store_within_the_bound_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let operations = seam(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Verdict::Go
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    put_numbered(&store, 0..100);
    drop(store.begin_compaction().unwrap());
    let before = steps.load(Ordering::Relaxed);
    let bytes = store.stats().data_file_bytes;
    let stats = store.trim(bytes).unwrap();
    assert_eq!((stats.dropped_objects, stats.dropped_segments), (0, 0));
    assert_eq!((stats.bytes_before, stats.bytes_after), (bytes, bytes));
    assert_eq!(steps.load(Ordering::Relaxed), before);
}

#[test]
fn a_trim_to_nothing_keeps_the_segment_that_is_appended_to() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_numbered(&store, 0..50);
    store.flush().unwrap();
    let active = store.stats().segments.pop().unwrap();
    let stats = store.trim(0).unwrap();
    assert_eq!(stats.bytes_after, active.data_bytes);
    assert_eq!(store.len(), active.objects);
    assert!(active.objects > 0);
}

#[test]
fn readers_keep_what_they_hold_of_a_dropped_segment() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let digests = put_numbered(&store, 0..200);
    let object = store.get(digests[0]).unwrap().unwrap();
    let reader = store.reader();
    store.trim(0).unwrap();
    assert_eq!(object, content(0, 200)[..]);
    assert_eq!(
        reader.get(digests[1]).unwrap().as_deref(),
        Some(&content(1, 200)[..])
    );
    drop(reader);
    assert!(store.get(digests[1]).unwrap().is_none());
}

/// Two segments hold the same object, which happens when it is put again because it had rotted.
#[test]
fn an_object_with_a_copy_in_a_younger_segment_stays() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(segments(folder.path())).unwrap();
    for (id, numbers) in [(0, 0..4), (1, 3..7)] {
        let data: Vec<u8> = numbers.flat_map(|n| record(&content(n, 100))).collect();
        fs::write(file(folder.path(), &data_name(id)), data).unwrap();
    }
    let store = options().open(folder.path()).unwrap();
    let bytes = store.stats().data_file_bytes;
    let stats = store.trim(bytes - 1).unwrap();
    assert_eq!((stats.dropped_segments, stats.dropped_objects), (1, 4));
    assert_same(&walk(&store), &contents(3, 4, 100));
}

#[test]
fn compactions_and_trims_exclude_each_other() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_numbered(&store, 0..100);
    let compaction = store.begin_compaction().unwrap();
    assert!(matches!(store.trim(0), Err(Error::CompactionRunning)));
    drop(compaction);
    store.trim(0).unwrap();
    let reader = options().read_only(true).open(folder.path()).unwrap();
    assert!(matches!(reader.trim(0), Err(Error::ReadOnly)));
}

/// A cache with a bound: random puts and gets, and a trim after each put that fills a segment.
#[test]
fn a_cache_never_exceeds_its_bound_by_more_than_a_segment() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let mut rng = SmallRng::seed_from_u64(17);
    let bound = 64 << 10;
    let mut missed = 0;
    for _ in 0..20_000 {
        let number = rng.random_range(0..2000);
        let expected = content(number, 100 + usize::try_from(number % 300).unwrap());
        if let Some(found) = store.get(digest_of(&expected)).unwrap() {
            assert_eq!(found, expected[..]);
        } else {
            missed += 1;
            store.put(&expected).unwrap();
            assert!(store.contains(digest_of(&expected)).unwrap());
            store.trim(bound).unwrap();
        }
        let bytes = store.stats().data_file_bytes;
        assert!(bytes <= bound + SEGMENT_BYTES_MAX, "{bytes}");
    }
    assert!(missed > 1000, "{missed}");
    assert_verifies(&store);
    let left = walk(&store);
    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), &left);
}
