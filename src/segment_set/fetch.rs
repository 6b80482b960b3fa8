//! Brings in from the disk what lookups read next, for stores that are larger than memory.
//!
//! A lookup reads a bucket, mostly an entry or a record, and a page that is not in memory stops it
//! until the disk has answered. Asked for beforehand, the pages of a record come with one answer of
//! the disk instead of one each, and those of many lookups come side by side.
//!
//! None of this changes what a lookup returns. In memory it would cost more than a lookup, so it is
//! done only while [`DiskWaits`] expects a wait, and now and then to find out.

use std::cell::Cell;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::copies::Named;
use super::disk_waits::DiskWaits;
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
    const fn has_entries(self) -> bool {
        matches!(self, Self::Entries | Self::Both)
    }

    const fn has_contents(self) -> bool {
        matches!(self, Self::Contents | Self::Both)
    }

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

/// A record of unknown length is taken to be of average length. Beyond this many bytes such guesses have
/// to prove good: where long records are few, they would read much for nothing.
const LONG_GUESS_BYTES: usize = 16 << 10;

/// One lookup in so many finds out whether the store is still in memory, in a store of small
/// objects, of large objects, and of very large objects: 128, 16 and 4, as powers of two.
const LOOK_INTERVALS_LOG2: [u32; 3] = [7, 4, 2];
const LARGE_BYTES: u64 = 64 << 10;
const VERY_LARGE_BYTES: u64 = 1 << 20;

thread_local! {
    /// Lookups of this thread, in all stores. Threads that shared a counter would wait for each other.
    static LOOKUPS: Cell<u32> = const { Cell::new(0) };
}

impl SegmentSet {
    /// Brings in what one lookup reads, if it is likely that the lookup would wait for the disk.
    /// Call it before the lookup. In memory it costs next to nothing.
    #[inline]
    pub(crate) fn fetch(&self, digest: &Digest, wanted: Wanted) {
        if self.is_wait_likely(wanted) || self.is_look_due(1) {
            self.fetch_one(digest, wanted);
        }
    }

    /// Does [`fetch`](Self::fetch) for lookups that follow one after the other. Pass at most a
    /// [window](Self::window) of them.
    #[inline]
    pub(crate) fn fetch_many<'a>(
        &self,
        digests: impl ExactSizeIterator<Item = &'a Digest> + Clone,
        wanted: Wanted,
    ) {
        if self.is_wait_likely(wanted) {
            self.fetch_window(digests, wanted);
        } else if self.is_look_due(digests.len())
            && let Some(last) = digests.last()
        {
            self.fetch_one(last, wanted);
        }
    }

    /// The number of lookups to fetch together.
    pub(super) fn window(&self) -> usize {
        let count = WINDOW_BYTES / self.record_bytes_mean.max(1);
        usize::try_from(count).map_or(WINDOW, |count| count.clamp(1, WINDOW))
    }

    #[inline]
    fn is_wait_likely(&self, wanted: Wanted) -> bool {
        let waits = &self.waits;
        waits.buckets.are_likely()
            || (wanted.has_contents() && waits.records.are_likely())
            || (wanted.has_entries() && waits.entries.are_likely())
    }

    /// Counts lookups, and returns whether one of them should find out about waits.
    #[inline]
    fn is_look_due(&self, count: usize) -> bool {
        let before = LOOKUPS.get();
        // A window is short.
        let after = before.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        LOOKUPS.set(after);
        before >> self.look_interval_log2 != after >> self.look_interval_log2
    }

    /// How many lookups there are for one that finds out, as a power of two.
    pub(super) const fn look_interval_log2(record_bytes_mean: u64) -> u32 {
        let [small, large, very_large] = LOOK_INTERVALS_LOG2;
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
        if self.waits.buckets.are_likely() {
            self.ask_for_buckets(&std::iter::once(digest));
        }
        let Some(place) = self.place_noting_wait(digest, wanted) else {
            return;
        };
        self.ask_for(&place, digest, wanted, place.is_in_several_pages());
        self.read_noting_wait(&place, digest, wanted);
    }

    #[cold]
    fn fetch_window<'a>(
        &self,
        digests: impl ExactSizeIterator<Item = &'a Digest> + Clone,
        wanted: Wanted,
    ) {
        let Some(last) = digests.clone().last() else {
            return;
        };
        if self.waits.buckets.are_likely() {
            self.ask_for_buckets(&digests);
        }
        // What was asked for last arrives last, and tells whether there is anything to wait for.
        let last_place = self.place_noting_wait(last, wanted);
        for digest in digests {
            if let Some(place) = self.place(digest) {
                self.ask_for(&place, digest, wanted, true);
            }
        }
        if let Some(place) = last_place {
            self.read_noting_wait(&place, last, wanted);
        }
    }

    /// Finds the place of an object, and notes whether that has waited for the runs.
    fn place_noting_wait(&self, digest: &Digest, wanted: Wanted) -> Option<Place<'_>> {
        let place = noting(&self.waits.buckets, || self.place(digest));
        if place.is_none() {
            // Lookups of what is not there read nothing more.
            if wanted.has_entries() {
                self.waits.entries.note_read(Duration::ZERO);
            }
            if wanted.has_contents() {
                self.waits.records.note_read(Duration::ZERO);
            }
        }
        place
    }

    /// Asks for what a lookup reads at its place, where a wait is likely.
    fn ask_for(&self, place: &Place<'_>, digest: &Digest, wanted: Wanted, asks_for_record: bool) {
        if wanted.has_entries() && self.waits.entries.are_likely() {
            place.ask_for_entry(digest);
        }
        if wanted.has_contents() && asks_for_record && self.waits.records.are_likely() {
            let is_guess_good = !place.is_long_by_guess() || self.waits.guesses.are_good();
            // Its first page is needed in any case.
            place.ask_for_first(if is_guess_good { place.len } else { 1 });
        }
    }

    /// Reads what a lookup reads first at its place, and notes whether that has waited. Asks for the
    /// rest of a long record.
    fn read_noting_wait(&self, place: &Place<'_>, digest: &Digest, wanted: Wanted) {
        if wanted.has_entries() {
            noting(&self.waits.entries, || place.read_entry(digest));
        }
        if wanted.has_contents() {
            let end = noting(&self.waits.records, || place.read_header());
            if self.waits.records.are_likely()
                && let Some(end) = end
            {
                if place.is_long_by_guess() {
                    self.waits.guesses.note(place.is_guess_good(end));
                }
                place.ask_for(end);
            }
        }
    }

    /// Asks for all runs, for a walk that looks up every object.
    pub(crate) fn fetch_runs(&self) {
        for resolved in &self.runs {
            resolved.run().fetch();
        }
    }

    fn ask_for_buckets<'a>(&self, digests: &(impl Iterator<Item = &'a Digest> + Clone)) {
        for resolved in &self.runs {
            let run = resolved.run();
            let parts = digests
                .clone()
                .map(|digest| run.part_of(&run.probe(digest)));
            let mut parts: Vec<Range<u64>> = parts.collect();
            parts.sort_unstable_by_key(|part| part.start);
            parts.dedup();
            for part in parts {
                run.will_need(part);
            }
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

    /// Asks for what [`fetch_many`](Self::fetch_many) has not asked for of a long content.
    #[inline]
    pub(super) fn fetch_rest(&self, segment: &Sealed, offset: u64, content: &[u8]) {
        let asked = segment.record_bytes_mean().min(REQUEST_BYTES);
        if content.len() > asked
            && self.waits.records.are_likely()
            && let Some(map) = segment.data().map()
        {
            map.will_need(offset + asked as u64..offset + content.len() as u64);
        } else {
            self.fetch_long(segment, offset, content);
        }
    }

    /// Finds out whether a long content has to be asked for, where that was not likely before.
    #[inline]
    pub(super) fn fetch_long(&self, segment: &Sealed, offset: u64, content: &[u8]) {
        if content.len() > REQUEST_BYTES
            && !self.waits.records.are_likely()
            && let Some(map) = segment.data().map()
        {
            map.fetch_long(offset, content);
        }
    }
}

/// Notes how long a read takes.
fn noting<T>(waits: &DiskWaits, read: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let read = read();
    waits.note_read(begun.elapsed());
    read
}

/// A record to which an index leads.
struct Place<'a> {
    /// `None` if the file is not mapped.
    map: Option<&'a Map>,
    /// Where the record begins.
    begin: u64,
    /// Length of the record, or the average length where only the record itself gives it. No more than
    /// one request, since it may be shorter.
    len: usize,
    /// The index that led here.
    by: By<'a>,
}

enum By<'a> {
    /// A run, which knows where the entry is but not the length of the content.
    Run(&'a ResolvedRun, &'a Arc<Sealed>, Location),
    /// Another index. The record ends here.
    Other(u64),
}

impl<'a> Place<'a> {
    fn by_run(resolved: &'a ResolvedRun, segment: &'a Arc<Sealed>, location: Location) -> Self {
        Self {
            map: segment.data().map(),
            begin: location.offset().saturating_sub(record::HEADER_BYTES),
            len: segment.record_bytes_mean().min(REQUEST_BYTES),
            by: By::Run(resolved, segment, location),
        }
    }

    fn of_copy(copy: &ObjectCopy<'a>) -> Self {
        let entry = copy.entry();
        Self {
            map: copy.map(),
            begin: entry.offset.saturating_sub(record::HEADER_BYTES),
            len: (entry.len as usize).min(REQUEST_BYTES),
            by: By::Other(entry.offset.saturating_add(u64::from(entry.len))),
        }
    }

    /// Asks for the entry in the sidecar, unless it was read to find this place.
    fn ask_for_entry(&self, digest: &Digest) {
        if let By::Run(resolved, segment, location) = &self.by {
            let geometry = &resolved.run().index().header().geometry;
            segment.will_need_entry(digest, geometry, location);
        }
    }

    /// Reads the entry in the sidecar, if that was searched before.
    fn read_entry(&self, digest: &Digest) {
        if let By::Run(resolved, segment, location) = &self.by {
            let geometry = &resolved.run().index().header().geometry;
            black_box(segment.entry_at(digest, geometry, location));
        }
    }

    /// Asks for the first `len` bytes of the record.
    fn ask_for_first(&self, len: usize) {
        if let Some(map) = self.map {
            map.will_need(self.begin..self.begin.saturating_add(len as u64));
        }
    }

    /// Whether the record takes more than one page, which a read of it would bring in by itself.
    fn is_in_several_pages(&self) -> bool {
        let page = PAGE_BYTES as u64;
        let last = self.begin.saturating_add(self.len as u64).saturating_sub(1);
        self.begin / page != last / page
    }

    /// Reads the header of the record, and returns where the record ends.
    fn read_header(&self) -> Option<u64> {
        let header = self.map?.slice(self.begin, 4);
        let len = black_box(header.and_then(record::parse_header))?;
        Some(match &self.by {
            By::Run(..) => self.begin + record::HEADER_BYTES + u64::from(len),
            By::Other(end) => *end,
        })
    }

    /// Asks for the record up to its end, beyond its first page.
    fn ask_for(&self, end: u64) {
        if let Some(map) = self.map {
            let page = PAGE_BYTES as u64;
            map.will_need((self.begin / page + 1).saturating_mul(page)..end);
        }
    }

    /// Whether the record is taken to be long, for no other reason than that most are.
    fn is_long_by_guess(&self) -> bool {
        matches!(self.by, By::Run(..)) && self.len > LONG_GUESS_BYTES
    }

    /// Whether a record that ends here is at least half as long as it was taken to be.
    fn is_guess_good(&self, end: u64) -> bool {
        end.saturating_sub(self.begin) >= self.len as u64 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::requests;
    use crate::options::{Options, ReadMode};
    use crate::store::Store;

    /// Reads everything in several ways, many times.
    fn read(store: &Store, digests: &[Digest]) {
        for turn in 0..40_u8 {
            let digest = &digests[usize::from(turn) % digests.len()];
            let object = store.get(digest).unwrap().unwrap();
            assert_eq!(object[object.len() / 2], object[0]);
            assert!(store.contains(digest).unwrap());
            assert!(store.get(&Digest::from([turn; 32])).unwrap().is_none());
            assert!(
                store
                    .get_many(digests)
                    .into_iter()
                    .all(|object| object.unwrap().is_some())
            );
        }
    }

    #[test]
    fn h40_reads_from_memory_ask_the_system_for_nothing() {
        for len in [100, 3 << 10, 100 << 10, 300 << 10] {
            for (is_sealed, verify) in [
                (true, VerifyReads::EveryRead),
                (true, VerifyReads::FirstRead),
                (false, VerifyReads::EveryRead),
            ] {
                let folder = tempfile::tempdir().unwrap();
                let options = Options::new().verify_reads(verify);
                let options = options.read_mode(ReadMode::Mmap).set_index_minimum(1, 1);
                let store = options.open(folder.path()).unwrap();
                let contents: Vec<Vec<u8>> = (0..6).map(|fill| vec![fill; len]).collect();
                let digests = store.put_many(&contents).unwrap();
                if is_sealed {
                    store.compact(|_| true).unwrap();
                }
                // A thread that is interrupted takes the time for that of the disk, for a while.
                let mut turns = (0..20).map(|_| requests::of(|| read(&store, &digests)));
                let settles = turns.any(|asked| asked == 0);
                assert!(settles, "{len}, {is_sealed}, {verify:?}");
            }
        }
    }
}
