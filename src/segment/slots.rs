//! A hash table of positions, with open addressing.

use std::hash::{BuildHasher, RandomState};

use crate::digest::Digest;
use crate::memory::{LINE_WORDS, Line, Lines, prefetch_value};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Slots that lead from the hash of a digest to a position in a list. At most half of them are
/// occupied, so one that looks for what is not there reads one cache line, nearly always.
#[derive(Debug)]
pub(super) struct Slots {
    /// A power of two of them.
    lines: Lines,
}

/// Zero where it is vacant; otherwise the hash above, and below the position plus one. Never vacant
/// again.
type Slot = AtomicU64;

const VACANT: u64 = 0;
impl Slots {
    /// The largest has room for every position that can be written.
    pub(super) const SIZES: usize = if cfg!(all(test, loom)) { 4 } else { 31 };

    /// The smallest size with room for this many.
    pub(super) fn size_for(occupied: usize) -> usize {
        let sizes = 0..Self::SIZES - 1;
        let fits = |size: &usize| occupied <= Self::capacity(*size);
        sizes.into_iter().find(fits).unwrap_or(Self::SIZES - 1)
    }

    /// How many slots may be occupied at a size.
    pub(super) const fn capacity(size: usize) -> usize {
        (LINE_WORDS / 2) << size
    }

    pub(super) fn new(size: usize) -> Self {
        Self {
            lines: Lines::zeroed(1 << size),
        }
    }

    /// The slot of the position that `take` takes, among those under this hash, with what it made of
    /// it; or the vacant one in which it would be.
    #[inline]
    pub(super) fn find<T>(
        &self,
        hash: u32,
        mut take: impl FnMut(u32) -> Option<T>,
    ) -> (&Slot, Option<T>) {
        let lines = self.lines.as_slice();
        let mut line = line_of(lines, hash);
        loop {
            // From where the hash says, around the line; then on to the next.
            for step in 0..LINE_WORDS {
                let slot = &lines[line].0[(hash as usize + step) % LINE_WORDS];
                let value = slot.load(Ordering::Acquire);
                if value == VACANT {
                    return (slot, None);
                }
                if value >> 32 == u64::from(hash)
                    && let Some(taken) = take(position(value))
                {
                    return (slot, Some(taken));
                }
            }
            line = (line + 1) & (lines.len() - 1);
        }
    }

    /// Leads to this position from now on. The slot is what [`find`](Self::find) gave.
    pub(super) fn set(slot: &Slot, hash: u32, position: u32) {
        let value = (u64::from(hash) << 32) | u64::from(position + 1);
        slot.store(value, Ordering::Release);
    }

    /// All positions that slots lead to, in no order.
    pub(super) fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.occupied().map(position)
    }

    /// These slots, and as many again.
    pub(super) fn doubled(&self, size: usize) -> Self {
        let doubled = Self::new(size);
        // In the order of the hashes, so both are gone through from one end to the other.
        for value in self.occupied() {
            let hash = (value >> 32) as u32;
            let (slot, _) = doubled.find(hash, |_| None::<()>);
            slot.store(value, Ordering::Relaxed);
        }
        doubled
    }

    fn occupied(&self) -> impl Iterator<Item = u64> + '_ {
        let slots = self.lines.as_slice().iter().flat_map(|line| &line.0);
        let values = slots.map(|slot| slot.load(Ordering::Acquire));
        values.filter(|value| *value != VACANT)
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        let lines = self.lines.as_slice();
        prefetch_value(&lines[line_of(lines, hash)]);
    }
}

/// The leading bits of the hash choose the line.
#[inline]
fn line_of(lines: &[Line], hash: u32) -> usize {
    ((u64::from(hash) * lines.len() as u64) >> 32) as usize
}

#[inline]
fn position(value: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation)]
    let successor = value as u32;
    successor - 1
}

/// A hash with a key that is chosen at random, so that nobody can choose contents that collide.
///
/// For any two digests that differ in their first 16 bytes the probability that they collide is
/// 2^-32, over all keys ("pair-multiply-shift", M. Thorup, High Speed Hashing for Integers and
/// Strings, section 3.5). That takes a few cycles; `SipHash` takes as long as the rest of a lookup.
#[derive(Debug)]
pub(super) struct KeyedHash([u64; 5]);

impl KeyedHash {
    pub(super) fn random() -> Self {
        if cfg!(all(test, loom)) {
            // Each run of a model has to be the same.
            return Self([1 << 32, 3, 5, 7, 9]);
        }
        Self(std::array::from_fn(|_| RandomState::new().hash_one(0)))
    }

    #[inline]
    pub(super) fn of(&self, digest: &Digest) -> u32 {
        let (words, _) = digest.as_bytes().as_chunks();
        let word = |at: usize| u64::from(u32::from_le_bytes(words[at]));
        let [key_0, key_1, key_2, key_3, key_4] = self.0;
        let first = key_0
            .wrapping_add(word(1))
            .wrapping_mul(key_1.wrapping_add(word(0)));
        let second = key_2
            .wrapping_add(word(3))
            .wrapping_mul(key_3.wrapping_add(word(2)));
        (first.wrapping_add(second).wrapping_add(key_4) >> 32) as u32
    }
}
