//! Lives of a store that maps no file. Miri knows no maps of files and runs these: see `README.md`.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use common::workload::{Contents, assert_same, assert_verifies, put_all, walk};
use sealstone::test_seam::{Folder, Operations};
use sealstone::{Digest, Options, ReadMode, Store, VerifyReads};
use tempfile::TempDir;

/// Operations of the system, but without asking for the free room, which Miri does not know.
#[derive(Debug)]
struct Roomy;

impl Operations for Roomy {
    fn available_bytes(&self, _: &Folder) -> Option<u64> {
        None
    }
}

fn options() -> Options {
    Options::new()
        .read_mode(ReadMode::Pread)
        .segment_bytes_max(400)
        .write_block_bytes(100)
        .set_index_minimum(1, 1)
        .operations(Arc::new(Roomy))
}

/// Returns contents of 0 to 150 bytes.
fn contents(numbers: std::ops::Range<u8>) -> Contents {
    let content = |number: u8| vec![number; usize::from(number) * 37 % 151];
    let contents = numbers.map(content);
    contents
        .map(|content| (Digest::of(&content), content))
        .collect()
}

/// Checks the objects in every way of reading.
fn assert_holds(store: &Store, contents: &Contents) {
    let digests: Vec<Digest> = contents.keys().copied().collect();
    let reader = store.reader();
    let batch = store.get_many(&digests);
    for ((digest, content), in_batch) in contents.iter().zip(batch) {
        let alone = store.get(digest).unwrap();
        assert_eq!(alone.as_deref(), Some(&content[..]));
        assert_eq!(in_batch.unwrap(), alone);
        let pinned = reader.get(digest).unwrap();
        assert_eq!(pinned.as_deref(), Some(&content[..]));
        assert!(store.contains(digest).unwrap());
    }
}

fn assert_is(store: &Store, contents: &Contents) {
    assert_holds(store, contents);
    assert_same(&walk(store), contents);
    assert_verifies(store);
}

fn is_kept(digest: &Digest) -> bool {
    digest.as_bytes()[0] & 1 == 0
}

fn live(verify: VerifyReads) {
    let folder = TempDir::new().unwrap();
    let options = options().verify_reads(verify);
    let store = options.open(folder.path()).unwrap();
    let mut all = contents(0..6);
    put_all(&store, &all);
    store.sync().unwrap();
    let reading = options.clone().read_only(true);
    let reader = reading.open(folder.path()).unwrap();
    assert_holds(&reader, &all);
    let more = contents(6..10);
    let values: Vec<&[u8]> = more.values().map(Vec::as_slice).collect();
    store.put_many(&values).unwrap();
    all.extend(more);
    store.compact(is_kept).unwrap();
    all.retain(|digest, _| is_kept(digest));
    assert_is(&store, &all);
    reader.refresh().unwrap();
    assert_holds(&reader, &all);
    drop(store);
    let store = options.open(folder.path()).unwrap();
    assert_holds(&store, &all);
}

#[test]
fn a_store_is_filled_compacted_and_reopened() {
    live(VerifyReads::EveryRead);
}

#[test]
fn a_store_that_verifies_once_is_filled_compacted_and_reopened() {
    live(VerifyReads::FirstRead);
}

#[test]
fn a_store_is_recovered_after_a_crash() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let all = contents(1..6);
    put_all(&store, &all);
    store.close().unwrap();
    // Half a record follows the newest one.
    let files = fs::read_dir(folder.path().join("segments")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let data = files.filter(|path| path.extension().is_some_and(|it| it == "dat"));
    let newest = data.max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes.extend([9, 0, 0, 0, 1, 2, 3]);
    fs::write(&newest, bytes).unwrap();
    let store = options().open(folder.path()).unwrap();
    assert!(!store.recovery().is_clean());
    assert_is(&store, &all);
}

#[test]
fn threads_put_and_read_beside_a_compaction() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let before = contents(1..7);
    put_all(&store, &before);
    let kept: Contents = before.into_iter().filter(|(d, _)| is_kept(d)).collect();
    let put = contents(20..24);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for (digest, content) in &kept {
                    let found = store.get(digest).unwrap();
                    assert_eq!(found.as_deref(), Some(&content[..]));
                }
            }
        });
        let putting = scope.spawn(|| put_all(&store, &put));
        let keeps = |digest: &Digest| is_kept(digest) || put.contains_key(digest);
        store.compact(keeps).unwrap();
        putting.join().unwrap();
        is_done.store(true, Ordering::Relaxed);
        reading.join().unwrap();
    });
    let all: Contents = kept.into_iter().chain(put).collect();
    assert_is(&store, &all);
}
