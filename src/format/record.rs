//! Records of a data file: `u32 len`, then `len` bytes of content.

use super::{bytes_at, layout};

/// Length of the header of a record, which is the length of its content as a little-endian `u32`.
pub const HEADER_BYTES: u64 = layout::record::HEADER_BYTES as u64;

/// Returns the header of a record whose content has `len` bytes.
#[must_use]
pub const fn header(len: u32) -> [u8; 4] {
    len.to_le_bytes()
}

/// Reads a header and returns the length of the content, or `None` if `bytes` are not 4 bytes.
#[inline]
#[must_use]
pub fn parse_header(bytes: &[u8]) -> Option<u32> {
    let header: &[u8; layout::record::HEADER_BYTES] = bytes.try_into().ok()?;
    Some(layout::record::LEN.number(header))
}

/// One whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// Where the content begins, in bytes from the beginning of the data file.
    pub offset: u64,
    /// The content.
    pub content: &'a [u8],
}

/// The whole records of a data file, one after the other.
///
/// The iterator ends at the first byte that does not belong to a whole record;
/// [`position`](Self::position) then says where that byte lies. A second empty record ends it as
/// well: a store holds the empty object once, and the zeros that a file system can leave after a
/// crash would otherwise read as millions of empty objects.
///
/// ```
/// use sealstone::format::Records;
///
/// let mut records = Records::new(b"\x03\0\0\0abc\x09\0\0\0torn");
/// assert_eq!(records.next().map(|record| record.content), Some(&b"abc"[..]));
/// assert_eq!(records.next(), None);
/// assert_eq!(records.position(), 7);
/// ```
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    position: usize,
    seen_empty: bool,
}

impl<'a> Records<'a> {
    /// Reads from the beginning of a data file.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::resume(bytes, 0, false)
    }

    /// Continues at `position`; `seen_empty` says whether the empty object lies before it.
    #[must_use]
    pub(crate) const fn resume(bytes: &'a [u8], position: usize, seen_empty: bool) -> Self {
        Self {
            bytes,
            position,
            seen_empty,
        }
    }

    /// Returns the end of the last whole record, in bytes from the beginning of the data file.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let header: [u8; layout::record::HEADER_BYTES] = bytes_at(self.bytes, self.position)?;
        let len = layout::record::LEN.number(&header);
        let begin = self.position.checked_add(header.len())?;
        let end = begin.checked_add(usize::try_from(len).ok()?)?;
        let content = self.bytes.get(begin..end)?;
        if len == 0 && std::mem::replace(&mut self.seen_empty, true) {
            return None;
        }
        self.position = end;
        Some(Record {
            offset: begin as u64,
            content,
        })
    }
}

impl std::iter::FusedIterator for Records<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_bytes_are_a_header() {
        for len in [0, 1, 0x0403_0201, u32::MAX] {
            assert_eq!(parse_header(&header(len)), Some(len));
        }
        assert_eq!(parse_header(b"abc"), None);
        assert_eq!(parse_header(b"abcde"), None);
    }

    #[test]
    fn every_cut_ends_at_the_last_whole_record() {
        let bytes = b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c";
        let ends = [0, 6, 10, 15];
        for cut in 0..=bytes.len() {
            let mut records = Records::new(&bytes[..cut]);
            let whole = records.by_ref().count();
            let expected = ends.iter().filter(|&&end| end != 0 && end <= cut).count();
            assert_eq!((whole, records.position()), (expected, ends[expected]));
        }
    }

    #[test]
    fn h20_a_zero_run_holds_one_empty_record_at_most() {
        let mut records = Records::new(&[0; 4096]);
        assert_eq!(records.by_ref().count(), 1);
        assert_eq!(records.position(), 4);
        assert_eq!(Records::resume(&[0; 4096], 0, true).count(), 0);
    }

    #[test]
    fn the_largest_length_does_not_overflow() {
        assert_eq!(Records::new(b"\xff\xff\xff\xffabc").count(), 0);
        assert_eq!(Records::resume(b"abc", usize::MAX, false).count(), 0);
    }
}
