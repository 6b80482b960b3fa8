//! Objects that are put for the first time and again while a compaction drops them.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use sealstone::{Digest, Object, Store};
use tempfile::TempDir;

use crate::common::workload::{
    self, Contents, Kind, Step, Verdict, assert_holds, assert_lacks, assert_same, assert_undamaged,
    assert_verifies, content, contents, copy_store, put_all, seam, trimmed, walk,
};
use crate::concurrency::{SetOnDrop, assert_reads, open, options, reopen};

#[test]
fn h7_an_object_put_between_begin_and_finish_is_kept() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let before = contents(0, 300, 200);
    put_all(&store, &before);
    let compaction = store.begin_compaction().unwrap();
    let between = contents(1000, 300, 200);
    put_all(&store, &between);

    // Several threads put more objects while the compaction finishes.
    let done = AtomicBool::new(false);
    let beside = Mutex::new(Contents::new());
    thread::scope(|scope| {
        for thread in 0..3 {
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
        let stats = compaction.finish(|_| false).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (0, 300));
    });
    let mut expected = beside.into_inner().unwrap();
    expected.extend(between);
    assert_holds(&store, &expected);
    assert_lacks(&store, before.keys());
    store.close().unwrap();
    reopen(folder.path(), &expected);
}

/// Puts dead objects again in the middle of the store's requests to the system.
#[derive(Default)]
struct PutsAgain {
    store: Mutex<Option<Store>>,
    dead: Mutex<Vec<Vec<u8>>>,
    put: Mutex<Contents>,
    at: Mutex<Vec<String>>,
}

thread_local! {
    /// Set during such a put, whose own requests are no place for another.
    static IS_PUTTING: Cell<bool> = const { Cell::new(false) };
}

impl PutsAgain {
    /// Opens a store whose requests to the system are the moments of the puts.
    fn open(root: &Path) -> (Store, Arc<Self>) {
        let puts_again = Arc::new(Self::default());
        let at_step = Arc::clone(&puts_again);
        let operations = seam(move |step| {
            at_step.put_one_at(step);
            Verdict::Go
        });
        let store = options().operations(operations).open(root).unwrap();
        (store, puts_again)
    }

    /// Puts objects of `dead` into the store while `work` runs.
    fn during(&self, store: &Store, dead: Vec<Vec<u8>>, work: impl FnOnce()) {
        *self.dead.lock().unwrap() = dead;
        *self.store.lock().unwrap() = Some(store.clone());
        work();
        *self.store.lock().unwrap() = None;
    }

    fn put_one_at(&self, step: &Step) {
        // The append lock is held while the active segment's files are created and written.
        let is_append = matches!(step.kind, Kind::Create | Kind::Write | Kind::Cut)
            && !step.is(step.kind, ".tmp");
        if is_append || IS_PUTTING.get() {
            return;
        }
        let store = self.store.lock().unwrap().clone();
        let Some(store) = store else { return };
        IS_PUTTING.set(true);
        let content = self
            .dead
            .lock()
            .unwrap()
            .pop()
            .expect("enough dead objects");
        let digest = store.put(&content).unwrap();
        assert_reads(&store, &digest, &content);
        self.put.lock().unwrap().insert(digest, content);
        self.at.lock().unwrap().push(step.to_string());
        IS_PUTTING.set(false);
    }
}

#[test]
fn h8_an_object_put_again_at_any_step_of_a_compaction_is_kept() {
    let folder = TempDir::new().unwrap();
    let (store, puts_again) = PutsAgain::open(folder.path());
    let live = contents(0, 400, 100);
    let dead = contents(1000, 2000, 100);
    let mut all: Vec<&Vec<u8>> = live.values().chain(dead.values()).collect();
    all.shuffle(&mut SmallRng::seed_from_u64(1));
    for content in all {
        store.put(content).unwrap();
    }

    let compaction = store.begin_compaction().unwrap();
    puts_again.during(&store, dead.into_values().collect(), || {
        compaction
            .finish(|digest| live.contains_key(digest))
            .unwrap();
    });

    let at = puts_again.at.lock().unwrap().join("\n");
    for (kind, ending) in [
        ("SyncFile", ".dat.tmp"),
        ("Rename", ".dat.tmp"),
        ("Rename", ".idx.tmp"),
        ("SyncFile", "MANIFEST.tmp"),
        ("Rename", "MANIFEST.tmp"),
        ("SyncDir", "segments"),
    ] {
        let is_it = |line: &str| line.starts_with(kind) && line.ends_with(ending);
        assert!(at.lines().any(is_it), "no put at {kind} {ending}:\n{at}");
    }

    let were_put = puts_again.put.lock().unwrap().clone();
    let mut expected = live;
    expected.extend(were_put);
    assert_same(&walk(&store), &expected);
    assert_holds(&store, &expected);
    store.close().unwrap();
    reopen(folder.path(), &expected);
}

#[test]
fn h8_an_object_put_again_at_any_step_of_a_trim_is_kept() {
    let folder = TempDir::new().unwrap();
    let (store, puts_again) = PutsAgain::open(folder.path());
    let old = contents(0, 400, 100);
    put_all(&store, &old);
    let young = contents(1000, 50, 100);
    put_all(&store, &young);
    store.flush().unwrap();
    let bytes_max = store.stats().data_file_bytes / 4;
    let dropped = trimmed(folder.path(), &store, bytes_max);

    let dead = old.iter().filter(|(digest, _)| dropped.contains(*digest));
    let dead = dead.map(|(_, content)| content.clone()).collect();
    puts_again.during(&store, dead, || {
        store.trim(bytes_max).unwrap();
    });

    let at = puts_again.at.lock().unwrap().join("\n");
    for step in [
        "SyncFile MANIFEST.tmp",
        "Rename MANIFEST.tmp",
        "SyncDir segments",
    ] {
        assert!(
            at.lines().any(|line| line == step),
            "no put at {step}:\n{at}"
        );
    }
    let mut expected = old;
    expected.extend(young);
    expected.retain(|digest, _| !dropped.contains(digest));
    expected.extend(puts_again.put.lock().unwrap().clone());
    assert_same(&walk(&store), &expected);
    store.close().unwrap();
    reopen(folder.path(), &expected);
}

#[test]
fn h8_objects_put_again_by_threads_while_a_compaction_drops_them_are_kept() {
    let folder = TempDir::new().unwrap();
    let mut rng = SmallRng::seed_from_u64(8);
    let mut expected = Contents::new();
    for round in 0..30_u64 {
        // Pretended and real syncs take different times, which shifts the interleavings.
        let options = if round % 2 == 0 {
            options()
        } else {
            options().operations(workload::without_syncing())
        };
        let store = options.open(folder.path()).unwrap();
        assert_undamaged(&store);
        assert_holds(&store, &expected);
        let dead = contents(round << 32, 300, 120);
        put_all(&store, &dead);
        let compaction = store.begin_compaction().unwrap();
        let again = Mutex::new(Contents::new());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                let mut order: Vec<(&Digest, &Vec<u8>)> = dead.iter().collect();
                order.shuffle(&mut rng);
                let (store, again, done) = (&store, &again, &done);
                scope.spawn(move || {
                    for (digest, content) in order {
                        if done.load(Ordering::Acquire) {
                            break;
                        }
                        assert_eq!(store.put(content).unwrap(), *digest);
                        assert_reads(store, digest, content);
                        again.lock().unwrap().insert(*digest, content.clone());
                    }
                });
            }
            let _done = SetOnDrop(&done);
            compaction
                .finish(|digest| expected.contains_key(digest))
                .unwrap();
        });
        let again = again.into_inner().unwrap();
        assert_holds(&store, &again);
        expected.extend(again);
        assert_same(&walk(&store), &expected);
        // The dead objects are few, so the rounds do not become slower.
        expected = expected.into_iter().take(100).collect();
        store
            .compact(|digest| expected.contains_key(digest))
            .unwrap();
    }
    reopen(folder.path(), &expected);
}

/// A crash at any step of a compaction, while another thread's puts begin new segments again and
/// again, leaves the old set or the new one, and a readable manifest.
#[test]
fn h13_a_compaction_is_all_or_nothing_also_while_others_put() {
    const OBJECT_BYTES: usize = 6000;
    let folder = TempDir::new().unwrap();
    let images = Arc::new(TempDir::new().unwrap());
    let images_made = Arc::new(AtomicU64::new(0));
    let putting: Arc<Mutex<Option<Store>>> = Arc::default();
    let stillness: Arc<RwLock<()>> = Arc::default();
    let operations = {
        let (images, images_made) = (Arc::clone(&images), Arc::clone(&images_made));
        let (root, still) = (folder.path().to_owned(), Arc::clone(&stillness));
        let putting = Arc::clone(&putting);
        workload::seam_with_stillness(stillness, move |step| {
            let is_other = thread::current().name() == Some("sealstone-seal") || IS_PUTTING.get();
            let Some(store) = putting.lock().unwrap().clone().filter(|_| !is_other) else {
                return Verdict::Go;
            };
            {
                let _still = still.write().unwrap();
                let image = images_made.fetch_add(1, Ordering::Relaxed);
                copy_store(&root, &images.path().join(image.to_string()));
            }
            // More objects would have to wait for segments to be sealed.
            if matches!(step.kind, Kind::Rename | Kind::SyncDir) {
                IS_PUTTING.set(true);
                let number = 1 << 60 | images_made.load(Ordering::Relaxed);
                store.put(content(number, OBJECT_BYTES)).unwrap();
                IS_PUTTING.set(false);
            }
            Verdict::Go
        })
    };
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let live = contents(0, 4, OBJECT_BYTES);
    let dead = contents(1000, 4, OBJECT_BYTES);
    for (live, dead) in live.values().zip(dead.values()) {
        store.put(live).unwrap();
        store.put(dead).unwrap();
    }
    store.sync().unwrap();
    let compaction = store.begin_compaction().unwrap();
    // Keeps the files of dropped segments, which a crash may leave at any time.
    let held: Vec<Object> = dead
        .keys()
        .map(|d| store.get(d).unwrap().unwrap())
        .collect();
    *putting.lock().unwrap() = Some(store.clone());
    compaction
        .finish(|digest| live.contains_key(digest))
        .unwrap();
    drop(held);
    *putting.lock().unwrap() = None;
    assert_holds(&store, &live);
    assert_lacks(&store, dead.keys());
    store.close().unwrap();

    let mut is_dropped = false;
    let images_made = images_made.load(Ordering::Relaxed);
    assert!(images_made > 20, "{images_made}");
    for image in 0..images_made {
        let store = open(&images.path().join(image.to_string()));
        assert_undamaged(&store);
        assert_holds(&store, &live);
        let left = dead.keys().filter(|d| store.contains(d).unwrap()).count();
        assert!(left == 0 || left == dead.len(), "image {image} has {left}");
        assert!(!is_dropped || left == 0, "image {image} brings back {left}");
        is_dropped = left == 0;
        assert_verifies(&store);
    }
    assert!(is_dropped);
}
