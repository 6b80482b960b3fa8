//! H52, H63: a checkpoint into a folder that another program uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use sealstone::{Error, Store};
use tempfile::TempDir;

use super::options;
use crate::common::workload::{Contents, assert_same, contents, put_all, settle, walk};

/// Creates a store whose segments have the same ids as those of other stores.
fn store_of(contents: &Contents) -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, contents);
    store.sync().unwrap();
    settle(folder.path());
    (folder, store)
}

fn bytes_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes_below(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[track_caller]
fn assert_refused(result: Result<(), Error>) {
    match result {
        Err(Error::NotEmpty { .. } | Error::Locked { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn h52_h63_a_checkpoint_changes_no_folder_that_is_not_empty() {
    let (_own, store) = store_of(&contents(0, 30, 500));
    let (other_folder, other) = store_of(&contents(100, 30, 500));
    let (root, mut other) = (other_folder.path(), Some(other));
    for is_open in [true, false] {
        if let Some(other) = other.take_if(|_| !is_open) {
            other.close().unwrap();
        }
        let before = bytes_below(root);
        // The last folder does not exist until its parent does.
        for path in [root.to_owned(), root.join("."), root.join("missing/..")] {
            assert_refused(store.checkpoint(&path));
            assert_eq!(bytes_below(root), before, "{}", path.display());
        }
    }
    // The empty path is the working directory, which holds these tests.
    assert_refused(store.checkpoint(""));
    assert!(!Path::new("segments").exists());
}

#[test]
fn h63_two_checkpoints_into_one_folder_leave_one_whole_and_refuse_the_other() {
    let (of_one, of_two) = (contents(0, 30, 500), contents(100, 40, 500));
    let (_one, one) = store_of(&of_one);
    let (_two, two) = store_of(&of_two);
    let folder = TempDir::new().unwrap();
    for round in 0..20 {
        let target = folder.path().join(round.to_string());
        let (of_first, of_second) = thread::scope(|scope| {
            let first = scope.spawn(|| one.checkpoint(&target));
            let second = two.checkpoint(&target);
            (first.join().unwrap(), second)
        });
        let (whole, refused) = if of_first.is_ok() {
            (&of_one, of_second)
        } else {
            of_second.unwrap();
            (&of_two, of_first)
        };
        assert_refused(refused);
        assert_same(&walk(&options().open(target).unwrap()), whole);
    }
}

/// Another program creates a store in the folder of a checkpoint, at any moment.
#[test]
fn h63_a_checkpoint_and_a_new_store_in_one_folder_do_not_mix() {
    let of_one = contents(0, 30, 500);
    let (_one, one) = store_of(&of_one);
    let folder = TempDir::new().unwrap();
    let new = contents(100, 3, 500);
    for round in 0..40 {
        let target = folder.path().join(round.to_string());
        let create = || -> Result<(), Error> {
            let store = options().open(&target)?;
            put_all(&store, &new);
            store.sync()?;
            store.close()
        };
        let (made, checkpoint) = thread::scope(|scope| {
            let made = scope.spawn(create);
            let checkpoint = one.checkpoint(&target);
            (made.join().unwrap(), checkpoint)
        });
        let held = walk(&options().open(&target).unwrap());
        let holds = |contents: &Contents| {
            contents
                .iter()
                .all(|(key, value)| held.get(key) == Some(value))
        };
        // The second to come may find the other's store whole, and go on with it.
        match checkpoint {
            Ok(()) => assert!(holds(&of_one)),
            refused => assert_refused(refused),
        }
        match made {
            Ok(()) => assert!(holds(&new)),
            Err(Error::Locked { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
