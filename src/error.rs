//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, DigestMismatch};

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. An object that is not there is not an error: reads give `Ok(None)`.
///
/// Every message ends with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another writer, in this process or another, has the store open.
    #[error("{}: another writer has this store open; close it, or open with `Options::read_only(true)`", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// The handle was opened with [`Options::read_only`](crate::Options::read_only).
    #[error("the store was opened read-only; open it without `Options::read_only` to change it")]
    ReadOnly,

    /// There is no store in the folder, and it was not to be created.
    #[error("{}: there is no store here; check the path, or put something to create one", path.display())]
    NoStore {
        /// The folder that was opened.
        path: PathBuf,
    },

    /// The bytes on disk are not the content of this object, in any copy that the store holds.
    #[error(
        "object {digest} is damaged on disk (segment {segment}, offset {offset}); put its content again to repair it, or restore the file from a backup"
    )]
    Corrupt {
        /// The object.
        digest: Digest,
        /// The segment that holds the damaged copy.
        segment: u32,
        /// Offset of its content in the segment's data file, in bytes.
        offset: u64,
    },

    /// The index of a segment is damaged and could not be rebuilt in full from its data, so the
    /// store cannot say whether it holds the object that was asked for.
    #[error(
        "the index of segment {segment} is damaged ({reason}); run `verify` to see what is affected, and restore the segment's files from a backup"
    )]
    CorruptIndex {
        /// The segment.
        segment: u32,
        /// What was found.
        reason: String,
    },

    /// The data file of a sealed segment is not there.
    #[error("{}: segment {segment} is missing; restore the file from a backup, or open with `Options::allow_missing_segments(true)` to go on without its objects", path.display())]
    MissingSegment {
        /// The segment.
        segment: u32,
        /// Where its data file should be.
        path: PathBuf,
    },

    /// The manifest was written by a newer version of this crate.
    #[error("{}: a newer version wrote this store; open it with that version", path.display())]
    UnsupportedVersion {
        /// The manifest.
        path: PathBuf,
    },

    /// An object is limited to `u32::MAX` bytes.
    #[error("an object of {bytes} bytes is too large, the limit is 4294967295; store it in parts")]
    TooLarge {
        /// Length of the content that was refused.
        bytes: u64,
    },

    /// Content under a digest that is not its own.
    #[error(transparent)]
    DigestMismatch(#[from] DigestMismatch),

    /// A write failed in a way that leaves unknown what is on disk. Writes are refused from then on;
    /// reads go on.
    #[error(
        "writes are refused since an earlier failure ({reason}); reads still work, close the store, mend the cause and open it again"
    )]
    Poisoned {
        /// The first failure.
        reason: String,
    },

    /// The handle was opened before this process was forked from the one that opened it. Reads go on;
    /// whatever would change a file, or wait for a thread that only the parent has, is refused.
    #[error(
        "the store was opened before this process was forked; open it anew in this process, read-only while the parent writes"
    )]
    Forked,

    /// More than one object begins with this prefix.
    #[error("{prefix}: {} or more objects begin with this, for instance {}; give more digits", candidates.len(), list(candidates))]
    AmbiguousPrefix {
        /// The prefix that was asked for.
        prefix: String,
        /// The first few of them, in order.
        candidates: Vec<Digest>,
    },

    /// A digest prefix that is no hexadecimal text of 1 to 64 digits.
    #[error("{prefix:?} does not begin a digest; give 1 to 64 hexadecimal digits")]
    BadPrefix {
        /// The prefix that was asked for.
        prefix: String,
    },

    /// One compaction is running already.
    #[error("a compaction is running already; finish or drop it first")]
    CompactionRunning,

    /// A compaction was going to keep another number of objects than are live. It checks itself before it
    /// commits, so nothing was changed.
    #[error(
        "a compaction was going to keep {copied} records of {live} live ones, so nothing was changed; this is a fault of the store itself, please report it with the options that were used"
    )]
    IncompleteCompaction {
        /// Live records in the segments that it was going to replace.
        live: u64,
        /// Records that were going to take their place.
        copied: u64,
    },

    /// Segment ids are never used again, and the last one has been used.
    #[error("the last segment id, 4294967295, is used; copy the live objects into a new store")]
    SegmentIdsExhausted,

    /// There is less room in the file system than a compaction is going to need, so it was not begun.
    #[error("{}: this needs {needed_bytes} bytes of free space and there are {available_bytes}, so nothing was changed; free {} bytes there and try again", path.display(), needed_bytes.saturating_sub(*available_bytes))]
    NoSpace {
        /// The folder of the segments.
        path: PathBuf,
        /// How much it needs until it can remove what it replaces.
        needed_bytes: u64,
        /// How much the file system has.
        available_bytes: u64,
    },

    /// The folder is not empty.
    #[error("{}: the folder is not empty; give one that is, or that does not exist yet", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },

    /// The operating system reported an error.
    #[error("{}: {source}; mend what the system reports and try again", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: an I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the system said that a file or folder does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the system said that the disk, or what the user may have of it, is full.
    pub(crate) fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

fn list(candidates: &[Digest]) -> String {
    let texts: Vec<String> = candidates.iter().map(Digest::to_string).collect();
    texts.join(", ")
}
