//! Shares work on many objects between threads.

use std::cell::Cell;
use std::error::Error as _;
use std::io;
use std::process;
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, which have ended when this returns. So it
/// does not hold up the application's own work for `rayon`, nor `put_many`.
///
/// Fails if the system does not start the threads.
pub(crate) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    debug_assert!(
        !is_alone(),
        "a lock is held while other threads are waited for"
    );
    if IS_ONE_THREAD {
        return Ok(work());
    }
    ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .build_scoped(ThreadBuilder::run, |pool| pool.install(work))
        .map_err(|error| {
            let source = error.source().and_then(|source| source.downcast_ref());
            source.map_or_else(|| io::Error::other(error.to_string()), not_started)
        })
}

/// Adds to the system's error that a thread could not be started.
pub(crate) fn not_started(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("no thread can be started: {error}"))
}

thread_local! {
    /// Number of calls of [`alone`] that this thread is in.
    static ALONE: Cell<u32> = const { Cell::new(0) };
}

/// Runs work that this thread must not share. It holds a lock: while a thread of `rayon` waits for
/// other threads it takes up another task, which may want the same lock. Or it is the only thread of
/// a forked process: a thread that is started there waits for ever if a thread of the parent held a
/// lock of the standard library at the fork, as each does while it starts and ends.
pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ALONE.set(ALONE.get() - 1);
        }
    }
    ALONE.set(ALONE.get() + 1);
    // The guard also restores the count after a panic.
    let _leave = Leave;
    work()
}

fn is_alone() -> bool {
    ALONE.get() > 0
}

/// Runs `parallel`, which uses `rayon`, if `is_worth_it` and this thread may share its work;
/// otherwise runs `here`, which does the same work in this thread.
pub(crate) fn in_parallel_if<T: Send>(
    is_worth_it: bool,
    parallel: impl FnOnce() -> T + Send,
    here: impl FnOnce() -> T,
) -> T {
    match sharing_if(is_worth_it) {
        Some(sharing) => sharing.run(parallel),
        None => here(),
    }
}

/// Maps each of `parts`, in parallel if there are several; the results are in their order.
pub(crate) fn map_parts<P: Send, T: Send>(
    parts: Vec<P>,
    work: impl Fn(P) -> T + Sync + Send,
) -> Vec<T> {
    match sharing_if(parts.len() > 1) {
        Some(sharing) => sharing.run(|| parts.into_par_iter().map(work).collect()),
        None => parts.into_iter().map(work).collect(),
    }
}

/// Runs `work` for each of `parts`, in parallel if this thread may share its work, until one fails.
pub(crate) fn try_for_each<P: Send, E: Send>(
    parts: impl IntoIterator<Item = P> + IntoParallelIterator<Item = P> + Send,
    work: impl Fn(P) -> Result<(), E> + Sync + Send,
) -> Result<(), E> {
    match sharing_if(true) {
        Some(sharing) => sharing.run(|| parts.into_par_iter().try_for_each(work)),
        None => parts.into_iter().try_for_each(work),
    }
}

/// Does [`try_for_each`], and deals the parts out in their order.
pub(crate) fn try_for_each_in_order<P: Send, E: Send>(
    mut parts: impl Iterator<Item = P> + Send,
    work: impl Fn(P) -> Result<(), E> + Sync + Send,
) -> Result<(), E> {
    match sharing_if(true) {
        Some(sharing) => sharing.run(|| parts.par_bridge().try_for_each(work)),
        None => parts.try_for_each(work),
    }
}

/// Whether `holds` for all of `parts`, in parallel if this thread may share its work.
pub(crate) fn all<P: Send>(
    parts: impl IntoIterator<Item = P> + IntoParallelIterator<Item = P> + Send,
    holds: impl Fn(P) -> bool + Sync + Send,
) -> bool {
    try_for_each(parts, |part| if holds(part) { Ok(()) } else { Err(()) }).is_ok()
}

/// Runs both functions, in parallel if this thread may share its work.
pub(crate) fn join<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    match sharing_if(true) {
        Some(sharing) => sharing.run(|| rayon::join(first, second)),
        None => (first(), second()),
    }
}

/// The threads with which the calling thread shares its work.
enum Sharing {
    /// The threads of the pool that the calling thread belongs to.
    Here,
    /// The threads of the pool that all stores of the process share.
    In(&'static ThreadPool),
}

impl Sharing {
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Here => work(),
            Self::In(pool) => pool.install(work),
        }
    }
}

fn sharing_if(is_worth_it: bool) -> Option<Sharing> {
    is_worth_it.then(sharing).flatten()
}

/// Finds threads to share work with. Returns `None` for a thread that works [`alone`], if the
/// system starts no threads, and in a forked process, which lacks the threads of its parent.
///
/// The pool is our own: if the global pool of `rayon` cannot be started when it is first used, it
/// panics then and ever after, for the application too.
fn sharing() -> Option<Sharing> {
    static POOL: OnceLock<(u32, ThreadPool)> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if is_alone() {
        return None;
    }
    if rayon::current_thread_index().is_some() {
        return Some(Sharing::Here);
    }
    if POOL.get().is_none() {
        // While one thread starts the pool, others work alone instead of waiting for it.
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
