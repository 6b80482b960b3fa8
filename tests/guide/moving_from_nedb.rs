//! The adapter with the interface of NEDB v3, and its loose objects.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::nedb_adapter::{self, SegmentStore};
use sealstone::{Digest, DigestMismatch, Error, Store};

fn hash(content: &str) -> String {
    Digest::of(content).to_string()
}

/// Puts a content under its hash, and returns the hash.
fn put(store: &SegmentStore, content: &str) -> String {
    let hash = hash(content);
    store.put(&hash, content.as_bytes()).unwrap();
    hash
}

#[test]
fn content_survives_reopening_through_the_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("objects");
    let store = SegmentStore::open(&root).unwrap();
    let hashes: BTreeSet<String> = ["one", "two", ""].map(|text| put(&store, text)).into();
    store.sync().unwrap();
    drop(store);

    let store = SegmentStore::open(&root).unwrap();
    assert_eq!(store.get(&hash("one")).unwrap().unwrap(), b"one");
    assert_eq!(store.get(&hash("")).unwrap().unwrap(), b"");
    assert_eq!(store.get(&hash("absent")).unwrap(), None);
    assert!(store.contains(&hash("two")));
    assert!(!store.contains(&hash("absent")) && !store.contains("no hash"));
    let all = store.all_hashes().unwrap();
    assert_eq!((all.len(), BTreeSet::from_iter(all)), (3, hashes));
}

#[test]
fn a_wrong_hash_is_refused_by_the_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let store = SegmentStore::open(folder.path()).unwrap();
    let error = store.put(&hash("other"), b"content").unwrap_err();
    assert!(error.is::<DigestMismatch>(), "{error}");
    store.put("no hash", b"content").unwrap_err();
    store.get("no hash").unwrap_err();
    assert!(store.all_hashes().unwrap().is_empty());
}

#[test]
fn a_compaction_through_the_adapter_drops_only_what_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let store = SegmentStore::open(folder.path()).unwrap();
    let live = HashSet::from([put(&store, "live")]);
    let [dead, old] = ["dead", "old"].map(|text| put(&store, text));

    let compaction = store.begin_compaction().unwrap();
    put(&store, "old");
    let new = put(&store, "new");
    let stats = compaction.finish(&live).unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (2, 1));
    assert!(!store.contains(&dead));
    assert!(
        [&old, &new]
            .into_iter()
            .chain(&live)
            .all(|hash| store.contains(hash))
    );

    let stats = store.compact(&live).unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (1, 2));
    assert_eq!(store.all_hashes().unwrap(), Vec::from_iter(live));
}

#[test]
fn a_second_adapter_of_one_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = SegmentStore::open(folder.path()).unwrap();
    let error = SegmentStore::open(folder.path()).err().unwrap();
    let error = error.downcast::<Error>().unwrap();
    assert!(matches!(*error, Error::Locked { .. }), "{error}");
}

/// Moves loose objects as the page says: each under the hash in its name.
fn import(objects: &Path, store: &SegmentStore) -> nedb_adapter::Result<()> {
    for folder in fs::read_dir(objects)? {
        let folder = folder?;
        if folder.file_name().len() != 2 {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let hash = [folder.file_name(), file.file_name()].map(OsString::into_string);
            let [begin, end] = hash.map(Result::unwrap);
            store.put(&(begin + &end), &fs::read(file.path())?)?;
        }
    }
    store.sync()
}

#[test]
fn loose_objects_are_found_by_their_hashes_after_they_were_put() {
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("objects");
    let write = |hash: &str, bytes: &str| {
        let (begin, end) = hash.split_at(2);
        fs::create_dir_all(objects.join(begin)).unwrap();
        fs::write(objects.join(begin).join(end), bytes).unwrap();
    };
    for text in ["one", "two"] {
        write(&hash(text), text);
    }
    let store = SegmentStore::open(&objects).unwrap();
    import(&objects, &store).unwrap();
    assert_eq!(store.all_hashes().unwrap().len(), 2);
    assert_eq!(store.get(&hash("two")).unwrap().unwrap(), b"two");
    drop(store);

    write(&hash("three"), "not three");
    let store = SegmentStore::open(&objects).unwrap();
    import(&objects, &store).unwrap_err();
    assert!(!store.contains(&hash("three")));
    drop(store);
    assert_eq!(Store::open(&objects).unwrap().len(), 2);
}
