//! Calls go on while a sync, a seal or a compaction waits for the disk.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use sealstone::{Digest, Error, SegmentState, Store};
use tempfile::TempDir;

use crate::common::workload::{
    Contents, Kind, PATIENCE, Step, Verdict, assert_holds, assert_verifies, completes, content,
    contents, eventually, pretend_to_sync, put_all, seam, walk,
};
use crate::concurrency::{SEGMENT_BYTES_MAX, assert_reads, open, options, reopen};

/// A place where threads wait until the gate opens.
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
    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let wait = self.changed.wait_while(state, |state| !state.is_open);
        drop(wait.unwrap());
    }

    /// Returns whether `count` threads are waiting before the time is up.
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
        self.0.open();
    }
}

/// Puts new and old objects, through a roll, and reads in all ways.
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
fn h44_nobody_waits_while_the_caller_decides_what_is_live() {
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
    // The handle of the thread keeps the store open.
    gated.armed.store(false, Ordering::Release);
    gated.opener.0.open();
    sync.join().unwrap().unwrap();
    gated.finish(&held);
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

/// Puts fill another segment each time that one is sealed. Neither a compaction nor a checkpoint
/// waits until no full segment is left.
#[test]
fn h44_a_compaction_and_a_checkpoint_seal_only_segments_that_were_full() {
    const FULL: u64 = 3;
    const SEALS_MAX: u64 = 50;
    let (folder, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (filling, next) = (Mutex::new(None), AtomicU64::new(0));
    let shared: Arc<(Mutex<Option<Store>>, AtomicU64)> = Arc::new((filling, next));
    let fill = |store: &Store, segment: u64| {
        for record in 0..SEGMENT_BYTES_MAX / 2000 {
            store.put(content(segment << 8 | record, 2000)).unwrap();
        }
    };
    let (seals, is_alone) = (Arc::clone(&shared), Arc::new(AtomicBool::new(false)));
    let (background_died, caller) = (Arc::clone(&is_alone), thread::current().id());
    let operations = seam(move |step| {
        if step.is(Kind::SyncFile, ".idx.tmp") {
            if thread::current().id() != caller {
                background_died.store(true, Ordering::Release);
                panic!("the caller must seal by itself");
            }
            let store = seals.0.lock().unwrap().clone();
            let sealed = seals.1.fetch_add(1, Ordering::Relaxed);
            if let Some(store) = store.filter(|_| sealed < SEALS_MAX) {
                fill(&store, 1000 + sealed);
            }
        }
        pretend_to_sync(step)
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
    // This breaks the reference cycle through the seam.
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
    // More threads may come, up to the number that hashes; the store decides.
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
