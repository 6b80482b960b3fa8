//! Counts the bytes that are hashed, for tests that bound the work of a read.

use std::cell::Cell;

thread_local! {
    static HASHED_BYTES: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn count(content: &[u8]) {
    HASHED_BYTES.set(HASHED_BYTES.get() + content.len() as u64);
}

/// Returns the number of bytes that this thread hashes while it runs `work`.
pub(crate) fn hashed_bytes(work: impl FnOnce()) -> u64 {
    let before = HASHED_BYTES.get();
    work();
    HASHED_BYTES.get() - before
}
