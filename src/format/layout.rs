//! Where each field of a binary file lies: the tables of `FORMAT.md` as constants.
//!
//! No other module knows an offset. A field begins where the field before it ends, and its width is
//! part of its type, so a number cannot be read wider than it was written, and a field that does
//! not fit its record does not compile.

use crate::digest::DIGEST_BYTES;

/// A field of `WIDTH` bytes that begins `AT` bytes behind the beginning of its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<const AT: usize, const WIDTH: usize>;

#[expect(
    clippy::unused_self,
    reason = "a field is called by the name of its constant"
)]
impl<const AT: usize, const WIDTH: usize> Field<AT, WIDTH> {
    /// Where the next field begins.
    pub(super) const fn end(self) -> usize {
        AT + WIDTH
    }

    /// The bytes of the field.
    #[inline]
    pub(super) fn read<const BYTES: usize>(self, record: &[u8; BYTES]) -> [u8; WIDTH] {
        const { assert!(AT + WIDTH <= BYTES) };
        let mut field = [0; WIDTH];
        field.copy_from_slice(&record[AT..AT + WIDTH]);
        field
    }

    /// Sets the bytes of the field.
    #[inline]
    pub(super) fn write<const BYTES: usize>(self, record: &mut [u8; BYTES], field: [u8; WIDTH]) {
        const { assert!(AT + WIDTH <= BYTES) };
        record[AT..AT + WIDTH].copy_from_slice(&field);
    }
}

impl<const AT: usize> Field<AT, 4> {
    /// The number in the field.
    #[inline]
    pub(super) fn number<const BYTES: usize>(self, record: &[u8; BYTES]) -> u32 {
        u32::from_le_bytes(self.read(record))
    }
}

impl<const AT: usize> Field<AT, 8> {
    /// The number in the field.
    #[inline]
    pub(super) fn number<const BYTES: usize>(self, record: &[u8; BYTES]) -> u64 {
        u64::from_le_bytes(self.read(record))
    }
}

/// The header of a record of a data file.
pub(super) mod record {
    use super::Field;

    pub(in crate::format) const LEN: Field<0, 4> = Field;
    pub(in crate::format) const HEADER_BYTES: usize = LEN.end();
}

/// An entry of a sidecar or a journal.
pub(super) mod entry {
    use super::{DIGEST_BYTES, Field};

    pub(in crate::format) const DIGEST: Field<0, DIGEST_BYTES> = Field;
    pub(in crate::format) const OFFSET: Field<{ DIGEST.end() }, 8> = Field;
    pub(in crate::format) const LEN: Field<{ OFFSET.end() }, 4> = Field;
    pub(in crate::format) const BYTES: usize = LEN.end();
}

/// The header of a sidecar.
pub(super) mod sidecar {
    use super::Field;

    pub(in crate::format) const MAGIC: Field<0, 4> = Field;
    pub(in crate::format) const COUNT: Field<{ MAGIC.end() }, 8> = Field;
    pub(in crate::format) const HEADER_BYTES: usize = COUNT.end();
}

/// The header of a journal.
pub(super) mod journal {
    use super::Field;

    pub(in crate::format) const MAGIC: Field<0, 4> = Field;
    pub(in crate::format) const SEGMENT_ID: Field<{ MAGIC.end() }, 4> = Field;
    pub(in crate::format) const HEADER_BYTES: usize = SEGMENT_ID.end();
}

/// A frame of a journal: a head, the entries, a checksum.
pub(super) mod frame {
    use super::Field;

    pub(in crate::format) const KIND: Field<0, 4> = Field;
    pub(in crate::format) const COUNT: Field<{ KIND.end() }, 4> = Field;
    pub(in crate::format) const END: Field<{ COUNT.end() }, 8> = Field;
    pub(in crate::format) const HEAD_BYTES: usize = END.end();
    pub(in crate::format) const CHECKSUM_BYTES: usize = 16;
}

/// The beginning of a run of the set index.
pub(super) mod run {
    use super::Field;

    pub(in crate::format) const MAGIC: Field<0, 4> = Field;
    pub(in crate::format) const SEGMENTS: Field<{ MAGIC.end() }, 4> = Field;
    pub(in crate::format) const OBJECTS: Field<{ SEGMENTS.end() }, 8> = Field;
    pub(in crate::format) const BUCKETS: Field<{ OBJECTS.end() }, 8> = Field;
    pub(in crate::format) const OVERFLOW: Field<{ BUCKETS.end() }, 8> = Field;
    pub(in crate::format) const ORDINAL_BITS: Field<{ OVERFLOW.end() }, 4> = Field;
    pub(in crate::format) const OFFSET_BITS: Field<{ ORDINAL_BITS.end() }, 4> = Field;
    pub(in crate::format) const ENTRY_BITS: Field<{ OFFSET_BITS.end() }, 4> = Field;
    pub(in crate::format) const FIXED_BYTES: usize = ENTRY_BITS.end();
}

/// A segment in the header of a run.
pub(super) mod run_segment {
    use super::{DIGEST_BYTES, Field};

    pub(in crate::format) const ID: Field<0, 4> = Field;
    pub(in crate::format) const DATA_BYTES: Field<{ ID.end() }, 8> = Field;
    pub(in crate::format) const OBJECTS: Field<{ DATA_BYTES.end() }, 4> = Field;
    pub(in crate::format) const SIDECAR_CHECKSUM: Field<{ OBJECTS.end() }, DIGEST_BYTES> = Field;
    pub(in crate::format) const BYTES: usize = SIDECAR_CHECKSUM.end();
}

/// An entry of the overflow of a run.
pub(super) mod overflow_entry {
    use super::Field;

    pub(in crate::format) const LEADING: Field<0, 8> = Field;
    pub(in crate::format) const SLOT: Field<{ LEADING.end() }, 8> = Field;
    pub(in crate::format) const BYTES: usize = SLOT.end();
}

// The totals that `FORMAT.md` states.
const _: () = assert!(record::HEADER_BYTES == 4 && entry::BYTES == 44);
const _: () = assert!(sidecar::HEADER_BYTES == 12 && journal::HEADER_BYTES == 8);
const _: () = assert!(frame::HEAD_BYTES + frame::CHECKSUM_BYTES == 32);
const _: () = assert!(run::FIXED_BYTES == 44 && run_segment::BYTES == 48);
const _: () = assert!(overflow_entry::BYTES == 16);
