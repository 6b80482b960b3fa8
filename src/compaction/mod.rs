//! Copies the live objects of sealed segments into new segments.
//!
//! There are three steps: [`mark`](mod@mark) asks for each record whether it is live,
//! [`plan`](mod@plan) decides where each record is copied, and [`copy`](mod@copy) copies it.
//! Nothing here changes the store; the caller commits the result.

mod copy;
mod live_list;
mod mark;
mod plan;

use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::file_order::positions_in_file_order;
use crate::format::{Sidecar, record};
use crate::memory::AtomicBits;
use crate::segment::{Output, Sealed};
pub(crate) use live_list::LiveList;
use mark::{Marks, mark};
use plan::{InputSize, Plan, plan};

/// Result of a compaction, or the expected result of a planned one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct CompactionStats {
    /// Objects in the compacted segments that stay.
    pub live_objects: u64,
    /// Objects that were dropped.
    pub dropped_objects: u64,
    /// Digests in the list of live objects that the store does not hold.
    pub live_missing: u64,
    /// Data and sidecars of the compacted segments before, in bytes.
    pub bytes_before: u64,
    /// Data and sidecars of the segments that took their place, and records that were appended
    /// because they were put again meanwhile, in bytes.
    pub bytes_after: u64,
    /// Bytes that the file system gets back: the difference. Negative if the store grew, which can
    /// happen when pinned objects are copied.
    pub bytes_reclaimed: i64,
    /// Number of sealed segments before.
    pub segments_before: u64,
    /// Number of sealed segments after.
    pub segments_after: u64,
}

impl CompactionStats {
    /// Counts an object that would have been dropped, but of which a copy was appended.
    pub(crate) fn count_straggler(&mut self, content_bytes: u64) {
        self.live_objects += 1;
        self.dropped_objects -= 1;
        let record_bytes = content_bytes + record::HEADER_BYTES;
        self.bytes_after += record_bytes;
        self.bytes_reclaimed -= record_bytes.cast_signed();
    }
}

/// Result of a [`trim`](crate::Store::trim).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct TrimStats {
    /// Objects in the dropped segments. An object counts too if another segment holds a copy.
    pub dropped_objects: u64,
    /// Number of dropped segments.
    pub dropped_segments: u64,
    /// Length of the data files before, in bytes, without records that are still buffered.
    pub bytes_before: u64,
    /// Length of the data files that stay, in bytes.
    pub bytes_after: u64,
}

/// A plan with everything that carrying it out needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) inputs: Vec<Arc<Sealed>>,
    pub(crate) plan: Plan,
    /// For each input that is replaced, the positions of its live records in file order.
    live: Vec<Vec<u32>>,
    marks: Marks,
    /// Says whether this merges segments that hold no dead record.
    merging: Merging,
    /// Data and sidecars of the new segments, in bytes.
    copied_bytes: u64,
    stats: CompactionStats,
}

/// Marks the live records and plans the copying.
pub(crate) fn prepare(
    inputs: Vec<Arc<Sealed>>,
    segment_bytes_max: u64,
    keep: &(impl Fn(&Digest) -> bool + Sync),
) -> Result<Prepared> {
    let marks = mark(&inputs, keep)?;
    let merging = Merging {
        segment_bytes_max,
        is_wanted: true,
    };
    prepare_marked(inputs, marks, merging)
}

/// Whether undersized segments are merged, and into how large ones.
#[derive(Clone, Copy, Debug)]
struct Merging {
    segment_bytes_max: u64,
    is_wanted: bool,
}

/// Plans the copying of the live records.
fn prepare_marked(inputs: Vec<Arc<Sealed>>, marks: Marks, merging: Merging) -> Result<Prepared> {
    let both = || inputs.par_iter().zip(&marks.live);
    let partly_live = |(input, bits): (&Arc<Sealed>, &AtomicBits)| {
        let is_whole = bits.count() == input.sidecar()?.len() as u64;
        let records = (!is_whole).then(|| live_records(input, bits));
        records.transpose()
    };
    let mut copied: Vec<Option<LiveRecords>> = both().map(partly_live).collect::<Result<_>>()?;
    let merged = if merging.is_wanted {
        plan::merged(&input_sizes(&inputs, &copied), merging.segment_bytes_max)
    } else {
        vec![false; inputs.len()]
    };
    let of_merged = both().zip(&merged).map(|((input, bits), is_merged)| {
        let records = is_merged.then(|| live_records(input, bits));
        records.transpose()
    });
    let of_merged: Vec<Option<LiveRecords>> = of_merged.collect::<Result<_>>()?;
    for (copied, of_merged) in copied.iter_mut().zip(of_merged) {
        *copied = copied.take().or(of_merged);
    }
    let (live, lengths): (Vec<_>, Vec<_>) = copied
        .into_iter()
        .map(|records| match records {
            Some(LiveRecords { positions, lengths }) => (positions, Some(lengths)),
            None => (Vec::new(), None),
        })
        .unzip();
    let plan = plan(&lengths, merging.segment_bytes_max);
    check_plan(&plan, &lengths, &marks)?;
    let copied_bytes = copied_bytes(&plan, &lengths);
    let stats = planned_stats(&inputs, &plan, copied_bytes, &marks);
    Ok(Prepared {
        inputs,
        plan,
        live,
        marks,
        merging: Merging {
            is_wanted: merged.contains(&true),
            ..merging
        },
        copied_bytes,
        stats,
    })
}

fn input_sizes(inputs: &[Arc<Sealed>], copied: &[Option<LiveRecords>]) -> Vec<InputSize> {
    let sizes = inputs.iter().zip(copied).map(|(input, copied)| InputSize {
        live_bytes: match copied {
            Some(records) => records.bytes(),
            None => input.binding().data_bytes,
        },
        is_whole: copied.is_none(),
    });
    sizes.collect()
}

/// Fails unless the plan keeps every marked record. A commit would drop a record that is left out.
fn check_plan(plan: &Plan, lengths: &[Option<Vec<u32>>], marks: &Marks) -> Result<()> {
    let marked: u64 = marks.live.iter().map(AtomicBits::count).sum();
    let replaced = marks.live.iter().zip(lengths);
    let replaced = replaced.filter_map(|(bits, lengths)| Some((bits.count(), lengths.as_ref()?)));
    let (expected, planned) = replaced.fold((0, 0), |(expected, planned), (marked, lengths)| {
        (expected + marked, planned + lengths.len() as u64)
    });
    if planned == expected && marked >= marks.live_objects && plan.covers(lengths) {
        Ok(())
    } else {
        let planned: usize = plan.output_records().sum();
        Err(Error::IncompleteCompaction {
            live: expected,
            copied: planned as u64,
        })
    }
}

/// The live records of a segment in file order.
struct LiveRecords {
    /// Their positions in the sidecar.
    positions: Vec<u32>,
    /// The lengths of their contents.
    lengths: Vec<u32>,
}

impl LiveRecords {
    /// Length of the records in a data file.
    fn bytes(&self) -> u64 {
        let lengths = self.lengths.iter();
        lengths
            .map(|&len| u64::from(len) + record::HEADER_BYTES)
            .sum()
    }
}

fn live_records(input: &Sealed, bits: &AtomicBits) -> Result<LiveRecords> {
    let sidecar = input.sidecar()?;
    let positions = positions_in_file_order(input, |at| bits.get(at))?;
    let lengths = positions.iter().map(|&at| sidecar.entry(at as usize));
    let lengths = lengths.flatten().map(|entry| entry.len).collect();
    Ok(LiveRecords { positions, lengths })
}

fn file_bytes(sealed: &Sealed) -> u64 {
    sealed.binding().data_bytes + sealed.index_bytes()
}

/// Length of data and sidecars of the new segments.
fn copied_bytes(plan: &Plan, lengths: &[Option<Vec<u32>>]) -> u64 {
    let per_record = record::HEADER_BYTES + crate::format::sidecar::ENTRY_BYTES as u64;
    let per_segment = Sidecar::<&[u8]>::encoded_bytes(0);
    let records = lengths.iter().flatten().flatten();
    let records = records.map(|&len| u64::from(len) + per_record);
    records.sum::<u64>() + plan.outputs.len() as u64 * per_segment
}

fn planned_stats(
    inputs: &[Arc<Sealed>],
    plan: &Plan,
    copied_bytes: u64,
    marks: &Marks,
) -> CompactionStats {
    let kept: u64 = plan
        .kept
        .iter()
        .map(|&input| file_bytes(&inputs[input]))
        .sum();
    let bytes_after = kept + copied_bytes;
    let bytes_before = inputs.iter().map(|input| file_bytes(input)).sum();
    CompactionStats {
        live_objects: marks.live_objects,
        dropped_objects: marks.dropped_objects,
        live_missing: 0,
        bytes_before,
        bytes_after,
        bytes_reclaimed: bytes_before.wrapping_sub(bytes_after).cast_signed(),
        segments_before: inputs.len() as u64,
        segments_after: (plan.kept.len() + plan.outputs.len()) as u64,
    }
}

impl Prepared {
    /// Whether an input holds a copy of an object that stays.
    pub(crate) fn is_live_in(&self, input: usize, digest: &Digest) -> bool {
        let positions = self.inputs[input].find(digest);
        // An input that cannot be asked is not known to keep a copy.
        positions.is_ok_and(|mut positions| {
            positions.any(|(position, _)| self.marks.live[input].get(position))
        })
    }

    /// Whether the plan copies segments only to merge them.
    pub(crate) const fn merges(&self) -> bool {
        self.merging.is_wanted
    }

    /// Plans anew, without merging.
    pub(crate) fn without_merging(self) -> Result<Self> {
        let merging = Merging {
            is_wanted: false,
            ..self.merging
        };
        prepare_marked(self.inputs, self.marks, merging)
    }

    /// The expected result of carrying out the plan.
    pub(crate) fn stats(&self) -> CompactionStats {
        self.stats.clone()
    }

    /// Fails unless the outputs together hold as many records as are live in the inputs that they
    /// replace, and each output as many as planned.
    fn check_outputs(&self, outputs: &[Output]) -> Result<()> {
        let live: usize = self.live.iter().map(Vec::len).sum();
        let copied = outputs.iter().map(|output| output.sidecar.len());
        let total: usize = copied.clone().sum();
        if total == live && copied.eq(self.plan.output_records()) {
            Ok(())
        } else {
            Err(Error::IncompleteCompaction {
                live: live as u64,
                copied: total as u64,
            })
        }
    }

    /// File lengths that together bound the disk space of the new files: one length for all of
    /// them, and one byte, which takes a block, for each.
    pub(crate) fn file_bytes(&self) -> impl Iterator<Item = u64> {
        let files = 2 * self.plan.outputs.len();
        std::iter::once(self.copied_bytes).chain(std::iter::repeat_n(1, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Merging = Merging {
        segment_bytes_max: 0,
        is_wanted: false,
    };

    #[test]
    fn a_straggler_is_live_and_takes_room() {
        let mut stats = CompactionStats {
            live_objects: 5,
            dropped_objects: 3,
            bytes_before: 2000,
            bytes_after: 1000,
            bytes_reclaimed: 1000,
            ..CompactionStats::default()
        };
        stats.count_straggler(96);
        stats.count_straggler(996);
        assert_eq!((stats.live_objects, stats.dropped_objects), (7, 1));
        assert_eq!((stats.bytes_after, stats.bytes_reclaimed), (2100, -100));
        assert_eq!((stats.bytes_before, stats.live_missing), (2000, 0));
    }

    /// Once a sentinel in the plan was taken for a length: nothing was copied, and all was dropped.
    #[test]
    fn h50_outputs_that_lack_live_records_are_not_committed() {
        let prepared = |outputs| Prepared {
            inputs: Vec::new(),
            plan: Plan {
                kept: Vec::new(),
                replaced: vec![0],
                outputs,
            },
            live: vec![vec![0, 2]],
            marks: Marks::default(),
            merging: NONE,
            copied_bytes: 0,
            stats: CompactionStats::default(),
        };
        let refused = |prepared: &Prepared| {
            let error = prepared.check_outputs(&[]).unwrap_err();
            matches!(error, Error::IncompleteCompaction { live: 2, copied: 0 })
        };
        assert!(refused(&prepared(Vec::new())));
        assert!(refused(&prepared(vec![vec![(0, 0..2)]])));
        let nothing_live = Prepared {
            live: vec![Vec::new()],
            ..prepared(Vec::new())
        };
        nothing_live.check_outputs(&[]).unwrap();
    }

    /// H1: each of the two files of a new segment can end in a block that is not full.
    #[test]
    fn h1_room_is_asked_for_each_new_file() {
        let prepared = Prepared {
            inputs: Vec::new(),
            plan: plan(&[Some(vec![6, 6, 6, 6, 6])], 10),
            live: Vec::new(),
            marks: Marks::default(),
            merging: NONE,
            copied_bytes: 777,
            stats: CompactionStats::default(),
        };
        let lengths: Vec<u64> = prepared.file_bytes().collect();
        assert_eq!((lengths[0], lengths.len()), (777, 1 + 2 * 5));
        assert!(lengths[1..].iter().all(|&len| len == 1));
    }
}
