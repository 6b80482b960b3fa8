//! Looking after a store: checks, figures, and seeing what another process wrote.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::statistics::{StoreStats, stats};
use super::{Access, Store};
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::threads::{alone, in_own_threads};
use crate::verify::{self, Problem, VerifyProgress, VerifyReport};

impl Store {
    /// Reads and checks what this handle has open: each record against its digest, each sidecar against
    /// its data, each run of the set index that is in use against the sidecars, and whether the manifest
    /// can be read. Runs on all cores, in threads of its own, beside readers and writers; sees what was
    /// there when it began.
    ///
    /// It does not read what nothing depends on: the journals, what recovery has cut off and saved, runs
    /// that are of no use, padding, and files that are not the store's. What is still in the buffer is
    /// checked there, and not on disk. A manifest that is whole and not the newest, as from a backup, it
    /// cannot tell from the right one.
    ///
    /// `progress` is called often, from several threads; returning [`ControlFlow::Break`] ends the
    /// check early. A writer writes a damaged sidecar anew where its data proves what it was.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use std::ops::ControlFlow;
    ///
    /// let report = store.verify(|progress| {
    ///     eprintln!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also where the system does not start the threads. Damage is not an error but in the
    /// report.
    pub fn verify(
        &self,
        progress: impl Fn(&VerifyProgress) -> ControlFlow<()> + Sync,
    ) -> Result<VerifyReport> {
        let shared = self.shared();
        let set = shared.set.load_full();
        let reading = shared.options.reading();
        let verify = || verify::verify(&set, &shared.dir, reading, &shared.report, &progress);
        let (mut report, damaged_sidecars) =
            in_own_threads(verify).map_err(Error::io(&shared.root))??;
        shared.look_after(&set);
        if let Ok(writer) = self.writer() {
            for sealed in damaged_sidecars {
                if let Err(error) = writer.rewrite_sidecar(&sealed) {
                    report.problems.push(Problem::UnwrittenSidecar {
                        segment: sealed.id(),
                        reason: error.as_reason(),
                    });
                }
            }
        }
        Ok(report)
    }

    /// Number of objects and size of files, for each segment and over all. Lists the folder once.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shared = self.shared();
        let mut stats = stats(&shared.set.load());
        stats.count_torn_files(&shared.dir);
        stats
    }

    /// Removes the files with bytes that openings cut off the ends of segments, `seg-N.torn`, and gives how
    /// many there were. The store never reads them. They are evidence of what a crash or damage left, so
    /// look first whether [`verify`](Self::verify) finds all that you expect.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Forked`], [`Error::Io`]. Some files may have been removed then.
    pub fn remove_torn_files(&self) -> Result<usize> {
        let shared = self.shared();
        self.writer()?;
        let files = shared.dir.torn_files()?;
        for (path, _) in &files {
            shared.dir.remove_if_present(path)?;
        }
        Ok(files.len())
    }

    /// For a read-only handle: sees what the writer has flushed, sealed and compacted since. True if
    /// something changed. A writer always sees everything, for it this does nothing.
    ///
    /// Of a store with more segments than can be mapped or held open, some files are opened for each
    /// read. A read of one that the writer has removed is an [`Error::Io`] until the next refresh.
    ///
    /// # Errors
    ///
    /// Those of [`Options::open`], and [`Error::Forked`]. After an error the handle sees what it saw
    /// before.
    pub fn refresh(&self) -> Result<bool> {
        let shared = self.shared();
        shared.require_own_process()?;
        let Access::Reader(reader) = &self.handle.access else {
            return Ok(false);
        };
        let mut reader = lock(reader);
        let before = shared.set.load_full();
        let (set, _) = alone(|| reader.load(&shared.dir, &shared.options, &before))?;
        let changed = !set.is_same_as(&before);
        if changed {
            shared.set.store(Arc::new(set));
        }
        Ok(changed)
    }
}
