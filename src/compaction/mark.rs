//! Finds the live records.

use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::error::Result;
use crate::format::Entry;
use crate::memory::AtomicBits;
use crate::options::VerifyReads;
use crate::segment::Sealed;
use crate::segment_set::{ObjectCopy, Tried};

/// The result of [`mark`].
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// For each input, in their order, the records that stay, by their position in the sidecar.
    pub(super) live: Vec<AtomicBits>,
    pub(super) live_objects: u64,
    pub(super) dropped_objects: u64,
}

/// Number of entries that one task of [`mark`] takes on at least.
const PARTITION_ENTRIES: usize = 1 << 16;
/// Average number of entries of each input that one task takes on at least. Each task looks into
/// each input; with fewer entries, marking would take time quadratic in the number of segments.
const PARTITION_ENTRIES_OF_INPUT: usize = 16;

fn partitions(entries: usize, inputs: usize) -> usize {
    let entries_min = inputs.saturating_mul(PARTITION_ENTRIES_OF_INPUT);
    let partition_entries = entries_min.max(PARTITION_ENTRIES);
    entries.div_ceil(partition_entries).clamp(1, 1 << 16)
}

/// Asks `keep` once for each object. Marks one copy of a live object: the last that verifies. If
/// none verifies, marks all of them, and copying them will fail.
///
/// The sidecars are sorted. Each task takes the digests of one range out of all of them, which
/// reads them in order.
pub(super) fn mark(
    inputs: &[Arc<Sealed>],
    keep: &(impl Fn(&Digest) -> bool + Sync),
) -> Result<Marks> {
    // An object that a sidecar lacks could be live, and dropping the segment would drop it. This
    // reads a sidecar as a whole if it is used for the first time.
    let records = inputs.par_iter().map(|input| {
        input.check_complete()?;
        input.fetch_sidecar()?;
        Ok(input.sidecar()?.len())
    });
    let records: Vec<usize> = records.collect::<Result<_>>()?;
    let live: Vec<AtomicBits> = records
        .iter()
        .map(|&count| AtomicBits::new(count))
        .collect();
    let entries: usize = records.iter().sum();
    let partitions = partitions(entries, inputs.len());
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

/// One copy of an object: its input, and its position in the sidecar of that input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    input: u32,
    position: u32,
}

impl Copy {
    fn entry(self, inputs: &[Arc<Sealed>]) -> Result<Option<Entry>> {
        let sidecar = inputs[self.input as usize].sidecar()?;
        Ok(sidecar.entry(self.position as usize))
    }

    fn verifies(self, inputs: &[Arc<Sealed>]) -> bool {
        let entry = self.entry(inputs).ok().flatten();
        let segment = &inputs[self.input as usize];
        entry.is_some_and(|entry| {
            let copy = ObjectCopy::sealed(segment, entry);
            copy.read(VerifyReads::EveryRead, &mut Tried::default())
                .is_ok()
        })
    }
}

fn mark_partition(
    inputs: &[Arc<Sealed>],
    live: &[AtomicBits],
    partition: usize,
    partitions: usize,
    keep: &impl Fn(&Digest) -> bool,
) -> Result<(u64, u64)> {
    let (mut live_objects, mut dropped_objects) = (0, 0);
    let mut same_leading: Vec<(Digest, Copy)> = Vec::new();
    let copies = copies_in(inputs, partition, partitions)?;
    for group in copies.chunk_by(|a, b| a.0 == b.0) {
        same_leading.clear();
        for &(_, copy) in group {
            same_leading.extend(copy.entry(inputs)?.map(|entry| (entry.digest, copy)));
        }
        same_leading.sort_unstable();
        for copies in same_leading.chunk_by(|a, b| a.0 == b.0) {
            if !keep(&copies[0].0) {
                dropped_objects += 1;
                continue;
            }
            live_objects += 1;
            let stays = match copies {
                [only] => std::slice::from_ref(only),
                several => match several.iter().rfind(|(_, copy)| copy.verifies(inputs)) {
                    Some(whole) => std::slice::from_ref(whole),
                    None => several,
                },
            };
            for (_, copy) in stays {
                live[copy.input as usize].set(copy.position as usize);
            }
        }
    }
    Ok((live_objects, dropped_objects))
}

/// The copies in one partition, sorted by the first eight bytes of their digests.
fn copies_in(
    inputs: &[Arc<Sealed>],
    partition: usize,
    partitions: usize,
) -> Result<Vec<(u64, Copy)>> {
    let mut copies = Vec::new();
    for (input, sealed) in (0..).zip(inputs) {
        let sidecar = sealed.sidecar()?;
        let begin = sidecar.lower_bound(0..sidecar.len(), &partition_begin(partition, partitions));
        let end = if partition + 1 == partitions {
            sidecar.len()
        } else {
            sidecar.lower_bound(
                begin..sidecar.len(),
                &partition_begin(partition + 1, partitions),
            )
        };
        copies.extend((begin..end).filter_map(|position| {
            let leading = sidecar.entry_bytes(position)?.first_chunk().copied()?;
            let position = u32::try_from(position).ok()?;
            Some((u64::from_be_bytes(leading), Copy { input, position }))
        }));
    }
    // The copies of each input are sorted already, so the stable sort has only to merge them.
    copies.sort();
    Ok(copies)
}

/// The least digest of a partition: its number scaled to the first two bytes and beyond.
fn partition_begin(partition: usize, partitions: usize) -> Digest {
    let scaled = ((partition as u128) << 64) / (partitions as u128);
    let mut bytes = [0; 32];
    // `partition` is less than `partitions`, so this fits into 64 bits.
    bytes[..8].copy_from_slice(&u64::try_from(scaled).unwrap_or(u64::MAX).to_be_bytes());
    Digest::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h67_inputs_are_looked_into_less_often_than_there_are_entries() {
        for inputs in [1, 1000, 32_000, 1 << 20] {
            for entries_of_input in [0, 1, 1000, 1 << 20] {
                let entries = inputs * entries_of_input;
                let looks = partitions(entries, inputs) * inputs;
                assert!(looks <= entries / 16 + 2 * inputs, "{inputs} {entries}");
            }
        }
        assert_eq!(partitions(1 << 24, 10), 1 << 8);
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
