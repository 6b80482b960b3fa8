//! The compactions and trims that an application runs.

use std::fmt;

use super::Store;
use crate::compaction::{CompactionStats, LiveList, Prepared, TrimStats};
use crate::digest::Digest;
use crate::engine::RunningCompaction;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
#[cfg(doc)]
use crate::options::Options;

impl Store {
    /// Begins a compaction. It keeps every object that is put from here on, also an old object that
    /// is put again.
    ///
    /// Compute the set of live objects after this call, then call [`finish`](Compaction::finish).
    /// Puts, reads and syncs go on all the time. Dropping the [`Compaction`] ends it and changes
    /// nothing.
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
    /// Fails with [`Error::NoSpace`] if there is no room to seal the segment that is appended to,
    /// and with [`Error::CompactionRunning`], [`Error::ReadOnly`], [`Error::Forked`],
    /// [`Error::Poisoned`] or [`Error::Io`].
    pub fn begin_compaction(&self) -> Result<Compaction> {
        let writer = self.writer()?;
        // From here on dropping `compaction` ends the phase, also if sealing fails.
        let mut compaction = Compaction {
            store: self.clone(),
            running: writer.begin_compaction()?,
        };
        writer.seal_inputs(&mut compaction.running)?;
        Ok(compaction)
    }

    /// Begins and finishes a compaction. Use it if the set of live objects cannot change while it
    /// is computed and handed over; otherwise use [`begin_compaction`](Self::begin_compaction).
    ///
    /// # Errors
    ///
    /// Fails like [`begin_compaction`](Self::begin_compaction) and [`Compaction::finish`].
    pub fn compact(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        self.begin_compaction()?.finish(keep)
    }
}

impl Store {
    /// Drops the oldest segments until the data files have at most `bytes_max` bytes in total: a
    /// cache with a bound. Copies nothing.
    ///
    /// A segment is dropped as a whole, and its sidecar with it. The oldest is the one with the
    /// lowest id. Puts append, and a put of an object that the store holds does not move it, so the
    /// objects that were put first go first. A compaction writes the objects that it copies into
    /// new segments, which count as young. Where an object has copies in several segments, it stays
    /// until the last of them is dropped.
    ///
    /// The segment that is appended to is never dropped. So the data files can exceed the bound by
    /// up to one segment: set [`Options::segment_bytes_max`] to a small part of the bound.
    /// The length that this compares is
    /// [`StoreStats::data_file_bytes`](crate::StoreStats::data_file_bytes).
    ///
    /// Puts and reads go on. A put that returns after this began, and whose object only a dropped
    /// segment holds, appends the object anew. Objects and readers that use a dropped segment keep
    /// it, and the thread that indexes does while it builds a run; the last of them removes its
    /// files. Other files are gone when this returns if it drops at most four segments, as a trim of a
    /// cache mostly does. Those of more are removed in the background, and at the latest by the next
    /// trim, unless the disk has less room than they take. The rename of one manifest commits, so a crash leaves all of these segments or none.
    ///
    /// Takes time in proportion to the number of segments, and writes one manifest. A segment that is
    /// to be dropped and waits to be sealed is sealed first. If many objects were dropped, the thread
    /// that indexes rebuilds the set index in the background.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use sealstone::Options;
    ///
    /// let cache = Options::new().segment_bytes_max(16 << 20).open(folder.path())?;
    /// cache.put("built from these sources")?;
    /// let trimmed = cache.trim(1 << 30)?;
    /// assert_eq!((trimmed.dropped_objects, trimmed.bytes_after), (0, trimmed.bytes_before));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`Error::CompactionRunning`] while a compaction or another trim runs, with
    /// [`Error::NoSpace`] if there is no room for the manifest, and with [`Error::ReadOnly`],
    /// [`Error::Forked`], [`Error::Poisoned`] or [`Error::Io`]. After a failure in the commit
    /// itself, every further write fails with [`Error::Poisoned`], and the next opening finds the
    /// segments or not.
    pub fn trim(&self, bytes_max: u64) -> Result<TrimStats> {
        let trimmed = self.writer()?.trim(bytes_max)?;
        #[cfg(feature = "tracing")]
        tracing::info!(?trimmed, "trimmed");
        Ok(trimmed)
    }
}

/// A compaction that has begun. See [`Store::begin_compaction`].
pub struct Compaction {
    store: Store,
    running: RunningCompaction,
}

impl Compaction {
    /// Computes what [`finish`](Self::finish) would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::CorruptIndex`], [`Error::Forked`] or [`Error::Io`], the last also if the
    /// system does not start the threads that it works in.
    pub fn plan(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        Ok(self.prepare(&keep)?.stats())
    }

    /// Does [`plan`](Self::plan) for the live objects, from a slice or any other collection.
    ///
    /// # Errors
    ///
    /// Fails like [`plan`](Self::plan).
    pub fn plan_list(
        &self,
        live: impl IntoIterator<Item = impl AsRef<Digest>>,
    ) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let mut stats = self.plan(|digest| live.contains(digest))?;
        stats.live_missing = self.missing(&live)?;
        Ok(stats)
    }

    /// Keeps the objects for which `keep` is true and the objects that were put since the
    /// compaction began, and drops all others. Asks `keep` once for each object, from several
    /// threads.
    ///
    /// The live objects of segments that hold a dead one are copied in file order, in parallel, and
    /// each is verified. Other segments stay as they are, unless they are small: a segment is merged
    /// with its younger neighbours if it is at most twice as long as they are together and the
    /// result fits into one segment. So checkpoints and closes leave few small segments behind,
    /// and an object is copied for that a number of times that grows with the logarithm of the size
    /// of the store. If merging fails, for lack of room or because an object has rotted, the
    /// compaction goes on without it. Everything is durable before the
    /// one rename that commits. Readers of the old segments keep them; the last reader that is
    /// dropped removes their files.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoSpace`], which says how much room is needed, if the file system has
    /// less, before anything is written. Objects are copied before the old segments can be removed,
    /// so the room is about the size of the live objects in segments that hold a dead one, without
    /// those that are merged: a compaction that drops whole segments and copies nothing needs a few
    /// KiB. If the system does
    /// not tell its free room, as on Windows, or others use it up meanwhile, the error is
    /// [`Error::Io`].
    ///
    /// Fails with [`Error::Corrupt`], which names the object, if no copy of a live object verifies.
    /// The store is unchanged then, and after [`Error::NoSpace`], [`Error::CorruptIndex`],
    /// [`Error::SegmentIdsExhausted`] and [`Error::Io`] too. After a failure in the commit itself,
    /// every further write fails with [`Error::Poisoned`], and the next opening finds the old set
    /// of segments or the new one.
    pub fn finish(self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        let prepared = self.prepare(&keep)?;
        let writer = self.store.writer()?;
        let stats = writer.finish_compaction(&self.running, prepared)?;
        #[cfg(feature = "tracing")]
        tracing::info!(?stats, "compacted");
        Ok(stats)
    }

    /// Does [`finish`](Self::finish) for the live objects, from a slice or any other collection, which
    /// is copied and sorted: 32 bytes of memory for each. Counts those that the store does not hold in
    /// [`CompactionStats::live_missing`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use std::collections::HashSet;
    ///
    /// let live = HashSet::from([store.put("live")?]);
    /// store.put("dead")?;
    /// let stats = store.begin_compaction()?.finish_list(&live)?;
    /// assert_eq!((stats.live_objects, stats.dropped_objects), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails like [`finish`](Self::finish).
    pub fn finish_list(
        self,
        live: impl IntoIterator<Item = impl AsRef<Digest>>,
    ) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let missing = self.missing(&live)?;
        let mut stats = self.finish(|digest| live.contains(digest))?;
        stats.live_missing = missing;
        Ok(stats)
    }

    fn prepare(&self, keep: &(impl Fn(&Digest) -> bool + Sync)) -> Result<Prepared> {
        // `writer` refuses a forked process, in which the lock of the pins may be held for ever.
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
