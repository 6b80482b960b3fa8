//! How the table of a run is divided into buckets, and a slot into fields.

use super::{BUCKET_SLOTS, TAG_BITS_MIN};
use crate::digest::Digest;
use crate::format::SealedSegment;

/// Where a record may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Position of the segment in [`Header::segments`](super::Header::segments).
    pub ordinal: u32,
    /// Where its content begins in the data file, in bytes.
    pub offset: u64,
}

/// How a slot is divided, and how many buckets there are.
///
/// A slot is, from the high bits to the low: a tag, the ordinal of a segment, an offset. An offset is
/// at least 4, since a record has a header, so a slot of zero is vacant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub(super) buckets: u64,
    pub(super) ordinal_bits: u32,
    pub(super) offset_bits: u32,
}

/// Where a digest is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The first bucket in which it can be.
    pub bucket: u64,
    /// The tag, in the high bits as it is in a slot, the others zero.
    tag: u64,
    /// The first 8 bytes of the digest as a number.
    pub(super) leading: u64,
}

impl Geometry {
    /// The geometry for the objects of these segments, about two thirds full. `None` if a slot would
    /// leave less than [`TAG_BITS_MIN`] bits for the tag: that takes more than 2^48 bytes of data,
    /// or segments of very different sizes.
    #[must_use]
    pub fn of(segments: &[(u32, SealedSegment)]) -> Option<Self> {
        let objects = segments
            .iter()
            .map(|(_, segment)| u64::from(segment.objects));
        let objects = objects.sum::<u64>();
        let offset_max = segments.iter().map(|(_, segment)| {
            // One that is alone begins its segment, however long it is.
            let is_alone = segment.objects <= 1;
            if is_alone { 4 } else { segment.data_bytes }
        });
        let ordinal_max = segments.len().saturating_sub(1) as u64;
        let geometry = Self {
            // Three slots for two objects.
            buckets: (objects * 3).div_ceil(2 * BUCKET_SLOTS as u64).max(1),
            ordinal_bits: bits_of(ordinal_max),
            offset_bits: bits_of(offset_max.max().unwrap_or(0).max(4)),
        };
        geometry.is_possible().then_some(geometry)
    }

    pub(super) fn is_possible(&self) -> bool {
        self.buckets > 0
            && (3..=u64::BITS).contains(&self.offset_bits)
            && self.ordinal_bits <= u32::BITS
            && self.position_bits() <= u64::BITS - TAG_BITS_MIN
    }

    /// Number of buckets.
    #[must_use]
    pub const fn buckets(&self) -> u64 {
        self.buckets
    }

    /// Number of bits of a tag.
    #[must_use]
    pub const fn tag_bits(&self) -> u32 {
        u64::BITS - self.position_bits()
    }

    const fn position_bits(&self) -> u32 {
        self.ordinal_bits + self.offset_bits
    }

    /// Where `digest` is looked for.
    ///
    /// Its first 8 bytes, as a fraction of 2^64, times the number of buckets: the whole part is the
    /// bucket, and the first bits behind the point, which say where in the bucket's share it lies,
    /// are the tag.
    #[inline]
    #[must_use]
    pub fn probe(&self, digest: &Digest) -> Probe {
        self.probe_leading(leading_bits(digest))
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

    /// The least leading bits of the digests that belong in `bucket` or a later one, or `None` if
    /// there are none.
    pub(super) fn least_leading(&self, bucket: u64) -> Option<u64> {
        let least = (u128::from(bucket) << u64::BITS).div_ceil(u128::from(self.buckets));
        u64::try_from(least).ok()
    }

    #[inline]
    pub(super) fn slot(&self, probe: &Probe, location: Location) -> u64 {
        probe.tag | (u64::from(location.ordinal) << self.offset_bits) | location.offset
    }

    /// The location in a slot, if the slot has this tag.
    #[inline]
    pub(super) fn location(&self, slot: u64, probe: &Probe) -> Option<Location> {
        if (slot ^ probe.tag) >> self.position_bits() != 0 {
            return None;
        }
        let position = slot ^ probe.tag;
        Some(Location {
            // Not more than 32 bits are left of what lies above the offset.
            ordinal: u32::try_from(position >> self.offset_bits).unwrap_or(u32::MAX),
            offset: position & low_bits(self.offset_bits),
        })
    }
}

/// How many bits it takes to write `value`.
const fn bits_of(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

const fn low_bits(bits: u32) -> u64 {
    match 1_u64.checked_shl(bits) {
        Some(bit) => bit - 1,
        None => u64::MAX,
    }
}

/// The first eight bytes of a digest as a number that sorts as the digest does.
#[inline]
fn leading_bits(digest: &Digest) -> u64 {
    let leading = digest.as_bytes().first_chunk().copied();
    leading.map_or(0, u64::from_be_bytes)
}
