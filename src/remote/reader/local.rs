//! The files of the index in the folder of the cache: runs and sidecars, and how they get there.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::super::download::{CHANGED, copy, copy_checked};
use super::super::format::{RefFileKind, RefRun, RefState};
use super::super::progress::{Progress, Transfer, TransferProgress};
use super::super::refs::{Ref, Stored};
use super::super::runtime::blocking;
use super::cache::Cache;
use super::index::{Index, IndexedSegment, LocalSidecar};
use crate::digest::Digest;
use crate::dir::{Dir, FileKind, FilePath, regular_file_bytes};
use crate::error::{Error, Result};
use crate::format::Sidecar;
use crate::options::{Options, ReadMode};
use crate::run::Run;
use crate::segment::file_bytes::FileBytes;
use crate::segment::sidecar::{check, open_sidecar};

/// Files that are downloaded at once.
const FILES_AT_ONCE: usize = 4;

/// The folder of the index. Its files have the names that a store would give them, and the number of a
/// run is the first 4 bytes of its digest.
#[derive(Clone)]
pub(super) struct LocalIndex {
    dir: Dir,
}

/// Loads the index of the newest state.
pub(super) struct Loading<'a> {
    pub(super) at: &'a Ref,
    pub(super) folder: &'a LocalIndex,
    pub(super) cache: &'a Cache,
    pub(super) progress: Progress<'a, TransferProgress>,
}

impl LocalIndex {
    /// Opens the folder `root`, or makes it.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let dir = Options::new().create_dir(root)?;
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Opens a run. `None` if it is not there or is not one of this length.
    fn open_run(&self, digest: &Digest, listed: &RefRun) -> Result<Option<Run>> {
        match Run::open(&self.dir, run_number(digest), ReadMode::Mmap.into()) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => Ok(opened?.filter(|run| run.file_bytes() == listed.bytes)),
        }
    }

    /// Opens a sidecar and checks all of it. `None` if it is not there or does not hold.
    fn open_sidecar(&self, segment: &IndexedSegment) -> Result<Option<LocalSidecar>> {
        match open_sidecar(&self.dir, segment.id, ReadMode::Mmap.into()) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => {
                let checked = check(opened?, &segment.listed.sealed);
                Ok(checked.ok().map(Arc::new))
            }
        }
    }

    /// Bytes of all files in the folder.
    fn files_bytes(&self) -> Result<u64> {
        let listing = self.dir.list()?;
        let runs = listing.set_indexes.iter();
        let runs = runs.map(|&number| self.dir.set_index_path(number));
        let sidecars = listing.sidecars.iter();
        let sidecars = sidecars.map(|&id| self.dir.segment_path(id, FileKind::Sidecar));
        let temporaries = listing.temporaries.into_iter().map(|file| file.path);
        let paths = runs.chain(sidecars).chain(temporaries);
        let bytes = paths.map(|path| match regular_file_bytes(&path) {
            Err(error) if error.is_not_found() => Ok(0),
            bytes => bytes,
        });
        bytes.sum()
    }

    /// Removes the files that an index does not use, but for the sidecars of its segments.
    fn remove_unused(&self, index: &Index) -> Result<()> {
        let runs = index.sound_runs().map(|(digest, _)| run_number(&digest));
        let segments = index.segments_by_id().into_keys();
        self.remove_all_but(&runs.collect(), &segments.collect())
    }

    /// Removes all files but the runs of these numbers and the sidecars of these segments.
    fn remove_all_but(&self, runs: &BTreeSet<u32>, segments: &BTreeSet<u32>) -> Result<()> {
        let listing = self.dir.list()?;
        for number in listing.set_indexes.difference(runs) {
            self.dir
                .remove_if_present(&self.dir.set_index_path(*number))?;
        }
        for id in listing.sidecars.difference(segments) {
            self.dir.remove_segment_file(*id, FileKind::Sidecar)?;
        }
        for temporary in listing.temporaries {
            self.dir.remove_if_present(&temporary.path)?;
        }
        Ok(())
    }
}

/// The number in the name of a local run. If two runs have the same, the later one takes the place of
/// the other, and of that one's segments the sidecars are downloaded.
fn run_number(digest: &Digest) -> u32 {
    let first = digest.as_bytes().first_chunk();
    first.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl Loading<'_> {
    /// Loads the index of a state. Takes from an older index what is still of use.
    pub(super) async fn load(&self, newest: Stored, old: Option<&Index>) -> Result<Index> {
        let state = newest.state().cloned().unwrap_or_default();
        if old.is_none() {
            self.remove_what_nobody_uses(&state).await?;
        }
        let transfer = Transfer::begin(&self.progress, 0)?;
        let runs = self.runs(&state, old, &transfer).await?;
        let index = Index::new(newest, runs, segments_of(&state, old));
        self.sidecars(&index, &transfer).await?;
        let folder = self.folder.clone();
        let (index, bytes) = blocking(move || {
            folder.remove_unused(&index)?;
            Ok((index, folder.files_bytes()?))
        })
        .await?;
        self.cache.make_room_for_index(bytes)?;
        Ok(index)
    }

    /// Removes what earlier processes have left and the state does not need: temporaries, and files of
    /// another state or another ref.
    async fn remove_what_nobody_uses(&self, state: &RefState) -> Result<()> {
        let (folder, state) = (self.folder.clone(), state.clone());
        blocking(move || {
            let runs = state.runs.keys().map(run_number).collect();
            let segments = state.segments.keys().copied().collect();
            folder.remove_all_but(&runs, &segments)
        })
        .await
    }

    /// Makes room for files that are about to be downloaded.
    async fn make_room(&self, bytes: u64) -> Result<()> {
        let folder = self.folder.clone();
        let there = blocking(move || folder.files_bytes()).await?;
        self.cache.make_room_for_index(there.saturating_add(bytes))
    }

    /// Returns the runs that a state lists, and downloads those that are not local.
    async fn runs(
        &self,
        state: &RefState,
        old: Option<&Index>,
        transfer: &Transfer<'_>,
    ) -> Result<Vec<(Digest, Arc<Run>)>> {
        let known: Vec<(Digest, Arc<Run>)> = old
            .into_iter()
            .flat_map(Index::sound_runs)
            .filter(|(digest, _)| state.runs.contains_key(digest))
            .map(|(digest, run)| (digest, Arc::clone(run)))
            .collect();
        let is_known = |wanted: &Digest| known.iter().any(|(digest, _)| digest == wanted);
        let others = state.runs.iter().filter(|(digest, _)| !is_known(digest));
        let others: Vec<(Digest, RefRun)> = others.map(|(digest, run)| (*digest, *run)).collect();

        // A run that was found damaged has to be downloaded even if its file is there.
        let is_first = old.is_none();
        let folder = self.folder.clone();
        let opened = blocking(move || {
            let open = |(digest, listed): (Digest, RefRun)| {
                let local = is_first.then(|| folder.open_run(&digest, &listed));
                Ok((digest, listed, local.transpose()?.flatten()))
            };
            others.into_iter().map(open).collect::<Result<Vec<_>>>()
        });
        let opened = opened.await?;
        let missing = opened.iter().filter(|(.., local)| local.is_none());
        let missing_bytes = missing.map(|(_, listed, _)| listed.bytes).sum();
        transfer.expect(missing_bytes);
        if missing_bytes > 0 {
            self.make_room(missing_bytes).await?;
        }
        let runs = opened
            .into_iter()
            .map(|(digest, listed, local)| async move {
                let run = match local {
                    Some(run) => run,
                    None => self.download_run(digest, listed, transfer).await?,
                };
                Ok::<_, Error>((digest, Arc::new(run)))
            });
        let runs = futures_util::stream::iter(runs).buffered(FILES_AT_ONCE);
        let mut runs: Vec<_> = runs.try_collect().await?;
        runs.extend(known);
        // A run that covers more comes first, as in a store.
        runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.index().header().objects));
        Ok(runs)
    }

    async fn download_run(
        &self,
        digest: Digest,
        listed: RefRun,
        transfer: &Transfer<'_>,
    ) -> Result<Run> {
        let object = self.at.run_object(digest, &listed);
        let dir = self.folder.dir.clone();
        let number = run_number(&digest);
        let file = blocking(move || dir.create_set_index_temporary(number)).await?;
        let expected = (digest, listed.bytes);
        let copied = copy_checked(&self.at.bucket, &object, expected, |piece, offset| {
            file.write_all_at(piece, offset)?;
            transfer.done(piece.len() as u64)
        });
        let copied = copied.await;
        let folder = self.folder.clone();
        let opened = blocking(move || {
            folder.publish(file.path(), copied)?;
            folder.open_run(&digest, &listed)
        });
        let run = opened.await?;
        run.ok_or_else(|| self.at.bucket.damaged(&object, &"it is no run"))
    }

    /// Makes the sidecars local of the segments that no run covers.
    async fn sidecars(&self, index: &Index, transfer: &Transfer<'_>) -> Result<()> {
        let wanted = index
            .uncovered()
            .filter(|segment| segment.sidecar.get().is_none());
        let wanted: Vec<Arc<IndexedSegment>> = wanted.cloned().collect();
        let folder = self.folder.clone();
        let missing = blocking(move || {
            let mut missing = Vec::new();
            for segment in wanted {
                match folder.open_sidecar(&segment)? {
                    Some(sidecar) => drop(segment.sidecar.set(sidecar)),
                    None => missing.push(segment),
                }
            }
            Ok(missing)
        });
        let missing = missing.await?;
        let bytes: u64 = missing.iter().map(|segment| sidecar_bytes(segment)).sum();
        transfer.expect(bytes);
        if bytes > 0 {
            self.make_room(bytes).await?;
        }
        let downloads = missing.into_iter().map(|segment| async move {
            let sidecar = self.download_sidecar(&segment).await?;
            transfer.done(sidecar_bytes(&segment))?;
            drop(segment.sidecar.set(sidecar));
            Ok::<_, Error>(())
        });
        let downloads = futures_util::stream::iter(downloads).buffer_unordered(FILES_AT_ONCE);
        downloads.try_collect().await
    }

    /// Downloads a sidecar into the folder. There has to be room for it.
    pub(super) async fn download_sidecar(
        &self,
        segment: &Arc<IndexedSegment>,
    ) -> Result<LocalSidecar> {
        let (bucket, object) = (&self.at.bucket, self.sidecar_object(segment));
        let (dir, id) = (self.folder.dir.clone(), segment.id);
        let create = move || dir.create_segment_temporary(id, FileKind::Sidecar);
        let file = blocking(create).await?;
        let bytes = sidecar_bytes(segment);
        let write = |piece: &Bytes, offset| file.write_all_at(piece, offset);
        let copied = copy(bucket, &object, bytes, write).await;
        let (folder, of) = (self.folder.clone(), Arc::clone(segment));
        let opened = blocking(move || {
            folder.publish(file.path(), copied)?;
            let opened = folder.open_sidecar(&of)?;
            if opened.is_none() {
                folder.dir.remove_segment_file(of.id, FileKind::Sidecar)?;
            }
            Ok(opened)
        });
        let opened = opened.await?;
        opened.ok_or_else(|| bucket.damaged(&object, &CHANGED))
    }

    /// Reads a sidecar into memory.
    pub(super) async fn read_sidecar(&self, segment: &Arc<IndexedSegment>) -> Result<LocalSidecar> {
        let (bucket, object) = (&self.at.bucket, self.sidecar_object(segment));
        let read = bucket.read(&object, sidecar_bytes(segment)).await?;
        let read = read.ok_or_else(|| bucket.missing(&object))?;
        let sealed = segment.listed.sealed;
        let checked = blocking(move || Ok(check(FileBytes::Heap(read.bytes.to_vec()), &sealed)));
        let sidecar = checked
            .await?
            .map_err(|error| bucket.damaged(&object, &error))?;
        Ok(Arc::new(sidecar))
    }

    /// Opens a sidecar that is local.
    pub(super) async fn local_sidecar(
        &self,
        segment: &Arc<IndexedSegment>,
    ) -> Result<Option<LocalSidecar>> {
        let (folder, segment) = (self.folder.clone(), Arc::clone(segment));
        blocking(move || folder.open_sidecar(&segment)).await
    }

    fn sidecar_object(&self, segment: &IndexedSegment) -> String {
        self.at
            .segment_object(&segment.listed, RefFileKind::Sidecar)
    }
}

impl LocalIndex {
    /// Gives a temporary its name if it was written as a whole, and removes it otherwise. Nothing is
    /// synced: what a crash damages is noticed and downloaded again.
    fn publish(&self, temporary: &FilePath, written: Result<()>) -> Result<()> {
        if let Err(error) = written {
            // The next opening removes it if this fails.
            let _ = self.dir.remove_if_present(temporary);
            return Err(error);
        }
        self.dir.rename_set_index(temporary)
    }
}

/// Length of a sidecar in bytes.
pub(super) fn sidecar_bytes(segment: &IndexedSegment) -> u64 {
    Sidecar::<&[u8]>::encoded_bytes(segment.listed.sealed.objects)
}

/// The segments of a state. Those of an older index are taken over with what is known of them, unless their
/// sidecars are damaged.
fn segments_of(state: &RefState, old: Option<&Index>) -> Vec<Arc<IndexedSegment>> {
    let known = old.map(Index::segments_by_id).unwrap_or_default();
    let segments = state.segments.iter().map(|(&id, listed)| {
        let is_same = |known: &&&Arc<IndexedSegment>| {
            known.listed == *listed && !known.is_damaged.load(Ordering::Relaxed)
        };
        let same = known.get(&id).filter(is_same);
        same.map_or_else(
            || Arc::new(IndexedSegment::new(id, *listed)),
            |&known| Arc::clone(known),
        )
    });
    segments.collect()
}

/// Goes on, for work whose progress nobody watches.
pub(super) fn unwatched(_: &TransferProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
