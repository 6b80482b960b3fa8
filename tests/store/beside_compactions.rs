//! Puts beside a compaction, at moments that a gate chooses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sealstone::{Repair, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    Contents, Kind, PATIENCE, Verdict, assert_holds, assert_same, assert_undamaged, completes,
    content, contents, copy_store, put_all, seam, walk,
};
use crate::small::{Gate, assert_data_is_whole, options};

#[test]
fn puts_go_on_while_a_compaction_copies() {
    let folder = TempDir::new().unwrap();
    let gate = Arc::new(Gate::default());
    let operations = {
        let gate = Arc::clone(&gate);
        seam(move |step| {
            if step.is(Kind::Write, ".dat.tmp") {
                gate.pass();
            }
            Verdict::Go
        })
    };
    let store = options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    let threads = rayon::current_num_threads();
    let held = contents(0, 40 * threads as u64, 300);
    put_all(&store, &held);
    let live: Contents = held.into_iter().step_by(2).collect();
    let compaction = store.begin_compaction().unwrap();
    gate.shut();
    let keeps = live.clone();
    let finishing = thread::spawn(move || compaction.finish(|digest| keeps.contains_key(digest)));
    assert!(gate.awaits(1, PATIENCE));
    // This waits for every thread that hashes, if the store copies in that many.
    gate.awaits(threads, Duration::from_secs(1));

    let many: Vec<Vec<u8>> = (0..100).map(|number| content(5000 + number, 50)).collect();
    let new = contents(6000, 10, 50);
    let (putting, putting_many, putting_new) = (store.clone(), many.clone(), new.clone());
    completes("put_many and puts while outputs are written", move || {
        putting.put_many(&putting_many).unwrap();
        put_all(&putting, &putting_new);
        putting.sync().unwrap();
    });
    assert!(!finishing.is_finished());
    gate.open();
    finishing.join().unwrap().unwrap();

    let mut all = live;
    all.extend(new);
    all.extend(
        many.into_iter()
            .map(|content| (digest_of(&content), content)),
    );
    assert_same(&walk(&store), &all);
}

#[test]
fn puts_go_on_while_the_caller_decides_what_is_live() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 40, 300);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    let gate = Arc::new(Gate::default());
    gate.shut();
    let passing = Arc::clone(&gate);
    let finishing = thread::spawn(move || {
        compaction.finish(|_| {
            passing.pass();
            false
        })
    });
    assert!(gate.awaits(1, PATIENCE));
    let many: Vec<Vec<u8>> = (0..100).map(|number| content(5000 + number, 50)).collect();
    let (putting, putting_many) = (store.clone(), many.clone());
    completes(
        "put_many while the caller decides what is live",
        move || {
            putting.put_many(&putting_many).unwrap();
            putting.sync().unwrap();
        },
    );
    assert!(!finishing.is_finished());
    gate.open();
    finishing.join().unwrap().unwrap();
    let pairs = many
        .into_iter()
        .map(|content| (digest_of(&content), content));
    assert_same(&walk(&store), &pairs.collect());
}

// --- The empty object ---

/// A compaction that found no empty object waits for the append lock. A put of the same content,
/// made here by the thread that releases the lock, comes first.
#[test]
fn an_empty_object_put_while_a_compaction_adds_it_is_stored_once() {
    for _ in 0..5 {
        let folder = TempDir::new().unwrap();
        let (pinning, overtaking) = (Arc::default(), Arc::default());
        let flush = Arc::new(Gate::default());
        let operations = {
            let pinning: Arc<Mutex<Option<Store>>> = Arc::clone(&pinning);
            let overtaking: Arc<Mutex<Option<Store>>> = Arc::clone(&overtaking);
            let flush = Arc::clone(&flush);
            seam(move |step| {
                if step.is(Kind::Write, ".dat") {
                    flush.pass();
                } else if step.is(Kind::SyncFile, ".dat") {
                    // The first such step belongs to the sync below, just after its flush.
                    let store = overtaking.lock().unwrap().take();
                    if let Some(store) = store {
                        store.put(b"").unwrap();
                    }
                } else if step.is(Kind::SyncFile, ".idx.tmp") {
                    // The compaction takes this step last before it closes; it has marked what is
                    // live before.
                    let store = pinning.lock().unwrap().take();
                    if let Some(store) = store {
                        store.put(b"").unwrap();
                        store.put(b"keeps the appender busy").unwrap();
                        flush.shut();
                        thread::spawn(move || store.sync().unwrap());
                        assert!(flush.awaits(1, PATIENCE));
                    }
                }
                Verdict::Go
            })
        };
        let store = new_options().operations(operations);
        let store = store.open(folder.path()).unwrap();
        let empty = store.put(b"").unwrap();
        let live = store.put(b"live").unwrap();
        let compaction = store.begin_compaction().unwrap();
        *pinning.lock().unwrap() = Some(store.clone());
        let finishing = thread::spawn(move || compaction.finish(|digest| *digest == live));
        assert!(flush.awaits(1, PATIENCE));
        // This gives the compaction time to reach the append lock.
        thread::sleep(Duration::from_millis(100));
        assert!(!finishing.is_finished());
        *overtaking.lock().unwrap() = Some(store.clone());
        flush.open();
        finishing.join().unwrap().unwrap();
        assert!(overtaking.lock().unwrap().is_none());

        let after = store.put(b"after the empty object").unwrap();
        store.sync().unwrap();
        assert_data_is_whole(folder.path());
        let crashed = TempDir::new().unwrap();
        copy_store(folder.path(), crashed.path());
        let reopened = Store::open(crashed.path()).unwrap();
        assert_undamaged(&reopened);
        for digest in [empty, live, after] {
            assert!(reopened.get(digest).unwrap().is_some(), "{digest:?}");
        }
    }
}

#[test]
fn the_empty_object_survives_puts_beside_compactions_that_drop_it() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let empty = store.put(b"").unwrap();
    let mut kept = Contents::new();
    for round in 0..300 {
        let compaction = store.begin_compaction().unwrap();
        // This put comes after the compaction began, so the object stays.
        kept = contents(round << 8, 3, 100);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        store.put(b"").unwrap();
                        if done.load(Ordering::Acquire) {
                            break;
                        }
                    }
                });
            }
            scope.spawn(|| put_all(&store, &kept));
            compaction.finish(|_| false).unwrap();
            done.store(true, Ordering::Release);
        });
        kept.insert(empty, Vec::new());
        assert_holds(&store, &kept);
        store.sync().unwrap();
        assert_data_is_whole(folder.path());
    }
    let crashed = TempDir::new().unwrap();
    copy_store(folder.path(), crashed.path());
    let reopened = options().open(crashed.path()).unwrap();
    assert_undamaged(&reopened);
    assert_same(&walk(&reopened), &kept);
    let cut = |repair: &Repair| matches!(repair, Repair::CutTail { .. });
    assert!(!reopened.recovery().repairs.iter().any(cut));
}
