//! Running asynchronous work for callers who wait, and blocking work for tasks.

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, RemoteError, Result};
use crate::memory::ForkMark;
use crate::threads::not_started;

/// Threads that make requests. Hashing and files have threads of their own.
const WORKERS: usize = 2;

/// The runtime of blocking calls. It is made at the first of them.
pub(super) struct Blocking {
    runtime: OnceLock<Runtime>,
    /// Marks the process that made it.
    origin: ForkMark,
}

impl Blocking {
    pub(super) fn new() -> Self {
        Self {
            runtime: OnceLock::new(),
            origin: ForkMark::new(),
        }
    }

    /// Waits for `work`. Fails in a task of another runtime, whose other tasks would have to wait too,
    /// and in a forked process, which does not have the threads of the runtime.
    pub(super) fn wait_for<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.require_usable()?;
        self.runtime()?.block_on(work)
    }

    /// Fails where [`wait_for`](Self::wait_for) does.
    #[inline]
    pub(super) fn require_usable(&self) -> Result<()> {
        if self.origin.is_forked() {
            return Err(Error::Forked);
        }
        if Handle::try_current().is_ok() {
            return Err(RemoteError::InsideRuntime.into());
        }
        Ok(())
    }

    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(WORKERS)
            .thread_name("sealstone-remote");
        let runtime = builder.enable_all().build();
        let runtime =
            runtime.map_err(|error| Error::io("runtime".as_ref())(not_started(&error)))?;
        // If another thread was faster, its runtime is used, and this one ends.
        Ok(self.runtime.get_or_init(|| runtime))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        // Dropping a runtime would wait for its threads, and panic in a task of another runtime.
        match self.runtime.take() {
            // The threads that would end it are those of the parent.
            Some(runtime) if self.origin.is_forked() => std::mem::forget(runtime),
            Some(runtime) => runtime.shutdown_background(),
            None => {}
        }
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Blocking")
            .field(&self.runtime.get().is_some())
            .finish()
    }
}

/// Does work that waits for files or computes for long, in a thread where that disturbs no task.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending.
        Err(_) => Err(RemoteError::Cancelled.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::super::{GcOptions, PushOptions, Remote, RemoteReader};
    use crate::digest::Digest;
    use crate::store::Store;

    fn is_send<T: Send>(_: &T) {}

    /// A runtime with several threads moves tasks between them.
    #[test]
    fn every_future_can_be_sent_to_another_thread() {
        let folder = tempfile::tempdir().unwrap();
        let (remote, store) = (
            Remote::open("memory:///").unwrap(),
            Store::open(folder.path()).unwrap(),
        );
        let (push, gc) = (PushOptions::new(), GcOptions::new());
        let path = Path::new("folder");
        is_send(&remote.push_async(&store, "main", &push, |_| ControlFlow::Continue(())));
        is_send(&remote.pull_async("main", path, |_| ControlFlow::Continue(())));
        is_send(&remote.gc_async(&gc, |_| ControlFlow::Continue(())));
        is_send(&remote.verify_async("main", |_| ControlFlow::Continue(())));
        is_send(&remote.list_async());
        is_send(&remote.reader_async("main", path, 1 << 20, |_| ControlFlow::Continue(())));
    }

    /// As the one above, for a reader.
    #[test]
    fn every_future_of_a_reader_can_be_sent_to_another_thread() {
        fn check(reader: &RemoteReader) {
            let digest = Digest::from([0; 32]);
            is_send(&reader.get_async(digest));
            is_send(&reader.get_many_async(&[digest]));
            is_send(&reader.contains_async(digest));
            is_send(&reader.refresh_async());
            is_send(&reader.iter_async());
        }
        let _ = check;
    }
}
