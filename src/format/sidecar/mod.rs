//! The sidecar of a sealed segment, format `NIX1`.

mod build;
mod tiling;

use std::ops::Range;

pub use super::entry::ENTRY_BYTES;

use super::layout::sidecar as layout;
use super::{Entry, FormatError, bytes_at, leading_bits};
use crate::digest::{DIGEST_BYTES, Digest};

/// First bytes of a sidecar.
pub const MAGIC: [u8; 4] = *b"NIX1";
/// Length of the header: magic number and count.
pub const HEADER_BYTES: usize = layout::HEADER_BYTES;

/// A parsed sidecar. Its bytes can be of any kind: a `Vec` in a test, a memory map in the store.
///
/// ```
/// use sealstone::Digest;
/// use sealstone::format::{Entry, Sidecar};
///
/// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
/// let bytes = Sidecar::build(&mut [entry]).into_bytes();
/// let sidecar = Sidecar::parse(bytes)?;
/// assert_eq!(sidecar.find(&entry.digest).next(), Some(entry));
/// assert!(sidecar.tiles(7));
/// # Ok::<(), sealstone::format::FormatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sidecar<D> {
    bytes: D,
    count: u32,
}

impl<D: AsRef<[u8]>> Sidecar<D> {
    /// Parses a sidecar and checks all of it. Linear in its length.
    ///
    /// # Errors
    ///
    /// [`FormatError::Magic`]; [`FormatError::Count`] beyond `u32::MAX` entries (a data file of
    /// that many records would pass 16 GiB in headers alone); [`FormatError::Length`] if the file
    /// is not as long as its count asks for; [`FormatError::Checksum`].
    pub fn parse(bytes: D) -> Result<Self, FormatError> {
        let sidecar = Self::parse_unchecked(bytes)?;
        if sidecar.checksum_holds() {
            Ok(sidecar)
        } else {
            Err(FormatError::Checksum)
        }
    }

    /// Parses several sidecars as [`parse`](Self::parse) does, in their order. They are hashed side
    /// by side, as by [`Digest::of_many`]: four of about the same length take as long as two.
    pub(crate) fn parse_many(
        sidecars: impl IntoIterator<Item = D>,
    ) -> impl Iterator<Item = Result<Self, FormatError>> {
        let parsed = sidecars.into_iter().map(Self::parse_unchecked);
        let parsed: Vec<Result<Self, FormatError>> = parsed.collect();
        let covered = parsed
            .iter()
            .map(|sidecar| sidecar.as_ref().map(Self::covered));
        let covered: Vec<&[u8]> = covered.map(Result::unwrap_or_default).collect();
        let sums = Digest::of_many(&covered);
        parsed.into_iter().zip(sums).map(|(sidecar, sum)| {
            sidecar.and_then(|sidecar| {
                if sidecar.checksum() == sum {
                    Ok(sidecar)
                } else {
                    Err(FormatError::Checksum)
                }
            })
        })
    }

    /// Checks magic number and length only, in constant time. No method of the result panics, but
    /// its entries may be wrong.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), but for the checksum.
    pub(crate) fn parse_unchecked(bytes: D) -> Result<Self, FormatError> {
        let all = bytes.as_ref();
        if !all.starts_with(&MAGIC) {
            return Err(FormatError::Magic);
        }
        let header: &[u8; HEADER_BYTES] = all.first_chunk().ok_or(FormatError::Length)?;
        let count = u32::try_from(layout::COUNT.number(header)).map_err(|_| FormatError::Count)?;
        if Self::encoded_bytes(count) == all.len() as u64 {
            Ok(Self { bytes, count })
        } else {
            Err(FormatError::Length)
        }
    }

    /// Returns the length in bytes of a sidecar with `count` entries.
    #[must_use]
    pub(crate) fn encoded_bytes(count: u32) -> u64 {
        // At most 2^38, so it does not overflow.
        u64::from(count) * ENTRY_BYTES as u64 + (HEADER_BYTES + DIGEST_BYTES) as u64
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes that were parsed.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// What holds the bytes.
    pub(crate) const fn get_ref(&self) -> &D {
        &self.bytes
    }

    /// The stored checksum: the last 32 bytes.
    #[must_use]
    pub fn checksum(&self) -> Digest {
        let at = HEADER_BYTES + self.len() * ENTRY_BYTES;
        Digest::from(bytes_at(self.as_bytes(), at).unwrap_or_default())
    }

    /// Computes the checksum and compares it with the stored one. Linear in the length.
    #[must_use]
    pub(crate) fn checksum_holds(&self) -> bool {
        Digest::of(self.covered()) == self.checksum()
    }

    /// Returns the bytes that the checksum covers. The length was checked, so they are there.
    fn covered(&self) -> &[u8] {
        let len = HEADER_BYTES + self.len() * ENTRY_BYTES;
        self.as_bytes().get(..len).unwrap_or_default()
    }

    /// Returns the entry at `position`, or `None` beyond the last.
    #[inline]
    #[must_use]
    pub fn entry(&self, position: usize) -> Option<Entry> {
        self.entry_bytes(position).map(Entry::from_bytes)
    }

    /// Returns all entries in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.entries_in(0..self.len())
    }

    /// Returns the entries at the positions in `range` that exist.
    pub(crate) fn entries_in(
        &self,
        range: Range<usize>,
    ) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.entries_bytes(range)
            .as_chunks::<ENTRY_BYTES>()
            .0
            .iter()
            .map(Entry::from_bytes)
    }

    /// Returns the bytes of the entries at the positions in `range` that exist.
    #[must_use]
    pub(crate) fn entries_bytes(&self, range: Range<usize>) -> &[u8] {
        let at = |position: usize| HEADER_BYTES + position.min(self.len()) * ENTRY_BYTES;
        let bytes = self.as_bytes().get(at(range.start)..at(range.end));
        bytes.unwrap_or_default()
    }

    /// Whether the entries are sorted by digest. We sort them; NEDB v3 does not.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.entries().is_sorted_by(|a, b| a.digest <= b.digest)
    }

    /// Returns the entries with this digest. There are several where an object was put again to
    /// repair a damaged copy. The sidecar must be [sorted](Self::is_sorted). Logarithmic.
    pub fn find(&self, digest: &Digest) -> impl Iterator<Item = Entry> + use<'_, D> {
        self.find_in(0..self.len(), digest)
    }

    /// Searches as [`find`](Self::find) does, but only the positions in `range`. A caller with a
    /// table of its own narrows them.
    pub(crate) fn find_in(
        &self,
        range: Range<usize>,
        digest: &Digest,
    ) -> impl Iterator<Item = Entry> + use<'_, D> {
        let found = self.find_positions_in(range, digest);
        found.map(|(_, entry)| entry)
    }

    /// Searches as [`find_in`](Self::find_in) does, and returns the positions as well.
    pub(crate) fn find_positions_in(&self, range: Range<usize>, digest: &Digest) -> Found<'_, D> {
        let first = self.lower_bound(range.clone(), digest);
        Found {
            sidecar: self,
            digest: *digest,
            positions: first..range.end.min(self.len()),
        }
    }

    /// Returns the first position in `range` whose digest is `digest` or greater.
    #[must_use]
    pub(crate) fn lower_bound(&self, range: Range<usize>, digest: &Digest) -> usize {
        let (mut low, mut high) = (range.start, range.end.min(self.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(bytes) = self.entry_bytes(middle) else {
                break;
            };
            // Eight bytes nearly always decide, and take less time to compare than 32.
            let (own, asked) = (leading_bits(bytes), leading_bits(digest.as_bytes()));
            if own < asked || (own == asked && bytes[..DIGEST_BYTES] < digest.as_bytes()[..]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns the bytes of the entry at `position`.
    #[inline]
    #[must_use]
    pub(crate) fn entry_bytes(&self, position: usize) -> Option<&[u8; ENTRY_BYTES]> {
        if position >= self.len() {
            return None;
        }
        let begin = HEADER_BYTES + position * ENTRY_BYTES;
        self.as_bytes().get(begin..)?.first_chunk()
    }
}

/// The iterator of [`Sidecar::find_positions_in`].
#[derive(Debug)]
pub(crate) struct Found<'a, D> {
    sidecar: &'a Sidecar<D>,
    digest: Digest,
    /// The positions that are not yet read. The entries of the digest stand at the first of them.
    positions: Range<usize>,
}

impl<D: AsRef<[u8]>> Iterator for Found<'_, D> {
    type Item = (usize, Entry);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let position = self.positions.next()?;
        let entry = self.sidecar.entry(position)?;
        if entry.digest == self.digest {
            return Some((position, entry));
        }
        self.positions = 0..0;
        None
    }
}

#[cfg(test)]
mod tests;
