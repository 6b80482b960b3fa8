//! One run of the set index: where the objects of many sealed segments lie, format `SSX2`.
//!
//! A run is a table of buckets of one cache line each, in the order of the digests. A lookup reads
//! the bucket that the leading bits of the digest choose, and finds the segment and the offset of
//! the record there, however many segments the run covers. A location is a hint: the reader
//! compares the digest of the content, or asks the sidecar of the segment.
//!
//! Choosing a bucket by the high half of a product, which takes any number of buckets and keeps the
//! order, is from D. Lemire, "Fast random integer generation in an interval" (2019).

mod build;
mod geometry;
mod header;
mod location;
mod matches;

use std::ops::Range;

pub(crate) use build::{Builder, Written, page_sums};
pub(crate) use geometry::{Geometry, Probe};
pub use header::Header;
pub use location::{Location, Ordinal};

use super::layout::overflow_entry;
use super::{FormatError, bytes_at};
use crate::digest::Digest;
use geometry::Slot;
use header::Layout;
use matches::Stage;
pub(crate) use matches::{Matches, PageCheck};

/// First bytes of a run.
pub const MAGIC: [u8; 4] = *b"SSX2";
/// Length of a bucket in bytes: one cache line.
pub const BUCKET_BYTES: usize = 64;
/// Number of slots in a bucket.
pub const BUCKET_SLOTS: usize = BUCKET_BYTES / SLOT_BYTES;
/// Length of a page, which has one checksum, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// Number of buckets, from its own on, in which an object may be. An object that finds no room
/// there is in the overflow, which is searched.
pub const PROBED_BUCKETS_MAX: u64 = 4;
/// Fewest bits of a slot that are a tag. A lookup reads eight tags or a few more, so less than one
/// in 8,000 meets an equal tag of another object; with the usual 22 bits it is one in 500,000.
pub const TAG_BITS_MIN: u32 = 16;
/// Most bits of a slot that are low bits of the entry's position in the sidecar.
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

/// Returns the checksum of a page with this digest: the first 8 bytes of the digest as a number,
/// plus the number of the page, so that the checksum holds only in its place.
fn sum_of(digest: &Digest, number: u64) -> u64 {
    let bytes = digest.as_bytes().first_chunk().copied();
    bytes.map_or(0, u64::from_le_bytes).wrapping_add(number)
}

/// A parsed run. Its bytes can be of any kind: a `Vec` in a test, a memory map in the store.
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
/// let location = run.find(&entry.digest).next().expect("the run covers it");
/// assert_eq!((location.ordinal().index(), location.offset()), (0, 4));
/// # Ok::<(), sealstone::format::FormatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SetIndex<D> {
    bytes: D,
    header: Header,
    layout: Layout,
}

/// A page whose checksum does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedPage {
    /// Its number, counted from the beginning of the table.
    pub page: u64,
}

impl<D: AsRef<[u8]>> SetIndex<D> {
    /// Parses a run and checks its header and length, in time linear in the number of segments. No
    /// method of the result panics. [`page_holds`](Self::page_holds) checks table and overflow page
    /// by page.
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

    /// Returns the segments that the run covers, and its numbers.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the bytes that were parsed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns what holds the bytes.
    pub(crate) const fn get_ref(&self) -> &D {
        &self.bytes
    }

    /// Returns the number of pages of table and overflow.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.layout.pages
    }

    /// Returns the page in which a bucket lies.
    #[inline]
    #[must_use]
    pub(crate) const fn page_of_bucket(bucket: u64) -> u64 {
        bucket / (PAGE_BYTES / BUCKET_BYTES) as u64
    }

    /// Where in the file these pages are.
    pub(crate) fn extent_of_pages(&self, pages: &Range<u64>) -> Range<u64> {
        let place = |page: u64| self.layout.table + page * PAGE_BYTES as u64;
        place(pages.start)..place(pages.end)
    }

    /// Whether the checksum of a page holds. False beyond the last page.
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

    /// Computes where a digest is searched.
    #[inline]
    #[must_use]
    pub(crate) fn probe(&self, digest: &Digest) -> Probe {
        self.header.geometry.probe(digest)
    }

    /// Returns the bytes of a bucket.
    #[inline]
    #[must_use]
    pub(crate) fn bucket(&self, bucket: u64) -> Option<&[u8; BUCKET_BYTES]> {
        if bucket >= self.header.geometry.buckets {
            return None;
        }
        let at = self.layout.table + bucket * BUCKET_BYTES as u64;
        self.slice(at, BUCKET_BYTES)?.first_chunk()
    }

    /// Returns the first location in the own bucket that has the tag. The page is not checked.
    ///
    /// It is the wrong location if the object is elsewhere, or several slots have the tag; so the
    /// caller compares the digest with the entry in the sidecar. No branch depends on the contents
    /// of the bucket, so a processor begins the next lookup before it has them.
    #[inline]
    #[must_use]
    pub(crate) fn first_in_own_bucket(&self, probe: &Probe) -> Option<Location> {
        let (slots, _) = self.bucket(probe.bucket)?.as_chunks();
        let slots: &[[u8; SLOT_BYTES]; BUCKET_SLOTS] = slots.first_chunk()?;
        let slot = slots.get(Geometry::first_like(slots, probe))?;
        let geometry = &self.header.geometry;
        geometry.location(Slot::from_bytes(*slot), probe)
    }

    /// Returns where `digest` may be, as [`find_checked`](Self::find_checked) does if all pages
    /// hold.
    pub fn find(&self, digest: &Digest) -> impl Iterator<Item = Location> + use<'_, D> {
        let found = self.find_probed(self.probe(digest), |_| true);
        found.filter_map(Result::ok)
    }

    /// Returns where `digest` may be: the locations with its tag. There is usually one if the
    /// object is in a segment, and none if it is not. All copies of an object are among them.
    ///
    /// `page_holds` is called for each page before it is read. If it returns false, the iterator
    /// gives an error and ends, and the digest can be in any of the segments. Constant time: at
    /// most [`PROBED_BUCKETS_MAX`] buckets are read, and the overflow is searched if all of them
    /// are full.
    #[inline]
    pub fn find_checked<F: FnMut(u64) -> bool>(
        &self,
        digest: &Digest,
        page_holds: F,
    ) -> impl Iterator<Item = Result<Location, DamagedPage>> + use<'_, D, F> {
        self.find_probed(self.probe(digest), page_holds)
    }

    /// Searches as [`find_checked`](Self::find_checked) does, for a digest that was probed before.
    #[inline]
    pub(crate) fn find_probed<C: PageCheck>(&self, probe: Probe, check: C) -> Matches<'_, D, C> {
        Matches {
            run: self,
            probe,
            check,
            bucket: probe.bucket,
            slots: [].iter(),
            stage: Stage::Table,
        }
    }

    /// Counts the entries of the overflow with lesser leading bits. Logarithmic.
    fn overflow_lower_bound(
        &self,
        leading: u64,
        check: &mut impl PageCheck,
    ) -> Result<u64, DamagedPage> {
        let (mut low, mut high) = (0, self.header.overflow);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.overflow_entry(middle, check) {
                Ok(Some((own, _))) if own < leading => low = middle + 1,
                Ok(_) => high = middle,
                Err(damaged) => return Err(damaged),
            }
        }
        Ok(low)
    }

    /// Returns leading bits and slot of an entry of the overflow, or `None` beyond the last.
    fn overflow_entry(
        &self,
        number: u64,
        check: &mut impl PageCheck,
    ) -> Result<Option<(u64, Slot)>, DamagedPage> {
        if number >= self.header.overflow {
            return Ok(None);
        }
        let at = self.layout.overflow + number * OVERFLOW_BYTES as u64;
        let page = (at - self.layout.table) / PAGE_BYTES as u64;
        if !check.page_holds(page) {
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
