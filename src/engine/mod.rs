//! The actions of a writer, one verb a file.
//!
//! [`Writer`] owns the locks and states their order (`writer.rs`). The verbs are its methods: `put`
//! and `put_many` append objects that the store does not hold, `put_reader` gives long content a segment
//! of its own, `roll` goes on with a new segment, `sync` makes records durable, `seal` turns a full
//! segment into a sealed one, `compact` drops dead objects, `trim` drops the oldest segments, `index`
//! keeps the set index up to date, `checkpoint` makes another store (`copy` has what a pull does like it),
//! `repair` writes a sidecar anew, and `commit` replaces the manifest for all of them. `open` starts a writer and its two background threads,
//! and `close` ends them. `events` counts what they do.
//!
//! [`Shared`] is the part of an open store that readers need; it exists without a writer too.

mod background;
mod checkpoint;
mod close;
mod commit;
mod compact;
mod copy;
mod events;
mod ids;
mod index;
mod ledger;
mod open;
mod phase;
mod put;
mod put_many;
mod put_reader;
mod repair;
mod roll;
#[cfg(all(test, shuttle))]
mod schedules;
mod seal;
mod shared;
mod sync;
mod trim;
mod writer;

pub(crate) use compact::RunningCompaction;
#[cfg(feature = "remote")]
pub(crate) use copy::{finish_copy, manifest_of_copy};
pub use events::EventCounts;
pub(crate) use open::OpenWriter;
pub use put_reader::Stored;
pub(crate) use shared::Shared;
pub(crate) use writer::Writer;
