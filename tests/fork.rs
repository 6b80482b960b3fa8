//! What a forked process can do with the store of its parent, during any work of the parent.
#![cfg(unix)]

mod common;

use common::workload;
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use crate::common::hash::{digest_of, hash_function, new_options};
use common::workload::{
    Contents, Kind, Step, Verdict, assert_holds, contents, eventually, names, put_all, seam,
};
use sealstone::{Compaction, Digest, Error, Hashed, Options, ReadMode, Store, VerifyReads};
use tempfile::TempDir;

const OBJECT_BYTES: usize = 900;
/// How often small objects are asked for, so that threads share the work.
const MANY: usize = 40;
/// A forked process that takes longer than this hangs.
const PATIENCE_SECONDS: u32 = 60;

/// Lets one test fork at a time, so that only the named work holds a lock then.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds up the first step of a kind until the gate opens.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum GateState {
    #[default]
    Open,
    Closed,
    /// A thread waits before the gate.
    Reached,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap()
    }

    fn pass(&self) {
        let mut state = self.lock();
        if *state == GateState::Closed {
            *state = GateState::Reached;
            while *state != GateState::Open {
                state = self.changed.wait(state).unwrap();
            }
        }
    }

    fn set(&self, state: GateState) {
        *self.lock() = state;
        self.changed.notify_all();
    }
}

/// Opens a gate when it is dropped.
struct OpenedAtEnd<'a>(&'a Gate);

impl Drop for OpenedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.set(GateState::Open);
    }
}

/// A parent's store and the objects that a child must find in it.
struct Parent {
    folder: TempDir,
    store: Store,
    held: Contents,
}

impl Parent {
    fn new(gate: &Arc<Gate>, is_held_up: fn(&Step) -> bool) -> Self {
        let gate = Arc::clone(gate);
        let operations = seam(move |step| {
            if is_held_up(step) {
                gate.pass();
            }
            Verdict::Go
        });
        let folder = TempDir::new().unwrap();
        let options = new_options()
            .segment_bytes_max(16 << 10)
            .operations(operations);
        let store = options.open(folder.path()).unwrap();
        let held = contents(0, 100, OBJECT_BYTES);
        put_all(&store, &held);
        store.sync().unwrap();
        workload::settle(folder.path());
        let digests: Vec<_> = held.keys().copied().collect();
        assert_eq!(store.get_many(&digests.repeat(MANY)).len(), 100 * MANY);
        Self {
            folder,
            store,
            held,
        }
    }
}

/// Names the step of the child, for a parent whose child does not return.
struct Log(PathBuf);

impl Log {
    fn says(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Fails with the name of the step unless it went right.
    fn expect(&self, what: &str, is_so: impl FnOnce() -> bool) -> io::Result<()> {
        fs::write(&self.0, what)?;
        if is_so() {
            Ok(())
        } else {
            Err(io::ErrorKind::Other.into())
        }
    }
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    match result {
        Err(error @ Error::Forked) => error.to_string().contains("open it anew"),
        _ => false,
    }
}

/// Tries everything that a child may try.
fn use_inherited(store: Store, held: &Contents, root: &Path, log: &Log) -> io::Result<()> {
    let digests: Vec<Digest> = held.keys().copied().collect();
    let (first, content) = held.first_key_value().ok_or(io::ErrorKind::NotFound)?;
    let absent = digest_of(b"absent");
    let is_whole = |digest: &Digest, object: &[u8]| held[digest] == object;
    log.expect("contains", || {
        digests
            .iter()
            .all(|digest| matches!(store.contains(digest), Ok(true)))
            && matches!(store.contains(absent), Ok(false))
    })?;
    log.expect("get", || {
        let reads = |digest| matches!(store.get(digest), Ok(Some(o)) if is_whole(digest, &o));
        digests.iter().all(reads) && matches!(store.get(absent), Ok(None))
    })?;
    log.expect("get_many", || {
        let is_small = content.len() <= OBJECT_BYTES;
        let many = digests.repeat(if is_small { MANY } else { 1 });
        let read = store.get_many(&many);
        read.len() == many.len() && read.iter().all(|object| matches!(object, Ok(Some(_))))
    })?;
    log.expect("a pinned reader", || {
        let mut reader = store.reader();
        reader.refresh();
        let read = reader.get_many(&digests);
        read.iter().all(|object| matches!(object, Ok(Some(_))))
            && matches!(reader.contains(first), Ok(true))
            && matches!(reader.get(first), Ok(Some(_)))
    })?;
    log.expect(
        "find",
        || matches!(store.find(&first.to_string()), Ok(Some(found)) if found == *first),
    )?;
    log.expect("iter", || {
        let objects = store.iter().filter_map(Result::ok);
        objects
            .filter(|object| held.contains_key(object.digest()))
            .count()
            == held.len()
    })?;
    log.expect("digests", || {
        store.digests().filter_map(Result::ok).count() >= held.len()
    })?;
    log.expect("stats", || store.stats().objects >= held.len() as u64)?;
    log.expect("len", || store.len() >= held.len() as u64)?;
    // A thread that is started in a forked process may wait for a lost one for ever.
    log.expect("verify in this thread", || {
        let verified = store.verify(|_| match threads() {
            1 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        matches!(verified, Ok(report) if report.corrupt.is_empty() && !report.cancelled)
    })?;
    // Every write through a reader is refused.
    let refuses = |result| matches!(result, Err(Error::ReadOnly)) || is_refused(result);
    log.expect("put", || refuses(store.put(b"small").map(drop)))?;
    log.expect("put a held object", || {
        refuses(store.put(content).map(drop))
    })?;
    log.expect("put_hashed", || {
        let hashed = Hashed::with(hash_function(), b"hashed");
        refuses(store.put_hashed(&hashed).map(drop))
    })?;
    log.expect("put_many", || {
        refuses(
            store
                .put_many(&[vec![1; 1 << 20], vec![2; 1 << 20]])
                .map(drop),
        )
    })?;
    log.expect("put_many_hashed", || {
        refuses(store.put_many_hashed(&[]).map(drop))
    })?;
    let put_reader = || store.put_reader(io::empty()).map(drop);
    log.expect("put_reader", || refuses(put_reader()))?;
    log.expect("flush", || refuses(store.flush()))?;
    log.expect("sync", || refuses(store.sync()))?;
    log.expect("begin_compaction", || {
        refuses(store.begin_compaction().map(drop))
    })?;
    log.expect("compact", || refuses(store.compact(|_| false).map(drop)))?;
    log.expect("checkpoint", || {
        refuses(store.checkpoint(root.join("copy"))) && !root.join("copy").exists()
    })?;
    log.expect("refresh", || is_refused(store.refresh()))?;
    log.expect("start no thread", || threads() == 1)?;
    log.expect("open a reader", || {
        let reader = Options::new().read_only(true).open(root);
        reader.is_ok_and(|reader| matches!(reader.contains(first), Ok(true)))
    })?;
    log.expect("open a store", || {
        let store = new_options().open(root.join("own"));
        store.is_ok_and(|store| store.put(b"own").is_ok() && store.close().is_ok())
    })?;
    let other = store.clone();
    log.expect("close", || {
        let closed = other.close();
        closed.is_ok() || is_refused(closed)
    })?;
    log.expect("drop", || {
        drop(store);
        true
    })
}

/// The threads of this process, where the system tells.
fn tasks() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks.map(|task| task.unwrap().path()).collect()
}

/// The number of threads of this process.
fn threads() -> usize {
    tasks().len().max(1)
}

/// Whether every other thread waits for something, so that none is just starting or ending: it would
/// hold a lock of the standard library, and no thread could be started in a forked process.
fn other_threads_wait() -> bool {
    let own = fs::read_link("/proc/thread-self").unwrap_or_default();
    tasks().iter().all(|task| {
        // The state stands behind the name, which is in parentheses.
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        task.file_name() == own.file_name() || state.starts_with('S')
    })
}

/// Forks, and runs the closure in the child.
#[track_caller]
#[allow(unsafe_code)]
fn in_forked_process(
    log: &Arc<Log>,
    child: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Result<(), String> {
    let mut command = Command::new("true");
    // SAFETY: only threads of the tested store hold locks in this process, and these locks are what
    // is tested; the allocator can be used after a fork. The alarm ends a process that hangs.
    unsafe {
        command.pre_exec(move || {
            libc::alarm(PATIENCE_SECONDS);
            child()
        });
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", log.says())),
        Err(error) => Err(format!("{}: {error}", log.says())),
    }
}

/// Forks while the parent is held up in the middle of `work`.
#[track_caller]
fn fork_while_busy(is_held_up: fn(&Step) -> bool, work: fn(&Store, &Contents)) {
    let _alone = alone();
    let gate = Arc::new(Gate::default());
    let parent = Parent::new(&gate, is_held_up);
    let Parent {
        folder,
        store,
        held,
    } = &parent;
    thread::scope(|scope| {
        gate.set(GateState::Closed);
        // Also where this test fails, so that it does not hang.
        let _open = OpenedAtEnd(&gate);
        let working = scope.spawn(|| work(store, held));
        eventually("the parent is held up", || {
            *gate.lock() == GateState::Reached && other_threads_wait()
        });
        let root = folder.path().to_owned();
        let log = Arc::new(Log(root.join("log")));
        let inherited = Mutex::new(Some(store.clone()));
        let (of_child, contents) = (Arc::clone(&log), held.clone());
        let result = in_forked_process(&log, move || {
            let store = inherited
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let store = store.ok_or(io::ErrorKind::NotFound)?;
            use_inherited(store, &contents, &root, &of_child)
        });
        gate.set(GateState::Open);
        working.join().unwrap();
        assert_eq!(result, Ok(()));
    });
    // The parent goes on as if nothing had happened.
    let new = contents(5000, 50, OBJECT_BYTES);
    put_all(store, &new);
    store.sync().unwrap();
    assert_holds(store, &new);
}

#[test]
fn h59_a_process_forked_while_its_parent_puts_may_only_read() {
    fork_while_busy(
        |step| step.is(Kind::Write, ".dat"),
        |store, _| {
            store.put(vec![1; 1 << 20]).unwrap();
        },
    );
}

#[test]
fn h59_a_process_forked_while_its_parent_syncs_may_only_read() {
    fork_while_busy(
        |step| step.is(Kind::SyncFile, ".dat"),
        |store, _| {
            store.put(b"to be synced").unwrap();
            store.sync().unwrap();
        },
    );
}

#[test]
fn h59_a_process_forked_while_its_parent_seals_may_only_read() {
    fork_while_busy(
        |step| step.is(Kind::Rename, "MANIFEST.tmp"),
        |store, _| put_all(store, &contents(1000, 30, OBJECT_BYTES)),
    );
}

#[test]
fn h59_a_process_forked_while_its_parent_begins_a_compaction_may_only_read() {
    fork_while_busy(
        |step| step.is(Kind::Create, ".jnl"),
        |store, _| {
            store.put(b"gives the seal some data").unwrap();
            drop(store.begin_compaction().unwrap());
        },
    );
}

#[test]
fn h59_a_process_forked_while_its_parent_compacts_may_only_read() {
    let steps: [fn(&Step) -> bool; 3] = [
        |step| step.is(Kind::Write, ".dat.tmp"),
        |step| step.is(Kind::Rename, ".dat.tmp"),
        |step| step.is(Kind::Rename, ".idx.tmp"),
    ];
    for step in steps {
        fork_while_busy(step, |store, held| {
            store.put(b"dead").unwrap();
            store.compact(|digest| held.contains_key(digest)).unwrap();
        });
    }
}

/// A compaction that was begun before the fork can neither go on nor block others.
#[test]
fn h59_a_compaction_that_was_begun_before_the_fork_is_refused() {
    let _alone = alone();
    let parent = Parent::new(&Arc::default(), |_| false);
    let begun = parent.store.begin_compaction().unwrap();
    let log = Arc::new(Log(parent.folder.path().join("log")));
    let (of_child, inherited) = (Arc::clone(&log), Arc::new(Mutex::new(Some(begun))));
    let begun = Arc::clone(&inherited);
    let result = in_forked_process(&log, move || {
        let taken: Option<Compaction> = inherited.lock().map_or(None, |mut begun| begun.take());
        let begun = taken.ok_or(io::ErrorKind::NotFound)?;
        of_child.expect("plan", || is_refused(begun.plan(|_| true)))?;
        of_child.expect("finish", || is_refused(begun.finish(|_| false)))
    });
    assert_eq!(result, Ok(()));
    let begun = begun.lock().unwrap().take().unwrap();
    let stats = begun
        .finish(|digest| parent.held.contains_key(digest))
        .unwrap();
    assert_eq!(stats.dropped_objects, 0);
    assert_holds(&parent.store, &parent.held);
}

/// Forks in the middle of `busy`, which takes long enough for that, and tries again if `busy` was
/// done already.
#[track_caller]
fn fork_in_the_midst(
    open: impl Fn() -> Store,
    busy: impl Fn(&Store) + Sync,
    held: &Contents,
    root: &Path,
) {
    let _alone = alone();
    for _ in 0..20 {
        let store = open();
        let (begun, done) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
        let log = Arc::new(Log(root.join("log")));
        let inherited = Mutex::new(Some(store.clone()));
        let (of_child, was_done) = (Arc::clone(&log), Arc::clone(&done));
        let (contents, root) = (held.clone(), root.to_owned());
        let result = thread::scope(|scope| {
            let (forked, wait) = mpsc::channel::<()>();
            let busy_thread = scope.spawn(|| {
                begun.store(true, Ordering::Release);
                busy(&store);
                done.store(true, Ordering::Release);
                // It ends after the fork.
                for () in wait {}
            });
            eventually("the thread has begun", || begun.load(Ordering::Acquire));
            thread::sleep(Duration::from_millis(2));
            let result = in_forked_process(&log, move || {
                of_child.expect("the parent is busy", || !was_done.load(Ordering::Acquire))?;
                let store = inherited
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                let store = store.ok_or(io::ErrorKind::NotFound)?;
                use_inherited(store, &contents, &root, &of_child)
            });
            drop(forked);
            busy_thread.join().unwrap();
            result
        });
        match result {
            Err(said) if said.starts_with("the parent is busy") => {}
            result => return assert_eq!(result, Ok(())),
        }
    }
    panic!("the parent was never busy");
}

/// Creates a sealed store whose one large segment has a damaged sidecar, which takes long to
/// rebuild.
fn with_damaged_sidecar(root: &Path) -> Contents {
    let held = contents(0, 60, 1 << 20);
    let store = new_options().open(root).unwrap();
    put_all(&store, &held);
    store.compact(|_| true).unwrap();
    store.close().unwrap();
    for name in names(root, &[".idx"]) {
        let path = root.join("segments").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    for name in names(root, &[".run"]) {
        fs::remove_file(root.join("segments").join(name)).unwrap();
    }
    held
}

#[test]
fn h59_a_process_forked_while_its_parent_checks_a_sidecar_reads_without_waiting() {
    let folder = TempDir::new().unwrap();
    let held = with_damaged_sidecar(folder.path());
    let first = *held.first_key_value().unwrap().0;
    for (mode, verify) in [
        (ReadMode::Mmap, VerifyReads::FirstRead),
        (ReadMode::Pread, VerifyReads::EveryRead),
    ] {
        let reader = Options::new()
            .read_only(true)
            .read_mode(mode)
            .verify_reads(verify);
        fork_in_the_midst(
            || reader.open(folder.path()).unwrap(),
            |store| assert!(store.contains(first).unwrap()),
            &held,
            folder.path(),
        );
    }
}

#[test]
fn h59_a_process_forked_while_its_parent_refreshes_may_not_refresh() {
    let folder = TempDir::new().unwrap();
    let store = new_options().open(folder.path()).unwrap();
    let held = contents(0, 100, OBJECT_BYTES);
    put_all(&store, &held);
    store.sync().unwrap();
    let reader = Options::new().read_only(true);
    fork_in_the_midst(
        || reader.open(folder.path()).unwrap(),
        |reader| {
            for _ in 0..2000 {
                reader.refresh().unwrap();
            }
        },
        &held,
        folder.path(),
    );
}
