//! Building a run from the sidecars of its segments, one piece of the table after the other.

use std::ops::Range;

use super::geometry::Slot;
use super::{
    BUCKET_SLOTS, Geometry, Header, Location, Ordinal, PAGE_BYTES, PROBED_BUCKETS_MAX, SLOT_BYTES,
    SetIndex, sum_of,
};
use crate::digest::Digest;
use crate::format::layout::overflow_entry;
use crate::format::{SealedSegment, Sidecar, least_digest};

/// Fewest buckets of a piece. Their slots fit the cache of a core.
const PIECE_BUCKETS_MIN: u64 = 1 << 14;
/// Most buckets of a piece, since several pieces are in memory at a time.
const PIECE_BUCKETS_MAX: u64 = 1 << 20;

/// Builds a run piece by piece, so that only a few pieces of the table are in memory at a time,
/// however large it is.
///
/// First [`fill`](Self::fill) the [pieces](Self::pieces), in any order and in parallel if there are
/// threads; [`place`](Self::place) each filled piece, in order; [`finish`](Self::finish) at last.
/// The caller writes the bytes that `place` and `finish` return to the positions that come with
/// them.
#[derive(Debug)]
pub(crate) struct Builder {
    segments: Vec<(u32, SealedSegment)>,
    pub(super) geometry: Geometry,
    /// Length of the header in bytes: where the table begins.
    header_bytes: usize,
    objects: u64,
    /// Objects that found no room in the pieces before and may find it in the next.
    carried: Vec<Spilled>,
    /// Leading bits and slot.
    overflow: Vec<(u64, Slot)>,
    /// The bytes behind the last whole page that was returned.
    rest: Vec<u8>,
    pages: u64,
}

/// Bytes to write, after their position in the file.
pub(crate) type Written = (u64, Vec<u8>);

/// A part of the table.
#[derive(Debug)]
pub(crate) struct Piece {
    first_bucket: u64,
    /// The slots as in the file. Vacant slots are zeros, which the system allocates without a pass.
    slots: Vec<[u8; SLOT_BYTES]>,
    /// The number of filled slots of each bucket.
    filled: Vec<u8>,
    spilled: Vec<Spilled>,
    objects: u64,
}

/// An object whose own bucket is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spilled {
    bucket: u64,
    leading: u64,
    slot: Slot,
}

impl SetIndex<Vec<u8>> {
    /// Encodes a run over these segments. Each is given by its id, the binding that the manifest
    /// has for it, and its [sorted](Sidecar::is_sorted) sidecar.
    ///
    /// Returns `None` if one run cannot cover them: that takes more than 2^48 bytes of data, or
    /// segments of very different sizes.
    #[must_use]
    pub fn encode<D: AsRef<[u8]>>(
        segments: &[(u32, SealedSegment, &Sidecar<D>)],
    ) -> Option<Vec<u8>> {
        let sidecars: Vec<&Sidecar<D>> = segments.iter().map(|segment| segment.2).collect();
        let segments: Vec<_> = segments
            .iter()
            .map(|&(id, segment, _)| (id, segment))
            .collect();
        let mut builder = Builder::new(&segments)?;
        let mut written = Vec::new();
        let mut sums = Vec::new();
        for buckets in builder.pieces() {
            let piece = builder.fill(buckets, &sidecars);
            let (at, bytes) = builder.place(piece);
            sums.extend(page_sums(&bytes, builder.page_at(at)));
            written.push((at, bytes));
        }
        written.extend(builder.finish(sums));
        let len = written.iter().map(|(at, bytes)| at + bytes.len() as u64);
        let mut file = vec![0; usize::try_from(len.max()?).ok()?];
        for (at, bytes) in written {
            let at = usize::try_from(at).ok()?;
            file.get_mut(at..at + bytes.len())?.copy_from_slice(&bytes);
        }
        Some(file)
    }
}

impl Builder {
    /// Begins a run. Returns `None` if one run cannot cover the segments; see [`Geometry::of`].
    #[must_use]
    pub(crate) fn new(segments: &[(u32, SealedSegment)]) -> Option<Self> {
        let geometry = Geometry::of(segments)?;
        let header = Header {
            segments: segments.to_vec(),
            objects: 0,
            overflow: 0,
            geometry,
        };
        Some(Self {
            header_bytes: header.encode().len(),
            segments: header.segments,
            geometry,
            objects: 0,
            carried: Vec::new(),
            overflow: Vec::new(),
            rest: Vec::new(),
            pages: 0,
        })
    }

    /// Returns the pieces of the table as ranges of buckets.
    #[must_use]
    pub(crate) fn pieces(&self) -> Vec<Range<u64>> {
        // A piece is so long that reading the sidecars takes longer than searching where it begins.
        let wanted = (self.segments.len() as u64 * 64).next_power_of_two();
        let step = wanted.clamp(PIECE_BUCKETS_MIN, PIECE_BUCKETS_MAX);
        let buckets = self.geometry.buckets();
        let begins = (0..buckets.div_ceil(step)).map(|piece| piece * step);
        begins
            .map(|begin| begin..(begin + step).min(buckets))
            .collect()
    }

    /// Fills buckets with the objects whose own buckets they are. The sidecars belong to the
    /// segments, in their order, and are sorted.
    #[must_use]
    pub(crate) fn fill<D: AsRef<[u8]>>(
        &self,
        buckets: Range<u64>,
        sidecars: &[&Sidecar<D>],
    ) -> Piece {
        let geometry = &self.geometry;
        let count = usize::try_from(buckets.end.saturating_sub(buckets.start)).unwrap_or(0);
        let mut piece = Piece {
            first_bucket: buckets.start,
            slots: vec![[0; SLOT_BYTES]; count * BUCKET_SLOTS],
            filled: vec![0; count],
            spilled: Vec::new(),
            objects: 0,
        };
        let lower_bound = |sidecar: &Sidecar<D>, bucket: u64| match geometry.least_leading(bucket) {
            Some(leading) => sidecar.lower_bound(0..sidecar.len(), &least_digest(leading)),
            None => sidecar.len(),
        };
        // The newest copy comes first, since it was put to repair an older one.
        for (ordinal, sidecar) in sidecars.iter().enumerate().rev() {
            // The header counts the segments in 32 bits.
            let ordinal = Ordinal::new(u32::try_from(ordinal).unwrap_or(u32::MAX));
            let (begin, end) = (
                lower_bound(sidecar, buckets.start),
                lower_bound(sidecar, buckets.end),
            );
            for (position, entry) in (begin..end).zip(sidecar.entries_in(begin..end)) {
                let location = geometry.location_of(ordinal, position, entry.offset);
                piece.insert(geometry, &entry.digest, location);
            }
        }
        piece
    }

    /// Finds room for the objects that did not fit their own bucket, and returns whole pages to
    /// write. Pieces are placed in order.
    pub(crate) fn place(&mut self, mut piece: Piece) -> Written {
        let last_bucket = piece.first_bucket + piece.filled.len() as u64;
        let mut spilled = std::mem::take(&mut self.carried);
        spilled.append(&mut piece.spilled);
        // In this order the result does not depend on how the table is cut into pieces.
        spilled.sort_unstable();
        for spilled in spilled {
            let probed_end = spilled.bucket.saturating_add(PROBED_BUCKETS_MAX);
            let first = spilled.bucket.max(piece.first_bucket);
            if (first..probed_end).any(|bucket| piece.push(bucket, spilled.slot)) {
            } else if probed_end > last_bucket && last_bucket < self.geometry.buckets() {
                self.carried.push(spilled);
            } else {
                self.overflow.push((spilled.leading, spilled.slot));
            }
        }
        self.objects += piece.objects;
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece.slots.as_flattened());
        self.rest = bytes.split_off(bytes.len() - bytes.len() % PAGE_BYTES);
        self.give_pages(bytes)
    }

    fn give_pages(&mut self, bytes: Vec<u8>) -> Written {
        let at = self.header_bytes as u64 + self.pages * PAGE_BYTES as u64;
        self.pages += (bytes.len() / PAGE_BYTES) as u64;
        (at, bytes)
    }

    /// Returns the length of the header, which is where in the file the table begins.
    #[must_use]
    pub(crate) const fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Returns the number of the page that begins at a position in the file.
    #[must_use]
    pub(crate) const fn page_at(&self, at: u64) -> u64 {
        (at - self.header_bytes as u64) / PAGE_BYTES as u64
    }

    /// Returns the end of table and overflow, the checksums, and last the header. `sums` are the
    /// [checksums](page_sums) of all pages that [`place`](Self::place) returned.
    #[must_use]
    pub(crate) fn finish(mut self, mut sums: Vec<u64>) -> [Written; 3] {
        self.overflow.sort_unstable();
        let mut bytes = std::mem::take(&mut self.rest);
        for (leading, slot) in &self.overflow {
            let mut entry = [0; overflow_entry::BYTES];
            overflow_entry::LEADING.write(&mut entry, leading.to_le_bytes());
            overflow_entry::SLOT.write(&mut entry, slot.to_bytes());
            bytes.extend_from_slice(&entry);
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        let end = self.give_pages(bytes);
        sums.extend(page_sums(&end.1, self.page_at(end.0)));
        let sums_at = end.0 + end.1.len() as u64;
        let sums = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let header = Header {
            segments: self.segments,
            objects: self.objects,
            overflow: self.overflow.len() as u64,
            geometry: self.geometry,
        };
        [end, (sums_at, sums), (0, header.encode())]
    }
}

impl Piece {
    fn insert(&mut self, geometry: &Geometry, digest: &Digest, location: Location) {
        let probe = geometry.probe(digest);
        let slot = geometry.slot(&probe, location);
        self.objects += 1;
        if !self.push(probe.bucket, slot) {
            self.spilled.push(Spilled {
                bucket: probe.bucket,
                leading: probe.leading,
                slot,
            });
        }
    }

    /// Puts a slot into a bucket. Returns false if the bucket is full or not in this piece.
    fn push(&mut self, bucket: u64, slot: Slot) -> bool {
        let Some(bucket) = bucket.checked_sub(self.first_bucket) else {
            return false;
        };
        let bucket = usize::try_from(bucket).unwrap_or(usize::MAX);
        let Some(filled) = self.filled.get_mut(bucket) else {
            return false;
        };
        let at = usize::from(*filled);
        if at == BUCKET_SLOTS {
            return false;
        }
        self.slots[bucket * BUCKET_SLOTS + at] = slot.to_bytes();
        *filled += 1;
        true
    }
}

/// Computes the checksums of whole pages, of which the first has the number `first_page`.
#[must_use]
pub(crate) fn page_sums(bytes: &[u8], first_page: u64) -> Vec<u64> {
    let (pages, _) = bytes.as_chunks::<PAGE_BYTES>();
    let digests = Digest::of_many(pages);
    let numbered = (first_page..).zip(&digests);
    numbered
        .map(|(number, digest)| sum_of(digest, number))
        .collect()
}
