//! What a reader consists of, and how it finds an object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::cache::Cache;
use super::index::{DamagedRun, Index, LocalSidecar, Place};
use super::local::{Loading, LocalIndex, sidecar_bytes, unwatched};
use crate::digest::Digest;
use crate::error::{Error, RemoteError, Result};
use crate::memory::ForkMark;
use crate::object::Object;
use crate::remote::progress::{Progress, TransferProgress};
use crate::remote::refs::{Ref, Stored};
use crate::remote::runtime::blocking;
use crate::segment::sidecar::still_holds;
use crate::store::Store;

/// Objects that are read in parts and are in memory at once, besides those that were given out.
pub(super) const LONG_READS_AT_ONCE: usize = 2;

/// What all handles to a reader share.
pub(super) struct Inner {
    pub(super) at: Ref,
    pub(super) index: ArcSwap<Index>,
    pub(super) folder: LocalIndex,
    /// The cached objects, for reads that take no lock.
    pub(super) cached: Store,
    pub(super) cache: Cache,
    /// Held while files of the index are written.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Whether a segment is being taken over as a whole.
    pub(super) is_taking_over: Arc<AtomicBool>,
    /// Limits how many objects that are read in parts are in memory at once.
    pub(super) long_reads: tokio::sync::Semaphore,
    /// Marks the process that opened the reader.
    pub(super) origin: ForkMark,
}

/// The ref may list the object, and the cache does not have it.
pub(super) struct NotLocal;

impl Drop for Inner {
    fn drop(&mut self) {
        // Work that still goes on in other threads must not keep the folder locked. A forked process does
        // not have these threads, which may hold the lock.
        if !self.origin.is_forked() {
            self.cache.close();
        }
    }
}

impl Inner {
    /// Reads an object if that takes no request. `None` if the ref does not list it.
    pub(super) fn get_local(
        &self,
        digest: &Digest,
    ) -> std::result::Result<Option<Object>, NotLocal> {
        if !self.index.load().may_list(digest) {
            return Ok(None);
        }
        match self.cached.get(digest) {
            Ok(Some(object)) => Ok(Some(object)),
            // A damaged object counts as not there, and is put again.
            Ok(None) | Err(_) => Err(NotLocal),
        }
    }

    /// Reads an object that is not in the cache. If a file is gone or an index is damaged, loads the index
    /// anew, once.
    pub(super) async fn find(&self, digest: &Digest) -> Result<Option<Object>> {
        let index = self.index.load_full();
        let found = self.find_in(&index, digest).await;
        if is_outdated(&found) && self.reload(&index).await? {
            let index = self.index.load_full();
            let found = self.find_in(&index, digest).await;
            return self.at.collected_or(&index.newest, found).await;
        }
        found
    }

    /// Returns all places of an object. Asks the runs behind a damaged one too, so that one reload mends all
    /// runs that the object needs.
    fn places(&self, index: &Index, digest: &Digest) -> Result<Vec<Place>> {
        let places: Vec<_> = index.places(digest).collect();
        let places = places
            .into_iter()
            .collect::<std::result::Result<_, DamagedRun>>();
        places.map_err(|DamagedRun| self.damaged_index())
    }

    fn damaged_index(&self) -> Error {
        let damaged = std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "a file of the index is damaged on the local disk",
        );
        Error::io(self.folder.path())(damaged)
    }

    /// Reads an object at the first place that has it.
    async fn find_in(&self, index: &Index, digest: &Digest) -> Result<Option<Object>> {
        let mut damage = None;
        for place in self.places(index, digest)? {
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

    pub(super) async fn contains(&self, digest: &Digest) -> Result<bool> {
        let index = self.index.load_full();
        let found = self.is_listed(&index, digest).await;
        if is_outdated(&found) && self.reload(&index).await? {
            let index = self.index.load_full();
            let found = self.is_listed(&index, digest).await;
            return self.at.collected_or(&index.newest, found).await;
        }
        found
    }

    async fn is_listed(&self, index: &Index, digest: &Digest) -> Result<bool> {
        for place in self.places(index, digest)? {
            if place.len.is_some() {
                return Ok(true);
            }
            let sidecar = self.sound_sidecar(index, place.segment).await?;
            if sidecar.find(digest).next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the sidecar of a segment, for a walk over all of them.
    pub(super) async fn sidecar_of_walk(&self, index: &Index, at: usize) -> Result<LocalSidecar> {
        let sidecar = match self.sound_sidecar(index, at).await {
            // The next reload mends the local one.
            Err(Error::Io { .. }) => {
                let loading = self.loading(Progress(&unwatched));
                loading.read_sidecar(&index.segments()[at]).await
            }
            sidecar => sidecar,
        };
        self.at.collected_or(&index.newest, sidecar).await
    }

    /// Returns the sidecar of a segment after a look at all of its bytes: it decides that an object is not
    /// where a run leads, which is rare. Fails as for a damaged run if it does not hold any more.
    pub(super) async fn sound_sidecar(&self, index: &Index, at: usize) -> Result<LocalSidecar> {
        let sidecar = self.sidecar(index, at).await?;
        let segment = &index.segments()[at];
        let (checked, sealed) = (Arc::clone(&sidecar), segment.listed.sealed);
        if blocking(move || Ok(still_holds(&checked, &sealed))).await? {
            return Ok(sidecar);
        }
        segment.is_damaged.store(true, Ordering::Relaxed);
        Err(self.damaged_index())
    }

    /// Returns the sidecar of a segment. Downloads it if it is not local, and keeps it if there is room.
    pub(super) async fn sidecar(&self, index: &Index, at: usize) -> Result<LocalSidecar> {
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
            let has_room = blocking(move || cache.make_room_for_more_index(bytes)).await;
            let downloaded = match has_room {
                Ok(true) => loading.download_sidecar(segment).await.map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            };
            match downloaded {
                Ok(Some(sidecar)) => sidecar,
                Err(error @ Error::Remote(_)) => return Err(error),
                // There is no room, or the disk is full or fails. It can be done without.
                Ok(None) | Err(_) => {
                    drop(guard);
                    return loading.read_sidecar(segment).await;
                }
            }
        };
        Ok(Arc::clone(segment.sidecar.get_or_init(|| sidecar)))
    }

    /// Loads the index of the newest state unless somebody else has done that. Returns whether it is another
    /// one than before.
    pub(super) async fn reload(&self, seen: &Arc<Index>) -> Result<bool> {
        let _guard = self.loading.lock().await;
        let present = self.index.load_full();
        if !Arc::ptr_eq(&present, seen) {
            return Ok(true);
        }
        let newest = self.at.newest_or_error().await?;
        if is_same(&newest, &present.newest) && present.is_sound() {
            return Ok(false);
        }
        let loading = self.loading(Progress(&unwatched));
        let loaded = loading.load(newest.clone(), Some(&present)).await;
        let index = self.at.collected_or(&newest, loaded).await?;
        self.index.store(Arc::new(index));
        Ok(true)
    }

    fn loading<'a>(&'a self, progress: Progress<'a, TransferProgress>) -> Loading<'a> {
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

/// Whether the result is an error that another index can mend.
fn is_outdated<T>(result: &Result<T>) -> bool {
    is_missing(result) || matches!(result, Err(Error::Io { .. }))
}

/// Whether the result is the error of a request for an object of the bucket that does not exist.
pub(super) fn is_missing<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Remote(RemoteError::Missing { .. })))
}
