//! Threads that share the work on many objects.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::process;
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, so that what the application has for `rayon`
/// to do, and `put_many`, does not have to wait until it is done. They have ended when this returns.
/// Fails if the system does not start them.
pub(crate) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    debug_assert!(
        !is_alone(),
        "a lock is held while other threads are waited for"
    );
    if IS_ONE_THREAD {
        return Ok(work());
    }
    let mut started = Started::default();
    // Declared after them, so dropped before they are waited for, also while a panic goes through.
    let pool = ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .spawn_handler(|thread| started.start(thread))
        .build()
        .map_err(|error| {
            let source = error.source().and_then(|source| source.downcast_ref());
            source.map_or_else(|| io::Error::other(error.to_string()), not_started)
        })?;
    Ok(pool.install(work))
}

/// What the system says where a thread cannot be started, with what it speaks of.
pub(crate) fn not_started(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("no thread can be started: {error}"))
}

/// The threads of a pool, which does not wait for them itself when it is dropped.
#[derive(Default)]
struct Started(Vec<JoinHandle<()>>);

impl Started {
    fn start(&mut self, thread: ThreadBuilder) -> io::Result<()> {
        let named = std::thread::Builder::new().name(thread.name().unwrap_or_default().to_owned());
        self.0.push(named.spawn(|| thread.run())?);
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // What panics in the work is caught by the pool and goes on in its caller.
            let _ = thread.join();
        }
    }
}

thread_local! {
    /// How many calls of [`alone`] this thread is in.
    static ALONE: Cell<u32> = const { Cell::new(0) };
}

/// Runs work that this thread shares with no other, since it holds a lock: a thread of `rayon` that
/// waits for others takes up another task meanwhile, and that may come for the same lock.
pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ALONE.set(ALONE.get() - 1);
        }
    }
    ALONE.set(ALONE.get() + 1);
    // Dropped also while a panic goes through.
    let _leave = Leave;
    work()
}

fn is_alone() -> bool {
    ALONE.get() > 0
}

/// The threads that work of some size is shared with.
pub(crate) enum Sharing {
    /// Those of the pool that the calling thread belongs to.
    Here,
    /// Those that all stores of the process have together.
    In(&'static ThreadPool),
}

impl Sharing {
    /// Runs what shares work by `rayon`.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Here => work(),
            Self::In(pool) => pool.install(work),
        }
    }
}

/// Threads to share work with, or `None` for who works [`alone`], where the system starts none, and in a
/// forked process, which has not the threads that were started before. Not `rayon`'s own pool: if that cannot be started the
/// first time it is asked for, it panics, then and ever after, for the application too.
pub(crate) fn sharing() -> Option<Sharing> {
    static POOL: OnceLock<(u32, ThreadPool)> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if is_alone() {
        return None;
    }
    if rayon::current_thread_index().is_some() {
        return Some(Sharing::Here);
    }
    if POOL.get().is_none() {
        // Who comes while another starts it does not wait.
        let _starting = STARTING.try_lock().ok()?;
        if POOL.get().is_none() {
            let name = |number| format!("sealstone-all-{number}");
            let pool = ThreadPoolBuilder::new().thread_name(name).build().ok()?;
            let _ = POOL.set((process::id(), pool));
        }
    }
    let (started_in, pool) = POOL.get()?;
    (*started_in == process::id()).then_some(Sharing::In(pool))
}
