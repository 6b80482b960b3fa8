//! Threads that share the work on many objects.

use std::error::Error;
use std::io;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, so that what the application has for `rayon`
/// to do, and `put_many`, does not have to wait until it is done. They have ended when this returns.
/// Fails if the system does not start them.
pub(crate) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if IS_ONE_THREAD {
        return Ok(work());
    }
    let mut started = Started::default();
    // Declared after them, so dropped before they are waited for, also while a panic goes through.
    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .spawn_handler(|thread| started.start(thread))
        .build()
        .map_err(|error| {
            let source = error.source().and_then(|source| source.downcast_ref());
            let code = source.and_then(io::Error::raw_os_error);
            code.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
        })?;
    Ok(pool.install(work))
}

/// The threads of a pool, which does not wait for them itself when it is dropped.
#[derive(Default)]
struct Started(Vec<JoinHandle<()>>);

impl Started {
    fn start(&mut self, thread: rayon::ThreadBuilder) -> io::Result<()> {
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

/// Whether `rayon` can be asked in this thread to share work. Its first use starts a pool for the
/// whole process; where the system refuses that a thread, `rayon` panics, then and ever after. And a
/// forked process has the pool without its threads, and would wait for them without end.
pub(crate) fn can_share_work() -> bool {
    /// In which process the pool was found to run; none has the number 0.
    static STARTED_IN: AtomicU32 = AtomicU32::new(0);
    if rayon::current_thread_index().is_some() {
        return true;
    }
    match STARTED_IN.load(Ordering::Relaxed) {
        0 if start_shared_pool() => STARTED_IN.store(process::id(), Ordering::Relaxed),
        0 => return false,
        process => return process == process::id(),
    }
    true
}

/// Starts the pool that `rayon` would start, unless the application has done so.
fn start_shared_pool() -> bool {
    // On trial: where this fails, the application can still have its pool when there are threads.
    if in_own_threads(|| ()).is_err() {
        return false;
    }
    match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        Err(error) => error.source().is_none(),
    }
}

/// As [`rayon::join`], or one after the other.
pub(crate) fn join<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if can_share_work() {
        rayon::join(first, second)
    } else {
        (first(), second())
    }
}
