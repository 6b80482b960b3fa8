//! There is one writer, whatever happens to the lock file and to the processes.
#![cfg(unix)]

use crate::common::hash::new_options;
use crate::common::workload;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::workload::{
    assert_holds, assert_same, assert_unchanged, contents, put_all, settle, snapshot, walk,
};
use sealstone::test_seam::{FilePath, Operations, System};
use sealstone::{Error, Options, Store};
use tempfile::TempDir;

const OBJECT_BYTES: usize = 300;
/// How often a hundred objects are asked for, so that threads share the work.
const MANY: usize = 40;

fn options() -> Options {
    new_options().segment_bytes_max(8 << 10)
}

/// Lets one test run at a time: a starting process holds the lock files of this one for a moment.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("segments/LOCK")
}

#[track_caller]
fn assert_locked(folder: &Path) {
    match options().open(folder) {
        Err(Error::Locked { path }) => assert_eq!(path, lock_file(folder)),
        other => panic!("{other:?}"),
    }
}

/// Somebody takes the lock file for the remains of a crash.
#[test]
fn h2_a_lock_file_that_is_removed_or_replaced_lets_no_second_writer_in() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let path = lock_file(folder.path());
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 100, OBJECT_BYTES);
    put_all(&store, &held);
    store.sync().unwrap();
    settle(folder.path());

    let replacements: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&path).unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            File::create(&path).unwrap();
        },
        &|| {
            let other = path.with_extension("other");
            File::create(&other).unwrap();
            fs::rename(&other, &path).unwrap();
        },
    ];
    for replace in replacements {
        replace();
        assert_locked(folder.path());
        // The refused opening created a missing lock file and changed nothing else.
        let before = snapshot(folder.path());
        assert_locked(folder.path());
        assert_unchanged(folder.path(), &before);
    }

    put_all(&store, &contents(1000, 100, OBJECT_BYTES));
    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_holds(&store, &held);
    assert_eq!(store.len(), 200);
}

/// Replaces the lock file this many times, as soon as it is created.
#[derive(Debug)]
struct Replacing(AtomicUsize);

impl Operations for Replacing {
    fn create(&self, path: &FilePath) -> io::Result<File> {
        let created = System.create(path)?;
        let left = |left: usize| left.checked_sub(1);
        let is_lock = path.ends_with("LOCK");
        if is_lock
            && self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                .is_ok()
        {
            fs::remove_file(path)?;
        }
        Ok(created)
    }
}

#[test]
fn h2_the_locked_file_is_the_one_that_has_the_name() {
    let _alone = alone();
    for replaced in 0..4 {
        let folder = TempDir::new().unwrap();
        let operations = Arc::new(Replacing(AtomicUsize::new(replaced)));
        let options = options().operations(operations);
        let store = options.open(folder.path()).unwrap();
        let named = File::open(lock_file(folder.path())).unwrap();
        assert!(matches!(named.try_lock(), Err(TryLockError::WouldBlock)));
        drop(store);
        named.try_lock().unwrap();
    }
}

#[test]
fn h2_a_lock_file_that_is_replaced_without_end_is_an_error() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let operations = Arc::new(Replacing(AtomicUsize::new(usize::MAX)));
    let opened = options().operations(operations).open(folder.path());
    assert!(matches!(opened, Err(Error::Locked { .. })), "{opened:?}");
    drop(options().open(folder.path()).unwrap());
}

/// Returns whether `result` says that the store belongs to another process.
fn is_refused<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Forked))
}

/// Uses the store of the parent in a forked process, and returns the number of the check that
/// failed.
fn use_inherited(store: &Mutex<Option<Store>>) -> i32 {
    let Some(store) = store.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return 1;
    };
    let held = contents(0, 100, OBJECT_BYTES);
    for (digest, content) in &held {
        match store.get(digest) {
            Ok(Some(object)) if object[..] == content[..] => {}
            _ => return 2,
        }
    }
    // The parent had so many read by several threads, which this process lacks.
    let digests: Vec<_> = held.keys().copied().collect();
    let many = digests.repeat(MANY);
    let read = store.get_many(&many);
    if read.len() != many.len() || !read.iter().all(|object| matches!(object, Ok(Some(_)))) {
        return 6;
    }
    if !is_refused(&store.put(b"small")) || !is_refused(&store.put(vec![1; 1 << 20])) {
        return 3;
    }
    if !is_refused(&store.sync()) || !is_refused(&store.flush()) {
        return 4;
    }
    if !is_refused(&store.compact(|_| false)) {
        return 5;
    }
    // This is the last handle in this process. Dropping it must not wait for threads that do not
    // exist here, nor release the shared lock.
    drop(store);
    0
}

/// A forked process that starts no other program has the files and the memory of its parent, but
/// not its threads.
#[test]
#[allow(unsafe_code)]
fn h2_a_forked_process_changes_nothing_and_does_not_unlock() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 100, OBJECT_BYTES);
    put_all(&store, &held);
    store.sync().unwrap();
    workload::settle(folder.path());
    let digests: Vec<_> = held.keys().copied().collect();
    assert_eq!(store.get_many(&digests.repeat(MANY)).len(), 100 * MANY);
    let before = snapshot(folder.path());

    let store = Arc::new(Mutex::new(Some(store)));
    let inherited = Arc::clone(&store);
    let mut command = Command::new("true");
    // SAFETY: no other thread of this process holds a lock when it forks: the tests of this file
    // run one after the other, the store's own threads and those that share its work are idle and
    // the child asks nothing of them, and the allocator can be used after a fork.
    unsafe {
        command.pre_exec(move || match use_inherited(&inherited) {
            0 => Ok(()),
            wrong => Err(io::Error::from_raw_os_error(wrong)),
        });
    }
    let status = workload::completes("the forked process", move || command.status());
    assert!(status.unwrap().success());

    assert_unchanged(folder.path(), &before);
    assert_locked(folder.path());
    let store = store.lock().unwrap().take().unwrap();
    let new = contents(1000, 100, OBJECT_BYTES);
    put_all(&store, &new);
    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    let mut all = held;
    all.extend(new);
    assert_same(&walk(&store), &all);
}

/// A started program gets no file of the store, so it cannot keep it locked.
#[test]
#[cfg(target_os = "linux")]
fn h2_a_started_program_inherits_no_file_of_the_store() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(0, 100, OBJECT_BYTES));
    let files = |process: &str| {
        let listed = Command::new("ls").args(["-l", process]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let folder_name = folder.path().file_name().unwrap().to_str().unwrap();
    let own = format!("/proc/{}/fd", std::process::id());
    assert!(files(&own).contains(folder_name));
    assert!(!files("/proc/self/fd").contains(folder_name));
    store.close().unwrap();
}
