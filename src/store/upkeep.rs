//! Looks after a store: checks it, counts, and picks up the writes of another process.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::statistics::{StoreStats, stats};
use super::{Access, Store};
use crate::error::{Error, Result};
#[cfg(feature = "remote")]
use crate::segment_set::SegmentSet;
use crate::sync::lock;
use crate::threads::{alone, in_own_threads};
use crate::verify::{self, Leftover, Problem, VerifyProgress, VerifyReport};

impl Store {
    /// Checks the segments that this handle has open: each record against its digest, each sidecar
    /// against its data, each run of the set index that is in use against the sidecars, and whether
    /// the manifest can be read. Runs on all cores, in threads of its own, beside readers and
    /// writers, and checks the objects that were there when it began. In a forked process the calling
    /// thread does it all.
    ///
    /// It does not read bytes on which nothing depends: journals, bytes that recovery has cut off
    /// and saved, runs that are not in use, padding, and files that are not the store's, of which it
    /// only tells the names. Records
    /// that are still in the buffer are checked there, and not on disk. It cannot tell a whole but
    /// outdated manifest, from a backup for instance, from the newest one. What the opening has found
    /// and repaired is in [`recovery`](Self::recovery), and not in this report.
    ///
    /// `progress` is called often, from several threads; returning [`ControlFlow::Break`] ends the
    /// check early. A writer writes a damaged sidecar anew if the data gives back what it was.
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
    /// Fails with [`Error::Io`], also if the system does not start the threads. Damage is no error;
    /// the report lists it.
    pub fn verify(
        &self,
        progress: impl Fn(&VerifyProgress) -> ControlFlow<()> + Sync,
    ) -> Result<VerifyReport> {
        let shared = self.shared();
        let set = shared.set.load_full();
        let mut reading = shared.options.reading();
        reading.hash_function = set.hash_function();
        let verify = || verify::verify(&set, &shared.dir, reading, &shared.report, &progress);
        let (mut report, damaged_sidecars) = if shared.is_forked() {
            alone(verify)
        } else {
            in_own_threads(verify).map_err(Error::io(&shared.root))?
        }?;
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

    /// Counts objects and the lengths of files, for each segment and in total, and tells what has
    /// happened since the store was opened. Lists the folder once.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shared = self.shared();
        let mut stats = stats(&shared.set.load());
        if let Ok(listing) = shared.dir.list() {
            stats.count_leftovers(&shared.dir, &listing);
        }
        if let Access::Writer(open) = &self.handle.access {
            stats.events = open.writer().event_counts();
        }
        stats.events.repairs += shared.report.repairs.len() as u64;
        stats
    }

    /// Removes the files that earlier openings have kept, and returns what they were: bytes that were cut off
    /// the ends of segments ([`Leftover::Torn`]) and damaged manifests
    /// ([`Leftover::DamagedManifest`]). The store never reads these files. They are evidence of a crash
    /// or of damage, so look first whether [`verify`](Self::verify) finds all the objects that you
    /// expect. What the opening of this handle has kept stays, since nobody can have looked at it:
    /// [`recovery`](Self::recovery) names it. Temporaries are removed by the opening, and files that are not the store's by nobody.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use std::ops::ControlFlow;
    ///
    /// if store.verify(|_| ControlFlow::Continue(()))?.is_clean() {
    ///     for leftover in store.remove_leftovers()? {
    ///         eprintln!("removed {}", leftover.path().display());
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ReadOnly`], [`Error::Forked`] or [`Error::Io`]. Some files may have been
    /// removed then.
    pub fn remove_leftovers(&self) -> Result<Vec<Leftover>> {
        let shared = self.shared();
        self.writer()?;
        let just_kept: Vec<&Path> = shared.report.kept_files().collect();
        let kept = verify::kept_files(&shared.dir, &shared.dir.list()?);
        let earlier = kept
            .into_iter()
            .filter(|(_, leftover)| !just_kept.contains(&leftover.path()));
        let removed = earlier.map(|(path, leftover)| {
            shared.dir.remove_if_present(&path)?;
            Ok(leftover)
        });
        removed.collect()
    }

    /// Seals what was put so far and indexes it, and returns the segments and the highest id that the
    /// store has used. While the set is held, none of its files is removed.
    #[cfg(feature = "remote")]
    pub(crate) fn sealed_set(&self) -> Result<(Arc<SegmentSet>, u32)> {
        let writer = self.writer()?;
        writer.sealed_set()?;
        writer.index_now();
        writer.sealed_set()
    }

    /// Lets a read-only handle see the changes that the writer has flushed, sealed and compacted
    /// since, and returns whether there were any. Does nothing for a writer, which always sees all
    /// objects.
    ///
    /// If a store has more segments than can be mapped or held open, some files are opened for each
    /// read. If the writer has removed such a file, reading it fails with [`Error::Io`] until the
    /// next refresh.
    ///
    /// # Errors
    ///
    /// Fails like [`Options::open`](crate::Options::open), and with [`Error::Forked`]. After an
    /// error the handle still sees the objects that it saw before.
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
