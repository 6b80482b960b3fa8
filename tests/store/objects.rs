//! Objects that outlive a compaction, the store and the files.

use std::thread;

use sealstone::{Object, ReadMode, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    assert_holds, assert_lacks, assert_undamaged, content, contents, eventually, names, put_all,
};
use crate::concurrency::{assert_reads, open, options, reopen};

/// Returns objects from each kind of place that holds them, with their contents.
fn held_objects(store: &Store) -> Vec<(Object, Vec<u8>)> {
    let mut held = Vec::new();
    let mut put = |number: u64, len: usize| {
        let content = content(number, len);
        let digest = store.put(&content).unwrap();
        held.push((store.get(digest).unwrap().unwrap(), content.clone()));
        (digest, content)
    };
    let (sealed, sealed_content) = put(1, 5000);
    let (flushed, flushed_content) = put(2, 1000);
    put(3, 0);
    put(4, 300_000);
    let _ = store.begin_compaction().unwrap();
    let (again, again_content) = put(5, 100);
    store.sync().unwrap();
    put(6, 100);
    for (digest, content) in [
        (sealed, sealed_content),
        (flushed, flushed_content),
        (again, again_content),
    ] {
        held.push((store.get(digest).unwrap().unwrap(), content));
    }
    held
}

#[test]
fn h29_objects_outlive_a_compaction_the_store_and_the_files() {
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let folder = TempDir::new().unwrap();
        let store = options().read_mode(mode).open(folder.path()).unwrap();
        let held = held_objects(&store);
        let assert_valid = || {
            for (object, content) in &held {
                assert!(object[..] == content[..]);
            }
        };
        let stats = store.compact(|_| false).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (0, 6));
        assert!(store.is_empty());
        assert_valid();
        drop(store);
        assert_valid();
        // Windows does not remove a mapped file.
        if cfg!(unix) {
            folder.close().unwrap();
            assert_valid();
        }
        thread::spawn(move || drop(held)).join().unwrap();
    }
}

/// Small objects are read from the append buffer, which is used again and again.
#[test]
fn h29_objects_keep_their_bytes_while_puts_of_all_sizes_go_on() {
    let folder = TempDir::new().unwrap();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let store = new_options().read_mode(mode).open(folder.path()).unwrap();
        let mut held = Vec::new();
        for number in 0..6000_u32 {
            // Now and then an object goes past the buffer; some objects are dropped, some are kept.
            let bytes = if number % 500 == 7 { 300_000 } else { 700 };
            let content = [number.to_le_bytes().repeat(bytes / 4), vec![mode as u8]].concat();
            let digest = store.put(&content).unwrap();
            let object = store.get(digest).unwrap().unwrap();
            if number % 1000 < 300 {
                held.push((object, number));
            }
        }
        for (object, number) in &held {
            assert_eq!(object[..4], number.to_le_bytes());
            assert_eq!(digest_of(object), *object.digest());
        }
    }
}

#[test]
fn h29_the_files_of_a_dropped_segment_are_removed_with_its_last_object() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let digest = store.put(b"held").unwrap();
    let _ = store.begin_compaction().unwrap();
    let files = || names(folder.path(), &["000.dat", "000.idx"]);
    assert_eq!(files(), ["seg-000000.dat", "seg-000000.idx"]);

    let object = store.get(digest).unwrap().unwrap();
    let clone = object.clone();
    store.compact(|_| false).unwrap();
    assert_lacks(&store, [&digest]);
    drop(object);
    assert_eq!(files(), ["seg-000000.dat", "seg-000000.idx"]);
    assert_eq!(&clone[..], b"held");
    drop(clone);
    eventually("its files are removed", || files().is_empty());
    drop(store);
    assert!(open(folder.path()).recovery().is_clean());
}

#[test]
fn h29_an_object_that_outlives_its_store_does_not_disturb_the_next() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let digest = store.put(b"held").unwrap();
    let _ = store.begin_compaction().unwrap();
    let object = store.get(digest).unwrap().unwrap();
    store.compact(|_| false).unwrap();
    drop(store);

    let next = open(folder.path());
    assert_undamaged(&next);
    assert_lacks(&next, [&digest]);
    let expected = contents(0, 300, 200);
    put_all(&next, &expected);
    let again = next.put(b"held").unwrap();
    assert_eq!(&object[..], b"held");
    drop(object);
    assert_holds(&next, &expected);
    assert_reads(&next, &again, b"held");
    next.close().unwrap();
    reopen(folder.path(), &expected);
}
