//! How a run divides digests among its buckets, and a slot into fields.

use std::ops::Range;

use super::{BUCKET_SLOTS, ENTRY_BITS_MAX, Location, Ordinal, SLOT_BYTES, TAG_BITS_MIN};
use crate::digest::Digest;
use crate::format::{SealedSegment, leading_bits};

/// A slot of a bucket or of an entry of the overflow: a tag and a location, or vacant.
///
/// Only a [`Geometry`] can read the location, and only together with the [`Probe`] of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u64);

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

impl Slot {
    #[inline]
    pub(super) const fn from_bytes(bytes: [u8; SLOT_BYTES]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    #[inline]
    pub(super) const fn to_bytes(self) -> [u8; SLOT_BYTES] {
        self.0.to_le_bytes()
    }

    #[inline]
    pub(super) const fn is_vacant(self) -> bool {
        self.0 == 0
    }
}

/// The number of buckets, and the widths of the fields of a slot.
///
/// The fields of a slot are, from the high bits to the low: a tag, the low bits of the position
/// that the entry has in the sidecar, the ordinal of a segment, an offset. An offset is at least 4,
/// since a record has a header, so a slot of zero is vacant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(super) buckets: u64,
    pub(super) ordinal_bits: u32,
    pub(super) offset_bits: u32,
    pub(super) entry_bits: u32,
}

/// Where a digest is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The own bucket of the digest, which is the first in which it can be.
    pub(crate) bucket: u64,
    /// The tag in the high bits, where a slot has it. The other bits are zero.
    tag: u64,
    /// The first 8 bytes of the digest as a number.
    pub(super) leading: u64,
}

impl Geometry {
    /// Returns the geometry for the objects of these segments, whose table is about two thirds
    /// full. Returns `None` if less than [`TAG_BITS_MIN`] bits of a slot would be left for the tag:
    /// that takes more than 2^48 bytes of data, or segments of very different sizes.
    #[must_use]
    pub(crate) fn of(segments: &[(u32, SealedSegment)]) -> Option<Self> {
        let objects = segments
            .iter()
            .map(|(_, segment)| u64::from(segment.objects));
        let objects = objects.sum::<u64>();
        let offset_max = segments.iter().map(|(_, segment)| {
            // A single object begins its segment, however long it is.
            let is_alone = segment.objects <= 1;
            if is_alone { 4 } else { segment.data_bytes }
        });
        let ordinal_max = segments.len().saturating_sub(1) as u64;
        let mut geometry = Self {
            // Three slots for two objects.
            buckets: (objects * 3).div_ceil(2 * BUCKET_SLOTS as u64).max(1),
            ordinal_bits: bits_of(ordinal_max),
            offset_bits: bits_of(offset_max.max().unwrap_or(0).max(4)),
            entry_bits: 0,
        };
        geometry.entry_bits = geometry.tag_bits_beyond_least().min(ENTRY_BITS_MAX);
        geometry.is_possible().then_some(geometry)
    }

    pub(super) fn is_possible(&self) -> bool {
        self.buckets > 0
            && (3..=u64::BITS).contains(&self.offset_bits)
            && self.ordinal_bits <= u32::BITS
            && self.entry_bits <= ENTRY_BITS_MAX
            && self.position_bits() <= u64::BITS - TAG_BITS_MIN
    }

    /// Returns the number of buckets.
    #[must_use]
    pub(crate) const fn buckets(&self) -> u64 {
        self.buckets
    }

    pub(super) const fn position_bits(&self) -> u32 {
        self.entry_bits + self.ordinal_bits + self.offset_bits
    }

    const fn tag_bits_beyond_least(&self) -> u32 {
        (u64::BITS - TAG_BITS_MIN).saturating_sub(self.position_bits())
    }

    /// Returns the location of a record from its entry and the position of the entry in the
    /// sidecar.
    #[must_use]
    pub(crate) fn location_of(&self, ordinal: Ordinal, position: usize, offset: u64) -> Location {
        let entry = position as u64 & low_bits(self.entry_bits);
        // Not more than `ENTRY_BITS_MAX` bits are left.
        let entry = u32::try_from(entry).unwrap_or(u32::MAX);
        Location::new(ordinal, offset, entry)
    }

    /// Returns the position of the entry of `location`, which lies in this part of a sidecar, if
    /// the part is so short that the low bits of the position determine it.
    #[inline]
    #[must_use]
    pub(crate) fn position_in(&self, part: &Range<usize>, location: &Location) -> Option<usize> {
        let distinct = 1_usize << self.entry_bits;
        let behind_start = (location.entry() as usize).wrapping_sub(part.start) % distinct;
        let is_one = part.len() <= distinct && behind_start < part.len();
        is_one.then_some(part.start + behind_start)
    }

    /// Computes where `digest` is searched.
    ///
    /// Its first 8 bytes, as a fraction of 2^64, are multiplied by the number of buckets. The whole
    /// part of the product is the bucket, and the first bits behind the point are the tag: they
    /// tell where in the bucket's share the digest lies.
    #[inline]
    #[must_use]
    pub(crate) fn probe(&self, digest: &Digest) -> Probe {
        self.probe_leading(leading_bits(digest.as_bytes()))
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of a product"
    )]
    pub(super) fn probe_leading(&self, leading: u64) -> Probe {
        let product = u128::from(leading) * u128::from(self.buckets);
        let position_bits = self.position_bits();
        Probe {
            bucket: (product >> u64::BITS) as u64,
            tag: (product as u64) >> position_bits << position_bits,
            leading,
        }
    }

    /// Returns the least leading bits of the digests whose own bucket is `bucket` or a later one,
    /// or `None` if no digest has such a bucket.
    pub(super) fn least_leading(&self, bucket: u64) -> Option<u64> {
        let least = (u128::from(bucket) << u64::BITS).div_ceil(u128::from(self.buckets));
        u64::try_from(least).ok()
    }

    #[inline]
    pub(super) fn slot(&self, probe: &Probe, location: Location) -> Slot {
        let ordinal_and_entry = (u64::from(location.entry()) << self.ordinal_bits)
            | u64::from(location.ordinal().get());
        Slot(probe.tag | (ordinal_and_entry << self.offset_bits) | location.offset())
    }

    /// Returns the number of the first slot whose highest 16 bits are those of the tag, or a number
    /// beyond the last slot.
    #[inline]
    pub(super) fn first_like(slots: &[[u8; SLOT_BYTES]; BUCKET_SLOTS], probe: &Probe) -> usize {
        const _: () = assert!(TAG_BITS_MIN == u16::BITS);
        let leading = |bytes: &[u8; SLOT_BYTES]| u16::from_le_bytes([bytes[6], bytes[7]]);
        let wanted = leading(&probe.tag.to_le_bytes());
        let alike = |(number, slot)| u32::from(leading(slot) == wanted) << number;
        let alike = slots.iter().enumerate().map(alike);
        alike.fold(0, |all, one| all | one).trailing_zeros() as usize
    }

    /// Returns the location in a slot if the slot has the tag.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "neither field has more than 32 bits"
    )]
    pub(super) fn location(&self, slot: Slot, probe: &Probe) -> Option<Location> {
        if (slot.0 ^ probe.tag) >> self.position_bits() != 0 {
            return None;
        }
        let position = slot.0 ^ probe.tag;
        let ordinal_and_entry = position >> self.offset_bits;
        let low_32 = |number: u64| number as u32;
        Some(Location::new(
            Ordinal::new(low_32(ordinal_and_entry & low_bits(self.ordinal_bits))),
            position & low_bits(self.offset_bits),
            low_32(ordinal_and_entry >> self.ordinal_bits),
        ))
    }
}

/// Returns the number of bits of `value` without its leading zeros.
const fn bits_of(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Returns a mask of the low `bits`, which are fewer than those of a slot.
const fn low_bits(bits: u32) -> u64 {
    1_u64.wrapping_shl(bits) - 1
}
