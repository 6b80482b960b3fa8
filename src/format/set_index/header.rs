//! The beginning of a run, and where in the file the rest lies.

use super::{
    BUCKET_BYTES, ENTRY_BITS_MAX, Geometry, MAGIC, OVERFLOW_BYTES, PAGE_BYTES, PAGE_SUM_BYTES,
};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::format::{FormatError, SealedSegment, bytes_at};

/// Length of what stands before the segments.
pub(super) const FIXED_BYTES: usize = 4 + 4 + 8 + 8 + 8 + 4 + 4 + 4;
/// Length of what the header says of one segment.
pub(super) const SEGMENT_BYTES: usize = 4 + 8 + 4 + DIGEST_BYTES;
const _: () = assert!(FIXED_BYTES == 44 && SEGMENT_BYTES == 48);

/// What the beginning of a run says: which segments it covers, and how to read the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The segments with what the manifest says of them. A run is of use for those of which the
    /// manifest still says the same: then they hold what they held when it was built.
    pub segments: Vec<(u32, SealedSegment)>,
    /// Number of objects in the table and the overflow.
    pub objects: u64,
    /// Number of entries in the overflow.
    pub overflow: u64,
    /// How the table is to be read.
    pub geometry: Geometry,
}

impl Header {
    /// The bytes of the header, padded to whole pages.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.objects.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.buckets.to_le_bytes());
        bytes.extend_from_slice(&self.overflow.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.ordinal_bits.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.offset_bits.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.entry_bits.to_le_bytes());
        for (id, segment) in &self.segments {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&segment.data_bytes.to_le_bytes());
            bytes.extend_from_slice(&segment.objects.to_le_bytes());
            bytes.extend_from_slice(segment.sidecar_checksum.as_bytes());
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.resize(self.encoded_bytes(), 0);
        bytes
    }

    /// Reads a header. Linear in the number of segments.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes_at::<4>(bytes, 0) != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        let number = |at| bytes_at(bytes, at).map(u64::from_le_bytes);
        let short = |at| bytes_at(bytes, at).map(u32::from_le_bytes);
        let count = short(4).ok_or(FormatError::Length)?;
        let count = usize::try_from(count).map_err(|_| FormatError::Count)?;
        let segments_bytes = count.checked_mul(SEGMENT_BYTES).ok_or(FormatError::Count)?;
        let end = FIXED_BYTES
            .checked_add(segments_bytes)
            .ok_or(FormatError::Count)?;
        let covered = bytes.get(..end).ok_or(FormatError::Length)?;
        let checksum = bytes_at(bytes, end).ok_or(FormatError::Length)?;
        if Digest::of(covered) != Digest::from(checksum) {
            return Err(FormatError::Checksum);
        }
        let numbers = (|| Some((number(8)?, number(16)?, number(24)?)))();
        let (objects, buckets, overflow) = numbers.ok_or(FormatError::Length)?;
        let widths = (|| Some((short(32)?, short(36)?, short(40)?)))();
        let (ordinal_bits, offset_bits, entry_bits) = widths.ok_or(FormatError::Length)?;
        let geometry = Geometry {
            buckets,
            ordinal_bits: ordinal_bits.min(u32::BITS + 1),
            offset_bits: offset_bits.min(u64::BITS + 1),
            entry_bits: entry_bits.min(ENTRY_BITS_MAX + 1),
        };
        let (segments, _) = covered[FIXED_BYTES..].as_chunks::<SEGMENT_BYTES>();
        let segments = segments.iter().filter_map(|bytes| {
            let segment = SealedSegment {
                data_bytes: u64::from_le_bytes(bytes_at(bytes, 4)?),
                objects: u32::from_le_bytes(bytes_at(bytes, 12)?),
                sidecar_checksum: Digest::from(bytes_at(bytes, 16)?),
            };
            Some((u32::from_le_bytes(bytes_at(bytes, 0)?), segment))
        });
        if !geometry.is_possible() {
            return Err(FormatError::Count);
        }
        Ok(Self {
            segments: segments.collect(),
            objects,
            overflow,
            geometry,
        })
    }

    /// Length of the header in bytes, with its padding.
    fn encoded_bytes(&self) -> usize {
        let len = FIXED_BYTES + self.segments.len() * SEGMENT_BYTES + DIGEST_BYTES;
        len.next_multiple_of(PAGE_BYTES)
    }

    /// Where table and overflow begin and end, and where the file does.
    pub(super) fn layout(&self) -> Option<Layout> {
        let table = self.encoded_bytes() as u64;
        let table_bytes = self.geometry.buckets.checked_mul(BUCKET_BYTES as u64)?;
        let overflow = table.checked_add(table_bytes)?;
        let overflow_bytes = self.overflow.checked_mul(OVERFLOW_BYTES as u64)?;
        let end = overflow.checked_add(overflow_bytes)?;
        let sums = end.checked_next_multiple_of(PAGE_BYTES as u64)?;
        let pages = (sums - table) / PAGE_BYTES as u64;
        Some(Layout {
            table,
            overflow,
            sums,
            pages,
            file_bytes: sums.checked_add(pages.checked_mul(PAGE_SUM_BYTES as u64)?)?,
        })
    }
}

/// Positions in the file, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) table: u64,
    pub(super) overflow: u64,
    pub(super) sums: u64,
    /// Number of pages from `table` to `sums`.
    pub(super) pages: u64,
    pub(super) file_bytes: u64,
}
