//! One store in one process: the promises of its calls, alone, beside each other, and on a failing
//! system.

#[path = "../common/mod.rs"]
mod common;

mod api;
mod beside_compactions;
mod compaction;
mod concurrency;
mod doubt;
mod events;
mod failed_sync;
mod faults;
mod full_disk;
mod handles;
mod hash_functions;
mod ids;
mod merging;
mod model;
mod objects;
mod options;
mod panics;
mod put_reader;
mod puts_again;
mod retired;
#[cfg(feature = "serde")]
mod serialized;
mod set_index;
mod shared_syncs;
mod small;
mod trim;
mod unsynced;
mod waiting;
