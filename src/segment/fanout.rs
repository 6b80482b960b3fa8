//! A table over a sorted sidecar that narrows a lookup to a few entries.

use std::ops::Range;

use crate::digest::Digest;
use crate::format::Sidecar;
use crate::memory::prefetch_value;

/// For each value of a digest's leading bits, the position of the first entry with that value or a
/// greater one. Four to eight entries share a bucket on average, which costs half a byte to a byte
/// of heap an object; a bucket that somebody filled on purpose is searched in logarithmic time.
#[derive(Debug)]
pub(crate) struct Fanout {
    starts: Box<[u32]>,
    bucket_bits: u32,
}

impl Fanout {
    /// Makes the table of a sorted sidecar; reads the first bytes of every entry.
    pub(crate) fn new<D: AsRef<[u8]>>(sidecar: &Sidecar<D>) -> Self {
        let buckets = sidecar.len().div_ceil(8).next_power_of_two();
        let bucket_bits = buckets.trailing_zeros();
        let mut starts = Vec::with_capacity(buckets + 1);
        for (position, entry) in sidecar.entries().enumerate() {
            let bucket = bucket(&entry.digest, bucket_bits);
            while starts.len() <= bucket {
                starts.push(u32::try_from(position).unwrap_or(u32::MAX));
            }
        }
        starts.resize(
            buckets + 1,
            u32::try_from(sidecar.len()).unwrap_or(u32::MAX),
        );
        Self {
            starts: starts.into_boxed_slice(),
            bucket_bits,
        }
    }

    /// Prefetches the cache line that [`range`](Self::range) will read.
    #[inline]
    pub(crate) fn prefetch(&self, digest: &Digest) {
        if let Some(start) = self.starts.get(bucket(digest, self.bucket_bits)) {
            prefetch_value(start);
        }
    }

    /// The positions at which `digest` can be.
    #[inline]
    pub(crate) fn range(&self, digest: &Digest) -> Range<usize> {
        let bucket = bucket(digest, self.bucket_bits);
        match self.starts.get(bucket..) {
            Some([start, end, ..]) => *start as usize..*end as usize,
            _ => 0..0,
        }
    }
}

#[inline]
fn bucket(digest: &Digest, bits: u32) -> usize {
    let leading = digest.as_bytes().first_chunk().copied();
    let leading = leading.map_or(0, u64::from_be_bytes);
    let bucket = leading.checked_shr(u64::BITS - bits).unwrap_or(0);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Entry;

    fn sidecar_of(digests: impl Iterator<Item = Digest>) -> Sidecar<Vec<u8>> {
        let mut entries: Vec<Entry> = digests
            .map(|digest| Entry {
                digest,
                offset: 4,
                len: 0,
            })
            .collect();
        Sidecar::build(&mut entries)
    }

    #[test]
    fn every_entry_lies_in_its_range() {
        for count in [0, 1, 2, 3, 4, 5, 8, 9, 1000, 4096] {
            let sidecar = sidecar_of((0..count).map(|i: u32| Digest::of(i.to_le_bytes())));
            let fanout = Fanout::new(&sidecar);
            for (position, entry) in sidecar.entries().enumerate() {
                assert!(fanout.range(&entry.digest).contains(&position), "{count}");
            }
        }
    }

    #[test]
    fn digests_with_the_same_leading_bits_are_found() {
        let chosen = |i: u16| {
            let mut bytes = [0xff; 32];
            bytes[30..].copy_from_slice(&i.to_be_bytes());
            Digest::from(bytes)
        };
        let sidecar = sidecar_of((0..1000).map(chosen));
        let fanout = Fanout::new(&sidecar);
        for i in 0..1000 {
            let range = fanout.range(&chosen(i));
            assert_eq!(sidecar.find_in(range, &chosen(i)).count(), 1);
        }
        assert_eq!(fanout.range(&Digest::from([0; 32])), 0..0);
    }
}
