//! Callers that panic, and locks that tasks of rayon need again.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use sealstone::Options;
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::workload::{
    Kind, Verdict, assert_holds, assert_same, completes, content, contents, put_all, seam, walk,
};
use crate::concurrency::{SetOnDrop, assert_reads, open, options, reopen};

/// Content whose bytes panic when they are read.
struct Panics(Option<Vec<u8>>);

impl AsRef<[u8]> for Panics {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().expect("a caller's bug")
    }
}

fn assert_panics<T>(what: &str, run: impl FnOnce() -> T) {
    let result = catch_unwind(AssertUnwindSafe(run));
    assert!(result.is_err(), "{what} did not panic");
}

#[test]
fn h33_a_callers_panic_does_not_stop_the_others() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let first = contents(0, 300, 200);
    put_all(&store, &first);
    let done = AtomicBool::new(false);
    let beside = Mutex::new(first);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (store, done, beside) = (&store, &done, &beside);
            scope.spawn(move || {
                for number in thread << 40.. {
                    let content = content(1 << 60 | number, 100);
                    let digest = store.put(&content).unwrap();
                    beside.lock().unwrap().insert(digest, content);
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        let _done = SetOnDrop(&done);
        for round in 0..5 {
            assert_panics("a predicate", || {
                store.compact(|_| panic!("a caller's bug"))
            });
            assert_panics("a predicate", || {
                let compaction = store.begin_compaction().unwrap();
                compaction.plan(|_| panic!("a caller's bug"))
            });
            assert_panics("a callback", || {
                store.verify(|_| -> ControlFlow<()> { panic!("a caller's bug") })
            });
            let mut contents: Vec<Panics> = (0..20)
                .map(|number| Panics(Some(content(round << 50 | number, 50))))
                .collect();
            contents[13].0 = None;
            assert_panics("a content", || store.put_many(&contents));
            store.sync().unwrap();
        }
    });
    let mut expected = beside.into_inner().unwrap();
    let dropped = expected.pop_first().unwrap();
    let stats = store.compact(|digest| *digest != dropped.0).unwrap();
    assert_eq!(stats.dropped_objects, 1);
    assert_same(&walk(&store), &expected);
    store.close().unwrap();
    reopen(folder.path(), &expected);
}

/// H33: the store's own threads panic in the middle of a put, a sync, a seal or a commit.
#[test]
fn h33_a_panic_under_a_lock_does_not_stop_the_others() {
    for (kind, ending) in [
        (Kind::Write, ".dat"),
        (Kind::Write, ".jnl"),
        (Kind::Create, ".dat"),
        (Kind::Create, ".jnl"),
        (Kind::SyncFile, ".dat"),
        (Kind::Create, ".idx.tmp"),
        (Kind::SyncFile, ".idx.tmp"),
        (Kind::Rename, ".idx.tmp"),
        (Kind::Write, "MANIFEST.tmp"),
        (Kind::Rename, "MANIFEST.tmp"),
        (Kind::SyncDir, "segments"),
        (Kind::Remove, ".jnl"),
    ] {
        let folder = TempDir::new().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let trigger = Arc::clone(&armed);
        let operations = seam(move |step| {
            let is_it = step.is(kind, ending) && trigger.swap(false, Ordering::AcqRel);
            assert!(!is_it, "in the middle of {step}");
            Verdict::Go
        });
        let store = options()
            .operations(operations)
            .open(folder.path())
            .unwrap();
        let mut expected = contents(0, 100, 200);
        put_all(&store, &expected);
        armed.store(true, Ordering::Release);
        // One of these calls meets the panic, or the background thread does.
        for number in 1000.. {
            let content = content(number, 200);
            let put = catch_unwind(AssertUnwindSafe(|| store.put(&content)));
            if let Ok(digest) = put {
                expected.insert(digest.unwrap(), content);
            }
            if number % 100 == 0 {
                let _ = catch_unwind(AssertUnwindSafe(|| store.sync()));
            }
            if !armed.load(Ordering::Acquire) {
                break;
            }
        }
        let beside = store.clone();
        let more = contents(1 << 32, 1000, 200);
        expected.extend(more.clone());
        thread::spawn(move || {
            put_all(&beside, &more);
            beside.sync().unwrap();
        })
        .join()
        .unwrap();
        assert_holds(&store, &expected);
        let dropped = expected.pop_first().unwrap();
        store.compact(|digest| *digest != dropped.0).unwrap();
        assert_holds(&store, &expected);
        store.close().unwrap();
        reopen(folder.path(), &expected);
    }
}

/// A rayon task that waits for its own parts takes up another task meanwhile. If that task needs a
/// lock which the first one holds, it waits for ever.
#[test]
fn h33_reads_in_rayon_tasks_rebuild_a_damaged_sidecar_without_a_deadlock() {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 8000, 1000);
    let store = new_options().open(folder.path()).unwrap();
    put_all(&store, &held);
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
    // The damage lies between header and checksum, so only the first use notices it.
    let sidecar = folder.path().join("segments/seg-000000.idx");
    let mut bytes = fs::read(&sidecar).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&sidecar, bytes).unwrap();

    let threads = rayon::ThreadPoolBuilder::new().num_threads(3);
    let threads = Arc::new(threads.build().unwrap());
    let held = Arc::new(held);
    for round in 0..60 {
        let reader = Options::new().read_only(true).open(folder.path()).unwrap();
        let (held, threads) = (Arc::clone(&held), Arc::clone(&threads));
        completes("reads in rayon tasks", move || {
            let begun = AtomicBool::new(false);
            let first = || {
                begun.store(true, Ordering::Release);
                let (digest, content) = held.first_key_value().unwrap();
                assert_reads(&reader, digest, content);
            };
            // A task that reads waits in the pool while the sidecar is rebuilt.
            let second = || {
                while !begun.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                let since = Instant::now();
                while since.elapsed() < Duration::from_micros(100 * round) {
                    std::hint::spin_loop();
                }
                let (digest, content) = held.last_key_value().unwrap();
                let busy = || thread::sleep(Duration::from_millis(5));
                threads.join(busy, || assert_reads(&reader, digest, content));
            };
            threads.join(first, second);
        });
    }
}
