//! Cuts records into batches. One thread hashes a batch, in lanes.

use std::ops::Range;

use crate::format::Entry;

/// Enough records to fill the lanes again and again, and few enough to keep on a stack.
pub(crate) const BATCH_RECORDS_MAX: usize = 256;
/// Fewest records that fill the lanes.
const RECORDS_MIN: usize = 4;
/// Content that ends a batch of at least [`RECORDS_MIN`] records.
const BYTES_MIN: u64 = 1 << 20;
/// Content that ends any batch: where a file is not mapped, the whole batch is in memory.
const BYTES_MAX: u64 = 64 << 20;

/// Cuts `records` into batches, in their order. A batch has at most [`BATCH_RECORDS_MAX`] records,
/// but few if they are large, so that a handful of large records is spread over threads as well.
pub(crate) fn batches<T>(
    records: &[T],
    content_bytes: impl Fn(&T) -> u64,
) -> impl Iterator<Item = &[T]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let is_full = |&(position, record): &(usize, &T)| {
            bytes += content_bytes(record);
            let enough = position + 1 >= RECORDS_MIN && bytes >= BYTES_MIN;
            enough || position + 1 >= BATCH_RECORDS_MAX || bytes >= BYTES_MAX
        };
        let last = rest.iter().enumerate().find(is_full);
        let count = last.map_or(rest.len(), |(position, _)| position + 1);
        let (batch, others) = rest.split_at(count);
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Returns the part of the data file from the first of some entries to the last.
pub(crate) fn span(entries: &[Entry]) -> Range<u64> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return 0..0;
    };
    first.offset..last.offset.saturating_add(u64::from(last.len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lengths: &[u64]) -> Vec<usize> {
        let batches: Vec<&[u64]> = batches(lengths, |&len| len).collect();
        assert_eq!(batches.concat(), lengths);
        batches.into_iter().map(<[u64]>::len).collect()
    }

    #[test]
    fn batches_are_bounded_by_number_and_by_content() {
        assert_eq!(counts(&[]), Vec::<usize>::new());
        assert_eq!(counts(&[0; 600]), [256, 256, 88]);
        assert_eq!(counts(&[64 << 10; 40]), [16, 16, 8]);
        assert_eq!(counts(&[4 << 20; 9]), [4, 4, 1]);
        assert_eq!(counts(&[1 << 30; 3]), [1, 1, 1]);
        assert_eq!(counts(&[1, 1 << 30, 1, 1]), [2, 2]);
        assert_eq!(counts(&[u64::from(u32::MAX); 2]), [1, 1]);
    }
}
