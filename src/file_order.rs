//! The order of the records of a segment in its data file: the sidecar is sorted by digest.

use crate::error::Result;
use crate::segment::Sealed;

/// Returns the wanted positions in a sidecar, in the order of their records in the data file.
pub(crate) fn positions_in_file_order(
    segment: &Sealed,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<u32>> {
    segment.keep_sidecar()?;
    let sidecar = segment.sidecar()?;
    let offsets = sidecar.entries().map(|entry| entry.offset).zip(0_u32..);
    let wanted = offsets.filter(|&(_, position)| is_wanted(position as usize));
    Ok(match u32::try_from(segment.binding().data_bytes) {
        Ok(data_bytes) => short_file_order(wanted, data_bytes),
        Err(_) => file_order(wanted),
    })
}

/// Most parts into which a file is divided to sort the records of each part on its own: as many as
/// fit the first level cache.
const PARTS_MAX: usize = 4096;
/// Average number of records of a part, so that a small file has fewer parts.
const RECORDS_IN_PART: usize = 32;

/// Does [`file_order`] faster, for files whose offsets fit 32 bits: records are spread over their
/// file, so each part of it has few records, and few are sorted fast. A wrong offset spoils nothing
/// but the order.
fn short_file_order(offsets: impl Iterator<Item = (u64, u32)>, data_bytes: u32) -> Vec<u32> {
    let keys = offsets.map(|(offset, position)| offset << u32::BITS | u64::from(position));
    let keys: Vec<u64> = keys.collect();
    let parts = (keys.len() / RECORDS_IN_PART).clamp(1, PARTS_MAX);
    let part_bytes = u64::from(data_bytes).div_ceil(parts as u64).max(1);
    let shift = part_bytes.next_power_of_two().ilog2();
    let part = |key: u64| {
        let at = usize::try_from(key >> u32::BITS >> shift);
        at.map_or(parts - 1, |at| at.min(parts - 1))
    };
    // The place of the next key of each part, and after the loop the end of each part.
    let mut ends = vec![0_usize; parts];
    for &key in &keys {
        ends[part(key)] += 1;
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    let mut order = vec![0; keys.len()];
    for key in keys {
        let end = &mut ends[part(key)];
        order[*end] = key;
        *end += 1;
    }
    let mut begin = 0;
    for end in ends {
        order[begin..end].sort_unstable();
        begin = end;
    }
    // The cast cuts off the offset and keeps the position.
    #[expect(clippy::cast_possible_truncation)]
    order.into_iter().map(|key| key as u32).collect()
}

fn file_order(offsets: impl Iterator<Item = (u64, u32)>) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = offsets.collect();
    order.sort_unstable();
    order.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_files_and_long_files_give_the_same_order() {
        let data_bytes = 1 << 20;
        let spread = |number: u64| number * 0x9e37_79b1 % u64::from(data_bytes);
        let wrong = [u64::from(u32::MAX), 0, u64::from(data_bytes), 0];
        let offsets: Vec<u64> = (0..10_000).map(spread).chain(wrong).collect();
        for offsets in [&offsets[..], &offsets[..1], &[], &[7; 100]] {
            let numbered = || offsets.iter().copied().zip(0..);
            let expected = file_order(numbered());
            for data_bytes in [data_bytes, 0, 1, u32::MAX] {
                assert_eq!(short_file_order(numbered(), data_bytes), expected);
            }
        }
    }
}
