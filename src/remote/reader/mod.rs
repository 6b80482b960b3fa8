//! Reading a ref without pulling it.

mod batch;
mod cache;
mod fetch;
mod index;
mod local;
mod whole;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt, TryStreamExt};

use self::cache::Cache;
use self::fetch::is_missing;
use self::index::{DamagedRun, Index, LocalSidecar, Place};
use self::local::{Loading, LocalIndex, sidecar_bytes, unwatched};
use super::options::{Progress, ReaderProgress};
use super::refs::{Ref, Stored};
use super::runtime::{Blocking, blocking};
use crate::digest::{Digest, HashFunction};
use crate::dir::is_vacant;
use crate::error::{Error, RemoteError, Result};
use crate::object::Object;
use crate::store::Store;

/// The folder of the cached objects, in the folder of the cache.
const OBJECTS: &str = "objects";
/// The folder of the index, in the folder of the cache.
const INDEX: &str = "index";

/// Reads the objects that a ref lists, with a bounded cache on the local disk. Made by
/// [`Remote::reader`](super::Remote::reader).
///
/// The index of the ref is local, so an object that the ref does not list costs no request. An object that
/// is not in the cache costs one, or two if it is several times as long as the others of its segment. All
/// content is checked against its digest before it is given out, and kept in the cache, from which the
/// oldest is dropped when it is full. A segment that is asked often is downloaded as a whole, beside other
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

struct Inner {
    at: Ref,
    index: ArcSwap<Index>,
    folder: LocalIndex,
    /// The cached objects, for reads that take no lock.
    cached: Store,
    cache: Cache,
    /// Held while files of the index are written.
    loading: tokio::sync::Mutex<()>,
    /// Whether a segment is being taken over as a whole.
    is_taking_over: Arc<AtomicBool>,
}

/// What is known of an object without a request.
enum Known {
    /// The object was cached.
    Object(Object),
    /// The ref does not list it.
    NotListed,
    /// It has to be asked for.
    Nothing,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Work that still goes on in other threads must not keep the folder locked.
        self.cache.close();
    }
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
    progress: Progress<'_, ReaderProgress>,
) -> Result<RemoteReader> {
    let newest = at.newest_or_error().await?;
    let function = newest
        .state()
        .map(|state| state.hash_function)
        .unwrap_or_default();
    let root = root.to_owned();
    let opened = blocking(move || {
        let (objects, index) = (root.join(OBJECTS), root.join(INDEX));
        if !is_vacant(&root)? && !objects.is_dir() {
            return Err(Error::NotEmpty { path: root });
        }
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
        failed if is_missing(&failed) => loading.load(at.newest_or_error().await?, None).await,
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
        match self.inner.known(digest) {
            Known::Object(object) => Ok(Some(object)),
            Known::NotListed => Ok(None),
            Known::Nothing => self.blocking.wait_for(self.inner.find(digest)),
        }
    }

    /// Does [`get`](Self::get) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`get`](Self::get), but for `InsideRuntime`.
    pub async fn get_async(&self, digest: impl AsRef<Digest> + Send) -> Result<Option<Object>> {
        let digest = *digest.as_ref();
        match self.inner.known(&digest) {
            Known::Object(object) => Ok(Some(object)),
            Known::NotListed => Ok(None),
            Known::Nothing => self.inner.find(&digest).await,
        }
    }

    /// Reads several objects; the results are in the order of `digests`. Neighbours are read by one request,
    /// and up to 16 requests are under way at once. Takes up to 64 MiB of memory besides the objects.
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
        let is_listed = |digest: &Digest| index.places(digest).next().is_some();
        let listed: Vec<(usize, Digest)> = digests
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, digest)| is_listed(digest))
            .collect();
        let cached = self
            .inner
            .cached
            .get_many(&listed.iter().map(|(_, digest)| *digest).collect::<Vec<_>>());
        let mut found: Vec<Option<Object>> = vec![None; digests.len()];
        let mut others = Vec::new();
        for ((number, digest), cached) in listed.into_iter().zip(cached) {
            match cached {
                Ok(Some(object)) => found[number] = Some(object),
                // A damaged object counts as not there, and is put again.
                Ok(None) | Err(_) => others.push((number, digest)),
            }
        }
        for (number, object) in self.inner.fetch_many(&index, others).await? {
            found[number] = object;
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
        RemoteDigests {
            reader: self.clone(),
            index: self.inner.index.load_full(),
            segment: 0,
            present: None,
        }
    }

    /// Does [`iter`](Self::iter) for those who have a runtime.
    pub fn iter_async(&self) -> impl Stream<Item = Result<Digest>> + Send + use<> {
        let (inner, index) = (Arc::clone(&self.inner), self.inner.index.load_full());
        let segments = futures_util::stream::iter(0..index.segments().len());
        let sidecars = segments.then(move |segment| {
            let (inner, index) = (Arc::clone(&inner), Arc::clone(&index));
            async move { inner.sidecar(&index, segment).await }
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
        if self
            .inner
            .at
            .exists(index.newest.manifest.number.saturating_add(1))
            .await?
        {
            self.inner.reload(&index).await
        } else {
            Ok(false)
        }
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

/// The iterator of [`RemoteReader::iter`].
pub struct RemoteDigests {
    reader: RemoteReader,
    index: Arc<Index>,
    /// The segment that comes next.
    segment: usize,
    /// The sidecar that is being read, and the position of the next entry.
    present: Option<(LocalSidecar, usize)>,
}

impl fmt::Debug for RemoteDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteDigests")
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}

impl Iterator for RemoteDigests {
    type Item = Result<Digest>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((sidecar, position)) = &mut self.present
                && let Some(entry) = sidecar.entry(*position)
            {
                *position += 1;
                return Some(Ok(entry.digest));
            }
            if self.segment >= self.index.segments().len() {
                return None;
            }
            let sidecar = self.reader.inner.sidecar(&self.index, self.segment);
            match self.reader.blocking.wait_for(sidecar) {
                Ok(sidecar) => {
                    self.present = Some((sidecar, 0));
                    self.segment += 1;
                }
                Err(error) => {
                    self.present = None;
                    self.segment = usize::MAX;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Inner {
    /// Tells what is known of an object without a request.
    fn known(&self, digest: &Digest) -> Known {
        let index = self.index.load();
        if index.places(digest).next().is_none() {
            return Known::NotListed;
        }
        match self.cached.get(digest) {
            Ok(Some(object)) => Known::Object(object),
            // A damaged object counts as not there, and is put again.
            Ok(None) | Err(_) => Known::Nothing,
        }
    }

    /// Reads an object that is not in the cache. If a file is gone or an index is damaged, loads the index
    /// anew, once.
    async fn find(&self, digest: &Digest) -> Result<Option<Object>> {
        let index = self.index.load_full();
        let found = match places(&index, digest) {
            Ok(places) => self.find_at(&index, digest, places).await,
            Err(DamagedRun) => Err(self.damaged_index()),
        };
        let is_index_damaged = matches!(&found, Err(Error::Io { .. }));
        if !is_missing(&found) && !is_index_damaged || !self.reload(&index).await? {
            return found;
        }
        let index = self.index.load_full();
        let places = places(&index, digest).map_err(|DamagedRun| self.damaged_index())?;
        self.find_at(&index, digest, places).await
    }

    fn damaged_index(&self) -> Error {
        let damaged = std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "a run of the index is damaged on the local disk",
        );
        Error::io(self.folder.path())(damaged)
    }

    /// Reads an object at the first of these places that has it.
    async fn find_at(
        &self,
        index: &Index,
        digest: &Digest,
        places: Vec<Place>,
    ) -> Result<Option<Object>> {
        let mut damage = None;
        for place in places {
            match self.read_place(index, digest, place, None).await {
                Ok(Some(content)) => return Ok(Some(Object::in_memory(*digest, &content))),
                Ok(None) => {}
                // Another copy may be sound.
                Err(error @ Error::Remote(RemoteError::Damaged { .. })) => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        let index = self.index.load_full();
        let found = self.is_listed(&index, digest).await;
        if is_missing(&found) && self.reload(&index).await? {
            return self.is_listed(&self.index.load_full(), digest).await;
        }
        found
    }

    async fn is_listed(&self, index: &Index, digest: &Digest) -> Result<bool> {
        let places = places(index, digest).map_err(|DamagedRun| self.damaged_index())?;
        for place in places {
            if place.len.is_some() {
                return Ok(true);
            }
            let sidecar = self.sidecar(index, place.segment).await?;
            if sidecar.find(digest).next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the sidecar of a segment. Downloads it if it is not local, and keeps it if there is room.
    async fn sidecar(&self, index: &Index, at: usize) -> Result<LocalSidecar> {
        let segment = &index.segments()[at];
        if let Some(sidecar) = segment.sidecar.get() {
            return Ok(Arc::clone(sidecar));
        }
        let loading = self.loading(Progress(&unwatched));
        let guard = self.loading.lock().await;
        if let Some(sidecar) = segment.sidecar.get() {
            return Ok(Arc::clone(sidecar));
        }
        let local = loading.local_sidecar(segment).await?;
        let sidecar = if let Some(local) = local {
            local
        } else {
            let (cache, bytes) = (self.cache.clone(), sidecar_bytes(segment));
            if !blocking(move || cache.make_room_for_more_index(bytes)).await? {
                drop(guard);
                return loading.read_sidecar(segment).await;
            }
            loading.download_sidecar(segment).await?
        };
        Ok(Arc::clone(segment.sidecar.get_or_init(|| sidecar)))
    }

    /// Loads the index of the newest state unless somebody else has done that. Returns whether it is another
    /// one than before.
    async fn reload(&self, seen: &Arc<Index>) -> Result<bool> {
        let _guard = self.loading.lock().await;
        let present = self.index.load_full();
        if !Arc::ptr_eq(&present, seen) {
            return Ok(true);
        }
        let newest = self.at.newest_or_error().await?;
        if is_same(&newest, &present.newest) && present.sound_runs().count() == present.runs_count()
        {
            return Ok(false);
        }
        let loading = self.loading(Progress(&unwatched));
        let index = loading.load(newest, Some(&present)).await?;
        self.index.store(Arc::new(index));
        Ok(true)
    }

    fn loading<'a>(&'a self, progress: Progress<'a, ReaderProgress>) -> Loading<'a> {
        Loading {
            at: &self.at,
            folder: &self.folder,
            cache: &self.cache,
            progress,
        }
    }
}

/// Whether two manifests are the same one.
fn is_same(one: &Stored, other: &Stored) -> bool {
    one.manifest.nonce == other.manifest.nonce
}

fn places(index: &Index, digest: &Digest) -> std::result::Result<Vec<Place>, DamagedRun> {
    index.places(digest).collect()
}
