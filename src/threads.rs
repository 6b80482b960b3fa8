//! Threads that share the work on many objects, or the one that asks where the system gives no more.

use std::error::Error;
use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, so that what the application has for `rayon`
/// to do, and `put_many`, does not have to wait until it is done. They have ended when this returns.
pub(crate) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if IS_ONE_THREAD {
        return work();
    }
    let mut started = Started::default();
    // Declared after them, so dropped before they are waited for, also while a panic goes through.
    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .spawn_handler(|thread| started.start(thread))
        .build();
    if let Ok(pool) = pool {
        pool.install(work)
    } else {
        ensure_pool();
        work()
    }
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

/// Asked before `rayon` is, in a thread that may not be one of its own: its first use starts a pool
/// for the whole process, and where the system refuses the threads it panics, then and ever after.
/// There the thread that asks becomes a pool by itself.
pub(crate) fn ensure_pool() {
    static IS_STARTED: OnceLock<bool> = OnceLock::new();
    if rayon::current_thread_index().is_some() || *IS_STARTED.get_or_init(start_shared_pool) {
        return;
    }
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1);
    // It lasts as long as the thread. What cannot fail here is to start threads, since it starts none.
    let _ = alone.use_current_thread().build();
}

/// Starts the pool that `rayon` would start. The application may have done so.
fn start_shared_pool() -> bool {
    match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        Err(error) => error.source().is_none(),
    }
}
