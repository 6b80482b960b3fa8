//! Counts slow events since a store was opened.

use crate::dir::Traffic;
use crate::sync::Counter;

/// How often something happened since this handle, or the first of its clones, was opened. Each handle
/// counts what it did itself; a store that is opened again begins at 0. Reads count nothing.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let store = sealstone::Store::open(folder.path())?;
/// store.put("content")?;
/// store.put("content")?;
/// let before = store.stats().events;
/// store.sync()?;
/// let after = store.stats().events;
///
/// assert_eq!(after.dedup_hits, 1);
/// assert_eq!(after.data_syncs - before.data_syncs, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct EventCounts {
    /// Number of segments that were sealed.
    pub seals: u64,
    /// Number of runs of the set index that were built in place of older ones, whose segments they
    /// cover too. The first run over a segment is no merge.
    pub run_merges: u64,
    /// Number of compactions that changed the set of segments.
    pub compactions: u64,
    /// Number of trims that dropped a segment.
    pub trims: u64,
    /// Number of repairs: those of the opening, which [`Store::recovery`](crate::Store::recovery) lists;
    /// damaged runs of the set index that were dropped since, to be built anew; and damaged sidecars
    /// that [`Store::verify`](crate::Store::verify) wrote anew. A put that stores content again
    /// because its copies are damaged is not among them.
    pub repairs: u64,
    /// Number of fsyncs of data files, also of failed ones: by [`Store::sync`](crate::Store::sync), by
    /// seals and by compactions. Threads that sync at the same time share one.
    pub data_syncs: u64,
    /// Time that these took together, in nanoseconds. Syncs beside each other count each.
    pub data_sync_nanoseconds: u64,
    /// Bytes that were written to all files of the store but `LOCK`. Records that are still buffered
    /// are not among them.
    pub bytes_written: u64,
    /// Number of contents that were put and not stored, since the store held them already.
    pub dedup_hits: u64,
}

/// The counts of events above the folder, which counts by itself what it writes and syncs. They are
/// part of the writer and not of the state that readers share: no reader waits for their memory.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) seals: Counter,
    pub(super) run_merges: Counter,
    pub(super) compactions: Counter,
    pub(super) trims: Counter,
    pub(super) repairs: Counter,
    pub(super) dedup_hits: Counter,
}

impl Events {
    /// Returns all counts but the repairs of the opening.
    pub(super) fn counts(&self, traffic: &Traffic) -> EventCounts {
        EventCounts {
            seals: self.seals.get(),
            run_merges: self.run_merges.get(),
            compactions: self.compactions.get(),
            trims: self.trims.get(),
            repairs: self.repairs.get(),
            data_syncs: traffic.data_syncs.get(),
            data_sync_nanoseconds: traffic.data_sync_nanoseconds.get(),
            bytes_written: traffic.bytes_written.get(),
            dedup_hits: self.dedup_hits.get(),
        }
    }
}
