//! Building a sidecar from its entries.

use super::{ENTRY_BYTES, Entry, HEADER_BYTES, MAGIC, Sidecar};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::format::layout::sidecar as layout;
use crate::format::leading_bits;

impl Sidecar<Vec<u8>> {
    /// The sidecar for `entries`, which are sorted by digest and offset on the way.
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

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The same index with its bytes kept elsewhere.
    pub(crate) fn map_bytes<D>(self, keep: impl FnOnce(Vec<u8>) -> D) -> Sidecar<D> {
        Sidecar {
            bytes: keep(self.bytes),
            count: self.count,
        }
    }
}

/// The positions of `entries` in their order by digest and offset.
///
/// Digests are as good as random, so their leading bits deal them out evenly to piles that fit the
/// processor's first cache, and what is moved is 16 bytes an entry. Piles that somebody made high on
/// purpose are sorted all the same.
fn sorted_order(entries: &[Entry]) -> impl Iterator<Item = u32> {
    const PILE_ENTRIES: usize = 1024;
    const PILE_BITS_MAX: u32 = 12;
    let piles = (entries.len() / PILE_ENTRIES).next_power_of_two();
    let pile_bits = piles.ilog2().min(PILE_BITS_MAX);
    let key = |entry: &Entry| leading_bits(entry.digest.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "these are few bits")]
    let pile = |key: u64| key.checked_shr(u64::BITS - pile_bits).unwrap_or(0) as usize;
    // Where each pile begins; after it was dealt, where it ends.
    let mut ends = vec![0; (1 << pile_bits) + 1];
    for entry in entries {
        ends[pile(key(entry)) + 1] += 1;
    }
    for number in 1..ends.len() {
        ends[number] += ends[number - 1];
    }
    let mut order = vec![(0, 0); entries.len()];
    for (position, entry) in (0_u32..).zip(entries) {
        let key = key(entry);
        let end = &mut ends[pile(key)];
        order[*end] = (key, position);
        *end += 1;
    }
    let mut begin = 0;
    for &end in &ends[..1 << pile_bits] {
        order[begin..end].sort_unstable_by(|a, b| {
            let whole = || entries[a.1 as usize].cmp(&entries[b.1 as usize]);
            a.0.cmp(&b.0).then_with(whole)
        });
        begin = end;
    }
    order.into_iter().map(|(_, position)| position)
}
