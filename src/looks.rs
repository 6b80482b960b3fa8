//! Counts how often a test looks at the id of a segment or the number of a run. Whatever searches among
//! them does, so the count shows how the work grows with their number, where a time would not.

use std::cell::Cell;

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn count() {
    LOOKS.set(LOOKS.get() + 1);
}

/// How many looks this thread takes while it does the work.
pub(crate) fn taken_by<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = LOOKS.get();
    let result = work();
    (LOOKS.get() - before, result)
}
