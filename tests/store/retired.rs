//! Retired segments: their files go with the last object, never because of a manifest alone.

use std::fs;
use std::path::Path;

use sealstone::{Object, Repair};
use tempfile::TempDir;

use crate::common::hash::digest_of;
use crate::common::layout::file;
use crate::common::workload::{
    Contents, Kind, assert_holds, assert_same, assert_unchanged, contents, put_all, snapshot, walk,
};
use crate::faults::Record;
use crate::small::{options, read_only};

// --- Retired segments ---

/// Closes a store while an object is held whose segment a compaction has replaced.
fn closed_with_a_held_object(root: &Path) -> (Object, Contents) {
    let store = options().open(root).unwrap();
    let dead = store.put(b"dead").unwrap();
    let live = contents(0, 30, 300);
    put_all(&store, &live);
    // A compaction seals the segment, so the object lies in a sealed one.
    drop(store.begin_compaction().unwrap());
    let object = store.get(dead).unwrap().unwrap();
    store.compact(|digest| *digest != dead).unwrap();
    store.close().unwrap();
    (object, live)
}

#[test]
fn opening_removes_retired_files_only_after_the_directory_is_synced() {
    let folder = TempDir::new().unwrap();
    let (_object, live) = closed_with_a_held_object(folder.path());
    let record = Record::default();
    let store = options().operations(record.operations());
    let store = store.open(folder.path()).unwrap();
    let steps = record.take();
    let removed = steps.iter().position(|step| step.kind == Kind::Remove);
    let synced = steps
        .iter()
        .position(|step| step.is(Kind::SyncDir, "segments"));
    assert!(removed.is_some() && synced.is_some(), "{steps:?}");
    assert!(synced < removed, "{steps:?}");
    assert_holds(&store, &live);
}

/// A program that knows no manifest may have reused an id after its files were removed.
#[test]
fn h55_a_segment_that_differs_from_its_retired_line_is_kept() {
    for (has_same_length, has_old_sidecar) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let folder = TempDir::new().unwrap();
        let (_object, live) = closed_with_a_held_object(folder.path());
        let data = file(folder.path(), "seg-000000.dat");
        let retired_bytes = fs::metadata(&data).unwrap().len();
        let other_bytes = retired_bytes + if has_same_length { 0 } else { 100 };
        let other = vec![7; usize::try_from(other_bytes - 4).unwrap()];
        let header = u32::try_from(other.len()).unwrap().to_le_bytes();
        fs::write(&data, [&header[..], &other].concat()).unwrap();
        if !has_old_sidecar {
            fs::remove_file(data.with_extension("idx")).unwrap();
        }
        let digest = digest_of(&other);
        // A reader removes nothing and does not check the data of the segment for this.
        let is_told_apart = read_only(folder.path()).contains(digest).unwrap();
        assert!(is_told_apart || has_same_length);
        let store = options().open(folder.path()).unwrap();
        let kept = Repair::KeptRetired { segment: 0 };
        assert!(store.recovery().repairs.contains(&kept));
        assert_eq!(store.get(digest).unwrap().as_deref(), Some(&other[..]));
        assert_holds(&store, &live);
        store.close().unwrap();
        let store = options().open(folder.path()).unwrap();
        assert!(store.contains(digest).unwrap());
    }
}

#[test]
fn an_object_that_outlives_the_store_removes_nothing() {
    let folder = TempDir::new().unwrap();
    let (object, live) = closed_with_a_held_object(folder.path());
    let retired = file(folder.path(), "seg-000000.dat");
    assert!(retired.exists());
    let before = snapshot(folder.path());
    assert_eq!(&object[..], b"dead");
    drop(object);
    assert_unchanged(folder.path(), &before);

    let store = options().open(folder.path()).unwrap();
    let repairs = &store.recovery().repairs;
    let removed = Repair::RemovedRetired { segment: 0 };
    assert!(repairs.contains(&removed), "{repairs:?}");
    assert!(!retired.exists());
    assert_same(&walk(&store), &live);
    drop(store);
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
}

#[test]
fn a_walk_that_outlives_the_store_removes_nothing() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(0, 30, 300));
    drop(store.begin_compaction().unwrap());
    let walk = store.iter();
    store.compact(|_| false).unwrap();
    store.close().unwrap();
    let before = snapshot(folder.path());
    assert_eq!(walk.map(Result::unwrap).count(), 30);
    assert_unchanged(folder.path(), &before);
}
