//! The header of a run, and where in the file the other parts lie.

use super::{
    BUCKET_BYTES, ENTRY_BITS_MAX, Geometry, MAGIC, OVERFLOW_BYTES, PAGE_BYTES, PAGE_SUM_BYTES,
};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::format::layout::{run, run_segment};
use crate::format::{FormatError, SealedSegment, bytes_at};

/// Length of the part before the segments.
pub(super) const FIXED_BYTES: usize = run::FIXED_BYTES;
/// Length of a segment in the header.
pub(super) const SEGMENT_BYTES: usize = run_segment::BYTES;

/// The header of a run: the segments that it covers, and the numbers of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The segments, each with its id and with the binding that the manifest had for it. A run is
    /// of use for the segments that still have the same binding: they still have the same contents.
    pub segments: Vec<(u32, SealedSegment)>,
    /// Number of objects in the table and the overflow.
    pub objects: u64,
    /// Number of entries in the overflow.
    pub overflow: u64,
    /// The number of buckets, and the widths of the fields of a slot.
    pub(crate) geometry: Geometry,
}

impl Header {
    /// Encodes the header, padded to whole pages.
    #[must_use]
    pub(super) fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let geometry = &self.geometry;
        let mut fixed = [0; FIXED_BYTES];
        run::MAGIC.write(&mut fixed, MAGIC);
        run::SEGMENTS.write(&mut fixed, count.to_le_bytes());
        run::OBJECTS.write(&mut fixed, self.objects.to_le_bytes());
        run::BUCKETS.write(&mut fixed, geometry.buckets.to_le_bytes());
        run::OVERFLOW.write(&mut fixed, self.overflow.to_le_bytes());
        run::ORDINAL_BITS.write(&mut fixed, geometry.ordinal_bits.to_le_bytes());
        run::OFFSET_BITS.write(&mut fixed, geometry.offset_bits.to_le_bytes());
        run::ENTRY_BITS.write(&mut fixed, geometry.entry_bits.to_le_bytes());
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend_from_slice(&fixed);
        for (id, segment) in &self.segments {
            bytes.extend_from_slice(&encode_segment(*id, segment));
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.resize(self.encoded_bytes(), 0);
        bytes
    }

    /// Reads a header. Linear in the number of segments.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(FormatError::Magic);
        }
        let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or(FormatError::Length)?;
        let count = run::SEGMENTS.number(fixed);
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
        let geometry = Geometry {
            buckets: run::BUCKETS.number(fixed),
            ordinal_bits: run::ORDINAL_BITS.number(fixed).min(u32::BITS + 1),
            offset_bits: run::OFFSET_BITS.number(fixed).min(u64::BITS + 1),
            entry_bits: run::ENTRY_BITS.number(fixed).min(ENTRY_BITS_MAX + 1),
        };
        if !geometry.is_possible() {
            return Err(FormatError::Count);
        }
        let (segments, _) = covered[FIXED_BYTES..].as_chunks();
        Ok(Self {
            segments: segments.iter().map(parse_segment).collect(),
            objects: run::OBJECTS.number(fixed),
            overflow: run::OVERFLOW.number(fixed),
            geometry,
        })
    }

    /// Returns the length of the header in bytes, with its padding.
    fn encoded_bytes(&self) -> usize {
        let len = FIXED_BYTES + self.segments.len() * SEGMENT_BYTES + DIGEST_BYTES;
        len.next_multiple_of(PAGE_BYTES)
    }

    /// Computes where the parts of the file begin, or `None` if a position exceeds `u64`.
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

/// Encodes a segment of the header.
fn encode_segment(id: u32, segment: &SealedSegment) -> [u8; SEGMENT_BYTES] {
    let mut bytes = [0; SEGMENT_BYTES];
    run_segment::ID.write(&mut bytes, id.to_le_bytes());
    run_segment::DATA_BYTES.write(&mut bytes, segment.data_bytes.to_le_bytes());
    run_segment::OBJECTS.write(&mut bytes, segment.objects.to_le_bytes());
    run_segment::SIDECAR_CHECKSUM.write(&mut bytes, *segment.sidecar_checksum.as_bytes());
    bytes
}

/// Reads the bytes of [`encode_segment`].
fn parse_segment(bytes: &[u8; SEGMENT_BYTES]) -> (u32, SealedSegment) {
    let segment = SealedSegment {
        data_bytes: run_segment::DATA_BYTES.number(bytes),
        objects: run_segment::OBJECTS.number(bytes),
        sidecar_checksum: run_segment::SIDECAR_CHECKSUM.read(bytes).into(),
    };
    (run_segment::ID.number(bytes), segment)
}

/// Where the parts of a run begin, in bytes from the beginning of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) table: u64,
    pub(super) overflow: u64,
    pub(super) sums: u64,
    /// Number of pages of table and overflow, from `table` to `sums`.
    pub(super) pages: u64,
    pub(super) file_bytes: u64,
}
