//! Threads for work on whole segments.

use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, so that what the application has for `rayon`
/// to do, and `put_many`, does not have to wait until it is done. They have ended when this returns.
pub(super) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if IS_ONE_THREAD {
        return Ok(work());
    }
    let mut started = Started::default();
    // Declared after them, so dropped before they are waited for, also while a panic goes through.
    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .spawn_handler(|thread| started.start(thread))
        .build()
        .map_err(|error| Error::Io {
            path: PathBuf::new(),
            source: io::Error::other(error),
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
