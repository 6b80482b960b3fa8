//! The errors of stores in an object store.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, HashFunction};

/// The errors of [`remote`](crate::remote): what [`Error::Remote`](crate::Error::Remote) holds.
///
/// Objects of a bucket are named by their URL, without user, password and query: no message has
/// credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The text is not the URL of a bucket, or of a folder in one. The URL itself is not repeated, as
    /// it can hold a password.
    #[error(
        "this is not the URL of a bucket ({reason}); give one like s3://bucket/folder, gs://bucket, az://container or file:///folder"
    )]
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },

    /// A variable of the environment is not what the client of the object store can use. Its value is not
    /// repeated, as it can hold a password.
    #[error("the environment variable {variable} {reason}")]
    BadEnvironment {
        /// The variable.
        variable: String,
        /// What is wrong with its value, and what it should be.
        reason: &'static str,
    },

    /// The text is not the name of a ref.
    #[error(
        "{name:?} is not the name of a ref; give 1 to 64 lowercase letters, digits, `.`, `_` and `-`, the first a letter or a digit"
    )]
    BadRefName {
        /// The text that was given.
        name: String,
    },

    /// The object store, or the way to it, reported an error: the [`source`](StdError::source).
    #[error("{object}: the object store reports an error; mend its cause and try again")]
    Bucket {
        /// The object, or the bucket.
        object: String,
        /// The error that was reported.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The object store does not have the ref.
    #[error(
        "{object}: there is no such ref; see which there are with `remote ls`, or push to make it"
    )]
    NoRef {
        /// The folder of the ref.
        object: String,
    },

    /// A manifest lists the object, and the object store does not have it.
    #[error(
        "{object}: the object is missing from the object store; take over the ref with a push from a store that holds all of it"
    )]
    Missing {
        /// The object.
        object: String,
    },

    /// A collection has removed the object while it was needed: the ref has a newer state by now.
    #[error(
        "{object}: a collection has removed the object, since the ref has had a newer state for longer than the grace period; begin again with the newest state, in a new folder if this was a pull"
    )]
    Collected {
        /// The object.
        object: String,
    },

    /// The bytes of an object are not those that were pushed.
    #[error(
        "{object}: the object is damaged in the object store ({reason}); take over the ref with a push from a store that holds all of it"
    )]
    Damaged {
        /// The object.
        object: String,
        /// The damage that was found.
        reason: String,
    },

    /// A newer version of this crate wrote the object.
    #[error("{object}: a newer version wrote this; use that version")]
    UnsupportedVersion {
        /// The object.
        object: String,
    },

    /// Another store pushed to the ref last.
    #[error(
        "{object}: another store has pushed to this ref; push to a ref of your own, or take this one over, which replaces what it lists"
    )]
    Fenced {
        /// The newest manifest of the ref.
        object: String,
    },

    /// This store, or a copy of its folder, has pushed a state to the ref that this store does not
    /// know: it was restored from an older backup, or it was copied.
    #[error(
        "{object}: this store does not know the state that was pushed last: it is older, or a copy; pull the ref into a new folder, or take it over, which replaces what it lists"
    )]
    Diverged {
        /// The newest manifest of the ref.
        object: String,
    },

    /// It is unknown whether the manifest was created, so the push or collection may have been committed,
    /// or may still be. The next one finds out.
    #[error(
        "{object}: it is unknown whether the object store has created this; do the same again, which finds out and completes it"
    )]
    Unknown {
        /// The manifest.
        object: String,
        /// The last error that was reported.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// Two creations of one object both succeeded, so two writers could not be told apart.
    #[error(
        "{object}: the object store creates an object although there is one of this name, so pushes to it would not be safe; use a store with conditional writes (`If-None-Match`), or a newer version of this one"
    )]
    CreateNotExclusive {
        /// The object that was created twice.
        object: String,
    },

    /// Collections removed what the push had uploaded, again and again.
    #[error(
        "{object}: collections removed what this push had uploaded, {times} times; collect with a longer grace period and push again"
    )]
    CollectedTooOften {
        /// The folder of the ref.
        object: String,
        /// How often the push began anew.
        times: u32,
    },

    /// Pushes to the ref came before a collection, again and again.
    #[error(
        "{object}: pushes came before this collection, {times} times; collect again at a quieter time"
    )]
    Busy {
        /// The folder of the ref.
        object: String,
        /// How often the collection began anew.
        times: u32,
    },

    /// An object is damaged in the store that is pushed. Nothing that lists it was committed.
    #[error(
        "object {digest} is damaged on disk (segment {segment}, offset {offset}), so the store was not pushed; put its content again and run a compaction, which drops the damaged copy, or run a compaction without the object, and push again"
    )]
    DamagedHere {
        /// The object.
        digest: Digest,
        /// The segment that holds the damaged copy.
        segment: u32,
        /// Offset of its content in the segment's data file, in bytes.
        offset: u64,
    },

    /// A data file of the store that is pushed is missing, and the store was opened although it is. The ref
    /// may list the only copy that is left.
    #[error(
        "segment {segment} of this store is missing, so the store was not pushed; restore its files from a backup, or pull the ref into a new folder; or take the ref over, which then lists this store without the segment"
    )]
    MissingHere {
        /// The segment.
        segment: u32,
    },

    /// A data file of the store that is pushed is shorter than it was. Nothing that lists it was
    /// committed.
    #[error(
        "the data file of segment {segment} is shorter than its objects, so the store was not pushed; restore it from a backup, or put again what `verify` reports and run a compaction, and push again"
    )]
    ShortHere {
        /// The segment.
        segment: u32,
    },

    /// The ref and the store name their objects by different hash functions.
    #[error(
        "{object}: the ref names its objects by {of_ref}, and the store by {of_store}; push to another ref"
    )]
    HashFunction {
        /// The newest manifest of the ref.
        object: String,
        /// The function of the ref.
        of_ref: HashFunction,
        /// The function of the store.
        of_store: HashFunction,
    },

    /// Another push of this store is under way.
    #[error("another push of this store is under way; wait for it to end")]
    PushRunning,

    /// The folder holds something that the ref does not list.
    #[error(
        "{}: {reason}, so the pull has changed nothing; pull into a new folder", path.display()
    )]
    NotAPart {
        /// The folder.
        path: PathBuf,
        /// The content of the folder that does not belong there.
        reason: String,
    },

    /// A reader's cache has no room for the index of the ref, and objects besides.
    #[error(
        "{}: a cache of {bytes_max} bytes is too small for this ref; give it at least {bytes_min} bytes", path.display()
    )]
    CacheTooSmall {
        /// The folder.
        path: PathBuf,
        /// The bound that was given.
        bytes_max: u64,
        /// A bound that is large enough.
        bytes_min: u64,
    },

    /// The caller has ended the work early.
    #[error("the work was ended early, as its caller asked; begin it again to go on with it")]
    Cancelled,

    /// A blocking call was made in a task of a runtime, where it would stop other tasks.
    #[error("a blocking call was made in an asynchronous task; call the function with `_async`")]
    InsideRuntime,
}

impl RemoteError {
    /// Returns the nearest kind.
    pub(super) fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            Self::BadUrl { .. }
            | Self::BadEnvironment { .. }
            | Self::BadRefName { .. }
            | Self::CacheTooSmall { .. }
            | Self::HashFunction { .. } => Kind::InvalidInput,
            Self::NoRef { .. } | Self::Missing { .. } | Self::Collected { .. } => Kind::NotFound,
            Self::Damaged { .. }
            | Self::DamagedHere { .. }
            | Self::MissingHere { .. }
            | Self::ShortHere { .. } => Kind::InvalidData,
            Self::UnsupportedVersion { .. } | Self::CreateNotExclusive { .. } => Kind::Unsupported,
            Self::Fenced { .. } | Self::Diverged { .. } => Kind::AlreadyExists,
            Self::PushRunning | Self::Busy { .. } => Kind::ResourceBusy,
            Self::NotAPart { .. } => Kind::DirectoryNotEmpty,
            Self::Cancelled => Kind::Interrupted,
            Self::Bucket { .. }
            | Self::Unknown { .. }
            | Self::CollectedTooOften { .. }
            | Self::InsideRuntime => Kind::Other,
        }
    }
}
