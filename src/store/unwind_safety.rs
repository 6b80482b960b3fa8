//! Panics may unwind past a store, and whoever catches them may go on with it.
//!
//! The compiler sees cells and locks inside and assumes the worst. What they guard is whole at every
//! moment: a set of segments is replaced at once, a record counts once it was appended, and poisoned
//! locks are ignored for that reason. In `tests/store/panics.rs`, closures of the caller panic, and
//! operations below the store while locks are held.

use std::panic::{RefUnwindSafe, UnwindSafe};

use super::{Compaction, PinnedObject, PinnedReader, Store};
use crate::object::Object;
use crate::options::Options;
use crate::scan::{Digests, Lengths, Objects};

macro_rules! are_unwind_safe {
    ($($type:ty),*) => {$(
        impl UnwindSafe for $type {}
        impl RefUnwindSafe for $type {}
    )*};
}

are_unwind_safe!(
    Store,
    PinnedReader,
    PinnedObject<'_>,
    Compaction,
    Object,
    Objects,
    Digests,
    Lengths,
    Options
);
