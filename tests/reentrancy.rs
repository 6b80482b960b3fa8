//! Every call from every place where an application may make it: tasks of `rayon`, several at once
//! and in pools of few threads; a compaction's predicate; the callback of a verification; a
//! destructor.
//!
//! A call that hangs ends the program, with its name.

mod common;

use common::workload;
use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::common::hash::{digest_of, hash_function, new_options};
use common::workload::{Contents, assert_holds, assert_verifies, content, contents, put_all};
use rayon::{ThreadPool, ThreadPoolBuilder};
use sealstone::format::{Entry, Sidecar};
use sealstone::{Digest, Error, Hashed, Options, Store};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const POOLS: [usize; 3] = [1, 2, 4];
const OBJECT_BYTES: usize = 4096;
/// With so many objects, threads share the work.
const OBJECTS: u64 = 300;
/// The number of tasks that make the same call at once.
const TASKS: usize = 4;

/// Ends the program if the closure takes too long.
fn watched<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    let name = what.to_owned();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the call hangs: {name}");
            std::process::abort();
        }
    });
    let result = run();
    drop(done);
    watchdog.join().unwrap();
    result
}

fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap()
}

fn options() -> Options {
    new_options()
        .segment_bytes_max(256 << 10)
        .set_index_minimum(1, 1)
        .operations(workload::without_syncing())
}

/// A store, a reader beside it, and the objects in them.
struct World {
    folder: TempDir,
    store: Store,
    reader: Store,
    held: Contents,
    digests: Vec<Digest>,
    next: AtomicU64,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("store");
        let store = options().open(&root).unwrap();
        let held = contents(0, OBJECTS, OBJECT_BYTES);
        put_all(&store, &held);
        store.sync().unwrap();
        let reader = options().read_only(true).open(&root).unwrap();
        let digests = held.keys().copied().collect();
        Self {
            folder,
            store,
            reader,
            held,
            digests,
            next: AtomicU64::new(1 << 20),
        }
    }

    fn root(&self) -> &Path {
        self.store.root()
    }

    /// Returns contents that no test has put.
    fn new_contents(&self, count: u64) -> Vec<Vec<u8>> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let numbers = first..first + count;
        numbers
            .map(|number| content(number, OBJECT_BYTES))
            .collect()
    }

    fn is_held(&self, digest: &Digest) -> bool {
        self.held.contains_key(digest)
    }

    fn assert_reads_many(&self, store: &Store) {
        for (digest, object) in self.digests.iter().zip(store.get_many(&self.digests)) {
            assert_eq!(object.unwrap().as_deref(), Some(&self.held[digest][..]));
        }
    }
}

/// Returns the result, or `None` if another compaction runs.
fn unless_running<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Err(Error::CompactionRunning) => None,
        result => Some(result.unwrap()),
    }
}

type Operation = (&'static str, fn(&World));

const OPERATIONS: [Operation; 31] = [
    ("open a writer", |world| {
        let opened = options().open(world.root());
        assert!(matches!(opened, Err(Error::Locked { .. })), "{opened:?}");
    }),
    ("open another writer", |world| {
        let root = world.folder.path().join("others");
        fs::create_dir_all(&root).unwrap();
        let root = TempDir::new_in(root).unwrap();
        let store = options().open(root.path()).unwrap();
        store.put_many(&world.new_contents(200)).unwrap();
        store.close().unwrap();
        assert_eq!(options().open(root.path()).unwrap().len(), 200);
    }),
    ("open a reader", |world| {
        let reader = options().read_only(true).open(world.root()).unwrap();
        world.assert_reads_many(&reader);
    }),
    ("put", |world| {
        for content in world.new_contents(20) {
            world.store.put(&content).unwrap();
        }
    }),
    ("put a held object", |world| {
        for (digest, content) in world.held.iter().take(20) {
            assert_eq!(world.store.put(content).unwrap(), *digest);
        }
    }),
    ("put_hashed", |world| {
        for content in world.new_contents(20) {
            assert!(
                world
                    .store
                    .put_hashed(&Hashed::with(hash_function(), &content))
                    .unwrap()
            );
        }
    }),
    ("put_many", |world| {
        let new = world.new_contents(200);
        assert_eq!(world.store.put_many(&new).unwrap().len(), 200);
    }),
    ("put_many_hashed", |world| {
        let new = world.new_contents(200);
        let new: Vec<&[u8]> = new.iter().map(Vec::as_slice).collect();
        let hashed = Hashed::of_many(hash_function(), &new);
        assert_eq!(world.store.put_many_hashed(&hashed).unwrap(), [true; 200]);
    }),
    ("put_reader", |world| {
        for content in world.new_contents(20) {
            let stored = world.store.put_reader(&content[..]).unwrap();
            assert_eq!(stored.digest, digest_of(&content));
        }
        let long = content(1 << 62, 100_000);
        world.store.put_reader(&long[..]).unwrap();
        assert!(!world.store.put_reader(&long[..]).unwrap().is_new);
    }),
    ("get", |world| assert_holds(&world.store, &world.held)),
    ("get_many", |world| world.assert_reads_many(&world.store)),
    ("contains", |world| {
        assert!(!world.store.contains(digest_of(b"absent")).unwrap());
        assert!(world.store.contains(world.digests[0]).unwrap());
    }),
    ("contains_many", |world| {
        let answers = world.store.contains_many(&world.digests);
        assert!(answers.into_iter().all(|is_there| is_there.unwrap()));
    }),
    ("find", |world| {
        let digest = world.digests[0];
        let found = world.store.find(&digest.to_string()).unwrap();
        assert_eq!(found, Some(digest));
    }),
    ("iter", |world| {
        let objects = world.store.iter().map(Result::unwrap);
        assert!(
            objects
                .filter(|object| world.is_held(object.digest()))
                .count()
                == world.held.len()
        );
    }),
    ("digests", |world| {
        let digests: HashSet<Digest> = world.store.digests().map(Result::unwrap).collect();
        assert!(world.digests.iter().all(|digest| digests.contains(digest)));
    }),
    ("len, stats, recovery, Debug", |world| {
        assert!(world.store.len() >= OBJECTS && !world.store.is_empty());
        assert!(world.store.stats().objects >= OBJECTS);
        assert!(world.store.recovery().is_clean());
        assert!(format!("{:?} {:?}", world.store, world.reader).contains("Store"));
    }),
    ("verify", |world| assert_verifies(&world.store)),
    ("verify a reader", |world| {
        let report = world.reader.verify(|_| ControlFlow::Continue(()));
        assert!(report.unwrap().corrupt.is_empty());
    }),
    ("refresh", |world| {
        assert!(!world.store.refresh().unwrap());
        world.reader.refresh().unwrap();
        world.assert_reads_many(&world.reader);
    }),
    ("checkpoint", |world| {
        let target = TempDir::new_in(world.folder.path()).unwrap();
        world.store.checkpoint(target.path()).unwrap();
        let copy = options().read_only(true).open(target.path()).unwrap();
        world.assert_reads_many(&copy);
    }),
    ("flush", |world| world.store.flush().unwrap()),
    ("sync", |world| world.store.sync().unwrap()),
    ("close a clone", |world| {
        world.store.clone().close().unwrap();
    }),
    ("begin a compaction and drop it", |world| {
        drop(unless_running(world.store.begin_compaction()));
    }),
    ("plan", |world| {
        if let Some(compaction) = unless_running(world.store.begin_compaction()) {
            compaction.plan(|digest| world.is_held(digest)).unwrap();
            let stats = compaction.plan_list(&world.digests).unwrap();
            assert_eq!(stats.live_missing, 0);
        }
    }),
    ("finish", |world| {
        if let Some(compaction) = unless_running(world.store.begin_compaction()) {
            compaction.finish(|digest| world.is_held(digest)).unwrap();
        }
    }),
    ("finish_list", |world| {
        if let Some(compaction) = unless_running(world.store.begin_compaction()) {
            compaction.finish_list(&world.digests).unwrap();
        }
    }),
    ("compact", |world| {
        unless_running(world.store.compact(|digest| world.is_held(digest)));
    }),
    ("a pinned reader", |world| {
        let mut reader = world.store.reader();
        let first = &world.digests[0];
        assert_eq!(
            reader.get(first).unwrap().as_deref(),
            Some(&world.held[first][..])
        );
        assert!(reader.contains(first).unwrap());
        let read = reader.get_many(&world.digests);
        assert!(read.into_iter().all(|object| object.unwrap().is_some()));
        reader.refresh();
    }),
    ("open and drop in a task", |world| {
        let root = TempDir::new_in(world.folder.path()).unwrap();
        let store = options().open(root.path()).unwrap();
        store.put_many(&world.new_contents(100)).unwrap();
        drop(store);
    }),
];

/// Runs several tasks at once in a pool.
fn run_in(pool: &ThreadPool, what: &str, tasks: &[&(dyn Fn() + Sync)]) {
    watched(what, || {
        pool.scope(|scope| {
            for task in tasks {
                scope.spawn(move |_| task());
            }
        });
    });
}

#[test]
fn h58_every_call_returns_in_tasks_of_small_pools() {
    for threads in POOLS {
        let (pool, world) = (pool(threads), World::new());
        for (name, operation) in OPERATIONS {
            let what = format!("{name}, {TASKS} tasks, {threads} threads");
            let task: &(dyn Fn() + Sync) = &|| operation(&world);
            run_in(&pool, &what, &[task; TASKS]);
        }
        assert_holds(&world.store, &world.held);
    }
}

#[test]
fn h58_all_calls_at_once_return_in_tasks_of_small_pools() {
    for threads in POOLS {
        let (pool, world) = (pool(threads), World::new());
        let tasks = OPERATIONS.map(|(_, operation)| {
            let world = &world;
            move || operation(world)
        });
        let tasks: Vec<&(dyn Fn() + Sync)> = tasks.iter().map(|task| task as _).collect();
        run_in(&pool, &format!("all calls, {threads} threads"), &tasks);
        assert_holds(&world.store, &world.held);
        assert_verifies(&world.store);
    }
}

const RECORDS: u64 = 64;
const RECORD_BYTES: usize = 32 << 10;

/// Writes a segment as NEDB v3 leaves it, so long that threads share its comparison with its
/// sidecar.
fn write_segment(root: &Path, id: u32) {
    let (mut data, mut entries) = (Vec::new(), Vec::new());
    for number in 0..RECORDS {
        let content = content(u64::from(id) * RECORDS + number, RECORD_BYTES);
        let len = u32::try_from(content.len()).unwrap();
        data.extend(len.to_le_bytes());
        entries.push(Entry {
            digest: digest_of(&content),
            offset: data.len() as u64,
            len,
        });
        data.extend(content);
    }
    let path = root.join(format!("segments/seg-{id:06}"));
    fs::write(
        path.with_extension("idx"),
        Sidecar::build(&mut entries).as_bytes(),
    )
    .unwrap();
    fs::write(path.with_extension("dat"), data).unwrap();
}

/// Each refresh finds a new segment, and compares it while it holds the reader's lock. One thread
/// of the pool may take part in that, and another may take up a task that refreshes.
#[test]
fn h58_refreshes_in_tasks_return_while_they_compare_sidecars() {
    let (pool, folder) = (pool(3), TempDir::new().unwrap());
    fs::create_dir(folder.path().join("segments")).unwrap();
    write_segment(folder.path(), 0);
    let reader = Options::new().read_only(true).open(folder.path()).unwrap();
    let refresh = || {
        reader.refresh().unwrap();
    };
    for round in 1..=60 {
        write_segment(folder.path(), round);
        let is_begun = AtomicBool::new(false);
        let first = || {
            is_begun.store(true, Ordering::Release);
            refresh();
        };
        let second = || {
            while !is_begun.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            thread::sleep(Duration::from_micros(u64::from(round) * 50));
            pool.join(|| thread::sleep(Duration::from_millis(8)), refresh);
        };
        watched("refresh", || pool.join(first, second));
    }
    assert_eq!(reader.len(), 61 * RECORDS);
}

/// Runs every call that may be made inside a callback: verifying calls back itself.
fn run_all(world: &World, inside: &str) {
    for (name, operation) in OPERATIONS {
        watched(&format!("{name}, inside {inside}"), || operation(world));
    }
}

#[test]
fn h58_every_call_returns_in_the_predicate_of_a_compaction() {
    let world = World::new();
    let is_first = AtomicBool::new(true);
    let keep = |digest: &Digest| {
        if is_first.swap(false, Ordering::Relaxed) {
            let begun = world.store.begin_compaction();
            assert!(matches!(begun, Err(Error::CompactionRunning)), "{begun:?}");
            run_all(&world, "a predicate");
        }
        world.is_held(digest)
    };
    let compaction = world.store.begin_compaction().unwrap();
    watched("plan", || compaction.plan(keep).unwrap());
    is_first.store(true, Ordering::Relaxed);
    watched("finish", || compaction.finish(keep).unwrap());
    assert!(!is_first.into_inner());
    assert_holds(&world.store, &world.held);
    assert_verifies(&world.store);
}

#[test]
fn h58_every_call_returns_in_the_callback_of_a_verification() {
    for threads in [0, 1, 2] {
        let world = World::new();
        let is_first = AtomicBool::new(true);
        let verify = || {
            let verified = world.store.verify(|_| {
                if is_first.swap(false, Ordering::Relaxed) {
                    run_all(&world, "a callback");
                }
                ControlFlow::Continue(())
            });
            assert!(verified.unwrap().corrupt.is_empty());
        };
        watched("verify", || match threads {
            0 => verify(),
            threads => pool(threads).install(verify),
        });
        assert!(!is_first.into_inner());
        assert_holds(&world.store, &world.held);
    }
}

/// An application that owns a store and makes every call when it is dropped.
struct Application(Option<World>);

impl Drop for Application {
    fn drop(&mut self) {
        let world = self.0.take().unwrap();
        run_all(&world, "a destructor");
        let World {
            store,
            reader,
            held,
            ..
        } = world;
        watched("drop the reader", move || drop(reader));
        watched("drop the last handle", move || {
            assert_holds(&store, &held);
            drop(store);
        });
    }
}

#[test]
fn h58_every_call_returns_in_a_destructor() {
    drop(Application(Some(World::new())));
    pool(1).install(|| drop(Application(Some(World::new()))));
    // The destructor runs while a panic unwinds.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _application = Application(Some(World::new()));
        panic!("the application's");
    }));
    assert!(panicked.is_err());
    // The destructor runs in a thread that ends.
    let application = Application(Some(World::new()));
    thread::spawn(move || drop(application)).join().unwrap();
}
