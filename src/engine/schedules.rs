//! Tests of the whole engine, files included, in schedules that shuttle chooses.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --lib shuttle_ -- --nocapture` runs a thousand
//! schedules of each kind for each test; `SEALSTONE_SCHEDULES` sets another number. One kind
//! chooses the next thread at random at every step, the other gives threads priorities that change
//! a few times (PCT, which finds a fault that takes d steps in a certain order with a probability
//! that can be stated). A thread can be stopped wherever it takes a lock of the store, sends or
//! awaits a message, or takes or replaces the set of segments, and while a file is synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicBool;
use shuttle::{Config, Runner, thread};
use tempfile::TempDir;

use crate::Store;
use crate::digest::Digest;
use crate::dir::{FileKind, FilePath, Folder, Operations};
use crate::options::Options;

/// Changes of priority in a schedule.
const PCT_DEPTH: usize = 4;

fn explore(name: &str, test: impl Fn() + Clone + Send + Sync + 'static) {
    // The calling thread does all work for `rayon` itself, since shuttle knows no other thread.
    let own = rayon::ThreadPoolBuilder::new().num_threads(1);
    let _own = own.use_current_thread().build().unwrap();
    let schedules = std::env::var("SEALSTONE_SCHEDULES").ok();
    let schedules = schedules.map_or(1000, |schedules| schedules.parse().unwrap());
    let seed = std::env::var("SEALSTONE_SCHEDULES_SEED").ok();
    let seed = seed.map_or(0, |seed| seed.parse().unwrap());
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    let steps = Arc::new(AtomicU64::new(0));
    let counted = {
        let steps = Arc::clone(&steps);
        move || {
            test();
            let taken = shuttle::current::context_switches();
            steps.fetch_add(taken as u64, Ordering::Relaxed);
        }
    };
    let random = RandomScheduler::new_from_seed(seed, schedules);
    let random = Runner::new(random, config.clone()).run(counted.clone());
    let priorities = PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules);
    let priorities = Runner::new(priorities, config).run(counted);
    let steps = steps.load(Ordering::Relaxed) / (random + priorities) as u64;
    eprintln!(
        "{name}: {random} random schedules, {priorities} with priorities, {steps} steps each"
    );
    assert_eq!((random, priorities), (schedules, schedules));
}

/// Operations that note which files have become durable, and sync nothing.
#[derive(Debug, Default)]
struct Disk {
    files: std::sync::Mutex<BTreeMap<PathBuf, Durable>>,
    turn: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Durable {
    written_bytes: u64,
    synced_bytes: u64,
    name: bool,
}

impl Disk {
    fn durable(&self, path: &Path) -> Durable {
        let files = self.files.lock().unwrap();
        files.get(path).copied().unwrap_or_default()
    }

    /// Lets shuttle switch to another thread.
    fn let_others_run(&self) {
        self.turn.load(Ordering::SeqCst);
    }
}

impl Operations for Disk {
    fn create(&self, path: &FilePath) -> io::Result<File> {
        let file = crate::dir::System.create(path)?;
        let mut files = self.files.lock().unwrap();
        files.insert(path.to_path_buf(), Durable::default());
        Ok(file)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = crate::dir::System.write_at(file, path, bytes, offset)?;
        let mut files = self.files.lock().unwrap();
        let durable = files.entry(path.to_owned()).or_default();
        durable.written_bytes = durable.written_bytes.max(offset + written as u64);
        Ok(written)
    }

    fn sync_file(&self, _file: &File, path: &Path, _fast: bool) -> io::Result<()> {
        // Bytes that are written during the sync may become durable or not; assume that they do
        // not.
        let written_bytes = self.durable(path).written_bytes;
        self.let_others_run();
        let mut files = self.files.lock().unwrap();
        files.entry(path.to_owned()).or_default().synced_bytes = written_bytes;
        Ok(())
    }

    fn sync_dir(&self, path: &Folder) -> io::Result<()> {
        let created: Vec<PathBuf> = self.files.lock().unwrap().keys().cloned().collect();
        self.let_others_run();
        let mut files = self.files.lock().unwrap();
        for created in created.iter().filter(|file| file.starts_with(path.path())) {
            if let Some(durable) = files.get_mut(created) {
                durable.name = true;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        crate::dir::System.rename(from, to)?;
        let mut files = self.files.lock().unwrap();
        let durable = files.remove(&**from).unwrap_or_default();
        let durable = Durable {
            name: false,
            ..durable
        };
        files.insert(to.to_path_buf(), durable);
        Ok(())
    }
}

/// Room for two contents in a segment.
const SEGMENT_BYTES_MAX: u64 = 24;

fn content(letter: u8) -> Vec<u8> {
    vec![letter; 8]
}

fn digest(letter: u8) -> Digest {
    Digest::of(&content(letter))
}

struct Opened {
    folder: TempDir,
    disk: Arc<Disk>,
    store: Store,
}

impl Opened {
    fn new(letters: &[u8]) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = Arc::new(Disk::default());
        let store = open(folder.path(), &disk);
        for letter in letters {
            store.put(&content(*letter)).unwrap();
        }
        Self {
            folder,
            disk,
            store,
        }
    }

    fn spawn(&self, work: impl FnOnce(&Store) + Send + 'static) -> thread::JoinHandle<()> {
        let store = self.store.clone();
        thread::spawn(move || work(&store))
    }

    /// Checks what the store holds, now and after closing and opening it again.
    fn check(self, held: &[u8], dropped: &[u8]) {
        let check = |store: &Store| {
            for letter in held {
                assert_holds(store, *letter);
            }
            for letter in dropped {
                assert!(!store.contains(&digest(*letter)).unwrap(), "{letter}");
            }
        };
        check(&self.store);
        drop(self.store);
        let store = open(self.folder.path(), &self.disk);
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        check(&store);
    }
}

fn open(folder: &Path, disk: &Arc<Disk>) -> Store {
    let options = Options::new().segment_bytes_max(SEGMENT_BYTES_MAX);
    let operations: Arc<dyn Operations> = disk.clone();
    options.operations(operations).open(folder).unwrap()
}

#[track_caller]
fn assert_holds(store: &Store, letter: u8) {
    let found = store.get(&digest(letter)).unwrap();
    assert_eq!(found.as_deref(), Some(&content(letter)[..]), "{letter}");
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// H7, H8: the object may be new, or held by an input, or by an input that is being copied, or by a
/// segment that was not sealed yet when the compaction began.
#[test]
fn shuttle_an_object_that_is_put_after_a_compaction_began_is_kept() {
    explore("put while a compaction runs", || {
        let opened = Opened::new(b"abcde");
        let compaction = opened.store.begin_compaction().unwrap();
        let putting = opened.spawn(|store| {
            store.put(&content(b'a')).unwrap();
            assert_holds(store, b'a');
            store.put(&content(b'n')).unwrap();
            assert_holds(store, b'a');
        });
        let putting_many = opened.spawn(|store| {
            let contents = [content(b'e'), content(b'm'), content(b'a')];
            store.put_many(&contents).unwrap();
            assert_holds(store, b'e');
        });
        let reading = opened.spawn(|store| {
            assert_holds(store, b'c');
            assert_holds(store, b'c');
        });
        let stats = compaction.finish(|found| *found == digest(b'c')).unwrap();
        assert_eq!(stats.live_objects + stats.dropped_objects, 5);
        join(vec![putting, putting_many, reading]);
        opened.check(b"aecmn", b"bd");
    });
}

/// The compaction begins while puts run. It may drop an object that was put before it began.
#[test]
fn shuttle_a_put_that_begins_after_a_compaction_did_is_kept() {
    explore("a compaction begins while puts run", || {
        let opened = Opened::new(b"abc");
        let begun = Arc::new(AtomicBool::new(false));
        let is_kept = Arc::new(AtomicBool::new(false));
        let putting = {
            let (begun, is_kept) = (Arc::clone(&begun), Arc::clone(&is_kept));
            opened.spawn(move |store| {
                for _ in 0..2 {
                    let has_begun = begun.load(Ordering::SeqCst);
                    store.put(&content(b'a')).unwrap();
                    is_kept.fetch_or(has_begun, Ordering::SeqCst);
                }
            })
        };
        let putting_new = opened.spawn(|store| {
            store.put(&content(b'n')).unwrap();
        });
        let compaction = opened.store.begin_compaction().unwrap();
        begun.store(true, Ordering::SeqCst);
        compaction
            .finish(|found| *found == digest(b'b') || *found == digest(b'n'))
            .unwrap();
        join(vec![putting, putting_new]);
        let held: &[u8] = if is_kept.load(Ordering::SeqCst) {
            b"abn"
        } else {
            b"bn"
        };
        opened.check(held, b"c");
    });
}

/// A compaction that is given up changes nothing, and the next compaction begins anew.
#[test]
fn shuttle_a_compaction_after_one_that_was_given_up_is_whole() {
    explore("a compaction that is given up", || {
        let opened = Opened::new(b"abc");
        let giving_up = opened.spawn(|store| drop(store.begin_compaction()));
        let putting = opened.spawn(|store| {
            store.put(&content(b'a')).unwrap();
            store.put(&content(b'n')).unwrap();
        });
        giving_up.join().unwrap();
        let compaction = opened.store.begin_compaction().unwrap();
        let again = opened.spawn(|store| {
            store.put(&content(b'c')).unwrap();
        });
        compaction
            .finish(|found| *found == digest(b'a') || *found == digest(b'n'))
            .unwrap();
        join(vec![putting, again]);
        opened.check(b"acn", b"b");
    });
}

#[test]
fn shuttle_content_that_threads_put_at_the_same_time_is_stored_once() {
    explore("one content put by three threads", || {
        let opened = Opened::new(b"");
        let threads = (0..3).map(|number| {
            opened.spawn(move |store| {
                if number == 0 {
                    store.put_many(&[content(b'x'), content(b'y')]).unwrap();
                } else {
                    store.put(&content(b'y')).unwrap();
                    store.put(&content(b'x')).unwrap();
                }
                assert_holds(store, b'x');
                assert_holds(store, b'y');
            })
        });
        join(threads.collect());
        assert_eq!(opened.store.len(), 2);
        opened.check(b"xy", b"");
    });
}

/// Meanwhile segments are rolled, sealed, indexed and replaced by a compaction.
#[test]
fn shuttle_a_reader_finds_every_object_that_was_put_before() {
    explore("reading while segments change", || {
        let opened = Opened::new(b"abz");
        let writing = opened.spawn(|store| {
            for letter in b"cdef" {
                store.put(&content(*letter)).unwrap();
                assert_holds(store, *letter);
            }
        });
        let reading = opened.spawn(|store| {
            let object = store.get(&digest(b'a')).unwrap().unwrap();
            let mut reader = store.reader();
            for _ in 0..2 {
                assert_holds(store, b'b');
                assert!(reader.get(&digest(b'a')).unwrap().is_some());
                reader.refresh();
            }
            assert_eq!(object[..], content(b'a'));
        });
        opened
            .store
            .compact(|found| *found != digest(b'z'))
            .unwrap();
        join(vec![writing, reading]);
        opened.check(b"abcdef", b"z");
    });
}

/// Asserts that a file that holds the object is durable up to the end of its record, and by name.
fn assert_durable(store: &Store, disk: &Disk, letter: u8) {
    let (shared, digest) = (store.shared(), digest(letter));
    let set = shared.set.load_full();
    let ends = set.unsealed().iter().filter_map(|active| {
        let extent = active.find(&digest)?.extent();
        Some((active.id(), extent.offset + u64::from(extent.len)))
    });
    let sealed = set.sealed().iter().filter_map(|sealed| {
        let is_held = sealed.find(&digest).unwrap().next().is_some();
        is_held.then(|| (sealed.id(), sealed.binding().data_bytes))
    });
    let is_durable = |(id, end): (u32, u64)| {
        let durable = disk.durable(&shared.dir.segment_path(id, FileKind::Data));
        durable.name && durable.synced_bytes >= end
    };
    let mut copies = ends.chain(sealed).peekable();
    assert!(copies.peek().is_some());
    assert!(copies.any(is_durable), "{letter} in {:?}", disk.files);
}

/// H9: a sync also covers dedup hits on objects that other threads have put and nobody has synced,
/// and segments that are full and being sealed, or compacted.
#[test]
fn shuttle_objects_that_were_put_before_a_sync_are_durable_after_it() {
    explore("sync", || {
        let opened = Opened::new(b"abcd");
        let compaction = opened.store.begin_compaction().unwrap();
        let disk = Arc::clone(&opened.disk);
        let syncing = opened.spawn(move |store| {
            store.put(&content(b'x')).unwrap();
            store.put(&content(b'b')).unwrap();
            store.sync().unwrap();
            assert_durable(store, &disk, b'x');
            assert_durable(store, &disk, b'b');
        });
        let disk = Arc::clone(&opened.disk);
        let others = opened.spawn(move |store| {
            store.put(&content(b'x')).unwrap();
            store.put(&content(b'y')).unwrap();
            store.sync().unwrap();
            assert_durable(store, &disk, b'y');
            assert_durable(store, &disk, b'x');
        });
        compaction
            .finish(|found| *found == digest(b'a') || *found == digest(b'c'))
            .unwrap();
        join(vec![syncing, others]);
        // An object stays durable also if the segment in which it was synced is gone by now.
        for letter in b"bxy" {
            assert_durable(&opened.store, &opened.disk, *letter);
        }
        opened.check(b"abcxy", b"d");
    });
}

/// H9: while a sync runs, the segments that it syncs are sealed, and a compaction removes their files.
#[test]
fn shuttle_a_sync_beside_a_compaction_that_drops_what_it_syncs_succeeds() {
    explore("sync of what is dropped", || {
        let opened = Opened::new(b"abcdef");
        let syncing = opened.spawn(|store| {
            store.put(&content(b'x')).unwrap();
            store.sync().unwrap();
        });
        let compacting = opened.spawn(|store| {
            let compaction = store.begin_compaction().unwrap();
            compaction.finish(|_| false).unwrap();
        });
        join(vec![syncing, compacting]);
        opened.check(b"", b"");
    });
}
