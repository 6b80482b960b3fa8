//! Many threads use one store: nobody waits, nothing is lost, and every answer is right.
//!
//! Outcomes do not depend on timing. Where one interleaving matters, a seam below the store causes
//! it; where many matter, threads run against each other for many rounds.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use sealstone::{Digest, Options, PinnedReader, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    Contents, assert_holds, assert_lacks, assert_same, assert_undamaged, assert_verifies, content,
    contents, disk_bytes, eventually, put_all, walk,
};

pub const SEGMENT_BYTES_MAX: u64 = 16 << 10;

pub fn options() -> Options {
    new_options().segment_bytes_max(SEGMENT_BYTES_MAX)
}

pub fn open(folder: &Path) -> Store {
    options().open(folder).unwrap()
}

/// Opens a dropped store again and checks all of it.
pub fn reopen(folder: &Path, expected: &Contents) {
    let store = open(folder);
    assert_undamaged(&store);
    assert_holds(&store, expected);
    assert_verifies(&store);
}

/// Sets the flag when the test body ends, also by a panic, so that the threads beside it end too.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[track_caller]
pub fn assert_reads(store: &Store, digest: &Digest, content: &[u8]) {
    let object = store.get(digest).unwrap();
    let object = object.unwrap_or_else(|| panic!("{digest:?} is live and was not found"));
    assert!(object[..] == *content, "wrong bytes of {digest:?}");
}

/// The objects that a writer wants kept, with the digests that it has put so far.
#[derive(Default)]
struct Wanted {
    digests: Mutex<BTreeSet<Digest>>,
    put: RwLock<Vec<(Digest, u64)>>,
}

const WANTED_BYTES: usize = 200;

impl Wanted {
    /// Announces an object before it is put, as an application that marks live objects does.
    fn put(&self, store: &Store, number: u64) {
        let content = content(number, WANTED_BYTES);
        let digest = digest_of(&content);
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

    /// Reads some objects through a pinned reader, one by one and together.
    fn read_some(&self, reader: &mut PinnedReader, rng: &mut SmallRng) {
        let put = self.put.read().unwrap();
        let picked: Vec<(Digest, u64)> = put.choose_multiple(rng, 20).copied().collect();
        drop(put);
        reader.refresh();
        let digests: Vec<Digest> = picked.iter().map(|(digest, _)| *digest).collect();
        let found = reader.get_many(&digests);
        for (found, (digest, number)) in found.into_iter().zip(picked) {
            let expected = content(number, WANTED_BYTES);
            for found in [found.unwrap(), reader.get(digest).unwrap()] {
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

/// Runs of the set index are built, merged and given up in the same situation.
#[test]
fn h26_readers_find_every_live_object_while_compactions_and_runs_are_replaced() {
    readers_find_every_live_object(&options().set_index_minimum(1, 0));
}

fn readers_find_every_live_object(options: &Options) {
    let folder = TempDir::new().unwrap();
    let store = options.open(folder.path()).unwrap();
    let wanted = Wanted::default();
    for number in 0..500 {
        wanted.put(&store, number);
        store.put(content(1 << 32 | number, 150)).unwrap();
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
                    // The writer also puts objects that nobody wants.
                    store.put(content(1 << 50 | number, 300)).unwrap();
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

/// The objects that readers of the next test may ask for. A reader holds the lock while it reads,
/// so no reader asks for an object that was taken out.
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
                // Dropped objects are replaced by new ones: otherwise there would soon be nothing
                // left to drop.
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
            // Objects put from here on are kept, so the live set is computed after this.
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

    // Nobody else runs now, so the files agree with the figures.
    let expected: Contents = live.into_inner().unwrap().into_iter().collect();
    store.sync().unwrap();
    let before = disk_bytes(folder.path(), &[".dat", ".idx"]);
    let third: BTreeSet<&Digest> = expected.keys().step_by(3).collect();
    let stats = store.compact(|digest| expected.contains_key(digest) && !third.contains(digest));
    assert!(stats.unwrap().bytes_reclaimed > 0);
    eventually("the files of dropped segments are removed", || {
        disk_bytes(folder.path(), &[".dat", ".idx"]) < before * 3 / 4
    });
    assert_lacks(&store, third.iter().copied());
    let mut left = expected.clone();
    left.retain(|digest, _| !third.contains(digest));
    assert_same(&walk(&store), &left);
    store.close().unwrap();
    reopen(folder.path(), &left);
}
