//! One segment: [`Active`](active::Active) while it is appended to and until it is sealed,
//! [`Sealed`](sealed::Sealed) from then on.

pub(crate) mod active;
pub(crate) mod active_index;
pub(crate) mod appender;
pub(crate) mod bits;
pub(crate) mod data;
pub(crate) mod fanout;
pub(crate) mod sealed;

pub(crate) use active::Active;
pub(crate) use appender::Appender;
pub(crate) use data::Data;
pub(crate) use sealed::Sealed;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::format::{Entry, Record};

/// Where a record's content lies in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Hashes records on all cores.
pub(crate) fn hash_records(records: &[Record<'_>]) -> Vec<Entry> {
    records.par_iter().map(hash_record).collect()
}

/// The entry of a record.
pub(crate) fn hash_record(record: &Record<'_>) -> Entry {
    Entry {
        digest: Digest::of(record.content),
        offset: record.offset,
        // A record's length was read from a `u32`.
        len: u32::try_from(record.content.len()).unwrap_or(u32::MAX),
    }
}
