//! Finding many objects at a time.
//!
//! One lookup waits for memory twice, for the bucket and for the record, and then hashes one content
//! after the other in one lane. Many lookups wait together, and hash side by side.

use std::sync::Arc;

use super::lookup::ByRuns;
use super::place::Unverified;
use super::tried::Tried;
use super::{Found, Place, SegmentSet};
use crate::digest::{Digest, digest_many};
use crate::error::Result;
use crate::format::Entry;
use crate::memory::prefetch;
use crate::options::VerifyReads;
use crate::segment::{Extent, Sealed};
use crate::threads::map_parts;

/// How many lookups are under way at a time: enough to hide the latency of memory and to fill the
/// lanes, few enough for what they asked for to be still in the cache when its turn comes.
const BATCH: usize = 32;
/// Batches of which at least so many bytes are expected are spread over the cores.
const PARALLEL_BYTES_MIN: u64 = 512 << 10;
/// How many contents a core hashes side by side.
const LANES: usize = 4;
/// Content of a batch that one core takes on, in bytes.
const TASK_BYTES: u64 = 64 << 10;

type Lookup<'a> = Result<Option<Found<'a>>>;

impl SegmentSet {
    /// As [`lookup`](Self::lookup) for each of `digests`, in their order.
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
        for digests in digests.chunks(BATCH) {
            self.lookup_batch(digests, verify, &mut results);
        }
        results
    }

    /// At most [`BATCH`] lookups.
    fn lookup_batch<'a>(
        &'a self,
        digests: &[Digest],
        verify: VerifyReads,
        results: &mut Vec<Lookup<'a>>,
    ) {
        for digest in digests {
            self.prefetch_buckets(digest);
        }
        let mut places: [ByRuns<(&Arc<Sealed>, u64)>; BATCH] = [const { ByRuns::Absent }; BATCH];
        for (place, digest) in places.iter_mut().zip(digests) {
            *place = self.by_runs(digest, |segment, offset| Some((segment, offset)));
            if let ByRuns::Found((segment, offset)) = place {
                segment.prefetch_record(*offset);
            }
        }
        if verify == VerifyReads::FirstRead {
            results.extend(digests.iter().map(|digest| self.lookup(digest, verify)));
            return;
        }
        let mut copies: [Option<Unverified<'_>>; BATCH] = [const { None }; BATCH];
        for ((copy, place), digest) in copies.iter_mut().zip(places).zip(digests) {
            *copy = match place {
                ByRuns::Found((segment, offset)) => by_run(segment, offset),
                ByRuns::Absent => self.copy_beside_runs(digest),
                ByRuns::InDoubt => None,
            };
        }
        let mut contents: [&[u8]; BATCH] = [&[]; BATCH];
        let there = copies.iter().flatten();
        let count = there.clone().count();
        for (content, copy) in contents.iter_mut().zip(there) {
            *content = copy.bytes();
        }
        let mut computed = [Digest::from([0; 32]); BATCH];
        digest_many(&contents[..count], &mut computed[..count]);
        let mut computed = computed.iter();
        for (digest, copy) in digests.iter().zip(copies) {
            let Some(copy) = copy else {
                // It is not there, or the single lookup says what is wrong.
                results.push(self.lookup(digest, verify));
                continue;
            };
            results.push(if computed.next() == Some(digest) {
                Ok(Some(copy.found(digest)))
            } else {
                let mut tried = Tried::default();
                let (segment, offset) = copy.position();
                tried.insert(segment, offset, copy.bytes().len());
                self.lookup_further(digest, verify, tried)
            });
        }
    }

    /// Asks for what [`segment_holding`](Self::segment_holding) reads of each of these first: their
    /// buckets, and when these are there, what they lead to. For some dozens, or the first are not in the
    /// cache any more when their turn comes.
    pub(crate) fn prefetch_copies<'a>(&self, digests: impl Iterator<Item = &'a Digest> + Clone) {
        for digest in digests.clone() {
            self.prefetch_buckets(digest);
        }
        for digest in digests {
            for bound in self.runs() {
                let run = bound.run();
                if let Some(location) = run.first_in_own_bucket(&run.probe(digest))
                    && let Some(segment) = bound.segment(location)
                {
                    let geometry = &run.index().header().geometry;
                    segment.prefetch_entry_at(digest, geometry, &location);
                    segment.prefetch_record(location.offset());
                }
            }
        }
    }

    /// The first copy in a segment that no run covers.
    fn copy_beside_runs(&self, digest: &Digest) -> Option<Unverified<'_>> {
        for segment in self.uncovered().iter().rev() {
            if let Some(entry) = segment.find(digest).ok()?.next() {
                return Place::Sealed(segment, entry).unverified();
            }
        }
        for active in self.unsealed().iter().rev() {
            if let Some(Extent { offset, len }) = active.find(digest) {
                let digest = *digest;
                let entry = Entry {
                    digest,
                    offset,
                    len,
                };
                return Place::Unsealed(active, entry).unverified();
            }
        }
        None
    }
}

/// The copy that a run leads to, as far as its header says the truth.
fn by_run(segment: &Arc<Sealed>, offset: u64) -> Option<Unverified<'_>> {
    let bytes = segment.data().mapped_record(offset)?;
    prefetch(bytes);
    Some(Unverified::Sealed(segment, offset, bytes))
}
