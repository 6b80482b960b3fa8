//! Trims: drops the oldest segments as a whole, without copying.
//!
//! A trim is atomic as a compaction is: the rename of one manifest commits it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::phase::{Closing, Phase};
use super::writer::Writer;
use crate::compaction::TrimStats;
use crate::error::Result;
use crate::segment::Sealed;
use crate::segment_set::SegmentSet;

/// The most dropped segments whose files a trim removes itself. To remove one of 256 MiB takes 50 ms.
const SEGMENTS_REMOVED_AT_ONCE: usize = 4;

impl Writer {
    /// Drops the oldest segments until the data files have at most `bytes_max`. The segment that is
    /// appended to stays.
    pub(crate) fn trim(&self, bytes_max: u64) -> Result<TrimStats> {
        self.dir().check_writable()?;
        // The trim before may have left sets to the thread that seals. They are dropped here, since a
        // cache could grow faster than that thread removes files.
        self.drop_unused_sets();
        let oldest = self.begin_phase(|| {
            let oldest = oldest_beyond(&self.set(), bytes_max);
            let closing = Closing::that_drops(&oldest);
            Ok((Phase::Closing(Arc::new(closing)), oldest))
        })?;
        // Until this is dropped, a put appends an object whose only copies are about to go.
        let _closing = EndsPhase(self);
        self.drop_segments(&oldest)
    }

    fn drop_segments(&self, ids: &BTreeSet<u32>) -> Result<TrimStats> {
        self.seal_while(|id| ids.contains(&id))?;
        let (dropping, stats) = chosen(&self.shared.set.load_full(), ids);
        if dropping.is_empty() {
            return Ok(stats);
        }
        let manifest_bytes = self.lock_ledger().bytes_with(dropping.len());
        self.dir().require_space([manifest_bytes])?;
        // The last handle to a segment removes its files. While this set is held, that is the handle of
        // the set that the commit replaces, which the thread that seals drops. A disk that is nearly full
        // needs their room now.
        let dropped_bytes = stats.bytes_before - stats.bytes_after;
        let is_left_to_thread = dropping.len() > SEGMENTS_REMOVED_AT_ONCE
            && self.dir().require_space([dropped_bytes]).is_ok();
        let left_to_thread = is_left_to_thread.then(|| self.set());
        self.commit_compaction(ids, &[])?;
        self.events.trims.add(1);
        for segment in dropping {
            segment.data().retire(self.dir());
        }
        if left_to_thread.is_none() {
            self.drop_unused_sets();
        }
        Ok(stats)
    }
}

/// Ends the phase of a trim, also if a panic drops it.
struct EndsPhase<'a>(&'a Writer);

impl Drop for EndsPhase<'_> {
    fn drop(&mut self) {
        self.0.set_phase(Phase::Idle);
    }
}

/// Returns the length of each data file, in bytes, by the id of its segment.
fn data_lengths(set: &SegmentSet) -> BTreeMap<u32, u64> {
    let sealed = set.sealed().iter();
    let sealed = sealed.map(|sealed| (sealed.id(), sealed.data().len()));
    let unsealed = set.unsealed().iter();
    let unsealed = unsealed.map(|active| (active.id(), active.flushed_bytes()));
    sealed.chain(unsealed).collect()
}

/// Returns the lowest ids of segments without which the data files have at most `bytes_max`, or of
/// all segments but the one that is appended to.
fn oldest_beyond(set: &SegmentSet, bytes_max: u64) -> BTreeSet<u32> {
    let lengths = data_lengths(set);
    let active = set.unsealed().last().map(|active| active.id());
    let mut left: u64 = lengths.values().sum();
    let droppable = lengths.into_iter().filter(|(id, _)| Some(*id) != active);
    let oldest = droppable.take_while(|(_, bytes)| {
        let is_beyond = left > bytes_max;
        left -= bytes;
        is_beyond
    });
    oldest.map(|(id, _)| id).collect()
}

/// Returns the sealed segments with these ids, and the result of dropping them.
fn chosen(set: &SegmentSet, ids: &BTreeSet<u32>) -> (Vec<Arc<Sealed>>, TrimStats) {
    let dropping = set.sealed().iter().filter(|s| ids.contains(&s.id()));
    let dropping: Vec<Arc<Sealed>> = dropping.cloned().collect();
    let bytes_before: u64 = data_lengths(set).values().sum();
    let dropped_bytes: u64 = dropping.iter().map(|sealed| sealed.data().len()).sum();
    let objects = dropping.iter().map(|s| u64::from(s.binding().objects));
    let stats = TrimStats {
        dropped_objects: objects.sum(),
        dropped_segments: dropping.len() as u64,
        bytes_before,
        bytes_after: bytes_before - dropped_bytes,
    };
    (dropping, stats)
}
