//! Whether lookups wait for the disk.

use std::time::Duration;

use crate::memory::is_disk_read;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Reads in turn that did not wait, after which files count as being in memory.
const QUICK_READS: u32 = 32;

/// What a lookup reads one after the other. As a number, the bit of a set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of runs.
    Buckets = 1,
    /// Of sidecars.
    Entries = 2,
    /// Of data files.
    Records = 4,
}

/// Knows whether lookups have waited for the disk lately, so that what is read next can be asked for
/// early where it is on the disk, at no cost where it is in memory.
///
/// All orderings are relaxed: a wrong answer costs time only.
#[derive(Debug, Default)]
pub(super) struct LookupWaits {
    /// The parts that are in memory: a bit each.
    in_memory: AtomicU32,
    /// For each part, reads in turn that did not wait, up to [`QUICK_READS`].
    quick_reads: [AtomicU32; 3],
    /// About the length of records.
    pub(super) guesses: Guesses,
}

impl LookupWaits {
    /// Whether the next read of this part is likely to wait. Yes until some reads have shown otherwise.
    #[inline]
    pub(super) fn are_likely(&self, part: Part) -> bool {
        self.are_likely_for_any(part as u32)
    }

    /// Whether the next read of any of these parts, given by their bits, is likely to wait.
    #[inline]
    pub(super) fn are_likely_for_any(&self, parts: u32) -> bool {
        self.in_memory.load(Ordering::Relaxed) & parts != parts
    }

    /// Notes how long a read has taken.
    pub(super) fn note_read(&self, part: Part, took: Duration) {
        let bit = part as u32;
        let quick_reads = &self.quick_reads[bit.trailing_zeros() as usize];
        let before = quick_reads.load(Ordering::Relaxed);
        // Nothing is written in the usual state, where threads would write to the same place.
        if is_disk_read(took) {
            if before != 0 {
                quick_reads.store(0, Ordering::Relaxed);
            }
            if !self.are_likely(part) {
                self.in_memory.fetch_and(!bit, Ordering::Relaxed);
            }
        } else if before < QUICK_READS {
            quick_reads.store(before + 1, Ordering::Relaxed);
        } else if self.are_likely(part) {
            self.in_memory.fetch_or(bit, Ordering::Relaxed);
        }
    }
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

/// Another counter with the same value.
fn copy_of(counter: &AtomicU32) -> AtomicU32 {
    AtomicU32::new(counter.load(Ordering::Relaxed))
}

impl Clone for Guesses {
    fn clone(&self) -> Self {
        Self {
            bad: copy_of(&self.bad),
        }
    }
}

impl Clone for LookupWaits {
    fn clone(&self) -> Self {
        Self {
            in_memory: copy_of(&self.in_memory),
            quick_reads: self.quick_reads.each_ref().map(copy_of),
            guesses: self.guesses.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::DISK_READ_MIN;

    #[test]
    fn waits_are_likely_until_many_reads_in_turn_were_quick() {
        let waits = LookupWaits::default();
        for part in [Part::Records, Part::Buckets, Part::Entries] {
            for _ in 0..2 {
                for _ in 0..=QUICK_READS {
                    assert!(waits.are_likely(part));
                    waits.note_read(part, Duration::ZERO);
                }
                assert!(!waits.are_likely(part));
                assert!(!waits.clone().are_likely(part));
                waits.note_read(part, DISK_READ_MIN);
            }
            assert!(waits.clone().are_likely(part));
        }
        let records_and_buckets = Part::Records as u32 | Part::Buckets as u32;
        for (part, remain) in [(Part::Records, true), (Part::Buckets, false)] {
            for _ in 0..=QUICK_READS {
                waits.note_read(part, Duration::ZERO);
            }
            assert_eq!(waits.are_likely_for_any(records_and_buckets), remain);
        }
    }
}
