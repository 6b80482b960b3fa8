//! The resources that a handle uses and releases.

use std::cell::RefCell;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{fs, thread};

use sealstone::{Error, Object, Store};
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::layout::file;
use crate::common::workload::{completes, contents, eventually, names, put_all, settle};
use crate::small::{edit, options, read_only};

#[test]
fn a_read_only_handle_never_reads_the_content_of_a_put() {
    struct Unread;
    impl AsRef<[u8]> for Unread {
        fn as_ref(&self) -> &[u8] {
            panic!("the content was read")
        }
    }

    let folder = TempDir::new().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let reader = read_only(folder.path());
    let is_refused = |error: Error| matches!(error, Error::ReadOnly);
    assert!(is_refused(reader.put(b"content").unwrap_err()));
    assert!(is_refused(reader.put_many(&[Unread]).unwrap_err()));
    assert!(is_refused(reader.flush().unwrap_err()));
    assert!(is_refused(reader.sync().unwrap_err()));
    assert!(is_refused(reader.compact(|_| panic!("asked")).unwrap_err()));
}

// --- Waiting ---

/// Threads of the pool that wait for a sidecar cannot help to rebuild it.
#[test]
fn gets_in_every_thread_of_the_pool_rebuild_a_sidecar_without_a_deadlock() {
    let folder = TempDir::new().unwrap();
    // With this many objects, checking the damaged sidecar takes longer than the wait below.
    let held = contents(0, 40_000, 60);
    let store = new_options().open(folder.path()).unwrap();
    put_all(&store, &held);
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
    edit(&file(folder.path(), "seg-000000.idx"), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let held = Arc::new(held);
    for _ in 0..3 {
        let reader = read_only(folder.path());
        let held = Arc::clone(&held);
        completes("gets", move || {
            let in_pool = rayon::current_num_threads();
            let together = Barrier::new(in_pool + 1);
            let get_some = |first: usize| {
                for (digest, content) in held.iter().skip(first).step_by(997) {
                    let object = reader.get(digest).unwrap();
                    assert_eq!(object.as_deref(), Some(&content[..]));
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    get_some(0);
                });
                for number in 0..6 {
                    let get_some = &get_some;
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(1));
                        get_some(number);
                    });
                }
                rayon::broadcast(|context| {
                    together.wait();
                    thread::sleep(Duration::from_micros(200));
                    get_some(context.index());
                });
            });
        });
    }
}

// --- Resources ---

#[cfg(target_os = "linux")]
#[test]
fn objects_of_active_segments_keep_no_file_descriptors() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 50, 1500);
    let objects: Vec<Object> = held
        .iter()
        .map(|(digest, content)| {
            store.put(content).unwrap();
            // The object is flushed, so it is not read from the buffer.
            store.sync().unwrap();
            store.get(digest).unwrap().unwrap()
        })
        .collect();
    settle(folder.path());
    assert_eq!(names(folder.path(), &[".idx"]).len(), 49);
    let segments = folder.path().canonicalize().unwrap().join("segments");
    let open_files = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap();
        let mut open: Vec<String> = descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok())
            .filter_map(|path| Some(path.strip_prefix(&segments).ok()?.display().to_string()))
            .collect();
        open.sort();
        open
    };
    // One descriptor holds the folder, another its lock. The background thread drops outdated sets
    // in its own time.
    eventually("sealed segments are closed", || {
        open_files() == ["", "", "LOCK", "seg-000049.dat", "seg-000049.jnl"]
    });
    for (object, content) in objects.iter().zip(held.values()) {
        assert!(&object[..] == content);
    }
}

// --- The storage of a thread ---

/// Storage of the store's own would be destroyed before the storage of a thread that was used first.
#[test]
fn h33_a_store_is_used_and_dropped_while_the_storage_of_a_thread_is_destroyed() {
    struct Kept(RefCell<Option<Store>>);
    impl Drop for Kept {
        fn drop(&mut self) {
            let store = self.0.take().unwrap();
            let one = store.put(b"one").unwrap();
            store.put_many(&[b"two", b"six"]).unwrap();
            assert_eq!(store.get(one).unwrap().as_deref(), Some(&b"one"[..]));
            assert_eq!(store.iter().count() as u64, store.len());
            store.sync().unwrap();
        }
    }
    thread_local!(static KEPT: Kept = const { Kept(RefCell::new(None)) });

    // With more than 32,768 objects the last segment is sealed when the store is dropped.
    for count in [10, 33_000] {
        let folder = TempDir::new().unwrap();
        let root = folder.path().to_owned();
        let thread = thread::spawn(move || {
            KEPT.with(|kept| drop(kept.0.borrow()));
            let store = Store::open(root).unwrap();
            put_all(&store, &contents(0, count, 10));
            KEPT.with(|kept| *kept.0.borrow_mut() = Some(store));
        });
        thread.join().unwrap();
        let store = read_only(folder.path());
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_eq!(store.len(), count + 3);
    }
}
