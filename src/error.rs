//! The one error type of the crate.

#[cfg(feature = "remote")]
mod remote;

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "remote")]
pub use remote::RemoteError;

use crate::digest::{Digest, DigestMismatch, HashFunction};

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of a store. An object that the store does not hold is not an error: reads return
/// `Ok(None)`.
///
/// Every message ends with the remedy. A message does not repeat its
/// [`source`](std::error::Error::source), so print both, as `anyhow` and others do.
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

    /// There is no store in the folder, and the options say not to create one.
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
        /// The damage that was found in the index.
        reason: String,
    },

    /// The data file of a sealed segment does not exist.
    #[error("{}: segment {segment} is missing; restore the file from a backup, or open with `Options::allow_missing_segments(true)` to go on without its objects", path.display())]
    MissingSegment {
        /// The segment.
        segment: u32,
        /// The path where its data file should be.
        path: PathBuf,
    },

    /// The manifest was written by a newer version of this crate.
    #[error("{}: a newer version wrote this store; open it with that version", path.display())]
    UnsupportedVersion {
        /// The manifest.
        path: PathBuf,
    },

    /// The store names its objects by another hash function than the one that was given, in the options
    /// or with content.
    #[error(
        "the store names its objects by {store}, not by {given}; give {store}, or give none when opening, or put into a store that was created with {given}"
    )]
    HashFunction {
        /// The function of the store.
        store: HashFunction,
        /// The function that was given.
        given: HashFunction,
    },

    /// The store names its objects by a hash function that this program was built without.
    #[error("{}: the store names its objects by a hash function that is not compiled in; build with the feature `{feature}`", path.display())]
    HashFunctionNotCompiledIn {
        /// The manifest, which names the function.
        path: PathBuf,
        /// The cargo feature that brings the function.
        feature: &'static str,
    },

    /// Neither a manifest nor an object tells by which hash function the store names its objects.
    #[error("{}: the manifest is lost or damaged, and no object has the digest that an index names by any hash function that is compiled in; put the manifest back, build with all hash functions, or say the function with `Options::hash_function`", path.display())]
    HashFunctionUnknown {
        /// Where the manifest is or should be.
        path: PathBuf,
    },

    /// An object is limited to `u32::MAX` bytes.
    #[error("an object of {bytes} bytes is too large, the limit is 4294967295; store it in parts")]
    TooLarge {
        /// Length of the content that was refused.
        bytes: u64,
    },

    /// A reader whose content was put failed. Its error is the [`source`](std::error::Error::source).
    #[error("the content could not be read to its end, so it was not stored; put it again")]
    Content {
        /// The error of the reader.
        source: io::Error,
    },

    /// Content was given together with a digest that is not its own.
    #[error(transparent)]
    DigestMismatch(#[from] DigestMismatch),

    /// An earlier failure left unknown what is on disk. Writes are refused from then on; reads go
    /// on.
    #[error(
        "writes are refused since an earlier failure ({reason}); reads still work, close the store, mend the cause and open it again"
    )]
    Poisoned {
        /// The first failure.
        reason: String,
    },

    /// The store was closed, and its folder may have another writer by now, so nothing is changed
    /// any more.
    #[error("the store was closed; open it again to change it")]
    Closed,

    /// The handle was opened before this process was forked from the one that opened it. Reads go
    /// on; everything is refused that would change a file or wait for a thread that only the parent
    /// has.
    #[error(
        "the store was opened before this process was forked; open it anew in this process, read-only while the parent writes"
    )]
    Forked,

    /// More than one object begins with this prefix.
    #[error("{prefix}: {} or more objects begin with this, for instance {}; give more digits", candidates.len(), list(candidates))]
    AmbiguousPrefix {
        /// The prefix that was asked for.
        prefix: String,
        /// The first few of these objects, in order.
        candidates: Vec<Digest>,
    },

    /// The prefix of a digest is not a hexadecimal text of 1 to 64 digits.
    #[error("{prefix:?} does not begin a digest; give 1 to 64 hexadecimal digits")]
    BadPrefix {
        /// The prefix that was asked for.
        prefix: String,
    },

    /// Another compaction or trim is running already.
    #[error("a compaction is running already; finish or drop it first, or wait for a trim to end")]
    CompactionRunning,

    /// A compaction would have kept a number of objects other than that of the live ones. It checks
    /// itself before it commits, so nothing was changed.
    #[error(
        "a compaction would have kept {copied} records of {live} live ones, so nothing was changed; this is a fault of the store itself, please report it with the options that were used"
    )]
    IncompleteCompaction {
        /// Live records in the segments that it would have replaced.
        live: u64,
        /// Records that would have taken their place.
        copied: u64,
    },

    /// Segment ids are never reused, and the last one is taken.
    #[error("the last segment id, 4294967295, is taken; copy the live objects into a new store")]
    SegmentIdsExhausted,

    /// The file system has less room than a compaction needs, so the compaction was not begun.
    #[error("{}: this needs {needed_bytes} bytes of free space and there are {available_bytes}, so nothing was changed; free {} bytes there and try again", path.display(), needed_bytes.saturating_sub(*available_bytes))]
    NoSpace {
        /// The folder of the segments.
        path: PathBuf,
        /// How many bytes the compaction needs until it can remove the segments that it replaces.
        needed_bytes: u64,
        /// How many bytes the file system has.
        available_bytes: u64,
    },

    /// The folder is not empty.
    #[error("{}: the folder is not empty; give one that is, or that does not exist yet", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },

    /// The operating system reported an error, which is the [`source`](std::error::Error::source).
    #[error("{}: the operating system reports an error; mend its cause and try again", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error that the system reported.
        source: io::Error,
    },

    /// A store in an object store, or the way to it, has a fault.
    #[cfg(feature = "remote")]
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl Error {
    /// Returns a function for `map_err` that makes an I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Says what happened, with the words of the system, as the reason in another sentence.
    pub(crate) fn as_reason(&self) -> String {
        match self {
            Self::Io { path, source } => format!("{}: {source}", path.display()),
            other => other.to_string(),
        }
    }

    /// Whether the system said that a file or folder does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the system said that the disk is full, or the user's quota on it.
    pub(crate) fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<Error> for io::Error {
    /// Wraps the error. The kind is the one that the system reported, or else the nearest one.
    fn from(error: Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = match &error {
            Error::Io { source, .. } | Error::Content { source } => source.kind(),
            Error::NoStore { .. } | Error::MissingSegment { .. } => Kind::NotFound,
            Error::Locked { .. } | Error::CompactionRunning => Kind::ResourceBusy,
            Error::ReadOnly => Kind::ReadOnlyFilesystem,
            Error::Corrupt { .. } | Error::CorruptIndex { .. } => Kind::InvalidData,
            Error::UnsupportedVersion { .. }
            | Error::HashFunctionNotCompiledIn { .. }
            | Error::HashFunctionUnknown { .. } => Kind::Unsupported,
            Error::HashFunction { .. }
            | Error::DigestMismatch(_)
            | Error::AmbiguousPrefix { .. }
            | Error::BadPrefix { .. } => Kind::InvalidInput,
            Error::TooLarge { .. } => Kind::FileTooLarge,
            Error::NoSpace { .. } => Kind::StorageFull,
            Error::NotEmpty { .. } => Kind::DirectoryNotEmpty,
            Error::Poisoned { .. }
            | Error::Closed
            | Error::Forked
            | Error::IncompleteCompaction { .. }
            | Error::SegmentIdsExhausted => Kind::Other,
            #[cfg(feature = "remote")]
            Error::Remote(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

fn list(candidates: &[Digest]) -> String {
    let texts: Vec<String> = candidates.iter().map(Digest::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    /// Whoever prints an error with its causes would otherwise print the system's words twice.
    #[test]
    fn a_message_names_the_file_and_the_remedy_and_leaves_the_cause_to_its_source() {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the disk is full");
        let error = Error::io(Path::new("segments/MANIFEST"))(full());
        let message = error.to_string();
        assert!(message.starts_with("segments/MANIFEST: ") && message.ends_with("try again"));
        assert!(!message.contains("full"), "{message}");
        assert_eq!(error.source().unwrap().to_string(), "the disk is full");
        assert_eq!(error.as_reason(), "segments/MANIFEST: the disk is full");
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), message);
        assert!(error.get_ref().unwrap().is::<Error>());
    }
}
