//! Looks up many objects at a time.
//!
//! A single lookup waits for memory twice, for the bucket and for the record, and then hashes its
//! content in one lane. Many lookups wait together, and hash side by side.

use std::sync::Arc;

use super::copies::Named;
use super::fetch::WINDOW;
use super::tried::Tried;
use super::{SegmentSet, Wanted};
use crate::digest::Digest;
use crate::error::Result;
use crate::memory::prefetch;
use crate::options::VerifyReads;
use crate::segment::Sealed;
use crate::segment::content::{Content, Verified};
use crate::threads::map_parts;

/// Number of lookups under way at a time: enough to hide the latency of memory and to fill the
/// lanes, few enough that prefetched memory is still in the cache when its turn comes.
const BATCH: usize = 32;
/// Expected bytes of content from which on the lookups are spread over the cores.
const PARALLEL_BYTES_MIN: u64 = 512 << 10;
/// Most contents that a core hashes side by side.
const LANES: usize = 8;
/// Content that one core takes on in one task, in bytes.
const TASK_BYTES: u64 = 64 << 10;

type Lookup<'a> = Result<Option<Verified<'a>>>;

impl SegmentSet {
    /// Does [`lookup`](Self::lookup) for each of `digests`, in their order.
    pub(crate) fn lookup_many(&self, digests: &[Digest], verify: VerifyReads) -> Vec<Lookup<'_>> {
        let bytes = self.record_bytes_mean;
        if bytes.saturating_mul(digests.len() as u64) < PARALLEL_BYTES_MIN {
            return self.lookup_in_turn(digests, verify);
        }
        let task = usize::try_from(TASK_BYTES / bytes.max(1)).unwrap_or(BATCH);
        let parts = digests.chunks(task.max(LANES)).collect();
        let found = map_parts(parts, |part| self.lookup_in_turn(part, verify));
        found.into_iter().flatten().collect()
    }

    fn lookup_in_turn(&self, digests: &[Digest], verify: VerifyReads) -> Vec<Lookup<'_>> {
        let mut results = Vec::with_capacity(digests.len());
        for window in digests.chunks(self.window()) {
            self.fetch_many(window.iter(), Wanted::by(verify));
            for digests in window.chunks(BATCH) {
                self.lookup_batch(digests, verify, &mut results);
            }
        }
        results
    }

    /// Does [`contains`](Self::contains) for each of `digests`, in their order.
    pub(crate) fn contains_many(&self, digests: &[Digest]) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(digests.len());
        for window in digests.chunks(WINDOW) {
            self.fetch_many(window.iter(), Wanted::Entries);
            for digests in window.chunks(BATCH) {
                self.prefetch_copies(digests.iter(), Wanted::Entries);
                answers.extend(digests.iter().map(|digest| self.contains_fetched(digest)));
            }
        }
        answers
    }

    /// Does at most [`BATCH`] lookups, in three passes: each prefetches the memory that the next
    /// one reads.
    fn lookup_batch<'a>(
        &'a self,
        digests: &[Digest],
        verify: VerifyReads,
        results: &mut Vec<Lookup<'a>>,
    ) {
        for digest in digests {
            self.prefetch_buckets(digest);
        }
        let mut places: [Place<'_>; BATCH] = [const { Place::BesideRuns }; BATCH];
        for (place, digest) in places.iter_mut().zip(digests) {
            *place = self.first_place(digest);
        }
        if verify == VerifyReads::FirstRead {
            results.extend(
                digests
                    .iter()
                    .map(|digest| self.lookup_fetched(digest, verify)),
            );
            return;
        }
        let mut copies: [Option<Unverified<'_>>; BATCH] = [const { None }; BATCH];
        for ((copy, place), digest) in copies.iter_mut().zip(places).zip(digests) {
            *copy = self.unverified(&place, digest);
        }
        let mut contents: [&[u8]; BATCH] = [&[]; BATCH];
        let present = copies.iter().flatten();
        let count = present.clone().count();
        for (content, copy) in contents.iter_mut().zip(present) {
            *content = copy.content.bytes();
        }
        let mut computed = [Digest::ZERO; BATCH];
        self.hash_function
            .digest_many_into(&contents[..count], &mut computed[..count]);
        let mut computed = computed.iter();
        for (digest, copy) in digests.iter().zip(copies) {
            let Some(copy) = copy else {
                // The object is absent, or the single lookup says what is wrong.
                results.push(self.lookup_fetched(digest, verify));
                continue;
            };
            results.push(if computed.next() == Some(digest) {
                Ok(Some(copy.content.known_right()))
            } else {
                let mut tried = Tried::default();
                let len = copy.content.bytes().len();
                tried.insert_record(copy.segment, copy.offset, len);
                self.lookup_further(digest, verify, tried)
            });
        }
    }

    /// Returns the first place to which the runs lead, and prefetches the record there.
    fn first_place<'a>(&'a self, digest: &Digest) -> Place<'a> {
        match self.named(digest).next() {
            None => Place::BesideRuns,
            Some(Named::Anywhere(_)) => Place::Unknown,
            Some(Named::Record(_, segment, location)) => {
                segment.prefetch_record(location.offset());
                Place::Record(segment, location.offset())
            }
        }
    }

    /// Returns the bytes to hash and prefetches them. `None` if they are not in memory.
    fn unverified<'a>(&'a self, place: &Place<'a>, digest: &Digest) -> Option<Unverified<'a>> {
        match place {
            Place::Unknown => None,
            Place::Record(segment, offset) => {
                let (data, offset) = (segment.data(), *offset);
                let bytes = data.mapped_record(offset)?;
                self.fetch_rest(segment, offset, bytes);
                prefetch(bytes);
                let content = Content::Sealed {
                    data,
                    offset,
                    bytes,
                };
                Some(Unverified {
                    segment: segment.id(),
                    offset,
                    content,
                })
            }
            Place::BesideRuns => {
                let copy = self.copies_beside_runs(digest).next()?.ok()?;
                let content = copy.content().ok()??;
                content.fetch();
                Some(Unverified {
                    segment: copy.segment_id(),
                    offset: copy.entry().offset,
                    content,
                })
            }
        }
    }

    /// Prefetches what the lookup of an entry reads first for each of these digests: the buckets, and
    /// then the entries to which they lead, with their records if those are `wanted`. Pass some dozens
    /// at most: with more, the first have left the cache when their turn comes.
    pub(crate) fn prefetch_copies<'a>(
        &self,
        digests: impl Iterator<Item = &'a Digest> + Clone,
        wanted: Wanted,
    ) {
        for digest in digests.clone() {
            self.prefetch_buckets(digest);
        }
        for digest in digests {
            for resolved in self.runs() {
                let run = resolved.run();
                if let Some(location) = run.first_in_own_bucket(&run.probe(digest))
                    && let Some(segment) = resolved.segment(location)
                {
                    let geometry = &run.index().header().geometry;
                    segment.prefetch_entry_at(digest, geometry, &location);
                    if wanted.has_contents() {
                        segment.prefetch_record(location.offset());
                    }
                }
            }
        }
    }
}

/// The place at which a lookup of a batch looks first.
enum Place<'a> {
    /// The record of this segment whose content begins at this offset.
    Record(&'a Arc<Sealed>, u64),
    /// No segment that the runs cover holds the object.
    BesideRuns,
    /// A run is damaged.
    Unknown,
}

/// Content that is hashed together with that of other lookups.
struct Unverified<'a> {
    segment: u32,
    offset: u64,
    content: Content<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::prefetched;
    use crate::options::Options;

    #[test]
    fn a_batch_of_contains_brings_no_record_into_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new().set_index_minimum(1, 1);
        let store = options.open(folder.path()).unwrap();
        let contents: Vec<[u8; 8]> = (0..1000_u64).map(u64::to_le_bytes).collect();
        let digests = store.put_many(&contents).unwrap();
        store.compact(|_| true).unwrap();
        store.close().unwrap();
        let store = options.open(folder.path()).unwrap();
        let contains = || {
            let held = store.contains_many(&digests);
            assert!(held.into_iter().all(Result::unwrap));
        };
        assert_eq!(prefetched::of(contains), 0);
        let put = || {
            assert_eq!(store.put_many(&contents).unwrap(), digests);
        };
        assert!(prefetched::of(put) > 0);
    }
}
