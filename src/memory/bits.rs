//! Bits that any number of threads set and read.

use crate::sync::atomic::{AtomicU64, Ordering};

/// A fixed number of bits, all clear at first. A bit is a hint that is set once its fact is true;
/// setting it publishes no other memory.
#[derive(Debug)]
pub(crate) struct AtomicBits(Box<[AtomicU64]>);

impl AtomicBits {
    pub(crate) fn new(bits: usize) -> Self {
        let words = std::iter::repeat_with(AtomicU64::default);
        Self(words.take(bits.div_ceil(64)).collect())
    }

    /// Whether a bit is set; false beyond the last bit.
    #[inline]
    pub(crate) fn get(&self, bit: usize) -> bool {
        let word = self.0.get(bit / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (bit % 64)) != 0)
    }

    #[inline]
    pub(crate) fn set(&self, bit: usize) {
        if let Some(word) = self.0.get(bit / 64) {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.0.iter().map(ones).sum()
    }
}
