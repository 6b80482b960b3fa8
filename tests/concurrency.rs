//! Many threads at one store: nobody waits, nothing is lost, nothing is wrong.
//!
//! Outcomes do not depend on timing. Where an interleaving matters, a seam below the store brings it
//! about; where many matter, threads run against each other for many rounds.

#[path = "common/workload.rs"]
mod workload;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use sealstone::{Digest, Error, Object, Options, PinnedReader, ReadMode, SegmentState, Store};
use tempfile::TempDir;
use workload::{
    Contents, Kind, PATIENCE, Step, Verdict, assert_holds, assert_lacks, assert_same,
    assert_undamaged, assert_verifies, completes, content, contents, copy_store, disk_bytes,
    eventually, names, put_all, seam, walk,
};

const SEGMENT_BYTES_MAX: u64 = 16 << 10;

fn options() -> Options {
    Options::new().segment_bytes_max(SEGMENT_BYTES_MAX)
}

fn open(folder: &Path) -> Store {
    options().open(folder).unwrap()
}

/// Opens again what was dropped, and checks all of it.
fn reopen(folder: &Path, expected: &Contents) {
    let store = open(folder);
    assert_undamaged(&store);
    assert_holds(&store, expected);
    assert_verifies(&store);
}

/// Set when the test body ends, also by a panic, so that the threads beside it end too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[track_caller]
fn assert_reads(store: &Store, digest: &Digest, content: &[u8]) {
    let object = store.get(digest).unwrap();
    let object = object.unwrap_or_else(|| panic!("{digest:?} is live and was not found"));
    assert!(object[..] == *content, "wrong bytes of {digest:?}");
}

/// Objects that a writer wants kept, and those of them that it has put.
#[derive(Default)]
struct Wanted {
    digests: Mutex<BTreeSet<Digest>>,
    put: RwLock<Vec<(Digest, u64)>>,
}

const WANTED_BYTES: usize = 200;

impl Wanted {
    /// Announces an object before it is put, as an application does that marks what is live.
    fn put(&self, store: &Store, number: u64) {
        let content = content(number, WANTED_BYTES);
        let digest = Digest::of(&content);
        self.digests.lock().unwrap().insert(digest);
        assert_eq!(store.put(&content).unwrap(), digest);
        self.put.write().unwrap().push((digest, number));
    }

    fn read_one(&self, store: &Store, rng: &mut SmallRng) {
        let picked = self.put.read().unwrap().choose(rng).copied();
        if let Some((digest, number)) = picked {
            assert_reads(store, &digest, &content(number, WANTED_BYTES));
        }
    }

    /// The same through a pinned reader, one by one and together.
    fn read_some(&self, reader: &mut PinnedReader, rng: &mut SmallRng) {
        let put = self.put.read().unwrap();
        let picked: Vec<(Digest, u64)> = put.choose_multiple(rng, 20).copied().collect();
        drop(put);
        reader.refresh();
        let digests: Vec<Digest> = picked.iter().map(|(digest, _)| *digest).collect();
        let found = reader.get_many(&digests);
        for (found, (digest, number)) in found.into_iter().zip(picked) {
            let expected = content(number, WANTED_BYTES);
            for found in [found.unwrap(), reader.get(&digest).unwrap()] {
                let found = found.unwrap_or_else(|| panic!("{digest:?} is live and was not found"));
                assert!(found[..] == expected[..], "wrong bytes of {digest:?}");
            }
        }
    }

    fn contents(&self) -> Contents {
        let put = self.put.read().unwrap();
        let content = |&(digest, number): &(Digest, u64)| (digest, content(number, WANTED_BYTES));
        put.iter().map(content).collect()
    }
}

#[test]
fn h26_readers_find_every_live_object_while_compactions_run() {
    readers_find_every_live_object(&options());
}

/// Runs of the set index are built, merged and done without beside the same.
#[test]
fn h26_readers_find_every_live_object_while_compactions_and_runs_replace_each_other() {
    readers_find_every_live_object(&options().set_index_minimum(1, 0));
}

fn readers_find_every_live_object(options: &Options) {
    let folder = TempDir::new().unwrap();
    let store = options.open(folder.path()).unwrap();
    let wanted = Wanted::default();
    for number in 0..500 {
        wanted.put(&store, number);
        store.put(&content(1 << 32 | number, 150)).unwrap();
    }
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Acquire);
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        for reader in 0..4 {
            let (store, wanted) = (&store, &wanted);
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(reader);
                let mut pinned = store.reader();
                while !is_done() {
                    wanted.read_one(store, &mut rng);
                    if reader % 2 == 0 {
                        wanted.read_some(&mut pinned, &mut rng);
                    }
                }
            });
        }
        for writer in 0..2_u64 {
            let (store, wanted) = (&store, &wanted);
            scope.spawn(move || {
                for number in (writer + 1) << 40.. {
                    if is_done() {
                        break;
                    }
                    wanted.put(store, number);
                    // And what nobody wants.
                    store.put(&content(1 << 50 | number, 300)).unwrap();
                }
            });
        }
        for _ in 0..15 {
            let compaction = store.begin_compaction().unwrap();
            let live = wanted.digests.lock().unwrap().clone();
            let stats = compaction.finish(|digest| live.contains(digest)).unwrap();
            assert!(stats.dropped_objects > 0);
        }
    });
    let expected = wanted.contents();
    assert_holds(&store, &expected);
    store
        .compact(|digest| expected.contains_key(digest))
        .unwrap();
    assert_same(&walk(&store), &expected);
    store.close().unwrap();
    reopen(folder.path(), &expected);
}

/// What the readers of the next test may ask for. A reader holds it while it reads, so that what is
/// taken out is asked for by nobody.
type Live = RwLock<Vec<(Digest, Vec<u8>)>>;

fn read_live(store: &Store, live: &Live, rng: &mut SmallRng) -> Duration {
    let live = live.read().unwrap();
    let (digest, content) = live.choose(rng).unwrap();
    let begin = Instant::now();
    let object = store.get(digest).unwrap();
    let took = begin.elapsed();
    let object = object.unwrap_or_else(|| panic!("{digest:?} is live and was not found"));
    assert!(object[..] == content[..], "wrong bytes of {digest:?}");
    took
}

#[test]
fn h26_twenty_compactions_that_drop_a_third_take_no_live_object_from_four_readers() {
    const OBJECTS: u64 = 4000;
    let folder = TempDir::new().unwrap();
    let store = options()
        .segment_bytes_max(256 << 10)
        .open(folder.path())
        .unwrap();
    let first = contents(0, OBJECTS, 1000);
    put_all(&store, &first);
    let live: Live = RwLock::new(first.into_iter().collect());
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Acquire);
    let longest_nanos = AtomicU64::new(0);
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        let (store, live, longest_nanos) = (&store, &live, &longest_nanos);
        for reader in 0..4 {
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(reader);
                while !is_done() {
                    let took = read_live(store, live, &mut rng).as_nanos();
                    longest_nanos.fetch_max(took.try_into().unwrap(), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(move || {
            for number in OBJECTS.. {
                // As many as are dropped: otherwise there would soon be nothing left to drop.
                while live.read().unwrap().len() as u64 > OBJECTS && !is_done() {
                    thread::yield_now();
                }
                if is_done() {
                    break;
                }
                let content = content(number, 1000);
                let digest = store.put(&content).unwrap();
                live.write().unwrap().push((digest, content));
            }
        });
        let mut rng = SmallRng::seed_from_u64(99);
        for _ in 0..20 {
            // What is put from here on is kept, so what is live is computed after this.
            let compaction = store.begin_compaction().unwrap();
            let dead: BTreeSet<Digest> = {
                let mut live = live.write().unwrap();
                live.shuffle(&mut rng);
                let third = live.len() / 3;
                live.drain(..third).map(|(digest, _)| digest).collect()
            };
            let stats = compaction.finish(|digest| !dead.contains(digest)).unwrap();
            assert!(stats.bytes_reclaimed > 0, "{stats:?}");
            assert!(stats.dropped_objects <= dead.len() as u64, "{stats:?}");
        }
    });
    eprintln!(
        "longest get beside 20 compactions: {:?}",
        Duration::from_nanos(longest_nanos.into_inner())
    );

    // With nobody beside, the files say the same as the figures.
    let expected: Contents = live.into_inner().unwrap().into_iter().collect();
    store.sync().unwrap();
    let before = disk_bytes(folder.path(), &[".dat", ".idx"]);
    let third: BTreeSet<&Digest> = expected.keys().step_by(3).collect();
    let stats = store.compact(|digest| expected.contains_key(digest) && !third.contains(digest));
    assert!(stats.unwrap().bytes_reclaimed > 0);
    eventually("the files of what was dropped are removed", || {
        disk_bytes(folder.path(), &[".dat", ".idx"]) < before * 3 / 4
    });
    assert_lacks(&store, third.iter().copied());
    let mut left = expected.clone();
    left.retain(|digest, _| !third.contains(digest));
    assert_same(&walk(&store), &left);
    store.close().unwrap();
    reopen(folder.path(), &left);
}

#[test]
fn h7_what_is_put_between_begin_and_finish_is_kept() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let before = contents(0, 300, 200);
    put_all(&store, &before);
    let compaction = store.begin_compaction().unwrap();
    let between = contents(1000, 300, 200);
    put_all(&store, &between);

    // And from several threads while it is finished.
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

/// Puts dead objects again in the middle of what the store asks of the system.
#[derive(Default)]
struct PutsAgain {
    store: Mutex<Option<Store>>,
    dead: Mutex<Vec<Vec<u8>>>,
    put: Mutex<Contents>,
    at: Mutex<Vec<String>>,
}

thread_local! {
    /// What such a put asks of the system is not a place for another.
    static IS_PUTTING: Cell<bool> = const { Cell::new(false) };
}

impl PutsAgain {
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
fn h8_an_object_that_is_put_again_at_any_step_of_a_compaction_is_kept() {
    let folder = TempDir::new().unwrap();
    let puts_again = Arc::new(PutsAgain::default());
    let at_step = Arc::clone(&puts_again);
    let operations = seam(move |step| {
        at_step.put_one_at(step);
        Verdict::Go
    });
    let options = options().operations(operations);
    let store = options.open(folder.path()).unwrap();
    let live = contents(0, 400, 100);
    let dead = contents(1000, 2000, 100);
    let mut all: Vec<&Vec<u8>> = live.values().chain(dead.values()).collect();
    all.shuffle(&mut SmallRng::seed_from_u64(1));
    for content in all {
        store.put(content).unwrap();
    }

    let compaction = store.begin_compaction().unwrap();
    *puts_again.dead.lock().unwrap() = dead.values().cloned().collect();
    *puts_again.store.lock().unwrap() = Some(store.clone());
    compaction
        .finish(|digest| live.contains_key(digest))
        .unwrap();
    *puts_again.store.lock().unwrap() = None;

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
fn h8_what_threads_put_again_while_a_compaction_drops_it_is_kept() {
    let folder = TempDir::new().unwrap();
    let mut rng = SmallRng::seed_from_u64(8);
    let mut expected = Contents::new();
    for round in 0..30_u64 {
        // With and without the time that syncing takes, which shifts what happens beside what.
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
        // Few enough that the rounds do not become slower.
        expected = expected.into_iter().take(100).collect();
        store
            .compact(|digest| expected.contains_key(digest))
            .unwrap();
    }
    reopen(folder.path(), &expected);
}

/// A crash at any step of a compaction, while another thread's puts go on to the next segment again
/// and again: the old set or the new one, and a manifest that can be read.
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
            // More than a few would have to wait for segments to be sealed.
            if matches!(step.kind, Kind::Rename | Kind::SyncDir) {
                IS_PUTTING.set(true);
                let number = 1 << 60 | images_made.load(Ordering::Relaxed);
                store.put(&content(number, OBJECT_BYTES)).unwrap();
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
    // Keeps the files of dropped segments, which a crash may find at any time.
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

/// Objects from each of the places that they can lie in, with their contents.
fn held_objects(store: &Store) -> Vec<(Object, Vec<u8>)> {
    let mut held = Vec::new();
    let mut put = |number: u64, len: usize| {
        let content = content(number, len);
        let digest = store.put(&content).unwrap();
        held.push((store.get(&digest).unwrap().unwrap(), content.clone()));
        (digest, content)
    };
    let (sealed, sealed_content) = put(1, 5000);
    let (flushed, flushed_content) = put(2, 1000);
    put(3, 0);
    put(4, 300_000);
    let _ = store.begin_compaction().unwrap();
    let (again, again_content) = put(5, 100);
    store.sync().unwrap();
    put(6, 100);
    for (digest, content) in [
        (sealed, sealed_content),
        (flushed, flushed_content),
        (again, again_content),
    ] {
        held.push((store.get(&digest).unwrap().unwrap(), content));
    }
    held
}

#[test]
fn h29_objects_outlive_a_compaction_the_store_and_the_files() {
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let folder = TempDir::new().unwrap();
        let store = options().read_mode(mode).open(folder.path()).unwrap();
        let held = held_objects(&store);
        let assert_valid = || {
            for (object, content) in &held {
                assert!(object[..] == content[..]);
            }
        };
        let stats = store.compact(|_| false).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (0, 6));
        assert!(store.is_empty());
        assert_valid();
        drop(store);
        assert_valid();
        // Windows does not remove what is mapped.
        if cfg!(unix) {
            folder.close().unwrap();
            assert_valid();
        }
        thread::spawn(move || drop(held)).join().unwrap();
    }
}

/// Small objects are read from the buffer that puts go to, which is used again and again.
#[test]
fn h29_objects_keep_their_bytes_while_puts_of_all_sizes_go_on() {
    let folder = TempDir::new().unwrap();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let store = Options::new().read_mode(mode).open(folder.path()).unwrap();
        let mut held = Vec::new();
        for number in 0..6000_u32 {
            // Now and then one that goes past the buffer; some objects are let go, some are kept.
            let bytes = if number % 500 == 7 { 300_000 } else { 700 };
            let content = [number.to_le_bytes().repeat(bytes / 4), vec![mode as u8]].concat();
            let digest = store.put(&content).unwrap();
            let object = store.get(&digest).unwrap().unwrap();
            if number % 1000 < 300 {
                held.push((object, number));
            }
        }
        for (object, number) in &held {
            assert_eq!(object[..4], number.to_le_bytes());
            assert_eq!(Digest::of(object), *object.digest());
        }
    }
}

#[test]
fn h29_the_files_of_a_dropped_segment_go_with_its_last_object() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let digest = store.put(b"held").unwrap();
    let _ = store.begin_compaction().unwrap();
    let files = || names(folder.path(), &["000.dat", "000.idx"]);
    assert_eq!(files(), ["seg-000000.dat", "seg-000000.idx"]);

    let object = store.get(&digest).unwrap().unwrap();
    let clone = object.clone();
    store.compact(|_| false).unwrap();
    assert_lacks(&store, [&digest]);
    drop(object);
    assert_eq!(files(), ["seg-000000.dat", "seg-000000.idx"]);
    assert_eq!(&clone[..], b"held");
    drop(clone);
    eventually("its files are removed", || files().is_empty());
    drop(store);
    assert!(open(folder.path()).recovery().is_clean());
}

#[test]
fn h29_an_object_that_outlives_its_store_does_not_disturb_the_next() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let digest = store.put(b"held").unwrap();
    let _ = store.begin_compaction().unwrap();
    let object = store.get(&digest).unwrap().unwrap();
    store.compact(|_| false).unwrap();
    drop(store);

    let next = open(folder.path());
    assert_undamaged(&next);
    assert_lacks(&next, [&digest]);
    let expected = contents(0, 300, 200);
    put_all(&next, &expected);
    let again = next.put(b"held").unwrap();
    assert_eq!(&object[..], b"held");
    drop(object);
    assert_holds(&next, &expected);
    assert_reads(&next, &again, b"held");
    next.close().unwrap();
    reopen(folder.path(), &expected);
}

/// Content whose bytes cannot be had.
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

/// The store's own threads and locks: a panic in the middle of a put, a sync, a seal or a commit.
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
        // Some thread meets it: one of these or the one in the background.
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

/// Where a thread stays until it is let go on.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    waiting: usize,
    is_open: bool,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let wait = self.changed.wait_while(state, |state| !state.is_open);
        drop(wait.unwrap());
    }

    /// Whether so many are waiting before the time is up.
    fn comes(&self, count: usize, limit: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let too_few = |state: &mut GateState| state.waiting < count;
        let waited = self.changed.wait_timeout_while(state, limit, too_few);
        !waited.unwrap().1.timed_out()
    }

    #[track_caller]
    fn await_waiting(&self, count: usize) {
        assert!(self.comes(count, PATIENCE), "nobody came");
    }
}

/// Opens the gate when the test ends, also by a panic.
struct OpenOnDrop(Arc<Gate>);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().is_open = true;
        self.0.changed.notify_all();
    }
}

/// Puts of old and new, through a roll, and reads of all kinds.
#[track_caller]
fn puts_and_reads_complete(store: &Store, held: &Contents) {
    let (store, held) = (store.clone(), held.clone());
    completes("puts and reads", move || {
        let new = contents(1 << 40, 2 * SEGMENT_BYTES_MAX / 1000, 1000);
        put_all(&store, &new);
        put_all(&store, &held);
        assert_holds(&store, &held);
        assert_holds(&store, &new);
        assert!(walk(&store).len() >= held.len() + new.len());
        assert_eq!(
            store.find(&new.keys().next().unwrap().to_string()).unwrap(),
            new.keys().next().copied()
        );
        assert!(store.stats().objects >= store.len() - 1);
    });
}

#[test]
fn h44_nobody_waits_while_a_compaction_asks_what_is_live() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let held = contents(0, 200, 200);
    put_all(&store, &held);
    let gate = Arc::new(Gate::default());
    let opener = OpenOnDrop(Arc::clone(&gate));
    let compacting = store.clone();
    let dead: BTreeSet<Digest> = held.keys().step_by(2).copied().collect();
    let live: BTreeSet<Digest> = held.keys().copied().filter(|d| !dead.contains(d)).collect();
    let keeps = live.clone();
    let compaction = thread::spawn(move || {
        compacting.compact(|digest| {
            gate.pass();
            keeps.contains(digest)
        })
    });
    opener.0.await_waiting(1);
    puts_and_reads_complete(&store, &held);
    let syncing = store.clone();
    completes("a sync", move || {
        let digest = syncing.put(b"to be synced").unwrap();
        syncing.sync().unwrap();
        assert_reads(&syncing, &digest, b"to be synced");
        assert!(matches!(
            syncing.begin_compaction(),
            Err(Error::CompactionRunning)
        ));
    });
    drop(opener);
    compaction.join().unwrap().unwrap();
    // All of them were put again meanwhile.
    assert_holds(&store, &held);
    store.close().unwrap();
    reopen(folder.path(), &held);
}

/// A store whose operations stay at a gate where `is_slow` says so, once armed.
struct Gated {
    folder: TempDir,
    store: Store,
    armed: Arc<AtomicBool>,
    opener: OpenOnDrop,
}

impl Gated {
    fn new(is_slow: impl Fn(&Step) -> bool + Send + Sync + 'static) -> Self {
        let folder = TempDir::new().unwrap();
        let gate = Arc::new(Gate::default());
        let armed = Arc::new(AtomicBool::new(false));
        let opener = OpenOnDrop(Arc::clone(&gate));
        let is_armed = Arc::clone(&armed);
        let operations = seam(move |step| {
            if is_armed.load(Ordering::Acquire) && is_slow(step) {
                gate.pass();
            }
            Verdict::Go
        });
        let store = options()
            .operations(operations)
            .open(folder.path())
            .unwrap();
        Self {
            folder,
            store,
            armed,
            opener,
        }
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    fn finish(self, expected: &Contents) {
        let Self {
            folder,
            store,
            armed,
            opener,
        } = self;
        armed.store(false, Ordering::Release);
        drop(opener);
        store.close().unwrap();
        reopen(folder.path(), expected);
    }
}

#[test]
fn h45_puts_and_reads_go_on_while_a_sync_waits_for_the_disk() {
    let gated = Gated::new(|step| step.kind == Kind::SyncFile);
    let held = contents(0, 20, 200);
    put_all(&gated.store, &held);
    gated.arm();
    let syncing = gated.store.clone();
    let sync = thread::spawn(move || syncing.sync());
    gated.opener.0.await_waiting(1);
    puts_and_reads_complete(&gated.store, &held);
    let many = gated.store.clone();
    completes("put_many", move || many.put_many(&["one", "two"]).unwrap());
    gated.finish(&held);
    sync.join().unwrap().unwrap();
}

#[test]
fn h42_puts_and_reads_go_on_while_a_segment_is_sealed() {
    for ending in [".dat", ".idx.tmp", "MANIFEST.tmp"] {
        let gated = Gated::new(move |step| step.is(Kind::SyncFile, ending));
        gated.arm();
        let held = contents(0, SEGMENT_BYTES_MAX / 200, 200);
        put_all(&gated.store, &held);
        gated.opener.0.await_waiting(1);
        puts_and_reads_complete(&gated.store, &held);
        let segments = gated.store.stats().segments;
        assert!(
            segments
                .iter()
                .any(|segment| segment.state == SegmentState::Sealing)
        );
        gated.finish(&held);
    }
}

/// Puts fill another segment each time that one is sealed. Neither a compaction nor a checkpoint waits
/// until there is nothing left to seal.
#[test]
fn h44_a_compaction_and_a_checkpoint_seal_what_was_full_and_no_more() {
    const FULL: u64 = 3;
    const SEALS_MAX: u64 = 50;
    let (folder, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (filling, next) = (Mutex::new(None), AtomicU64::new(0));
    let shared: Arc<(Mutex<Option<Store>>, AtomicU64)> = Arc::new((filling, next));
    let fill = |store: &Store, segment: u64| {
        for record in 0..SEGMENT_BYTES_MAX / 2000 {
            store.put(&content(segment << 8 | record, 2000)).unwrap();
        }
    };
    let (seals, is_alone) = (Arc::clone(&shared), Arc::new(AtomicBool::new(false)));
    let (background_died, caller) = (Arc::clone(&is_alone), thread::current().id());
    let operations = seam(move |step| {
        if step.is(Kind::SyncFile, ".idx.tmp") {
            if thread::current().id() != caller {
                background_died.store(true, Ordering::Release);
                panic!("the caller is to seal by itself");
            }
            let store = seals.0.lock().unwrap().clone();
            let sealed = seals.1.fetch_add(1, Ordering::Relaxed);
            if let Some(store) = store.filter(|_| sealed < SEALS_MAX) {
                fill(&store, 1000 + sealed);
            }
        }
        match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            _ => Verdict::Go,
        }
    });
    let store = options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    (0..=FULL).for_each(|segment| fill(&store, segment));
    eventually("nobody else seals", || is_alone.load(Ordering::Acquire));
    *shared.0.lock().unwrap() = Some(store.clone());
    drop(store.begin_compaction().unwrap());
    let of_compaction = shared.1.swap(0, Ordering::Relaxed);
    store.checkpoint(copy.path().join("copy")).unwrap();
    let of_checkpoint = shared.1.load(Ordering::Relaxed);
    // The cycle through the seam ends.
    shared.0.lock().unwrap().take();
    assert!(of_compaction <= FULL + 2, "{of_compaction}");
    assert!(of_checkpoint <= FULL + 4, "{of_checkpoint}");
}

/// Hashing in parallel uses the threads that copy in parallel.
#[test]
fn h44_put_many_does_not_wait_for_the_disk_that_a_compaction_writes_to() {
    let gated = Gated::new(|step| step.is(Kind::SyncFile, ".dat.tmp"));
    let outputs = 2 * rayon::current_num_threads() as u64;
    let held = contents(0, 2 * outputs * SEGMENT_BYTES_MAX / 1000, 1000);
    put_all(&gated.store, &held);
    let compaction = gated.store.begin_compaction().unwrap();
    gated.arm();
    let mut live = held.clone();
    let dead = live.pop_first().unwrap().0;
    let each_segment: BTreeSet<Digest> = held.keys().step_by(5).copied().collect();
    live.retain(|digest, _| !each_segment.contains(digest));
    let keeps: BTreeSet<Digest> = live.keys().copied().collect();
    assert!(!keeps.contains(&dead));
    let finishing = thread::spawn(move || compaction.finish(|digest| keeps.contains(digest)));
    gated.opener.0.await_waiting(1);
    // Others may come, up to as many as hash. Whether they do is up to the store.
    gated
        .opener
        .0
        .comes(rayon::current_num_threads(), Duration::from_millis(300));
    puts_and_reads_complete(&gated.store, &live);
    let store = gated.store.clone();
    completes("put_many", move || {
        store.put_many(&["one", "two", "three"]).unwrap()
    });
    let store = gated.store.clone();
    completes("verify", move || assert_verifies(&store));
    gated.armed.store(false, Ordering::Release);
    let Gated {
        folder,
        store,
        opener,
        ..
    } = gated;
    drop(opener);
    finishing.join().unwrap().unwrap();
    store.close().unwrap();
    reopen(folder.path(), &live);
}

/// A rayon task that waits for its own parts takes up another task meanwhile. If that asks for what
/// the first one holds, it waits for ever.
#[test]
fn h33_reads_in_rayon_tasks_rebuild_a_damaged_sidecar_without_a_deadlock() {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 8000, 1000);
    let store = Store::open(folder.path()).unwrap();
    put_all(&store, &held);
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
    // Between the header and the checksum, so that only the first use notices.
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
            // In the midst of the rebuilding, a task that reads is there to be taken up.
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
