//! Segments in an object store: Amazon S3, Google Cloud Storage, Azure, whatever speaks S3, or a folder.
//!
//! ```
//! use sealstone::Store;
//! use sealstone::remote::Remote;
//!
//! # let folder = tempfile::tempdir()?;
//! # let backups = tempfile::tempdir()?;
//! # let url = format!("file://{}", backups.path().display());
//! let store = Store::open(folder.path())?;
//! store.put("content")?;
//!
//! let remote = Remote::open(&url)?; // or "s3://bucket/folder"
//! let report = remote.push(&store, "main")?; // uploads the segments that the ref "main" lacks
//! assert_eq!(report.uploaded_segments, 1);
//! assert_eq!(remote.push(&store, "main")?.uploaded_segments, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [reader](Remote::reader) reads single objects of a ref and pulls nothing else: its index is local, and
//! what it has read is kept within a bound. [`pull`](Remote::pull) is for machines that read most of a store,
//! and for those that have lost theirs.
//!
//! A *bucket* holds *refs*. One store pushes its states to a ref, one after the other. [`format`](mod@format)
//! says what is in a bucket, and how it stays whole while pushes, collections and readers use it at once.
//!
//! # Blocking and asynchronous
//!
//! A function without `_async` waits for the work. It uses a runtime of its own, which the first call
//! makes, and is an error in a task of another runtime. A function with `_async` is for callers that have
//! a runtime of `tokio`: await it there. Both may be used of one [`Remote`]. A future that is dropped ends
//! the work, as does a progress function that returns [`ControlFlow::Break`]; the next push goes on with
//! what was uploaded. In a process that was forked from the one that opened the [`Remote`], a function that
//! waits is [`Error::Forked`](crate::Error::Forked).
//!
//! # Limits
//!
//! - A ref has one writer. Two stores push to two refs, which share no files.
//! - A push seals what the store holds. Pushes every few seconds make many small segments, until a compaction.
//! - The bucket must create an object only if there is none of its name, which all of those above do. The
//!   first push of a writer tries it.
//! - In a bucket that is a folder, a push that is killed can leave files whose names end in `#1`, `#2` and so
//!   on, which the client hides. A collection does not remove them; remove them by hand while nothing pushes.
//! - S3 keeps the parts of an upload that was cut off, and charges for them. Give the bucket a rule that
//!   removes them after some days.
//! - An interrupted push trusts what it finds in its own folder by the length. [`verify`](Remote::verify)
//!   reads all of it.

mod arriving;
mod base;
mod body;
mod bucket;
mod check;
mod collect;
mod commit;
mod content;
mod download;
pub mod format;
mod local;
mod open;
mod options;
mod progress;
mod pull;
mod push;
mod reader;
mod refs;
mod runtime;
mod upkeep;
mod upload;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use options::{
    GcOptions, GcReport, PullReport, PushOptions, PushReport, RefInfo, RefProblem, RefReport,
};
pub use progress::{GcProgress, TransferProgress};
pub use reader::{RemoteDigests, RemoteReader};

use bucket::Bucket;
use progress::Progress;
use pull::Pull;
use push::Push;
use refs::Ref;
use runtime::Blocking;

use crate::error::Result;
use crate::store::Store;

/// Time before the second attempt of a creation whose outcome is unclear.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A bucket of an object store, or a folder in one.
///
/// Clones are handles to the same bucket. `Remote` is `Send` and `Sync`.
#[derive(Clone, Debug)]
pub struct Remote {
    bucket: Arc<Bucket>,
    blocking: Arc<Blocking>,
    settings: Settings,
}

/// Settings that only tests change.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Time before the second attempt of a creation whose outcome is unclear.
    retry_pause: Duration,
}

impl Remote {
    /// Opens the bucket at a URL. Makes no request yet.
    ///
    /// | URL | reaches |
    /// |---|---|
    /// | `s3://BUCKET/FOLDER` | Amazon S3, and whatever speaks S3 at the address in `AWS_ENDPOINT` |
    /// | `gs://BUCKET/FOLDER` | Google Cloud Storage |
    /// | `az://CONTAINER/FOLDER` | Azure |
    /// | `https://...` | the same by their own addresses |
    /// | `file:///FOLDER` | a folder, which must exist |
    /// | `memory:///` | the memory of this `Remote`, for tests |
    ///
    /// Credentials and settings come from the environment, as the crate
    /// [`object_store`](https://docs.rs/object_store) reads it (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
    /// `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` and others).
    ///
    /// # Errors
    ///
    /// Fails with [`RemoteError::BadUrl`](crate::RemoteError::BadUrl), also if the URL has a user, a
    /// password or a query, and with [`RemoteError::Bucket`](crate::RemoteError::Bucket) if the
    /// environment lacks what is needed or the folder does not exist.
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self::new(open::open(url)?, RETRY_PAUSE))
    }

    /// Uses another object store as the bucket, and waits for `retry_pause` before the second attempt of
    /// a creation whose outcome is unclear.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn with_object_store(
        store: Arc<dyn object_store::ObjectStore>,
        retry_pause: Duration,
    ) -> Self {
        let bucket = Bucket::new(
            store,
            object_store::path::Path::default(),
            "test:".to_owned(),
        );
        Self::new(bucket, retry_pause)
    }

    fn new(bucket: Bucket, retry_pause: Duration) -> Self {
        Self {
            bucket: Arc::new(bucket),
            blocking: Arc::new(Blocking::new()),
            settings: Settings { retry_pause },
        }
    }

    fn at(&self, name: &str) -> Result<Ref> {
        Ok(Ref {
            bucket: Arc::clone(&self.bucket),
            name: name.parse()?,
        })
    }

    /// Makes the ref `name` list all objects that were put into a store before this call. Creates the ref
    /// if there is none.
    ///
    /// Seals what the store holds, as [`checkpoint`](Store::checkpoint) does, and uploads the segments
    /// that the ref does not list yet. Each record is checked against its digest on the way. The ref
    /// changes when all of them are there, at once, and only if no other store has pushed to it. While
    /// the push runs, compactions of the store free no space.
    ///
    /// Takes at most about 100 MiB of memory, more if a segment is larger than 78 GiB, and makes about
    /// one request for each 8 MiB, two for each segment, and ten others.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ReadOnly`](crate::Error::ReadOnly) or [`Error::Io`](crate::Error::Io), and
    /// with these variants of [`RemoteError`](crate::RemoteError):
    ///
    /// - `Fenced` if another store pushed to the ref last, and `Diverged` if this store does not know
    ///   the state that was pushed last; see [`PushOptions::take_over`].
    /// - `DamagedHere` and `ShortHere` if an object of the store is damaged.
    /// - `CreateNotExclusive` if the object store is not fit for this.
    /// - `Unknown` if it could not be found out whether the push was committed.
    /// - `BadRefName`, `HashFunction`, `PushRunning`, `CollectedTooOften`, `UnsupportedVersion`,
    ///   `Damaged`, `Missing`, `Bucket` and `InsideRuntime`.
    ///
    /// After all of them but `Unknown` the ref lists what it did before. What was uploaded stays, and the
    /// next push goes on with it. S3 also keeps parts of a file whose upload was cut off, and charges for
    /// them: give the bucket a rule that removes incomplete multipart uploads after some days.
    pub fn push(&self, store: &Store, name: &str) -> Result<PushReport> {
        let options = PushOptions::default();
        self.push_with(store, name, &options, |_| ControlFlow::Continue(()))
    }

    /// Does [`push`](Self::push) with options, and calls `progress` for each part of a file, from several
    /// threads. If that returns [`ControlFlow::Break`], the push ends.
    ///
    /// # Errors
    ///
    /// Fails like [`push`](Self::push), and with [`RemoteError::Cancelled`](crate::RemoteError::Cancelled).
    pub fn push_with(
        &self,
        store: &Store,
        name: &str,
        options: &PushOptions,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<PushReport> {
        let push = self.push_async(store, name, options, progress);
        self.blocking.wait_for(push)
    }

    /// Does [`push_with`](Self::push_with) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`push_with`](Self::push_with), but for `InsideRuntime`.
    pub async fn push_async(
        &self,
        store: &Store,
        name: &str,
        options: &PushOptions,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<PushReport> {
        let push = Push {
            at: &self.at(name)?,
            settings: self.settings,
            options,
            progress: Progress(&progress),
        };
        push.run(store).await
    }

    /// Makes a store in the folder `root` of what the ref `name` lists.
    ///
    /// The folder must not exist or be empty, or hold a part of what the ref lists and nothing else: a pull
    /// that was cut off, or an earlier state of the ref that a pull or a restored backup has made. Then the
    /// rest is downloaded. All content is checked before the files get their names. Until the pull is
    /// complete, opening the store is [`Error::MissingSegment`](crate::Error::MissingSegment).
    ///
    /// The store is a store of its own: pushing from it to the same ref is refused unless it takes the ref
    /// over.
    ///
    /// Takes 44 bytes of memory for each object of the four segments that are downloaded at once, and at
    /// most 200 MiB besides, and makes about one request for each 8 MiB and five others.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotEmpty`](crate::Error::NotEmpty), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Locked`](crate::Error::Locked) or [`Error::Io`](crate::Error::Io), and with these variants
    /// of [`RemoteError`](crate::RemoteError):
    ///
    /// - `NotAPart` if the folder holds something that the ref does not list. It is as it was then.
    /// - `NoRef` if there is no such ref.
    /// - `Damaged` or `Missing` if an object of the bucket is, and `Collected` if a newer state has
    ///   replaced the one that is pulled for so long that its files are gone.
    /// - `BadRefName`, `UnsupportedVersion`, `Bucket` and `InsideRuntime`.
    ///
    /// After an error, another pull into the folder goes on with what was downloaded.
    pub fn pull(&self, name: &str, root: impl AsRef<Path>) -> Result<PullReport> {
        self.pull_with(name, root, |_| ControlFlow::Continue(()))
    }

    /// Does [`pull`](Self::pull), and calls `progress` for each part of a file. If that returns
    /// [`ControlFlow::Break`], the pull ends.
    ///
    /// # Errors
    ///
    /// Fails like [`pull`](Self::pull), and with [`RemoteError::Cancelled`](crate::RemoteError::Cancelled).
    pub fn pull_with(
        &self,
        name: &str,
        root: impl AsRef<Path>,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<PullReport> {
        let pull = self.pull_async(name, root.as_ref(), progress);
        self.blocking.wait_for(pull)
    }

    /// Does [`pull_with`](Self::pull_with) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`pull_with`](Self::pull_with), but for `InsideRuntime`.
    pub async fn pull_async(
        &self,
        name: &str,
        root: &Path,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<PullReport> {
        let pull = Pull {
            at: &self.at(name)?,
            progress: Progress(&progress),
        };
        pull.run(root).await
    }

    /// Opens a reader of the ref `name`, which reads single objects and downloads nothing else. What it
    /// reads and the index of the ref are kept in the folder `cache`, whose files take at most
    /// `cache_bytes`; see [`RemoteReader`]. The folder must not exist or be empty, or be the cache of an
    /// earlier reader: then that goes on, also for another ref whose objects are named by the same hash
    /// function. One process at a time may use it.
    ///
    /// The index takes 12 bytes for each object, or 44 for each of the last segments if these have fewer
    /// than 32,768 objects, and is mapped. An [`Object`](crate::Object) that comes from the cache keeps the
    /// files of its segment of the cache, a sixteenth of it, on disk beyond the bound, as long as it is held.
    ///
    /// Makes three requests, and one for each file of the index that is not in the folder. The files of the
    /// index are checked when they are opened or first read. From then on they are trusted, as those of a
    /// store are, until one contradicts another. Whoever cuts a mapped file ends the process.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotEmpty`](crate::Error::NotEmpty) if the folder holds something else,
    /// [`Error::Locked`](crate::Error::Locked) if another reader uses it,
    /// [`Error::HashFunction`](crate::Error::HashFunction) or [`Error::Io`](crate::Error::Io), and with
    /// these variants of [`RemoteError`](crate::RemoteError): `CacheTooSmall`, `NoRef`, `BadRefName`,
    /// `Damaged`, `Missing`, `UnsupportedVersion`, `Bucket` and `InsideRuntime`.
    pub fn reader(
        &self,
        name: &str,
        cache: impl AsRef<Path>,
        cache_bytes: u64,
    ) -> Result<RemoteReader> {
        let go_on = |_: &TransferProgress| ControlFlow::Continue(());
        self.reader_with(name, cache, cache_bytes, go_on)
    }

    /// Does [`reader`](Self::reader), and calls `progress` while the index is downloaded. If that returns
    /// [`ControlFlow::Break`], the opening ends.
    ///
    /// # Errors
    ///
    /// Fails like [`reader`](Self::reader), and with
    /// [`RemoteError::Cancelled`](crate::RemoteError::Cancelled).
    pub fn reader_with(
        &self,
        name: &str,
        cache: impl AsRef<Path>,
        cache_bytes: u64,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<RemoteReader> {
        let reader = self.reader_async(name, cache.as_ref(), cache_bytes, progress);
        self.blocking.wait_for(reader)
    }

    /// Does [`reader_with`](Self::reader_with) without waiting. If the future is dropped, the folder stays
    /// locked for a moment, until the thread that opens it has ended.
    ///
    /// # Errors
    ///
    /// Fails like [`reader_with`](Self::reader_with), but for `InsideRuntime`.
    pub async fn reader_async(
        &self,
        name: &str,
        cache: &Path,
        cache_bytes: u64,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<RemoteReader> {
        let (at, blocking) = (self.at(name)?, Arc::clone(&self.blocking));
        reader::open(at, blocking, (cache, cache_bytes), Progress(&progress)).await
    }
}
