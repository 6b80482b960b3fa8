//! Counts how often a test reads the id of a segment or the number of a run. Every search among
//! them does, so the count shows how the work grows with their number, which a time would not.

use std::cell::Cell;

thread_local! {
    static VISITS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn count() {
    VISITS.set(VISITS.get() + 1);
}

/// Returns how often this thread does so while it does the work, and the result of the work.
pub(crate) fn visits_of<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = VISITS.get();
    let result = work();
    (VISITS.get() - before, result)
}
