//! Whether lookups wait for the disk.

use std::time::Duration;

use crate::sync::atomic::{AtomicU32, Ordering};

/// Reads in turn that did not wait, after which a store counts as being in memory.
const QUICK_READS: u32 = 32;
/// A read from memory takes less, even if the system has to enter the page into the page table; a
/// read from the fastest disks takes more.
const WAIT: Duration = Duration::from_micros(12);
/// The same for each of many requests that nobody waits for: what takes longer goes to the disk.
const REQUEST: Duration = Duration::from_micros(2);

/// Knows whether lookups have waited for the disk lately, so that what they read can be asked for
/// early where it is on the disk, at no cost where it is in memory.
///
/// All orderings are relaxed: a wrong answer costs time only.
#[derive(Debug, Default)]
pub(super) struct DiskWaits {
    /// Reads in turn that did not wait, up to [`QUICK_READS`].
    quick_reads: AtomicU32,
}

impl DiskWaits {
    /// Whether the next read is likely to wait. Yes until some reads have shown otherwise.
    #[inline]
    pub(super) fn are_likely(&self) -> bool {
        self.quick_reads.load(Ordering::Relaxed) < QUICK_READS
    }

    /// Notes how long a read has taken.
    pub(super) fn note_read(&self, took: Duration) {
        self.note(took < WAIT);
    }

    /// Notes how long `count` requests have taken.
    pub(super) fn note_requests(&self, took: Duration, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.note(took < WAIT + REQUEST.saturating_mul(count));
    }

    fn note(&self, is_quick: bool) {
        let quick_reads = self.quick_reads.load(Ordering::Relaxed);
        // Nothing is written in the usual state, where threads would write to the same place.
        if !is_quick && quick_reads != 0 {
            self.quick_reads.store(0, Ordering::Relaxed);
        } else if is_quick && quick_reads < QUICK_READS {
            self.quick_reads.store(quick_reads + 1, Ordering::Relaxed);
        }
    }
}

impl Clone for DiskWaits {
    fn clone(&self) -> Self {
        let quick_reads = self.quick_reads.load(Ordering::Relaxed);
        Self {
            quick_reads: AtomicU32::new(quick_reads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_likely_until_many_reads_in_turn_were_quick() {
        let waits = DiskWaits::default();
        for _ in 0..2 {
            for _ in 0..QUICK_READS {
                assert!(waits.are_likely());
                waits.note_read(Duration::ZERO);
            }
            assert!(!waits.are_likely());
            waits.note_requests(10 * REQUEST + WAIT, 10);
        }
        assert!(waits.clone().are_likely());
    }
}
