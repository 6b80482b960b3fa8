//! Reading a ref without pulling it.

mod batch;
mod cache;
mod fetch;
mod index;
mod inner;
mod iter;
mod local;
mod whole;

pub use self::iter::RemoteDigests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt, TryStreamExt};

use self::cache::Cache;
use self::index::LocalSidecar;
use self::inner::{Inner, LONG_READS_AT_ONCE, NotLocal, is_missing};
use self::local::{Loading, LocalIndex};
use super::progress::{Progress, TransferProgress};
use super::refs::Ref;
use super::runtime::{Blocking, blocking};
use crate::digest::{Digest, HashFunction};
use crate::dir::is_vacant;
use crate::error::{Error, Result};
use crate::memory::ForkMark;
use crate::object::Object;

/// The folder of all that a reader keeps, in the folder of the cache. Nobody has one of this name for
/// something else: what is in it is dropped when the cache is full.
const CACHE: &str = "sealstone-cache";
/// The folder of the cached objects in it.
const OBJECTS: &str = "objects";
/// The folder of the index in it.
const INDEX: &str = "index";

/// Reads the objects that a ref lists, with a bounded cache on the local disk. Made by
/// [`Remote::reader`](super::Remote::reader).
///
/// The index of the ref is local, so an object that the ref does not list costs no request. An object that
/// is not in the cache costs one, or two if it is several times as long as the others of its segment, and one
/// more for each 8 MiB. All
/// content is checked against its digest before it is given out, and kept in the cache, from which the
/// oldest is dropped when it is full. An object that would take more than about an eighth of the cache is
/// not kept. A segment that is asked often is downloaded as a whole, beside other
/// reads.
///
/// It reads the state that was the newest when it was opened or refreshed. If a collection has removed what
/// that state needs, a read refreshes the reader once.
///
/// Clones are handles to the same reader. `RemoteReader` is `Send` and `Sync`.
///
/// ```
/// # use sealstone::Store;
/// # use sealstone::remote::Remote;
/// # let [folder, bucket, cache] = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
/// # let remote = Remote::open(&format!("file://{}", bucket.path().display()))?;
/// let store = Store::open(folder.path())?;
/// let digest = store.put("content")?;
/// remote.push(&store, "main")?;
///
/// let reader = remote.reader("main", cache.path(), 64 << 20)?; // 64 MiB on the local disk
/// assert_eq!(reader.get(digest)?.unwrap(), "content");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RemoteReader {
    inner: Arc<Inner>,
    blocking: Arc<Blocking>,
}

impl fmt::Debug for RemoteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteReader")
            .field("ref", &self.inner.at.name)
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}

/// Opens a reader of a ref.
pub(super) async fn open(
    at: Ref,
    blocking_calls: Arc<Blocking>,
    (root, cache_bytes): (&Path, u64),
    progress: Progress<'_, TransferProgress>,
) -> Result<RemoteReader> {
    let newest = at.newest_or_error().await?;
    let function = newest
        .state()
        .map(|state| state.hash_function)
        .unwrap_or_default();
    let root = root.to_owned();
    let opened = blocking(move || {
        let cache = root.join(CACHE);
        if !is_vacant(&root)? && !cache.is_dir() {
            return Err(Error::NotEmpty { path: root });
        }
        let (objects, index) = (cache.join(OBJECTS), cache.join(INDEX));
        // The store's lock is that of the whole folder.
        let cache = Cache::open(&objects, function, cache_bytes)?;
        Ok((cache, LocalIndex::open(&index)?))
    });
    let (cache, folder) = opened.await?;
    let loading = Loading {
        at: &at,
        folder: &folder,
        cache: &cache,
        progress,
    };
    let loaded = match loading.load(newest, None).await {
        // A collection has come between. The state that is the newest now needs no file that is gone.
        failed if is_missing(&failed) => {
            let newest = at.newest_or_error().await?;
            let loaded = loading.load(newest.clone(), None).await;
            at.collected_or(&newest, loaded).await
        }
        loaded => loaded,
    };
    let inner = Inner {
        index: ArcSwap::from_pointee(loaded?),
        cached: cache.store()?,
        at,
        folder,
        cache,
        loading: tokio::sync::Mutex::new(()),
        is_taking_over: Arc::new(AtomicBool::new(false)),
        long_reads: tokio::sync::Semaphore::new(LONG_READS_AT_ONCE),
        origin: ForkMark::new(),
    };
    Ok(RemoteReader {
        inner: Arc::new(inner),
        blocking: blocking_calls,
    })
}

impl RemoteReader {
    /// Reads an object and checks it against its digest. Returns `None` if the ref does not list it.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Io`](crate::Error::Io) or [`Error::Forked`](crate::Error::Forked), and with these variants of
    /// [`RemoteError`](crate::RemoteError): `Damaged` or `Missing` if the object of the bucket is that holds
    /// it, `Bucket` and `InsideRuntime`, and those of [`refresh`](Self::refresh).
    pub fn get(&self, digest: impl AsRef<Digest>) -> Result<Option<Object>> {
        let digest = digest.as_ref();
        self.blocking.require_usable()?;
        match self.inner.get_local(digest) {
            Ok(found) => Ok(found),
            Err(NotLocal) => self.blocking.wait_for(self.inner.find(digest)),
        }
    }

    /// Does [`get`](Self::get) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`get`](Self::get), but for `InsideRuntime`.
    pub async fn get_async(&self, digest: impl AsRef<Digest> + Send) -> Result<Option<Object>> {
        let digest = *digest.as_ref();
        match self.inner.get_local(&digest) {
            Ok(found) => Ok(found),
            Err(NotLocal) => self.inner.find(&digest).await,
        }
    }

    /// Reads several objects; the results are in the order of `digests`. Neighbours are read by one request,
    /// and up to 16 requests are under way at once. Takes up to 64 MiB of memory besides the objects, and as much
    /// as two of those that are longer than 8 MiB.
    ///
    /// # Errors
    ///
    /// Fails like [`get`](Self::get), with the error of one object. Those that were read are in the cache.
    pub fn get_many(&self, digests: &[Digest]) -> Result<Vec<Option<Object>>> {
        self.blocking.wait_for(self.get_many_async(digests))
    }

    /// Does [`get_many`](Self::get_many) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`get_many`](Self::get_many), but for `InsideRuntime`.
    pub async fn get_many_async(&self, digests: &[Digest]) -> Result<Vec<Option<Object>>> {
        let index = self.inner.index.load_full();
        let listed: Vec<(usize, Digest)> = digests
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, digest)| index.may_list(digest))
            .collect();
        let wanted: Vec<Digest> = listed.iter().map(|(_, digest)| *digest).collect();
        let cached = self.inner.cached.get_many(&wanted);
        let mut found: Vec<Option<Object>> = vec![None; digests.len()];
        let mut others: HashMap<Digest, Vec<usize>> = HashMap::new();
        for ((number, digest), cached) in listed.into_iter().zip(cached) {
            match cached {
                Ok(Some(object)) => found[number] = Some(object),
                // A damaged object counts as not there, and is put again.
                Ok(None) | Err(_) => others.entry(digest).or_default().push(number),
            }
        }
        if others.is_empty() {
            return Ok(found);
        }
        // An object keeps its segment of the cache on disk, so none is held while others are waited for.
        for object in found.iter_mut().flatten() {
            *object = Object::in_memory(*object.digest(), object);
        }
        let missing = others.keys().copied().enumerate().collect();
        let numbers: Vec<&Vec<usize>> = others.values().collect();
        for (at, object) in self.inner.fetch_many(&index, missing).await? {
            for &number in numbers[at] {
                found[number].clone_from(&object);
            }
        }
        Ok(found)
    }

    /// Returns whether the ref lists an object. Costs no request if it does not, or if the index of the
    /// segment is local; otherwise that is downloaded, 44 bytes for each object of the segment, and kept if
    /// the index takes less than half of the cache then.
    ///
    /// # Errors
    ///
    /// Fails like [`get`](Self::get).
    pub fn contains(&self, digest: impl AsRef<Digest>) -> Result<bool> {
        self.blocking.wait_for(self.inner.contains(digest.as_ref()))
    }

    /// Does [`contains`](Self::contains) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`contains`](Self::contains), but for `InsideRuntime`.
    pub async fn contains_async(&self, digest: impl AsRef<Digest> + Send) -> Result<bool> {
        self.inner.contains(digest.as_ref()).await
    }

    /// Iterates over the digests of all objects that the ref lists, as it is now, segment by segment and
    /// sorted in each. An object that was put again to repair it comes twice until a compaction.
    ///
    /// Downloads the index of each segment that is not local, 44 bytes for each object. The iterator ends
    /// behind an error.
    #[must_use]
    pub fn iter(&self) -> RemoteDigests {
        RemoteDigests::new(self.inner.clone(), self.blocking.clone())
    }

    /// Does [`iter`](Self::iter) for those who have a runtime.
    pub fn iter_async(&self) -> impl Stream<Item = Result<Digest>> + Send + use<> {
        let (inner, index) = (Arc::clone(&self.inner), self.inner.index.load_full());
        let segments = futures_util::stream::iter(0..index.segments().len());
        let sidecars = segments.then(move |segment| {
            let (inner, index) = (Arc::clone(&inner), Arc::clone(&index));
            async move { inner.sidecar_of_walk(&index, segment).await }
        });
        let digests = |sidecar: LocalSidecar| {
            let digest = move |position| sidecar.entry(position).map(|entry| Ok(entry.digest));
            futures_util::stream::iter((0_usize..).map_while(digest))
        };
        sidecars.map_ok(digests).try_flatten()
    }

    /// Reads the state that is the newest now, and returns whether it is another than before. Costs one
    /// request if it is not, and otherwise five, and one for each new file of the index.
    ///
    /// # Errors
    ///
    /// Fails like [`Remote::reader`](super::Remote::reader). The reader goes on with the state that it had.
    pub fn refresh(&self) -> Result<bool> {
        self.blocking.wait_for(self.refresh_async())
    }

    /// Does [`refresh`](Self::refresh) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`refresh`](Self::refresh), but for `InsideRuntime`.
    pub async fn refresh_async(&self) -> Result<bool> {
        let index = self.inner.index.load_full();
        let next = index.newest.manifest.number.saturating_add(1);
        if self.inner.at.exists(next).await? || !index.is_sound() {
            self.inner.reload(&index).await?;
        }
        Ok(self.number() != index.newest.manifest.number)
    }

    /// The number of the manifest whose state is read.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.index.load().newest.manifest.number
    }

    /// The function that names the objects.
    #[must_use]
    pub fn hash_function(&self) -> HashFunction {
        self.inner.index.load().hash_function()
    }
}

impl IntoIterator for &RemoteReader {
    type Item = Result<Digest>;
    type IntoIter = RemoteDigests;

    fn into_iter(self) -> RemoteDigests {
        self.iter()
    }
}
