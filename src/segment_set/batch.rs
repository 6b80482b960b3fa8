//! Finding many objects at a time.
//!
//! One lookup waits for memory twice, for the bucket and for the record, and then hashes one content
//! after the other in one lane. Many lookups wait together, and hash side by side.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::lookup::{ByRuns, found};
use super::{Found, SegmentSet};
use crate::digest::{Digest, digest_many};
use crate::error::Result;
use crate::mmap::prefetch;
use crate::options::Verify;
use crate::segment::Sealed;

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
    pub(crate) fn lookup_many(&self, digests: &[Digest], verify: Verify) -> Vec<Lookup<'_>> {
        let bytes = self.record_bytes_mean;
        if digests.len() > 1 && bytes.saturating_mul(digests.len() as u64) >= PARALLEL_BYTES_MIN {
            let task = usize::try_from(TASK_BYTES / bytes.max(1)).unwrap_or(BATCH);
            return digests
                .par_chunks(task.max(LANES))
                .flat_map_iter(|digests| self.lookup_in_turn(digests, verify))
                .collect();
        }
        self.lookup_in_turn(digests, verify)
    }

    fn lookup_in_turn(&self, digests: &[Digest], verify: Verify) -> Vec<Lookup<'_>> {
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
        verify: Verify,
        results: &mut Vec<Lookup<'a>>,
    ) {
        for digest in digests {
            self.prefetch_buckets(digest);
        }
        let mut places: [Option<(&Arc<Sealed>, u64)>; BATCH] = [None; BATCH];
        for (place, digest) in places.iter_mut().zip(digests) {
            let first = self.by_runs(digest, |segment, offset| Some((segment, offset)));
            if let ByRuns::Found((segment, offset)) = first {
                segment.prefetch_record(offset);
                *place = Some((segment, offset));
            }
        }
        if verify == Verify::FirstRead {
            results.extend(digests.iter().map(|digest| self.lookup(digest, verify)));
            return;
        }
        // Which lookups have content to hash, and that content.
        let mut contents: [&[u8]; BATCH] = [&[]; BATCH];
        let mut count = 0;
        for place in &mut places[..digests.len()] {
            let content = place.and_then(|(segment, offset)| segment.data().mapped_record(offset));
            match content {
                Some(content) => {
                    prefetch(content);
                    contents[count] = content;
                    count += 1;
                }
                None => *place = None,
            }
        }
        let mut computed = [Digest::from([0; 32]); BATCH];
        digest_many(&contents[..count], &mut computed[..count]);
        let mut hashed = contents.iter().zip(&computed);
        for (digest, place) in digests.iter().zip(places) {
            results.push(
                match place.and_then(|place| Some((place, hashed.next()?))) {
                    Some(((segment, offset), (content, computed))) if computed == digest => {
                        Ok(Some(found(segment, offset, Cow::Borrowed(content), digest)))
                    }
                    _ => self.lookup(digest, verify),
                },
            );
        }
    }
}
