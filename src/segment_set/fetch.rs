//! Brings in from the disk what lookups read next, for stores that are larger than memory.
//!
//! A lookup reads a bucket, mostly an entry or a record, and a page that is not in memory stops it
//! until the disk has answered. Asked for beforehand, the pages of a record come with one answer of
//! the disk instead of one each, and those of many lookups come side by side.
//!
//! None of this changes what a lookup returns. In memory it would cost more than a lookup, so it is
//! done only while [`LookupWaits`](super::LookupWaits) expects a wait, and now and then to find out.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::SegmentSet;
use super::copies::Named;
use super::disk_waits::Part;
use super::unread_record::{LONG_GUESS_BYTES, UnreadRecord};
use crate::digest::Digest;
use crate::memory::{LONG_CONTENT_BYTES, REQUEST_BYTES};
use crate::options::VerifyReads;
use crate::segment::Sealed;
use crate::segment::content::HASH_AHEAD_BYTES;

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

    pub(super) const fn has_contents(self) -> bool {
        matches!(self, Self::Contents | Self::Both)
    }

    /// The bits of the parts that the lookups read.
    const fn parts(self) -> u32 {
        let of_all = Part::Buckets as u32;
        match self {
            Self::Entries => of_all | Part::Entries as u32,
            Self::Contents => of_all | Part::Records as u32,
            Self::Both => of_all | Part::Entries as u32 | Part::Records as u32,
        }
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
pub(super) const WINDOW: usize = 256;
/// Content that is asked for together, in bytes, so that it is still in memory when its turn comes.
const WINDOW_BYTES: u64 = 8 << 20;

/// How many lookups there are for one that finds out whether the store is still in memory, as powers of
/// two. The longer the records, the more a lookup waits for the disk before that is found out, and the
/// less finding out adds to a lookup that hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LookIntervals {
    hashed: u32,
    unhashed: u32,
}

impl LookIntervals {
    const OF_ENTRIES: u32 = 9;

    pub(super) const fn new(record_bytes_mean: u64) -> Self {
        let (hashed, unhashed) = match record_bytes_mean >> 10 {
            0..8 => (9, 9),
            8..64 => (7, 9),
            64..1_024 => (4, 8),
            _ => (2, 7),
        };
        Self { hashed, unhashed }
    }

    #[inline]
    const fn log2(self, wanted: Wanted) -> u32 {
        match wanted {
            Wanted::Entries => Self::OF_ENTRIES,
            Wanted::Contents => self.hashed,
            Wanted::Both => self.unhashed,
        }
    }
}

thread_local! {
    /// The last random number of this thread. Threads that shared one would wait for each other. It is
    /// followed by 0, so that the first lookup of a thread finds out about waits: a thread may not live
    /// for many.
    static RANDOM: Cell<u32> = const { Cell::new(634_785_765) };
}

impl SegmentSet {
    /// Brings in what one lookup reads, if it is likely that the lookup would wait for the disk.
    /// Call it before the lookup. In memory it costs next to nothing.
    #[inline]
    pub(crate) fn fetch(&self, digest: &Digest, wanted: Wanted) {
        if self.waits.are_likely_for_any(wanted.parts()) || self.is_look_due(1, wanted) {
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
        if self.waits.are_likely_for_any(wanted.parts()) {
            self.fetch_window(digests, wanted);
        } else if self.is_look_due(digests.len(), wanted)
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

    /// Whether one of so many lookups should find out about waits. At random: a counter keeps step with
    /// callers who alternate between stores or calls, and then always falls on the same of them.
    #[inline]
    fn is_look_due(&self, count: usize, wanted: Wanted) -> bool {
        // The constants are those of Numerical Recipes; the upper bits are the random ones.
        let random = RANDOM.get().wrapping_mul(1_664_525);
        let random = random.wrapping_add(1_013_904_223);
        RANDOM.set(random);
        let one_in_many = random >> (u32::BITS - self.look_intervals.log2(wanted));
        (one_in_many as usize) < count
    }

    #[cold]
    fn fetch_one(&self, digest: &Digest, wanted: Wanted) {
        if self.waits.are_likely(Part::Buckets) {
            self.ask_for_buckets(&std::iter::once(digest));
        }
        let Some(record) = self.find_noting_wait(digest, wanted) else {
            return;
        };
        let asking = self.ask_for(&record, digest, wanted, record.is_in_several_pages());
        self.read_noting_wait(&record, digest, wanted, asking);
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
        if self.waits.are_likely(Part::Buckets) {
            self.ask_for_buckets(&digests);
        }
        // What was asked for last arrives last, and tells whether there is anything to wait for.
        let last_record = self.find_noting_wait(last, wanted);
        let mut asking = Asking::default();
        for digest in digests {
            if let Some(record) = self.unread_record(digest) {
                asking = self.ask_for(&record, digest, wanted, true);
            }
        }
        if let Some(record) = last_record {
            self.read_noting_wait(&record, last, wanted, asking);
        }
    }

    /// Finds the record of an object, and notes whether that has waited for the runs.
    fn find_noting_wait(&self, digest: &Digest, wanted: Wanted) -> Option<UnreadRecord<'_>> {
        let (record, took) = timed(|| self.unread_record(digest));
        self.waits.note_read(Part::Buckets, took);
        if record.is_none() {
            // Lookups of what is not there read nothing more.
            if wanted.has_entries() {
                self.waits.note_read(Part::Entries, Duration::ZERO);
            }
            if wanted.has_contents() {
                self.waits.note_read(Part::Records, Duration::ZERO);
            }
        }
        record
    }

    /// Asks for what a lookup reads next, where a wait is likely.
    fn ask_for(
        &self,
        record: &UnreadRecord<'_>,
        digest: &Digest,
        wanted: Wanted,
        asks_for_record: bool,
    ) -> Asking {
        let mut asking = Asking::default();
        if wanted.has_entries() && self.waits.are_likely(Part::Entries) {
            ((), asking.entry) = timed(|| record.ask_for_entry(digest));
        }
        if wanted.has_contents() && asks_for_record && self.waits.are_likely(Part::Records) {
            let first = if record.is_long_by_guess() {
                self.guessed_bytes(record.len)
            } else {
                record.len
            };
            ((), asking.record) = timed(|| record.ask_for_first(first));
        }
        asking
    }

    /// How much to ask for of a record whose length is guessed to be `guess`: only its first page, which is
    /// needed in any case, while guesses of that length are bad.
    fn guessed_bytes(&self, guess: usize) -> usize {
        if guess <= LONG_GUESS_BYTES || self.waits.guesses.are_good() {
            guess
        } else {
            1
        }
    }

    /// Reads what a lookup reads first, and notes whether that has waited. Asks for the
    /// rest of a long record.
    fn read_noting_wait(
        &self,
        record: &UnreadRecord<'_>,
        digest: &Digest,
        wanted: Wanted,
        asking: Asking,
    ) {
        if wanted.has_entries() {
            let ((), took) = timed(|| record.read_entry(digest));
            self.waits.note_read(Part::Entries, asking.entry + took);
        }
        if wanted.has_contents() {
            let (end, took) = timed(|| record.read_header());
            self.waits.note_read(Part::Records, asking.record + took);
            if self.waits.are_likely(Part::Records)
                && let Some(end) = end
            {
                if record.is_long_by_guess() {
                    self.waits.guesses.note(record.is_guess_good(end));
                }
                // Who hashes a long content asks for more meanwhile.
                let is_hashed = wanted == Wanted::Contents;
                let first = record.begin.saturating_add(HASH_AHEAD_BYTES);
                record.ask_for(if is_hashed { end.min(first) } else { end });
            }
        }
    }

    /// Has the system keep all runs in memory, for a walk that looks up every object.
    pub(crate) fn keep_runs(&self) {
        for resolved in &self.runs {
            resolved.run().keep();
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

    /// Returns the first record to which the indexes lead.
    fn unread_record(&self, digest: &Digest) -> Option<UnreadRecord<'_>> {
        match self.named(digest).next() {
            Some(Named::Record(resolved, segment, location)) => {
                Some(UnreadRecord::by_run(resolved, segment, location))
            }
            Some(Named::Anywhere(_)) => None,
            None => {
                let copy = self.copies_beside_runs(digest).next()?.ok()?;
                Some(UnreadRecord::of_copy(&copy))
            }
        }
    }

    /// Asks for what [`fetch_many`](Self::fetch_many) has not asked for of a content.
    #[inline]
    pub(super) fn fetch_rest(&self, segment: &Sealed, offset: u64, content: &[u8]) {
        let Some(map) = segment.data().map() else {
            return;
        };
        if self.waits.are_likely(Part::Records) {
            let asked = self.guessed_bytes(segment.record_bytes_mean().min(REQUEST_BYTES));
            if content.len() > asked {
                map.will_need(offset + asked as u64..offset + content.len() as u64);
            }
        } else if content.len() > LONG_CONTENT_BYTES {
            map.fetch_long(offset, content);
        }
    }

    /// Does [`Content::fetch_unhashed`](crate::segment::content::Content::fetch_unhashed) for the fast path,
    /// where making the content first made a get take a third longer. [`fetch`](Self::fetch) may have done so, but
    /// not [`fetch_many`](Self::fetch_many), which guesses its length.
    #[inline]
    pub(super) fn fetch_unhashed(segment: &Sealed, offset: u64, content: &[u8]) {
        if content.len() > REQUEST_BYTES
            && let Some(map) = segment.data().map()
        {
            map.fetch_long(offset, content);
        }
    }
}

/// How long it took to ask for what a lookup reads. A fast disk may have answered by then, so this is
/// part of the wait.
#[derive(Clone, Copy, Default)]
struct Asking {
    entry: Duration,
    record: Duration,
}

/// Returns the result of `work`, and how long it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashFunction;
    use crate::memory::requests;
    use crate::options::{Options, ReadMode};
    use crate::store::Store;
    use crate::threads::alone;

    /// Reads everything in several ways, many times.
    fn read(store: &Store, digests: &[Digest]) {
        for turn in 0..40_u8 {
            let digest = &digests[usize::from(turn) % digests.len()];
            let object = store.get(digest).unwrap().unwrap();
            assert_eq!(object[object.len() / 2], object[0]);
            assert!(store.contains(digest).unwrap());
            assert!(store.get(Digest::from([turn; 32])).unwrap().is_none());
            assert!(
                store
                    .get_many(digests)
                    .into_iter()
                    .all(|object| object.unwrap().is_some())
            );
        }
    }

    #[test]
    fn the_first_lookup_of_each_thread_finds_out_about_waits() {
        let set = SegmentSet::new(HashFunction::default(), vec![], vec![], vec![]);
        let is_due = || set.is_look_due(1, Wanted::Contents);
        let due = |_| std::thread::scope(|scope| scope.spawn(is_due).join().unwrap());
        assert!((0..3).all(due));
        // A caller may alternate between several kinds of lookups. Each kind finds out about waits.
        for step in 1..10 {
            let last_is_due = |_: &u32| (0..step).fold(false, |_, _| is_due());
            let often = (0..100_000).filter(last_is_due);
            assert!((100..400).contains(&often.count()), "{step}");
        }
    }

    /// A batch asks for what follows, whether the guess of a length was asked for or one page of it.
    #[test]
    fn of_a_record_that_is_long_by_a_bad_guess_one_page_is_taken_to_be_asked_for() {
        let set = SegmentSet::new(HashFunction::default(), vec![], vec![], vec![]);
        assert_eq!(set.guessed_bytes(100 << 10), 100 << 10);
        (0..8).for_each(|_| set.waits.guesses.note(false));
        assert_eq!(set.guessed_bytes(100 << 10), 1);
        assert_eq!(set.guessed_bytes(LONG_GUESS_BYTES), LONG_GUESS_BYTES);
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
                // This thread does all the work, since it counts its own requests.
                let read = || alone(|| read(&store, &digests));
                requests::with_quick_reads(|| {
                    // By then the store counts as being in memory.
                    read();
                    let asked = requests::of(read);
                    assert_eq!(asked, 0, "{len}, {is_sealed}, {verify:?}");
                });
            }
        }
    }
}
