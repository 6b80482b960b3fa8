//! Threads for work on whole segments.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::sync::IS_ONE_THREAD;

/// Runs work on whole segments in threads of its own, so that what the application has for `rayon`
/// to do, and `put_many`, does not have to wait until it is done.
pub(super) fn in_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if IS_ONE_THREAD {
        return Ok(work());
    }
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("sealstone-{number}"))
        .build()
        .map_err(|error| Error::Io {
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        })?;
    Ok(threads.install(work))
}
