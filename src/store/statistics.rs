//! Computes figures about a store.

use crate::digest::HashFunction;
use crate::dir::{Dir, FileKind, Listing};
use crate::engine::EventCounts;
use crate::segment_set::SegmentSet;

/// Figures about a store, from [`Store::stats`](crate::Store::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct StoreStats {
    /// The hash function by which the store names its objects.
    pub hash_function: HashFunction,
    /// Number of objects; see [`Store::len`](crate::Store::len).
    pub objects: u64,
    /// Total length of their contents, in bytes.
    pub content_bytes: u64,
    /// Total length of the data files, in bytes.
    pub data_file_bytes: u64,
    /// Total length of the sidecars, in bytes.
    pub index_file_bytes: u64,
    /// Total length of the runs of the set index, in bytes.
    pub set_index_file_bytes: u64,
    /// Number of data files, sidecars and runs of the set index.
    pub files: u64,
    /// Number of files with bytes that an opening cut off the end of a segment, `seg-N.torn`. They
    /// are counted in the folder; 0 if it cannot be listed. See
    /// [`remove_leftovers`](crate::Store::remove_leftovers).
    pub torn_files: u64,
    /// Total length of those files, in bytes.
    pub torn_file_bytes: u64,
    /// Number of files and folders beside the data files that are not the store's. They are left
    /// alone; [`verify`](crate::Store::verify) names them.
    pub foreign_files: u64,
    /// Number of runs of the set index, each of which a lookup probes.
    pub set_index_runs: u64,
    /// Number of sealed segments that no run covers yet, which a lookup has to ask one by one.
    pub uncovered_segments: u64,
    /// What has happened since the store was opened.
    pub events: EventCounts,
    /// Figures about each segment, sorted by id.
    pub segments: Vec<SegmentStats>,
}

/// Figures about one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SegmentStats {
    /// Id of the segment, which is in the names of its files.
    pub id: u32,
    /// State of the segment.
    pub state: SegmentState,
    /// Number of its objects.
    pub objects: u64,
    /// Length of its data file, in bytes, without records that are still buffered.
    pub data_bytes: u64,
    /// Length of its sidecar, in bytes; 0 before the segment is sealed.
    pub index_bytes: u64,
}

/// The state of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum SegmentState {
    /// Puts append to the segment.
    Active,
    /// The segment is full and waits to be sealed.
    Sealing,
    /// The segment is never written to again.
    Sealed,
}

impl StoreStats {
    pub(super) fn count_leftovers(&mut self, dir: &Dir, listing: &Listing) {
        let torn = listing.torn.iter();
        let torn = torn.map(|&id| dir.segment_path(id, FileKind::Torn).own_status());
        for status in torn.flatten() {
            self.torn_files += 1;
            self.torn_file_bytes += status.len;
        }
        self.foreign_files = listing.foreign.len() as u64;
    }
}

pub(super) fn stats(set: &SegmentSet) -> StoreStats {
    let mut stats = StoreStats {
        hash_function: set.hash_function(),
        ..StoreStats::default()
    };
    for sealed in set.sealed() {
        stats.content_bytes += sealed.content_bytes();
        stats.files += 2;
        stats.segments.push(SegmentStats {
            id: sealed.id(),
            state: SegmentState::Sealed,
            objects: u64::from(sealed.binding().objects),
            data_bytes: sealed.data().len(),
            index_bytes: sealed.index_bytes(),
        });
    }
    for (position, active) in set.unsealed().iter().enumerate() {
        let is_last = position + 1 == set.unsealed().len();
        stats.content_bytes += active.content_bytes();
        stats.files += 1;
        stats.segments.push(SegmentStats {
            id: active.id(),
            state: if is_last {
                SegmentState::Active
            } else {
                SegmentState::Sealing
            },
            objects: active.objects(),
            data_bytes: active.flushed_bytes(),
            index_bytes: 0,
        });
    }
    stats.segments.sort_by_key(|segment| segment.id);
    for resolved in set.runs() {
        stats.files += 1;
        stats.set_index_runs += 1;
        stats.set_index_file_bytes += resolved.run().file_bytes();
    }
    stats.uncovered_segments = set.uncovered().len() as u64;
    stats.objects = set.objects();
    stats.data_file_bytes = stats
        .segments
        .iter()
        .map(|segment| segment.data_bytes)
        .sum();
    stats.index_file_bytes = stats
        .segments
        .iter()
        .map(|segment| segment.index_bytes)
        .sum();
    stats
}
