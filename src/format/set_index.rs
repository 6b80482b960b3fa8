//! One run of the set index: where the objects of many sealed segments lie, format `SSX1`.
//!
//! A table of buckets of one cache line each, ordered as digests are. A lookup reads the bucket that
//! the digest's leading bits choose, and finds the segment and the offset of the record there,
//! however many segments there are. What it says is a hint: whoever reads the record compares its
//! content, or asks the segment's sidecar.
//!
//! Choosing a bucket by the high half of a product, which takes any number of buckets and keeps the
//! order, is from D. Lemire, "Fast random integer generation in an interval" (2019).

use super::manifest::SealedSegment;
use super::{FormatError, bytes_at};
use crate::digest::{DIGEST_BYTES, Digest};

mod build;

pub use build::{Builder, Piece, Written, page_sums};

/// First bytes of a run.
pub const MAGIC: [u8; 4] = *b"SSX1";
/// Length of a bucket in bytes: one cache line.
pub const BUCKET_BYTES: usize = 64;
/// Number of slots in a bucket.
pub const BUCKET_SLOTS: usize = BUCKET_BYTES / 8;
/// What one checksum covers, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// How many buckets, from its own on, an object may be in. What finds no room there is in the
/// overflow, which is searched.
pub const PROBED_BUCKETS_MAX: u64 = 4;
/// At least so many bits of a slot are a tag. A lookup reads eight tags or a few more, so less than
/// one in 8,000 meets one that is not its own; from the usual 24 bits on it is one in two million.
pub const TAG_BITS_MIN: u32 = 16;

/// Length of what stands before the segments.
const FIXED_BYTES: usize = 4 + 4 + 8 + 8 + 8 + 4 + 4;
/// Length of what the header says of one segment.
const SEGMENT_BYTES: usize = 4 + 8 + 4 + DIGEST_BYTES;
/// Length of an entry of the overflow.
const OVERFLOW_BYTES: usize = 8 + 8;
/// Length of the checksum of a page.
const PAGE_SUM_BYTES: usize = 8;

const _: () =
    assert!(FIXED_BYTES == 40 && SEGMENT_BYTES == 48 && PAGE_BYTES.is_multiple_of(BUCKET_BYTES));

/// Where a record may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Position of the segment in [`Header::segments`].
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
    buckets: u64,
    ordinal_bits: u32,
    offset_bits: u32,
}

/// Where a digest is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The first bucket in which it can be.
    pub bucket: u64,
    /// The tag, in the high bits as it is in a slot, the others zero.
    tag: u64,
    leading: u64,
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

    fn is_possible(&self) -> bool {
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
    fn probe_leading(&self, leading: u64) -> Probe {
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
    fn least_leading(&self, bucket: u64) -> Option<u64> {
        let least = (u128::from(bucket) << u64::BITS).div_ceil(u128::from(self.buckets));
        u64::try_from(least).ok()
    }

    #[inline]
    fn slot(&self, probe: &Probe, location: Location) -> u64 {
        probe.tag | (u64::from(location.ordinal) << self.offset_bits) | location.offset
    }

    /// The location in a slot, if the slot has this tag.
    #[inline]
    fn location(&self, slot: u64, probe: &Probe) -> Option<Location> {
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
        let mut bytes = Vec::with_capacity(padded(FIXED_BYTES + self.segments.len() * 48 + 32));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.objects.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.buckets.to_le_bytes());
        bytes.extend_from_slice(&self.overflow.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.ordinal_bits.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.offset_bits.to_le_bytes());
        for (id, segment) in &self.segments {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&segment.data_bytes.to_le_bytes());
            bytes.extend_from_slice(&segment.objects.to_le_bytes());
            bytes.extend_from_slice(segment.sidecar_checksum.as_bytes());
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    /// Reads a header. Linear in the number of segments.
    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
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
        let fields = (|| Some((number(8)?, number(16)?, number(24)?, short(32)?, short(36)?)))();
        let (objects, buckets, overflow, ordinal_bits, offset_bits) =
            fields.ok_or(FormatError::Length)?;
        let geometry = Geometry {
            buckets,
            ordinal_bits: ordinal_bits.min(u32::BITS + 1),
            offset_bits: offset_bits.min(u64::BITS + 1),
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

    /// Where table and overflow begin and end, and where the file does.
    fn layout(&self) -> Option<Layout> {
        let table = padded(FIXED_BYTES + self.segments.len() * SEGMENT_BYTES + DIGEST_BYTES) as u64;
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

fn padded(len: usize) -> usize {
    len.next_multiple_of(PAGE_BYTES)
}

/// Positions in the file, in bytes.
#[derive(Clone, Copy, Debug)]
struct Layout {
    table: u64,
    overflow: u64,
    sums: u64,
    /// Number of pages from `table` to `sums`.
    pages: u64,
    file_bytes: u64,
}

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
/// use sealstone::format::set_index::{Builder, Location, SetIndex};
/// use sealstone::format::{Entry, Index, SealedSegment};
///
/// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
/// let sidecar = Index::build(&mut [entry]);
/// let segment = SealedSegment { data_bytes: 7, objects: 1, sidecar_checksum: sidecar.checksum() };
///
/// let bytes = Builder::build(&[(5, segment)], &[&sidecar]).expect("small enough");
/// let run = SetIndex::parse(bytes)?;
/// assert_eq!(run.header().segments, [(5, segment)]);
/// let found: Vec<_> = run.find(&entry.digest).collect();
/// assert_eq!(found, [Location { ordinal: 0, offset: 4 }]);
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
    pub const fn page_of_bucket(bucket: u64) -> u64 {
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
    pub fn probe(&self, digest: &Digest) -> Probe {
        self.header.geometry.probe(digest)
    }

    /// The bytes of a bucket.
    #[inline]
    #[must_use]
    pub fn bucket(&self, bucket: u64) -> Option<&[u8; BUCKET_BYTES]> {
        if bucket >= self.header.geometry.buckets {
            return None;
        }
        let at = self.layout.table + bucket * BUCKET_BYTES as u64;
        self.slice(at, BUCKET_BYTES)?.first_chunk()
    }

    /// Where `digest` may be, without looking at checksums. See
    /// [`find_checked`](Self::find_checked).
    pub fn find(&self, digest: &Digest) -> impl Iterator<Item = Location> + use<'_, D> {
        let found = self.find_checked(self.probe(digest), |_| true);
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
        probe: Probe,
        page_holds: F,
    ) -> Matches<'_, D, F> {
        Matches {
            index: self,
            probe,
            page_holds,
            bucket: probe.bucket,
            slots: [0; BUCKET_SLOTS],
            next_slot: BUCKET_SLOTS,
            stage: Stage::Table,
        }
    }

    /// How many entries of the overflow have lesser leading bits. Logarithmic.
    fn overflow_lower_bound(
        &self,
        leading: u64,
        page_holds: &mut impl FnMut(u64) -> bool,
    ) -> Bound {
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
    ) -> Result<Option<(u64, u64)>, DamagedPage> {
        if number >= self.header.overflow {
            return Ok(None);
        }
        let at = self.layout.overflow + number * OVERFLOW_BYTES as u64;
        // An entry does not cross pages: both lengths divide that of a page.
        let page = (at - self.layout.table) / PAGE_BYTES as u64;
        if !page_holds(page) {
            return Err(DamagedPage { page });
        }
        Ok(self.slice(at, OVERFLOW_BYTES).and_then(|bytes| {
            let leading = u64::from_le_bytes(bytes_at(bytes, 0)?);
            Some((leading, u64::from_le_bytes(bytes_at(bytes, 8)?)))
        }))
    }

    #[inline]
    fn slice(&self, at: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.bytes.as_ref().get(at..at.checked_add(len)?)
    }
}

type Bound = Result<u64, DamagedPage>;

/// See [`SetIndex::find_checked`].
#[derive(Debug)]
pub struct Matches<'a, D, F> {
    index: &'a SetIndex<D>,
    probe: Probe,
    page_holds: F,
    /// The bucket to read next.
    bucket: u64,
    slots: [u64; BUCKET_SLOTS],
    next_slot: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Table,
    /// The entry to look at next.
    Overflow(u64),
    End,
}

impl<D: AsRef<[u8]>, F: FnMut(u64) -> bool> Iterator for Matches<'_, D, F> {
    type Item = Result<Location, DamagedPage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let geometry = self.index.header.geometry;
        loop {
            while let Some(&slot) = self.slots.get(self.next_slot) {
                if slot == 0 {
                    // What did not fit here would have been put here.
                    self.stage = Stage::End;
                    self.next_slot = BUCKET_SLOTS;
                    return None;
                }
                self.next_slot += 1;
                if let Some(location) = geometry.location(slot, &self.probe) {
                    return Some(Ok(location));
                }
            }
            match self.stage {
                Stage::Table => match self.read_bucket() {
                    Some(Ok(())) => {}
                    Some(Err(damaged)) => return Some(self.end_with(damaged)),
                    None => return self.search_overflow(),
                },
                Stage::Overflow(_) => return self.next_in_overflow(),
                Stage::End => return None,
            }
        }
    }
}

impl<D: AsRef<[u8]>, F: FnMut(u64) -> bool> Matches<'_, D, F> {
    /// Reads the next bucket, or gives `None` where there is none.
    #[inline]
    fn read_bucket(&mut self) -> Option<Result<(), DamagedPage>> {
        if self.bucket - self.probe.bucket >= PROBED_BUCKETS_MAX {
            return None;
        }
        let bytes = self.index.bucket(self.bucket)?;
        let page = SetIndex::<D>::page_of_bucket(self.bucket);
        if !(self.page_holds)(page) {
            return Some(Err(DamagedPage { page }));
        }
        let (slots, _) = bytes.as_chunks();
        for (slot, bytes) in self.slots.iter_mut().zip(slots) {
            *slot = u64::from_le_bytes(*bytes);
        }
        self.next_slot = 0;
        self.bucket += 1;
        Some(Ok(()))
    }

    #[cold]
    fn search_overflow(&mut self) -> Option<Result<Location, DamagedPage>> {
        let first = self
            .index
            .overflow_lower_bound(self.probe.leading, &mut self.page_holds);
        match first {
            Ok(first) => {
                self.stage = Stage::Overflow(first);
                self.next_in_overflow()
            }
            Err(damaged) => Some(self.end_with(damaged)),
        }
    }

    #[cold]
    fn next_in_overflow(&mut self) -> Option<Result<Location, DamagedPage>> {
        while let Stage::Overflow(number) = self.stage {
            match self.index.overflow_entry(number, &mut self.page_holds) {
                Ok(Some((leading, slot))) if leading == self.probe.leading => {
                    self.stage = Stage::Overflow(number + 1);
                    // Equal leading bits have equal tags, unless somebody wrote it otherwise.
                    if let Some(location) = self.index.header.geometry.location(slot, &self.probe) {
                        return Some(Ok(location));
                    }
                }
                Ok(_) => self.stage = Stage::End,
                Err(damaged) => return Some(self.end_with(damaged)),
            }
        }
        None
    }

    fn end_with<T>(&mut self, damaged: DamagedPage) -> Result<T, DamagedPage> {
        self.stage = Stage::End;
        self.next_slot = BUCKET_SLOTS;
        Err(damaged)
    }
}

#[cfg(test)]
mod tests;
