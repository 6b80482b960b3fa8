//! Each segment id is used once, and failures waste none.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use sealstone::format::Manifest;
use sealstone::{Error, Store};
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::workload::{
    Contents, EMFILE, Kind, Step, Verdict, assert_holds, assert_same, assert_undamaged, completes,
    contents, copy_store, eventually, names, pretend_to_sync, put_all, seam, seam_with_stillness,
    settle, system_error, walk,
};
use crate::small::options;

const FAILURES: usize = 2000;

/// Opens a store in which the chosen steps fail while the switch is on.
fn open(root: &Path, fails: fn(&Step) -> bool) -> (Store, Arc<AtomicBool>) {
    let is_short = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_short);
    let operations = seam(move |step| {
        if switch.load(Ordering::Relaxed) && fails(step) {
            return system_error(EMFILE);
        }
        pretend_to_sync(step)
    });
    let options = new_options().segment_bytes_max(2000).operations(operations);
    (options.open(root).unwrap(), is_short)
}

fn next_id(root: &Path) -> u64 {
    let manifest = fs::read(root.join("segments/MANIFEST")).unwrap();
    Manifest::parse(&manifest).unwrap().next_id
}

#[track_caller]
fn assert_is_shortage<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(EMFILE)),
        other => panic!("{other:?}"),
    }
}

/// Either of the two files of a new segment cannot be created.
#[test]
fn h61_puts_that_fail_use_up_no_segment_id() {
    let fails: [fn(&Step) -> bool; 2] = [
        |step| step.is(Kind::Create, ".dat"),
        |step| step.is(Kind::Create, ".jnl"),
    ];
    for fails in fails {
        let folder = TempDir::new().unwrap();
        let (store, is_short) = open(folder.path(), fails);
        let held = contents(0, 1, 1900);
        put_all(&store, &held);
        is_short.store(true, Ordering::Relaxed);
        for content in contents(1, FAILURES as u64, 1900).values() {
            assert_is_shortage(store.put(content));
        }
        // The segment that could not be completed uses at most one id.
        assert!(names(folder.path(), &[".dat"]).len() <= 2);
        is_short.store(false, Ordering::Relaxed);
        let mut all = held;
        all.extend(contents(10_000, 3, 1900));
        put_all(&store, &all);
        store.sync().unwrap();
        settle(folder.path());
        // These are segments 0 to 3, one after the other.
        assert_eq!(next_id(folder.path()), 4);
        assert_eq!(names(folder.path(), &[".dat"]).len(), 4);
        store.close().unwrap();
        let store = new_options().open(folder.path()).unwrap();
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_same(&walk(&store), &all);
    }
}

#[test]
fn h61_compactions_that_fail_use_up_no_segment_id() {
    let folder = TempDir::new().unwrap();
    let (store, is_short) = open(folder.path(), |step| {
        step.is(Kind::Create, ".dat.tmp") || step.is(Kind::Create, ".idx.tmp")
    });
    let all = contents(0, 12, 600);
    put_all(&store, &all);
    store.sync().unwrap();
    let is_live = |digest: &_| all.keys().position(|held| held == digest).unwrap() % 2 == 0;
    // Beginning a compaction seals the active segment.
    drop(store.begin_compaction().unwrap());
    settle(folder.path());
    let before = next_id(folder.path());
    is_short.store(true, Ordering::Relaxed);
    for _ in 0..200 {
        assert_is_shortage(store.compact(is_live));
    }
    is_short.store(false, Ordering::Relaxed);
    let stats = store.compact(is_live).unwrap();
    let outputs = names(folder.path(), &[".dat"]).len() as u64;
    assert_eq!(stats.live_objects, 6);
    let after = next_id(folder.path());
    assert!(after <= before + 1 + outputs, "{before} {after} {outputs}");
    store.sync().unwrap();
}

/// A compaction takes ids while the journal of the next segment cannot be created. The segment that
/// was begun is then not the newest, and another takes its place.
#[test]
fn h61_a_begun_segment_is_given_up_when_others_are_newer() {
    let folder = TempDir::new().unwrap();
    let (store, is_short) = open(folder.path(), |step| step.is(Kind::Create, ".jnl"));
    let all = contents(0, 8, 900);
    put_all(&store, &all);
    let compaction = store.begin_compaction().unwrap();
    put_all(&store, &contents(100, 2, 900));
    is_short.store(true, Ordering::Relaxed);
    assert_is_shortage(store.put([7; 900]));
    let first = all.keys().next().unwrap();
    // It needs a segment with a higher id.
    assert_is_shortage(compaction.finish(|digest| digest != first));
    is_short.store(false, Ordering::Relaxed);
    store.compact(|digest| digest != first).unwrap();
    store.put([7; 900]).unwrap();
    store.sync().unwrap();
    let ids = store.stats().segments;
    let newest = ids.iter().map(|segment| segment.id).max();
    let active = ids
        .iter()
        .find(|segment| segment.state == sealstone::SegmentState::Active);
    assert_eq!(active.map(|segment| segment.id), newest);
    assert_eq!(store.len(), 7 + 2 + 1);
    store.close().unwrap();
    let store = new_options().open(folder.path()).unwrap();
    assert_eq!(walk(&store).len(), 10);
}

// --- The manifest ---

#[test]
fn the_next_id_is_above_the_active_segment_also_if_puts_roll_during_a_commit() {
    let (folder, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let putting: Arc<Mutex<Option<Store>>> = Arc::default();
    let manifests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    // The stage is 1 from the rename of the first output on, 2 once the manifest has its name, 3
    // from then on, and 4 when the files are copied.
    let stage = Arc::new(AtomicUsize::new(0));
    let advances = |stage: &AtomicUsize, from: usize| {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let advanced = stage.compare_exchange(from, from + 1, success, failure);
        advanced.is_ok()
    };
    let new = contents(1000, 20, 500);
    let stillness: Arc<RwLock<()>> = Arc::default();
    let operations = {
        let (putting, manifests) = (Arc::clone(&putting), Arc::clone(&manifests));
        let still = Arc::clone(&stillness);
        let (stage, new) = (Arc::clone(&stage), new.clone());
        let (root, target) = (folder.path().to_owned(), crashed.path().to_owned());
        seam_with_stillness(stillness, move |step| {
            if step.is(Kind::Rename, "MANIFEST.tmp") {
                manifests
                    .lock()
                    .unwrap()
                    .push(fs::read(&step.path).unwrap());
                advances(&stage, 1);
            } else if step.is(Kind::Rename, ".dat.tmp") {
                let store = putting.lock().unwrap().take();
                if let Some(store) = store {
                    let new = new.clone();
                    completes("puts while outputs are renamed", move || {
                        put_all(&store, &new);
                    });
                    advances(&stage, 0);
                }
            } else if step.is(Kind::SyncDir, "segments") && advances(&stage, 2) {
                let _nothing_else_goes_on = still.write().unwrap();
                copy_store(&root, &target);
                advances(&stage, 3);
            }
            Verdict::Go
        })
    };
    let store = options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    let held = contents(0, 40, 300);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    let segments = store.stats().segments.len();
    *putting.lock().unwrap() = Some(store.clone());
    let live: Contents = held.into_iter().step_by(2).collect();
    compaction
        .finish(|digest| live.contains_key(digest))
        .unwrap();
    // The thread that seals in the background may have come first and may still be copying.
    eventually("the files are copied", || {
        stage.load(Ordering::Acquire) == 4
    });
    assert!(segments > 3);

    let manifests = manifests.lock().unwrap().clone();
    for bytes in &manifests {
        let manifest = Manifest::parse(bytes);
        let manifest = manifest.unwrap_or_else(|error| {
            panic!("{error}:\n{}", String::from_utf8_lossy(bytes));
        });
        let beyond = manifest.active.map_or(0, |active| u64::from(active) + 1);
        assert!(manifest.next_id >= beyond, "{manifest:?}");
    }
    let reopened = options().open(crashed.path()).unwrap();
    assert_undamaged(&reopened);
    assert_holds(&reopened, &live);
    drop(reopened);
    let mut all = live;
    all.extend(new);
    assert_same(&walk(&store), &all);
    store.close().unwrap();
    let reopened = options().open(folder.path()).unwrap();
    assert_undamaged(&reopened);
    assert_same(&walk(&reopened), &all);
}
