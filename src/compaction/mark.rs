//! Which records are live.

use std::sync::Arc;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::error::Result;
use crate::segment::Sealed;
use crate::segment::bits::AtomicBits;
use crate::segment_set::Place;

/// What [`mark`] found out.
#[derive(Debug)]
pub(super) struct Marks {
    /// For each input, in their order, which records stay, by their position in the sidecar.
    pub(super) live: Vec<AtomicBits>,
    pub(super) live_objects: u64,
    pub(super) dropped_objects: u64,
}

/// How many entries one task of [`mark`] takes on.
const PARTITION_ENTRIES: usize = 1 << 16;

/// Asks `keep` once for each object. Of several copies of a live object one stays, the last that
/// verifies; if none does, all are marked, and copying them will say so.
///
/// The sidecars are sorted, so each task takes the digests from one leading value to the next out of
/// all of them, which reads them in order.
pub(super) fn mark(
    inputs: &[Arc<Sealed>],
    keep: &(impl Fn(&Digest) -> bool + Sync),
) -> Result<Marks> {
    let mut live = Vec::with_capacity(inputs.len());
    let mut entries = 0;
    for input in inputs {
        // What the index lacks could be live, and dropping the segment would drop it.
        input.check_complete()?;
        let records = input.index()?.len();
        live.push(AtomicBits::new(records));
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
    live: &[AtomicBits],
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

#[cfg(test)]
mod tests {
    use super::*;

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
