//! Sealstone.
#![deny(unsafe_code)]

mod compaction;
mod digest;
#[doc(hidden)]
pub mod dir;
mod error;
pub mod format;
mod mmap;
mod object;
mod options;
mod recovery;
mod scan;
mod segment;
mod segment_set;
mod store;
mod verify;

pub use compaction::CompactionStats;
pub use digest::{DIGEST_BYTES, Digest, DigestMismatch, Hashed, ParseDigestError};
pub use error::{Error, Result};
pub use object::Object;
pub use options::{Options, ReadMode, SEGMENT_BYTES_MAX_DEFAULT};
pub use recovery::{RecoveryReport, Repair};
pub use scan::{Digests, Objects};
pub use store::{Compaction, SegmentState, SegmentStats, Store, StoreStats};
pub use verify::{CorruptObject, Problem, VerifyProgress, VerifyReport};
