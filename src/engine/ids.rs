//! Ids for new segments.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Number of ids that exist.
const SEGMENT_IDS: u64 = 1 << u32::BITS;

/// The source of ids. It never gives out an id under which a file has existed.
pub(super) struct SegmentIds {
    next: AtomicU64,
}

impl SegmentIds {
    pub(super) const fn new(next: u64) -> Self {
        Self {
            next: AtomicU64::new(next),
        }
    }

    /// Takes `count` consecutive ids that were never used.
    pub(super) fn take(&self, count: usize) -> Result<Range<u64>> {
        let end_of = |begin: u64| {
            let end = begin.checked_add(count as u64)?;
            (end <= SEGMENT_IDS).then_some(end)
        };
        let begin = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end_of)
            .map_err(|_| Error::SegmentIdsExhausted)?;
        Ok(begin..begin + count as u64)
    }

    /// Gives back ids under which no file exists. Has no effect if other ids were taken since.
    pub(super) fn give_back(&self, ids: Range<u64>) {
        let (next, before) = (ids.end, ids.start);
        let _ = self
            .next
            .compare_exchange(next, before, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether no id was taken after this one.
    pub(super) fn is_newest(&self, id: u32) -> bool {
        self.next() == u64::from(id) + 1
    }

    /// The id that is taken next; it is beyond all ids that were taken.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}
