//! Building a sidecar from its entries.

use super::{ENTRY_BYTES, Entry, HEADER_BYTES, MAGIC, Sidecar};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::format::layout::sidecar as layout;
use crate::format::leading_bits;

impl Sidecar<Vec<u8>> {
    /// Builds the sidecar of a segment from its entries, and sorts them by digest and offset.
    ///
    /// # Panics
    ///
    /// If there are more than `u32::MAX` entries.
    #[must_use]
    pub fn build(entries: &mut [Entry]) -> Self {
        let count = u32::try_from(entries.len()).expect("a sidecar holds at most u32::MAX entries");
        let order = sorted_order(entries);
        let len = HEADER_BYTES + entries.len() * ENTRY_BYTES + DIGEST_BYTES;
        let mut bytes = Vec::with_capacity(len);
        let mut header = [0; HEADER_BYTES];
        layout::MAGIC.write(&mut header, MAGIC);
        layout::COUNT.write(&mut header, u64::from(count).to_le_bytes());
        bytes.extend_from_slice(&header);
        for position in order {
            bytes.extend_from_slice(&entries[position as usize].to_bytes());
        }
        let (sorted, _) = bytes[HEADER_BYTES..].as_chunks();
        for (entry, bytes) in entries.iter_mut().zip(sorted) {
            *entry = Entry::from_bytes(bytes);
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        Self { bytes, count }
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Moves the bytes to where `keep` puts them.
    pub(crate) fn map_bytes<D>(self, keep: impl FnOnce(Vec<u8>) -> D) -> Sidecar<D> {
        Sidecar {
            bytes: keep(self.bytes),
            count: self.count,
        }
    }
}

/// Returns the positions of `entries` in their order by digest and offset.
///
/// Sorts the leading bits of the digests with the positions, 16 bytes an entry instead of 44, and
/// looks at the entries where leading bits are equal. To deal the pairs out to piles by their
/// highest bits first, so that each pile fits the processor's first cache, took 73 ms instead of 62
/// for 1 M random entries, and 564 ms instead of 596 for 8 M, of 230 ms and 2,380 ms for the
/// sidecar as a whole; sorting the entries themselves took 168 ms and 1,256 ms. (Medians of 11
/// rounds in one program, time of the processor, AMD EPYC, 2026-11-28.)
fn sorted_order(entries: &[Entry]) -> impl Iterator<Item = u32> {
    let leading = |entry: &Entry| leading_bits(entry.digest.as_bytes());
    let numbered = (0_u32..).zip(entries);
    let mut order: Vec<(u64, u32)> = numbered
        .map(|(position, entry)| (leading(entry), position))
        .collect();
    order.sort_unstable_by(|a, b| {
        let whole = || entries[a.1 as usize].cmp(&entries[b.1 as usize]);
        a.0.cmp(&b.0).then_with(whole)
    });
    order.into_iter().map(|(_, position)| position)
}
