//! One run of the set index: where the objects of many sealed segments lie, format `SSX2`.
//!
//! A table of buckets of one cache line each, ordered as digests are. A lookup reads the bucket that
//! the digest's leading bits choose, and finds the segment and the offset of the record there,
//! however many segments there are. What it says is a hint: whoever reads the record compares its
//! content, or asks the segment's sidecar.
//!
//! Choosing a bucket by the high half of a product, which takes any number of buckets and keeps the
//! order, is from D. Lemire, "Fast random integer generation in an interval" (2019).

mod build;
mod geometry;
mod header;
mod location;
mod matches;

pub(crate) use build::{Builder, Written, page_sums};
pub(crate) use geometry::{Geometry, Probe};
pub use header::Header;
pub use location::{Location, Ordinal};

use super::layout::overflow_entry;
use super::{FormatError, bytes_at};
use crate::digest::Digest;
use geometry::Slot;
use header::Layout;
use matches::{Matches, Stage};

/// First bytes of a run.
pub const MAGIC: [u8; 4] = *b"SSX2";
/// Length of a bucket in bytes: one cache line.
pub const BUCKET_BYTES: usize = 64;
/// Number of slots in a bucket.
pub const BUCKET_SLOTS: usize = BUCKET_BYTES / SLOT_BYTES;
/// What one checksum covers, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// How many buckets, from its own on, an object may be in. What finds no room there is in the
/// overflow, which is searched.
pub const PROBED_BUCKETS_MAX: u64 = 4;
/// At least so many bits of a slot are a tag. A lookup reads eight tags or a few more, so less than
/// one in 8,000 meets one that is not its own; with the usual 22 bits it is one in 500,000.
pub const TAG_BITS_MIN: u32 = 16;
/// At most so many bits of a slot are the low bits of the entry's position in the sidecar.
pub const ENTRY_BITS_MAX: u32 = 4;

/// Length of a slot.
const SLOT_BYTES: usize = 8;
/// Length of an entry of the overflow.
const OVERFLOW_BYTES: usize = overflow_entry::BYTES;
/// Length of the checksum of a page.
const PAGE_SUM_BYTES: usize = 8;

// Neither a bucket nor an entry of the overflow crosses pages.
const _: () = assert!(PAGE_BYTES.is_multiple_of(BUCKET_BYTES));
const _: () = assert!(BUCKET_BYTES.is_multiple_of(OVERFLOW_BYTES));

/// The checksum of a page of table and overflow with this digest: its first 8 bytes as a number, plus
/// the number of the page, so that it holds only in its place.
fn sum_of(digest: &Digest, number: u64) -> u64 {
    let bytes = digest.as_bytes().first_chunk().copied();
    bytes.map_or(0, u64::from_le_bytes).wrapping_add(number)
}

/// A parsed run over any bytes: a `Vec` in a test, a memory map in the store.
///
/// ```
/// use sealstone::Digest;
/// use sealstone::format::{Entry, SealedSegment, SetIndex, Sidecar};
///
/// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
/// let sidecar = Sidecar::build(&mut [entry]);
/// let segment = SealedSegment { data_bytes: 7, objects: 1, sidecar_checksum: sidecar.checksum() };
///
/// let bytes = SetIndex::encode(&[(5, segment, &sidecar)]).expect("one small segment fits a run");
/// let run = SetIndex::parse(bytes)?;
/// assert_eq!(run.header().segments, [(5, segment)]);
/// let found: Vec<_> = run.find(&entry.digest).map(|found| (found.ordinal().index(), found.offset())).collect();
/// assert_eq!(found, [(0, 4)]);
/// # Ok::<(), sealstone::format::FormatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SetIndex<D> {
    bytes: D,
    header: Header,
    layout: Layout,
}

/// A page does not have the checksum that it had when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedPage {
    /// Its number, counted from the beginning of the table.
    pub page: u64,
}

impl<D: AsRef<[u8]>> SetIndex<D> {
    /// Checks the header and the length, in time linear in the number of segments. Nothing that is
    /// asked of the result can panic; table and overflow are checked page by page, with
    /// [`page_holds`](Self::page_holds).
    ///
    /// # Errors
    ///
    /// [`FormatError::Magic`], [`FormatError::Length`], [`FormatError::Checksum`] of the header,
    /// [`FormatError::Count`] for numbers that are out of range.
    pub fn parse(bytes: D) -> Result<Self, FormatError> {
        let header = Header::parse(bytes.as_ref())?;
        let layout = header.layout().ok_or(FormatError::Count)?;
        if layout.file_bytes != bytes.as_ref().len() as u64 {
            return Err(FormatError::Length);
        }
        Ok(Self {
            bytes,
            header,
            layout,
        })
    }

    /// Which segments it covers, and how it is laid out.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that were parsed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Number of pages of table and overflow.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.layout.pages
    }

    /// The page that a bucket lies in.
    #[inline]
    #[must_use]
    pub(crate) const fn page_of_bucket(bucket: u64) -> u64 {
        bucket / (PAGE_BYTES / BUCKET_BYTES) as u64
    }

    /// Compares a page with its checksum. False beyond the last.
    #[must_use]
    pub fn page_holds(&self, page: u64) -> bool {
        let place = |at: u64, size: u64| at.checked_add(page.checked_mul(size)?);
        let bytes = place(self.layout.table, PAGE_BYTES as u64)
            .filter(|&at| at < self.layout.sums)
            .and_then(|at| self.slice(at, PAGE_BYTES));
        let sum = place(self.layout.sums, PAGE_SUM_BYTES as u64)
            .and_then(|at| self.slice(at, PAGE_SUM_BYTES))
            .and_then(|sum| bytes_at(sum, 0))
            .map(u64::from_le_bytes);
        bytes.is_some_and(|bytes| Some(sum_of(&Digest::of(bytes), page)) == sum)
    }

    /// Where a digest is looked for.
    #[inline]
    #[must_use]
    pub(crate) fn probe(&self, digest: &Digest) -> Probe {
        self.header.geometry.probe(digest)
    }

    /// The bytes of a bucket.
    #[inline]
    #[must_use]
    pub(crate) fn bucket(&self, bucket: u64) -> Option<&[u8; BUCKET_BYTES]> {
        if bucket >= self.header.geometry.buckets {
            return None;
        }
        let at = self.layout.table + bucket * BUCKET_BYTES as u64;
        self.slice(at, BUCKET_BYTES)?.first_chunk()
    }

    /// The first location in the own bucket with the tag. The page is not checked.
    ///
    /// Where there are several, or the object is elsewhere, this is not the one that is looked for:
    /// it is for those who compare the digest with the sidecar's. Without a branch that depends on
    /// what is in the bucket, so that a processor goes on with the next lookup before it knows.
    #[inline]
    #[must_use]
    pub(crate) fn first_in_own_bucket(&self, probe: &Probe) -> Option<Location> {
        let (slots, _) = self.bucket(probe.bucket)?.as_chunks();
        let slots: &[[u8; SLOT_BYTES]; BUCKET_SLOTS] = slots.first_chunk()?;
        let slot = slots.get(Geometry::first_like(slots, probe))?;
        let geometry = &self.header.geometry;
        geometry.location(Slot::from_bytes(*slot), probe)
    }

    /// Where `digest` may be, as [`find_checked`](Self::find_checked) gives it if all pages hold.
    pub fn find(&self, digest: &Digest) -> impl Iterator<Item = Location> + use<'_, D> {
        let found = self.find_probed(self.probe(digest), |_| true);
        found.filter_map(Result::ok)
    }

    /// Where a digest may be: the locations with its tag. Usually one if it is there and none if it
    /// is not; copies of an object are all among them.
    ///
    /// `page_holds` is asked for each page before it is read; where it says no, what is given is an
    /// error and the end, and the digest can be in any of the segments. Constant time: at most
    /// [`PROBED_BUCKETS_MAX`] buckets are read, and where all are full the overflow is searched.
    #[inline]
    pub fn find_checked<F: FnMut(u64) -> bool>(
        &self,
        digest: &Digest,
        page_holds: F,
    ) -> impl Iterator<Item = Result<Location, DamagedPage>> + use<'_, D, F> {
        self.find_probed(self.probe(digest), page_holds)
    }

    /// As [`find_checked`](Self::find_checked), for a digest whose place was computed before.
    #[inline]
    pub(crate) fn find_probed<F: FnMut(u64) -> bool>(
        &self,
        probe: Probe,
        page_holds: F,
    ) -> Matches<'_, D, F> {
        Matches {
            index: self,
            probe,
            page_holds,
            bucket: probe.bucket,
            slots: [[0; SLOT_BYTES]; BUCKET_SLOTS],
            next_slot: BUCKET_SLOTS,
            stage: Stage::Table,
        }
    }

    /// How many entries of the overflow have lesser leading bits. Logarithmic.
    fn overflow_lower_bound(
        &self,
        leading: u64,
        page_holds: &mut impl FnMut(u64) -> bool,
    ) -> Result<u64, DamagedPage> {
        let (mut low, mut high) = (0, self.header.overflow);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.overflow_entry(middle, page_holds) {
                Ok(Some((own, _))) if own < leading => low = middle + 1,
                Ok(_) => high = middle,
                Err(damaged) => return Err(damaged),
            }
        }
        Ok(low)
    }

    /// Leading bits and slot of an entry of the overflow.
    fn overflow_entry(
        &self,
        number: u64,
        page_holds: &mut impl FnMut(u64) -> bool,
    ) -> Result<Option<(u64, Slot)>, DamagedPage> {
        if number >= self.header.overflow {
            return Ok(None);
        }
        let at = self.layout.overflow + number * OVERFLOW_BYTES as u64;
        // An entry does not cross pages: both lengths divide that of a page.
        let page = (at - self.layout.table) / PAGE_BYTES as u64;
        if !page_holds(page) {
            return Err(DamagedPage { page });
        }
        let bytes = self.slice(at, OVERFLOW_BYTES);
        let entry: Option<&[u8; OVERFLOW_BYTES]> = bytes.and_then(|bytes| bytes.first_chunk());
        Ok(entry.map(|entry| {
            let leading = overflow_entry::LEADING.number(entry);
            (leading, Slot::from_bytes(overflow_entry::SLOT.read(entry)))
        }))
    }

    #[inline]
    fn slice(&self, at: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.bytes.as_ref().get(at..at.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests;
