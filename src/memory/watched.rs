//! What loom has to be told of memory that is shared without a lock.

use std::ops::Range;

/// Tells loom which bytes are written and which are read, so that it finds an order of events in
/// which both happen at once. Does nothing in other builds.
#[cfg(not(all(test, loom)))]
#[derive(Debug)]
pub(super) struct Watched;

#[cfg(not(all(test, loom)))]
impl Watched {
    #[inline]
    pub(super) fn new(_bytes: usize) -> Self {
        Self
    }

    #[inline]
    #[expect(clippy::unused_self)]
    pub(super) fn write(&self, _range: Range<usize>) {}

    #[inline]
    #[expect(clippy::unused_self)]
    pub(super) fn read(&self, _range: Range<usize>) {}
}

#[cfg(all(test, loom))]
#[derive(Debug)]
pub(super) struct Watched(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: the cells are empty, and loom stops at an access that would be a race.
#[cfg(all(test, loom))]
unsafe impl Sync for Watched {}

#[cfg(all(test, loom))]
impl Watched {
    pub(super) fn new(bytes: usize) -> Self {
        Self(
            (0..bytes)
                .map(|_| loom::cell::UnsafeCell::new(()))
                .collect(),
        )
    }

    pub(super) fn write(&self, range: Range<usize>) {
        for cell in self.0.get(range).unwrap_or_default() {
            cell.with_mut(|_| ());
        }
    }

    pub(super) fn read(&self, range: Range<usize>) {
        for cell in self.0.get(range).unwrap_or_default() {
            cell.with(|_| ());
        }
    }
}
