//! Whether lookups wait for the disk.

use std::time::Duration;

use crate::memory::DISK_READ_MIN;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Reads in turn that did not wait, after which a store counts as being in memory.
const QUICK_READS: u32 = 32;

/// Knows whether reads have waited for the disk lately, so that what is read next can be asked for
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
        let is_quick = took < DISK_READ_MIN;
        let quick_reads = self.quick_reads.load(Ordering::Relaxed);
        // Nothing is written in the usual state, where threads would write to the same place.
        if !is_quick && quick_reads != 0 {
            self.quick_reads.store(0, Ordering::Relaxed);
        } else if is_quick && quick_reads < QUICK_READS {
            self.quick_reads.store(quick_reads + 1, Ordering::Relaxed);
        }
    }
}

/// The waits of the lookups in a set, for each kind of file that they read.
#[derive(Clone, Debug, Default)]
pub(super) struct LookupWaits {
    /// For runs.
    pub(super) buckets: DiskWaits,
    /// For sidecars.
    pub(super) entries: DiskWaits,
    /// For data files.
    pub(super) records: DiskWaits,
    /// About the length of records.
    pub(super) guesses: Guesses,
}

/// Knows whether guesses have been good lately. All orderings are relaxed: a wrong answer costs time
/// only.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// Bad guesses less good ones, from 0 to [`BAD_GUESSES_MAX`].
    bad: AtomicU32,
}

/// Bad guesses after which none is made for a while.
const BAD_GUESSES_MAX: u32 = 8;

impl Guesses {
    pub(super) fn are_good(&self) -> bool {
        self.bad.load(Ordering::Relaxed) < BAD_GUESSES_MAX / 2
    }

    /// Notes whether a guess is good or would have been.
    pub(super) fn note(&self, is_good: bool) {
        let bad = self.bad.load(Ordering::Relaxed);
        let changed = if is_good {
            bad.saturating_sub(1)
        } else {
            (bad + 1).min(BAD_GUESSES_MAX)
        };
        self.bad.store(changed, Ordering::Relaxed);
    }
}

impl Clone for Guesses {
    fn clone(&self) -> Self {
        Self {
            bad: AtomicU32::new(self.bad.load(Ordering::Relaxed)),
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
            waits.note_read(DISK_READ_MIN);
        }
        assert!(waits.clone().are_likely());
    }
}
