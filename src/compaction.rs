//! Copying the live objects of sealed segments into new ones.
//!
//! Three steps: [`mark`] asks for each record whether it is live, [`plan`] decides what is copied
//! where, and [`copy`] does it. Nothing here changes the store; the caller commits the result.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::dir::{Dir, FileKind, WritableFile};
use crate::error::{Error, Result};
use crate::format::{Entry, Index, SealedSegment, record};
use crate::scan::positions_in_file_order;
use crate::segment::Sealed;
use crate::segment::sealed::binding_of;
use crate::segment_set::{Place, SegmentSet};

/// Result of a compaction, or what a planned one would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// Data and sidecars of those that took their place, and records that were appended because they
    /// were put again meanwhile, in bytes.
    pub bytes_after: u64,
    /// What the file system gets back: the difference. Negative where a store grew, which copying
    /// pinned objects can do.
    pub bytes_reclaimed: i64,
    /// Number of sealed segments before.
    pub segments_before: u64,
    /// Number of sealed segments after.
    pub segments_after: u64,
}

impl CompactionStats {
    /// An object that was to be dropped is kept after all: a copy of it was appended.
    pub(crate) fn count_straggler(&mut self, content_bytes: u64) {
        self.live_objects += 1;
        self.dropped_objects -= 1;
        let record_bytes = content_bytes + record::HEADER_BYTES;
        self.bytes_after += record_bytes;
        self.bytes_reclaimed -= record_bytes.cast_signed();
    }
}

/// Which records of one segment stay, a bit for each position in the sidecar.
#[derive(Debug)]
pub(crate) struct LiveBits(Vec<AtomicU64>);

impl LiveBits {
    fn new(records: usize) -> Self {
        let words = std::iter::repeat_with(AtomicU64::default);
        Self(words.take(records.div_ceil(64)).collect())
    }

    fn set(&self, position: usize) {
        self.0[position / 64].fetch_or(1 << (position % 64), Ordering::Relaxed);
    }

    fn get(&self, position: usize) -> bool {
        self.0[position / 64].load(Ordering::Relaxed) & (1 << (position % 64)) != 0
    }

    fn count(&self) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.0.iter().map(ones).sum()
    }
}

/// What [`mark`] found out.
#[derive(Debug)]
pub(crate) struct Marks {
    /// For each input, in their order.
    live: Vec<LiveBits>,
    live_objects: u64,
    dropped_objects: u64,
}

/// How many entries one task of [`mark`] takes on.
const PARTITION_ENTRIES: usize = 1 << 16;

/// Asks `keep` once for each object. Of several copies of a live object one stays, the last that
/// verifies; if none does, all are marked, and copying them will say so.
///
/// The sidecars are sorted, so each task takes the digests from one leading value to the next out of
/// all of them, which reads them in order.
pub(crate) fn mark(
    inputs: &[Arc<Sealed>],
    keep: &(impl Fn(&Digest) -> bool + Sync),
) -> Result<Marks> {
    let mut live = Vec::with_capacity(inputs.len());
    let mut entries = 0;
    for input in inputs {
        if let Some(reason) = input.doubt()? {
            // What the index lacks could be live, and dropping the segment would drop it.
            return Err(Error::CorruptIndex {
                segment: input.id(),
                reason: reason.to_owned(),
            });
        }
        let records = input.index()?.len();
        live.push(LiveBits::new(records));
        entries += records;
    }
    let partitions = entries.div_ceil(PARTITION_ENTRIES).clamp(1, 1 << 16);
    let (live_objects, dropped_objects) = (0..partitions)
        .into_par_iter()
        .map(|partition| mark_partition(inputs, &live, partition, partitions, keep))
        .try_reduce(|| (0, 0), |a, b| Ok((a.0 + b.0, a.1 + b.1)))?;
    Ok(Marks {
        live,
        live_objects,
        dropped_objects,
    })
}

/// One copy of an object: its input, its position in that sidecar.
type Copy = (Digest, usize, usize);

fn mark_partition(
    inputs: &[Arc<Sealed>],
    live: &[LiveBits],
    partition: usize,
    partitions: usize,
    keep: &impl Fn(&Digest) -> bool,
) -> Result<(u64, u64)> {
    let mut copies: Vec<Copy> = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let index = input.index()?;
        let begin = index.lower_bound(0..index.len(), &partition_begin(partition, partitions));
        let end = if partition + 1 == partitions {
            index.len()
        } else {
            index.lower_bound(
                begin..index.len(),
                &partition_begin(partition + 1, partitions),
            )
        };
        let entries = (begin..end).filter_map(|at| Some((index.entry(at)?.digest, number, at)));
        copies.extend(entries);
    }
    copies.sort_unstable();
    let (mut live_objects, mut dropped_objects) = (0, 0);
    for copies in copies.chunk_by(|a, b| a.0 == b.0) {
        if !keep(&copies[0].0) {
            dropped_objects += 1;
            continue;
        }
        live_objects += 1;
        let stays = match copies {
            [only] => std::slice::from_ref(only),
            several => match several.iter().rfind(|copy| verifies(inputs, copy)) {
                Some(whole) => std::slice::from_ref(whole),
                None => several,
            },
        };
        for &(_, number, position) in stays {
            live[number].set(position);
        }
    }
    Ok((live_objects, dropped_objects))
}

/// The least digest of a partition: its number scaled to the first two bytes and beyond.
fn partition_begin(partition: usize, partitions: usize) -> Digest {
    let scaled = ((partition as u128) << 64) / (partitions as u128);
    let mut bytes = [0; 32];
    // A partition's number is less than that of all partitions, so this fits 64 bits.
    bytes[..8].copy_from_slice(&u64::try_from(scaled).unwrap_or(u64::MAX).to_be_bytes());
    Digest::from(bytes)
}

fn verifies(inputs: &[Arc<Sealed>], &(_, number, position): &Copy) -> bool {
    let entry = inputs[number]
        .index()
        .ok()
        .and_then(|index| index.entry(position));
    entry.is_some_and(|entry| Place::Sealed(&inputs[number], entry).object().is_ok())
}

/// What is to be done: pure numbers, no files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Inputs that stay as they are, because all their records do.
    pub(crate) kept: Vec<usize>,
    /// Inputs that go.
    pub(crate) replaced: Vec<usize>,
    /// For each new segment, which live records of which inputs, in file order. The range counts
    /// live records in file order.
    pub(crate) outputs: Vec<Vec<(usize, Range<usize>)>>,
}

/// Lays out the live records of the inputs that hold a dead one, in file order, filling segments of
/// at most `segment_bytes_max`. A record that is larger than that gets a segment of its own.
///
/// `live_lengths` has for each input the content lengths of its live records in file order, or
/// `None` if it holds no dead record.
pub(crate) fn plan(live_lengths: &[Option<Vec<u32>>], segment_bytes_max: u64) -> Plan {
    let mut plan = Plan {
        kept: Vec::new(),
        replaced: Vec::new(),
        outputs: Vec::new(),
    };
    let mut filled_bytes = u64::MAX;
    for (input, lengths) in live_lengths.iter().enumerate() {
        let Some(lengths) = lengths else {
            plan.kept.push(input);
            continue;
        };
        plan.replaced.push(input);
        let mut begin = 0;
        for (position, &len) in lengths.iter().enumerate() {
            let record_bytes = u64::from(len) + record::HEADER_BYTES;
            if filled_bytes.saturating_add(record_bytes) > segment_bytes_max {
                push_range(&mut plan.outputs, input, begin..position);
                begin = position;
                plan.outputs.push(Vec::new());
                filled_bytes = 0;
            }
            filled_bytes += record_bytes;
        }
        push_range(&mut plan.outputs, input, begin..lengths.len());
    }
    plan
}

fn push_range(outputs: &mut [Vec<(usize, Range<usize>)>], input: usize, range: Range<usize>) {
    if let Some(output) = outputs.last_mut()
        && !range.is_empty()
    {
        output.push((input, range));
    }
}

/// A plan with all that is needed to carry it out.
pub(crate) struct Prepared {
    pub(crate) inputs: Vec<Arc<Sealed>>,
    pub(crate) plan: Plan,
    /// For each input that is replaced, the positions of its live records in file order.
    live: Vec<Vec<u32>>,
    stats: CompactionStats,
}

/// Marks and plans.
pub(crate) fn prepare(
    inputs: Vec<Arc<Sealed>>,
    segment_bytes_max: u64,
    keep: &(impl Fn(&Digest) -> bool + Sync),
) -> Result<Prepared> {
    let marks = mark(&inputs, keep)?;
    let live: Vec<Vec<u32>> = inputs
        .par_iter()
        .zip(&marks.live)
        .map(|(input, bits)| live_positions(input, bits))
        .collect::<Result<_>>()?;
    let lengths: Vec<Option<Vec<u32>>> = inputs
        .par_iter()
        .zip(&marks.live)
        .zip(&live)
        .map(|((input, bits), live)| {
            let index = input.index()?;
            let lengths = live
                .iter()
                .filter_map(|&at| Some(index.entry(at as usize)?.len));
            let all_live = bits.count() == index.len() as u64;
            Ok((!all_live).then(|| lengths.collect()))
        })
        .collect::<Result<_>>()?;
    let plan = plan(&lengths, segment_bytes_max);
    let stats = planned_stats(&inputs, &plan, &lengths, &marks);
    Ok(Prepared {
        inputs,
        plan,
        live,
        stats,
    })
}

fn live_positions(input: &Sealed, bits: &LiveBits) -> Result<Vec<u32>> {
    let order = positions_in_file_order(input)?;
    Ok(order
        .into_iter()
        .filter(|&at| bits.get(at as usize))
        .collect())
}

fn file_bytes(sealed: &Sealed) -> u64 {
    sealed.binding().data_bytes + sealed.index_bytes()
}

fn planned_stats(
    inputs: &[Arc<Sealed>],
    plan: &Plan,
    lengths: &[Option<Vec<u32>>],
    marks: &Marks,
) -> CompactionStats {
    let copied: Vec<u64> = lengths
        .iter()
        .flatten()
        .flatten()
        .map(|&len| u64::from(len))
        .collect();
    let per_record = record::HEADER_BYTES + crate::format::index::ENTRY_BYTES as u64;
    let per_segment = Index::<&[u8]>::encoded_bytes(0).unwrap_or_default();
    let kept: u64 = plan
        .kept
        .iter()
        .map(|&input| file_bytes(&inputs[input]))
        .sum();
    let bytes_after = kept
        + copied.iter().sum::<u64>()
        + copied.len() as u64 * per_record
        + plan.outputs.len() as u64 * per_segment;
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
    /// What carrying it out will do.
    pub(crate) fn stats(&self) -> CompactionStats {
        self.stats.clone()
    }

    /// Copies into temporaries, one task for each new segment, in parallel; each record is verified.
    /// Everything is durable when this returns, under its temporary name. On an error the temporaries
    /// are removed.
    pub(crate) fn copy(&self, dir: &Dir, ids: &[u32], set: &SegmentSet) -> Result<Vec<Output>> {
        let outputs: Vec<Result<Output>> = ids
            .par_iter()
            .zip(&self.plan.outputs)
            .map(|(&id, parts)| self.copy_output(dir, id, parts, set))
            .collect();
        if outputs.iter().any(Result::is_err) {
            for output in outputs.iter().flatten() {
                output.discard(dir);
            }
        }
        outputs.into_iter().collect()
    }

    fn copy_output(
        &self,
        dir: &Dir,
        id: u32,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Output> {
        let data = dir.create_segment_temporary(id, FileKind::Data)?;
        let written = self.write_output(&data, parts, set).and_then(|copied| {
            data.sync()?;
            let sidecar = dir.create_segment_temporary(id, FileKind::Sidecar)?;
            let written = sidecar.write_all_at(copied.index.as_bytes(), 0);
            let written = written.and_then(|()| sidecar.sync());
            if let Err(error) = written {
                let _ = dir.remove_if_present(sidecar.path());
                return Err(error);
            }
            Ok((copied, sidecar))
        });
        match written {
            Ok((Copied { index, data_bytes }, sidecar)) => Ok(Output {
                id,
                binding: binding_of(&index, data_bytes),
                index: Arc::new(index),
                // Their names are all that is needed from here on; there may be many of them.
                data: data.path().to_owned(),
                sidecar: sidecar.path().to_owned(),
            }),
            Err(error) => {
                let _ = dir.remove_if_present(data.path());
                Err(error)
            }
        }
    }

    fn write_output(
        &self,
        file: &WritableFile,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Copied> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut written_bytes = 0;
        let mut entries = Vec::new();
        for (number, range) in parts {
            let input = &self.inputs[*number];
            let index = input.index()?;
            for &position in &self.live[*number][range.clone()] {
                let Some(source) = index.entry(position as usize) else {
                    continue;
                };
                let object = match Place::Sealed(input, source).object() {
                    Ok(Some(object)) => object,
                    // Another copy may be whole.
                    failed => set
                        .get(&source.digest)?
                        .map_or_else(|| failed, |o| Ok(Some(o)))?
                        .ok_or(Error::Corrupt {
                            digest: source.digest,
                            segment: input.id(),
                            offset: source.offset,
                        })?,
                };
                chunk.extend_from_slice(&record::header(source.len));
                entries.push(Entry {
                    offset: written_bytes + chunk.len() as u64,
                    ..source
                });
                if chunk.len() + object.len() > CHUNK_BYTES {
                    file.write_all_at(&chunk, written_bytes)?;
                    written_bytes += chunk.len() as u64;
                    chunk.clear();
                }
                if object.len() > CHUNK_BYTES {
                    file.write_all_at(&object, written_bytes)?;
                    written_bytes += object.len() as u64;
                } else {
                    chunk.extend_from_slice(&object);
                }
            }
        }
        file.write_all_at(&chunk, written_bytes)?;
        let data_bytes = written_bytes + chunk.len() as u64;
        Ok(Copied {
            index: Index::build(&mut entries),
            data_bytes,
        })
    }
}

struct Copied {
    index: Index<Vec<u8>>,
    data_bytes: u64,
}

/// A new segment, durable under temporary names.
pub(crate) struct Output {
    pub(crate) id: u32,
    pub(crate) binding: SealedSegment,
    pub(crate) index: Arc<Index<Vec<u8>>>,
    data: PathBuf,
    sidecar: PathBuf,
}

impl Output {
    /// Gives both files their names. The directory is not synced yet.
    pub(crate) fn rename_into_place(&self, dir: &Dir) -> Result<()> {
        dir.rename_into_place(&self.data)?;
        dir.rename_into_place(&self.sidecar)
    }

    /// Removes the files, under whatever name they have.
    pub(crate) fn discard(&self, dir: &Dir) {
        // What stays is removed by the next opening: it has the name of a temporary, or the manifest
        // lists it as retired.
        let _ = dir.remove_if_present(&self.data);
        let _ = dir.remove_if_present(&self.sidecar);
        let _ = dir.remove_segment(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_without_dead_records_is_kept() {
        let plan = plan(&[None, Some(vec![1]), None], 100);
        assert_eq!(plan.kept, [0, 2]);
        assert_eq!(plan.replaced, [1]);
        assert_eq!(plan.outputs, [vec![(1, 0..1)]]);
    }

    #[test]
    fn segments_are_filled_across_inputs_and_in_order() {
        let plan = plan(&[Some(vec![6, 6, 6]), Some(vec![6, 200, 6])], 20);
        assert_eq!(
            plan.outputs,
            [
                vec![(0, 0..2)],
                vec![(0, 2..3), (1, 0..1)],
                vec![(1, 1..2)],
                vec![(1, 2..3)],
            ]
        );
    }

    #[test]
    fn a_segment_with_nothing_live_leaves_nothing() {
        let plan = plan(&[Some(vec![]), Some(vec![])], 20);
        assert_eq!((plan.replaced, plan.outputs), (vec![0, 1], vec![]));
    }

    #[test]
    fn partitions_cover_all_digests_in_order() {
        for partitions in [1, 2, 3, 7, 256, 65_536] {
            let begins: Vec<Digest> = (0..partitions)
                .map(|p| partition_begin(p, partitions))
                .collect();
            assert_eq!(begins[0], Digest::from([0; 32]));
            assert!(begins.is_sorted_by(|a, b| a < b), "{partitions}");
        }
    }
}
