//! Counts how often a test reads the id of a segment or the number of a run. Every search among
//! them does, so the count shows how the work grows with their number, which a time would not.

use std::cell::Cell;

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn count() {
    LOOKS.set(LOOKS.get() + 1);
}

/// Returns the number of looks that this thread takes while it does the work, and its result.
pub(crate) fn taken_by<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = LOOKS.get();
    let result = work();
    (LOOKS.get() - before, result)
}
