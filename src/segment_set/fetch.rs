//! Brings in from the disk what lookups read next, for stores that are larger than memory.
//!
//! A lookup reads a bucket, mostly an entry or a record, and a page that is not in memory stops it
//! until the disk has answered. Asked for beforehand, the pages of a record come with one answer of
//! the disk instead of one each, and those of many lookups come side by side.
//!
//! None of this changes what a lookup returns. In memory it would cost more than a lookup, so it is
//! done only while [`DiskWaits`] expects a wait, and now and then to find out.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::copies::Named;
use super::{ObjectCopy, ResolvedRun, SegmentSet};
use crate::digest::Digest;
use crate::format::record;
use crate::format::set_index::Location;
use crate::memory::{Map, PAGE_BYTES, REQUEST_BYTES};
use crate::options::VerifyReads;
use crate::segment::Sealed;

/// What the lookups read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whether an object is there.
    Entries,
    /// Its content.
    Contents,
    /// Its content, and what the sidecar says of it.
    Both,
}

impl Wanted {
    /// What a get reads.
    #[inline]
    pub(super) const fn by(verify: VerifyReads) -> Self {
        match verify {
            VerifyReads::EveryRead => Self::Contents,
            VerifyReads::FirstRead => Self::Both,
        }
    }
}

/// Lookups whose records are asked for together: enough to keep a disk busy.
const WINDOW: usize = 256;
/// Content that is asked for together, in bytes, so that it is still in memory when its turn comes.
const WINDOW_BYTES: u64 = 8 << 20;

/// One lookup in so many finds out whether the store is still in memory, in a store of small
/// objects, of large objects, and of very large objects.
const LOOK_INTERVALS: [u8; 3] = [128, 16, 4];
const LARGE_BYTES: u64 = 64 << 10;
const VERY_LARGE_BYTES: u64 = 1 << 20;

impl SegmentSet {
    /// Brings in what one lookup reads, if it is likely that the lookup would wait for the disk.
    /// Call it before the lookup. In memory it costs next to nothing.
    #[inline]
    pub(crate) fn fetch(&self, digest: &Digest, wanted: Wanted) {
        if self.record_waits.are_likely() || self.bucket_waits.are_likely() || self.is_due(digest) {
            self.fetch_one(digest, wanted);
        }
    }

    /// Does [`fetch`](Self::fetch) for lookups that follow one after the other. Pass at most a
    /// [window](Self::window) of them.
    #[inline]
    pub(crate) fn fetch_many<'a>(
        &self,
        digests: impl Iterator<Item = &'a Digest> + Clone,
        wanted: Wanted,
    ) {
        if self.record_waits.are_likely() || self.bucket_waits.are_likely() {
            self.fetch_window(digests, wanted);
        } else if let Some(due) = digests.clone().find(|digest| self.is_due(digest)) {
            self.fetch_one(due, wanted);
        }
    }

    /// The number of lookups to fetch together. All of them where nothing is likely to be fetched.
    pub(super) fn window(&self) -> usize {
        if !self.record_waits.are_likely() && !self.bucket_waits.are_likely() {
            return usize::MAX;
        }
        let count = WINDOW_BYTES / self.record_bytes_mean.max(1);
        usize::try_from(count).map_or(WINDOW, |count| count.clamp(1, WINDOW))
    }

    /// Whether this lookup is one of those that find out. Digests are random, so their last byte
    /// chooses as well as a counter, which threads would share.
    #[inline]
    fn is_due(&self, digest: &Digest) -> bool {
        let [.., last] = digest.as_bytes();
        last & (self.look_interval - 1) == 0
    }

    /// How many lookups there are for one that finds out, a power of two.
    pub(super) const fn look_interval(record_bytes_mean: u64) -> u8 {
        let [small, large, very_large] = LOOK_INTERVALS;
        if record_bytes_mean < LARGE_BYTES {
            small
        } else if record_bytes_mean < VERY_LARGE_BYTES {
            large
        } else {
            very_large
        }
    }

    #[cold]
    fn fetch_one(&self, digest: &Digest, wanted: Wanted) {
        let begun = Instant::now();
        if self.bucket_waits.are_likely() {
            self.ask_for_buckets(digest);
        }
        let place = self.place(digest);
        let placed = Instant::now();
        self.bucket_waits.note_read(placed - begun);
        let Some(place) = place else {
            self.record_waits.note_read(Duration::ZERO);
            return;
        };
        let is_likely = self.record_waits.are_likely();
        if wanted != Wanted::Contents && is_likely {
            place.ask_for_entry(digest);
        }
        if wanted == Wanted::Entries {
            place.read_entry(digest);
        } else {
            if is_likely && place.is_in_several_pages() {
                place.ask_for_record();
            }
            place.read_header_and_ask_for_rest();
        }
        self.record_waits.note_read(placed.elapsed());
    }

    #[cold]
    fn fetch_window<'a>(&self, digests: impl Iterator<Item = &'a Digest> + Clone, wanted: Wanted) {
        if self.bucket_waits.are_likely() {
            for digest in digests.clone() {
                self.ask_for_buckets(digest);
            }
        }
        let begun = Instant::now();
        let mut count = 0;
        let place = |digest: &'a Digest| {
            count += 1;
            Some((digest, self.place(digest)?))
        };
        let places: Vec<(&Digest, Place<'_>)> = digests.filter_map(place).collect();
        self.bucket_waits.note_requests(begun.elapsed(), count);
        let begun = Instant::now();
        for (digest, place) in &places {
            if wanted != Wanted::Contents {
                place.ask_for_entry(digest);
            }
            if wanted != Wanted::Entries {
                place.ask_for_record();
            }
        }
        self.record_waits
            .note_requests(begun.elapsed(), places.len());
    }

    /// Asks for all runs, for a walk that looks up every object.
    pub(crate) fn fetch_runs(&self) {
        for resolved in &self.runs {
            resolved.run().fetch();
        }
    }

    fn ask_for_buckets(&self, digest: &Digest) {
        for resolved in &self.runs {
            let run = resolved.run();
            run.will_need(&run.probe(digest));
        }
    }

    /// Returns the first place to which the indexes lead.
    fn place(&self, digest: &Digest) -> Option<Place<'_>> {
        match self.named(digest).next() {
            Some(Named::Record(resolved, segment, location)) => {
                Some(Place::by_run(resolved, segment, location))
            }
            Some(Named::Anywhere(_)) => None,
            None => {
                let copy = self.copies_beside_runs(digest).next()?.ok()?;
                Some(Place::of_copy(&copy))
            }
        }
    }

    /// Asks for what [`fetch_many`](Self::fetch_many) has not asked for of a content that is longer
    /// than most.
    #[inline]
    pub(super) fn fetch_rest(&self, segment: &Sealed, offset: u64, len: usize) {
        if len > segment.record_bytes_mean()
            && self.record_waits.are_likely()
            && let Some(map) = segment.data().map()
        {
            map.will_need(offset..offset.saturating_add(len as u64));
        }
    }
}

/// A record to which an index leads.
struct Place<'a> {
    /// `None` if the file is not mapped.
    map: Option<&'a Map>,
    /// Where the record is. Where only its own header gives its length, this takes it to be of average
    /// length, but ends early for a long record, since this one may be short.
    record: Range<u64>,
    /// The run that led here, which knows where the entry is but not the length of the content.
    by_run: Option<(&'a ResolvedRun, &'a Arc<Sealed>, Location)>,
}

impl<'a> Place<'a> {
    fn by_run(resolved: &'a ResolvedRun, segment: &'a Arc<Sealed>, location: Location) -> Self {
        let begin = location.offset().saturating_sub(record::HEADER_BYTES);
        let len = segment.record_bytes_mean().min(REQUEST_BYTES);
        Self {
            map: segment.data().map(),
            record: begin..begin.saturating_add(len as u64),
            by_run: Some((resolved, segment, location)),
        }
    }

    fn of_copy(copy: &ObjectCopy<'a>) -> Self {
        let entry = copy.entry();
        let end = entry.offset.saturating_add(u64::from(entry.len));
        Self {
            map: copy.map(),
            record: entry.offset.saturating_sub(record::HEADER_BYTES)..end,
            by_run: None,
        }
    }

    /// Asks for the entry in the sidecar, unless it was read to find this place.
    fn ask_for_entry(&self, digest: &Digest) {
        if let Some((resolved, segment, location)) = &self.by_run {
            let geometry = &resolved.run().index().header().geometry;
            segment.will_need_entry(digest, geometry, location);
        }
    }

    /// Reads the entry in the sidecar, if that was searched before.
    fn read_entry(&self, digest: &Digest) {
        if let Some((resolved, segment, location)) = &self.by_run {
            let geometry = &resolved.run().index().header().geometry;
            black_box(segment.entry_at(digest, geometry, location));
        }
    }

    fn ask_for_record(&self) {
        if let Some(map) = self.map {
            map.will_need(self.record.clone());
        }
    }

    /// Whether reading the record takes more than one page, which it would read by itself.
    fn is_in_several_pages(&self) -> bool {
        let page = PAGE_BYTES as u64;
        self.record.start / page != self.record.end.saturating_sub(1) / page
    }

    /// Reads the header of the record, and asks for what the record has beyond the part that
    /// [`ask_for_record`](Self::ask_for_record) asks for.
    fn read_header_and_ask_for_rest(&self) {
        let Some(map) = self.map else { return };
        let header = map.slice(self.record.start, 4);
        if let Some(len) = black_box(header.and_then(record::parse_header)) {
            let begin = self.record.start.saturating_add(record::HEADER_BYTES);
            map.will_need(self.record.end..begin.saturating_add(u64::from(len)));
        }
    }
}
