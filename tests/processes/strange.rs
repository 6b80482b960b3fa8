//! Folders, files, pipes and links in each other's places.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealstone::{Error, Options, Store};
use tempfile::TempDir;

use crate::common::workload::{
    assert_same, assert_unchanged, completes, contents, put_all, snapshot, walk,
};
use crate::writer::{OBJECT_BYTES, alone, options};

#[track_caller]
pub fn assert_io(opened: Result<Store, Error>, expected: &Path) {
    match opened {
        Err(Error::Io { path, .. }) => assert_eq!(path, expected),
        other => panic!("{}: {other:?}", expected.display()),
    }
}

/// Creates a closed store with a sealed segment 0 and an active segment 1, and applies `change`.
fn store_with(change: impl FnOnce(&Path)) -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(0, 10, OBJECT_BYTES));
    drop(store.begin_compaction().unwrap());
    put_all(&store, &contents(1000, 10, OBJECT_BYTES));
    store.close().unwrap();
    change(&folder.path().join("segments"));
    folder
}

#[derive(Clone, Copy)]
enum Who {
    Writer,
    Reader,
}

/// Checks that opening returns an error without hanging, and changes nothing.
#[track_caller]
fn assert_refused(folder: &Path, who: Who, expected: &Path) {
    let before = snapshot(folder);
    let root = folder.to_owned();
    let opened = completes(
        &format!("opening with {}", expected.display()),
        move || match who {
            Who::Writer => options().open(root),
            Who::Reader => Options::new().read_only(true).open(root),
        },
    );
    assert_io(opened, expected);
    assert_unchanged(folder, &before);
}

#[test]
fn h34_a_folder_where_a_file_should_be_is_an_error_with_its_path() {
    let _alone = alone();
    for (name, is_there) in [
        ("seg-000000.dat", true),
        ("seg-000000.idx", true),
        ("seg-000001.dat", true),
        ("seg-000001.jnl", true),
        ("seg-000002.dat", false),
        ("MANIFEST", true),
    ] {
        let folder = store_with(|segments| {
            if is_there {
                fs::remove_file(segments.join(name)).unwrap();
            }
            fs::create_dir(segments.join(name)).unwrap();
        });
        let path = folder.path().join("segments").join(name);
        assert_refused(folder.path(), Who::Writer, &path);
        assert_refused(folder.path(), Who::Reader, &path);
    }
}

#[test]
fn h34_a_file_where_a_folder_should_be_is_an_error_with_its_path() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let segments = folder.path().join("segments");
    fs::write(&segments, b"a file").unwrap();
    for who in [Who::Writer, Who::Reader] {
        assert_refused(folder.path(), who, &segments);
    }
    // This is the root itself, where the system names the file below it.
    let root = folder.path().join("root");
    fs::write(&root, b"a file").unwrap();
    for options in [options(), Options::new().read_only(true)] {
        match options.open(&root) {
            Err(Error::Io { path, .. }) => assert!(path.starts_with(&root)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs::read(&root).unwrap(), b"a file");
}

#[cfg(unix)]
fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Opening a pipe waits for another process at its other end, and there is none.
#[test]
#[cfg(unix)]
fn h34_a_pipe_where_a_file_should_be_is_an_error_with_its_path() {
    let _alone = alone();
    for (name, is_there) in [
        ("seg-000000.dat", true),
        ("seg-000000.idx", true),
        ("seg-000001.dat", true),
        ("seg-000001.jnl", true),
        ("seg-000002.dat", false),
        ("MANIFEST", true),
    ] {
        let folder = store_with(|segments| {
            if is_there {
                fs::remove_file(segments.join(name)).unwrap();
            }
            make_pipe(&segments.join(name));
        });
        let path = folder.path().join("segments").join(name);
        assert_refused(folder.path(), Who::Writer, &path);
        assert_refused(folder.path(), Who::Reader, &path);
    }
}

#[test]
#[cfg(unix)]
fn h34_links_are_followed_and_dangling_links_are_an_error() {
    use std::os::unix::fs::symlink;
    let _alone = alone();
    // One segment was moved to another disk.
    let elsewhere = TempDir::new().unwrap();
    let moved = elsewhere.path().join("moved");
    let folder = store_with(|segments| {
        fs::rename(segments.join("seg-000000.dat"), &moved).unwrap();
        symlink(&moved, segments.join("seg-000000.dat")).unwrap();
    });
    let mut held = contents(0, 10, OBJECT_BYTES);
    held.extend(contents(1000, 10, OBJECT_BYTES));
    let store = options().open(folder.path()).unwrap();
    assert_same(&walk(&store), &held);
    drop(store);

    fs::remove_file(&moved).unwrap();
    match options().open(folder.path()) {
        Err(Error::MissingSegment { segment: 0, path }) => {
            assert_eq!(path, folder.path().join("segments/seg-000000.dat"));
        }
        other => panic!("{other:?}"),
    }
    for name in ["seg-000002.dat", "segments"] {
        let folder = store_with(|segments| {
            let at: PathBuf = if name == "segments" {
                fs::remove_dir_all(segments).unwrap();
                segments.to_owned()
            } else {
                segments.join(name)
            };
            symlink("nowhere", at).unwrap();
        });
        let path = if name == "segments" {
            folder.path().join(name)
        } else {
            folder.path().join("segments").join(name)
        };
        assert_refused(folder.path(), Who::Writer, &path);
    }
}
