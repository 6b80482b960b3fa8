//! Takes segments over as a whole that are asked often: all their objects go into the cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cache::Cache;
use super::index::IndexedSegment;
use super::inner::Inner;
use crate::digest::{HashFunction, Hashed};
use crate::error::Result;
use crate::format::Records;
use crate::remote::download::{Download, Sink};
use crate::remote::refs::Ref;

/// What a request costs besides the bytes that it asks for, in bytes: as much as can be downloaded in the
/// time that passes until the first byte comes.
const REQUEST_BYTES: u64 = 64 << 10;
/// Fewest requests before a segment is taken over, however short it is, and fewest objects of one that is.
const REQUESTS_MIN: u64 = 16;

impl Inner {
    /// Notes that a part of a segment is asked for. A segment whose parts have cost half as much as all of
    /// it is downloaded as a whole, beside other reads, if it takes at most a quarter of the cache.
    pub(super) fn note_asked(&self, segment: &Arc<IndexedSegment>, bytes: u64) {
        let asked = bytes.saturating_add(REQUEST_BYTES);
        let asked = segment
            .asked_bytes
            .fetch_add(asked, Ordering::Relaxed)
            .saturating_add(asked);
        let sealed = &segment.listed.sealed;
        if u64::from(sealed.objects) < REQUESTS_MIN {
            return;
        }
        let dear = sealed.data_bytes / 2 + REQUESTS_MIN * REQUEST_BYTES;
        if asked < dear || sealed.data_bytes > self.cache.whole_bytes_max() {
            return;
        }
        // One at a time, so that other reads are not held up.
        if self.is_taking_over.swap(true, Ordering::AcqRel) {
            return;
        }
        segment.asked_bytes.store(0, Ordering::Relaxed);
        let take_over = TakeOver {
            at: self.at.clone(),
            segment: Arc::clone(segment),
            function: self.index.load().hash_function(),
            cache: self.cache.clone(),
        };
        let is_taking_over = Arc::clone(&self.is_taking_over);
        tokio::spawn(async move {
            let taken = take_over.run().await;
            #[cfg(feature = "tracing")]
            if let Err(error) = &taken {
                tracing::warn!(error = error.as_reason(), "taking a segment over");
            }
            // The objects are read one by one as before.
            drop(taken);
            is_taking_over.store(false, Ordering::Release);
        });
    }
}

/// A download of a segment into the cache. It ends when the cache is closed.
struct TakeOver {
    at: Ref,
    segment: Arc<IndexedSegment>,
    function: HashFunction,
    cache: Cache,
}

impl TakeOver {
    async fn run(self) -> Result<()> {
        let download = Download {
            at: &self.at,
            segment: &self.segment.listed,
            function: self.function,
        };
        let sink = IntoCache {
            cache: self.cache,
            function: self.function,
            rest: Vec::new(),
        };
        download.data(sink, |_| Ok(())).await.map(drop)
    }
}

/// Puts the records of a data file into the cache. What is not right has another digest there, under which
/// nobody asks for it.
struct IntoCache {
    cache: Cache,
    function: HashFunction,
    /// The beginning of a record whose end has not come yet.
    rest: Vec<u8>,
}

impl Sink for IntoCache {
    fn take(&mut self, piece: &[u8], _: u64) -> Result<()> {
        self.rest.extend_from_slice(piece);
        let mut records = Records::new(&self.rest);
        let contents: Vec<&[u8]> = records.by_ref().map(|record| record.content).collect();
        self.cache.put(&Hashed::of_many(self.function, &contents))?;
        let whole = records.position();
        self.rest.drain(..whole);
        Ok(())
    }
}
