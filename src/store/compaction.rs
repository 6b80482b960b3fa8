//! Compactions, as an application runs them.

use std::fmt;

use super::Store;
use crate::compaction::{CompactionStats, LiveList, Prepared};
use crate::digest::Digest;
use crate::engine::RunningCompaction;
use crate::error::Result;

impl Store {
    /// Begins a compaction: everything that is put from here on stays, also what was put before and
    /// is put again.
    ///
    /// Compute the set of live objects after this, then [`finish`](Compaction::finish). Puts, reads
    /// and syncs go on all the time. Dropping the [`Compaction`] ends it and changes nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let live = store.put(b"live")?;
    /// let dead = store.put(b"dead")?;
    ///
    /// let compaction = store.begin_compaction()?;
    /// let new = store.put(b"put after the beginning")?;
    /// let stats = compaction.finish(|digest| *digest == live)?;
    ///
    /// assert_eq!((stats.live_objects, stats.dropped_objects), (1, 1));
    /// assert!(store.contains(&live)? && store.contains(&new)?);
    /// assert!(!store.contains(&dead)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] if there is no room to seal the segment that is appended to;
    /// [`Error::CompactionRunning`], [`Error::ReadOnly`], [`Error::Forked`], [`Error::Poisoned`],
    /// [`Error::Io`].
    pub fn begin_compaction(&self) -> Result<Compaction> {
        let writer = self.writer()?;
        // From here on dropping it ends the phase, also where sealing fails.
        let mut compaction = Compaction {
            store: self.clone(),
            running: writer.begin_compaction()?,
        };
        writer.seal_inputs(&mut compaction.running)?;
        Ok(compaction)
    }

    /// Begins and finishes a compaction. For an application whose set of live objects cannot change
    /// while it is computed and handed over; others use
    /// [`begin_compaction`](Self::begin_compaction).
    ///
    /// # Errors
    ///
    /// Those of [`begin_compaction`](Self::begin_compaction) and [`Compaction::finish`].
    pub fn compact(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        self.begin_compaction()?.finish(keep)
    }
}

/// A compaction that has begun. See [`Store::begin_compaction`].
pub struct Compaction {
    store: Store,
    running: RunningCompaction,
}

impl Compaction {
    /// What [`finish`](Self::finish) would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptIndex`]; [`Error::Forked`]; [`Error::Io`], also where the system does not start the
    /// threads that it works in.
    pub fn plan(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        Ok(self.prepare(&keep)?.stats())
    }

    /// As [`plan`](Self::plan), for a list of the live objects.
    ///
    /// # Errors
    ///
    /// Those of [`plan`](Self::plan).
    pub fn plan_list(&self, live: &[Digest]) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let mut stats = self.plan(|digest| live.contains(digest))?;
        stats.live_missing = self.missing(&live)?;
        Ok(stats)
    }

    /// Keeps the objects for which `keep` is true, and what was put since the compaction began, and
    /// drops the others. `keep` is asked once for each object, from several threads.
    ///
    /// Segments without a dead object stay as they are; the live objects of the others are copied
    /// in file order, in parallel, each verified. Everything is durable before the one rename that
    /// commits. Readers of the old segments keep them; their files go with the last reader.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] says how much room is needed if the file system has less; that is known
    /// before anything is written. What stays is copied before what is replaced can go, so it is about
    /// as much as the live objects of the segments that hold a dead one: a compaction that drops whole
    /// segments and copies nothing needs a few KiB. Where the system does not say how much room there
    /// is, as on Windows, or others take it meanwhile, it is [`Error::Io`].
    ///
    /// [`Error::Corrupt`] names a live object that does not verify in any copy; the store is then as
    /// it was. So it is after [`Error::NoSpace`], [`Error::CorruptIndex`],
    /// [`Error::SegmentIdsExhausted`] and [`Error::Io`]. After a failure in the
    /// commit itself every further write is [`Error::Poisoned`], and the next opening finds the old
    /// set or the new one.
    pub fn finish(self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        let prepared = self.prepare(&keep)?;
        let writer = self.store.writer()?;
        let stats = writer.finish_compaction(&self.running, prepared)?;
        #[cfg(feature = "tracing")]
        tracing::info!(?stats, "compacted");
        Ok(stats)
    }

    /// As [`finish`](Self::finish), for a list of the live objects. Those in the list that the store
    /// does not hold are counted in [`CompactionStats::live_missing`].
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Self::finish).
    pub fn finish_list(self, live: &[Digest]) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let missing = self.missing(&live)?;
        let mut stats = self.finish(|digest| live.contains(digest))?;
        stats.live_missing = missing;
        Ok(stats)
    }

    fn prepare(&self, keep: &(impl Fn(&Digest) -> bool + Sync)) -> Result<Prepared> {
        // Begun in the parent of a forked process, it has a lock for the pins that may be held there.
        self.store.writer()?.prepare_compaction(&self.running, keep)
    }

    /// Counts the live objects that the store does not hold.
    fn missing(&self, live: &LiveList) -> Result<u64> {
        live.digests().iter().try_fold(0, |missing, digest| {
            Ok(missing + u64::from(!self.store.contains(digest)?))
        })
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        if let Ok(writer) = self.store.writer() {
            writer.end_compaction();
        }
    }
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compaction")
            .field("store", &self.store)
            .field("segments", &self.running.segments())
            .finish_non_exhaustive()
    }
}
