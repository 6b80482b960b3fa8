//! Pushing: makes a ref list what a store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::commit::{Commit, probe};
use super::format::{FolderFile, Nonce, RefFileKind, RefManifest, RefRun, RefSegment, RefState};
use super::local::Local;
use super::options::{PushOptions, PushProgress, PushReport};
use super::refs::{Ref, Stored};
use super::runtime::blocking;
use super::upload::{Source, upload};
use super::{Progress, Settings};
use crate::digest::Digest;
use crate::error::{Error, RemoteError, Result};
use crate::segment::Sealed;
use crate::segment_set::{ResolvedRun, SegmentSet};
use crate::store::Store;
use crate::threads::in_own_threads;

/// Segments whose files are uploaded at once.
const SEGMENTS_AT_ONCE: usize = 4;
/// How often a push begins anew because a collection condemned its folder.
const TIMES_MAX: u32 = 8;

/// One push of a store to a ref.
pub(super) struct Push<'a> {
    pub(super) at: &'a Ref,
    pub(super) settings: Settings,
    pub(super) options: &'a PushOptions,
    pub(super) progress: Progress<'a, PushProgress>,
}

/// What is pushed.
struct Content {
    set: Arc<SegmentSet>,
    /// The runs of the set index that hold, by the digests of their files.
    runs: BTreeMap<Digest, ResolvedRun>,
    /// The highest segment id that the store has used.
    highest_id: u32,
}

impl Content {
    fn of(store: &Store) -> Result<Self> {
        let (set, highest_id) = store.sealed_set()?;
        let runs = set.runs().iter().filter_map(|resolved| {
            let run = resolved.run();
            // A reader can do without a run, and a push writes nothing that does not hold.
            let holds = !run.is_damaged() && run.all_pages_hold();
            holds.then(|| (Digest::of(run.index().as_bytes()), resolved.clone()))
        });
        Ok(Self {
            runs: runs.collect(),
            set,
            highest_id,
        })
    }

    /// Drops the runs that a manifest does not list and that do not lead to all objects of their
    /// segments. A reader would not find the others.
    fn drop_wrong_runs(mut self, newest: &Stored) -> Result<Self> {
        let listed = newest.state().map(|state| &state.runs);
        let is_listed = |digest: &Digest| listed.is_some_and(|runs| runs.contains_key(digest));
        let is_right = |resolved: &ResolvedRun| {
            in_own_threads(|| resolved.leads_to_all_objects())
                .map_err(Error::io(resolved.run().path()))?
        };
        let mut wrong = Vec::new();
        for (digest, resolved) in &self.runs {
            if !is_listed(digest) && !is_right(resolved)? {
                wrong.push(*digest);
            }
        }
        self.runs.retain(|digest, _| !wrong.contains(digest));
        Ok(self)
    }

    /// The segments that a manifest does not list.
    fn new_since(&self, newest: &Stored) -> Vec<Arc<Sealed>> {
        let listed = listed(newest);
        let new = |sealed: &&Arc<Sealed>| !listed.contains_key(&key(sealed));
        self.set.sealed().iter().filter(new).cloned().collect()
    }

    /// The state to push: segments that a manifest lists stay in their folders, and the others are in
    /// `folder`.
    fn state_after(&self, newest: &Stored, folder: Nonce) -> RefState {
        let listed = listed(newest);
        let segment = |sealed: &Arc<Sealed>| {
            let known = listed.get(&key(sealed)).copied();
            let segment = RefSegment {
                sealed: *sealed.binding(),
                folder: known.unwrap_or(folder),
            };
            (sealed.id(), segment)
        };
        let runs = newest.state().map(|state| &state.runs);
        let run = |(digest, resolved): (&Digest, &ResolvedRun)| {
            let known = runs.and_then(|runs| runs.get(digest)).copied();
            let bytes = resolved.run().file_bytes();
            (*digest, known.unwrap_or(RefRun { bytes, folder }))
        };
        RefState {
            hash_function: self.set.hash_function(),
            segments: self.set.sealed().iter().map(segment).collect(),
            runs: self.runs.iter().map(run).collect(),
        }
    }
}

/// Ends the claim to be the only push of a store.
struct Claim(Store);

impl Claim {
    fn take(store: &Store) -> Result<Self> {
        if store.shared().is_pushing.swap(true, Ordering::AcqRel) {
            return Err(RemoteError::PushRunning.into());
        }
        Ok(Self(store.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.shared().is_pushing.store(false, Ordering::Release);
    }
}

impl Push<'_> {
    pub(super) async fn run(&self, store: &Store) -> Result<PushReport> {
        let claim = Claim::take(store)?;
        let owned = store.clone();
        let mut content = blocking(move || Content::of(&owned)).await?;
        let dir = store.shared().dir.clone();
        let mut local = blocking(move || Local::load(&dir)).await?;
        if self.at.newest().await?.is_none() {
            self.begin_ref(&mut local, &content).await?;
        }
        // Taking over is meant for the state that was seen first, not for what comes meanwhile.
        let mut replaced = None;
        for _ in 0..TIMES_MAX {
            let newest = self.at.newest().await?;
            let newest = newest.ok_or_else(|| self.at.bucket.missing(&self.at.folder()))?;
            let base = newest.clone();
            content = blocking(move || content.drop_wrong_runs(&base)).await?;
            let push = newest.manifest.push;
            let take_over = self.options.take_over && *replaced.get_or_insert(push) == push;
            let pushed = self.push_onto(&newest, take_over, &mut local, &content);
            if let Some(report) = pushed.await? {
                drop(claim);
                return Ok(report);
            }
        }
        Err(RemoteError::CollectedTooOften {
            object: self.at.bucket.display(&self.at.folder()),
            times: TIMES_MAX,
        }
        .into())
    }

    /// Creates the first manifest of the ref, which lists nothing, unless another writer does so first.
    async fn begin_ref(&self, local: &mut Local, content: &Content) -> Result<()> {
        probe(&self.at.bucket, self.settings.retry_pause).await?;
        let push = local.nonce()?;
        let manifest = RefManifest {
            ref_id: push,
            number: 1,
            nonce: push,
            writer: local.writer(),
            epoch: 1,
            push,
            parent: None,
            condemned: BTreeSet::new(),
            state: Some(RefState {
                hash_function: content.set.hash_function(),
                segments: BTreeMap::new(),
                runs: BTreeMap::new(),
            }),
        };
        local.note_doubt(&manifest).await?;
        let committed = self.at.commit(&manifest, self.settings.retry_pause).await;
        committed.map(drop)
    }

    /// Pushes onto the newest manifest. Returns `None` if another manifest made it useless.
    async fn push_onto(
        &self,
        newest: &Stored,
        take_over: bool,
        local: &mut Local,
        content: &Content,
    ) -> Result<Option<PushReport>> {
        let base = &newest.manifest;
        let epoch = local.allow(self.at, base, content.highest_id, take_over)?;
        self.require_same_function(newest, content)?;
        let (folder, is_begun) = local.folder(newest)?;
        local.note_begin(newest, folder, content.highest_id).await?;

        let new = content.new_since(newest);
        let files = files_to_upload(&new, content, newest, folder);
        let uploaded_bytes = self.upload(folder, is_begun, files).await?;

        let push = local.nonce()?;
        let manifest = RefManifest {
            ref_id: base.ref_id,
            number: base.number,
            nonce: push,
            writer: local.writer(),
            epoch,
            push,
            parent: Some(base.push),
            condemned: BTreeSet::new(),
            state: Some(content.state_after(newest, folder)),
        };
        let Some(number) = self.commit(manifest, folder, local).await? else {
            return Ok(None);
        };
        Ok(Some(PushReport {
            number,
            segments: content.set.sealed().len(),
            uploaded_segments: new.len(),
            uploaded_bytes,
        }))
    }

    fn require_same_function(&self, newest: &Stored, content: &Content) -> Result<()> {
        let of_store = content.set.hash_function();
        match newest.state() {
            Some(state) if state.hash_function != of_store => {
                let object = self.at.manifest_object(newest.manifest.number);
                Err(RemoteError::HashFunction {
                    object: self.at.bucket.display(&object),
                    of_ref: state.hash_function,
                    of_store,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// Uploads files into a folder. If a push that was cut off has begun to fill the
    /// folder, leaves out what it has uploaded. Returns how many bytes were uploaded.
    async fn upload(
        &self,
        folder: Nonce,
        is_begun: bool,
        mut files: BTreeMap<FolderFile, Source>,
    ) -> Result<u64> {
        if is_begun {
            let there = self.files_in(folder).await?;
            files.retain(|file, source| there.get(file) != Some(&source.file_bytes()));
        }
        let bytes_total = files.values().map(Source::file_bytes).sum();
        let bytes_done = AtomicU64::new(0);
        let done = |bytes: u64| {
            let bytes_done = bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.progress.report(&PushProgress {
                bytes_done,
                bytes_total,
            })
        };
        done(0)?;
        // Boxed, so that the whole future can be sent to another thread: the compiler cannot tell
        // otherwise.
        let uploads: Vec<BoxFuture<'_, Result<()>>> = files
            .iter()
            .map(|(file, source)| self.upload_file(file, source, done).boxed())
            .collect();
        let uploads = futures_util::stream::iter(uploads).buffer_unordered(SEGMENTS_AT_ONCE);
        uploads.try_collect::<()>().await?;
        Ok(bytes_total)
    }

    async fn upload_file(
        &self,
        file: &FolderFile,
        source: &Source,
        done: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let object = self.at.file_object(file);
        upload(&self.at.bucket, &object, source, done).await
    }

    /// Returns the files in a folder and their lengths.
    async fn files_in(&self, folder: Nonce) -> Result<BTreeMap<FolderFile, u64>> {
        let prefix = format!("{}/{folder}", self.at.files_folder());
        let mut listing = self.at.bucket.list(&prefix);
        let mut files = BTreeMap::new();
        while let Some(listed) = listing.try_next().await? {
            let name = listed.name.rsplit_once('/').map(|(_, name)| name);
            if let Some(file) = name.and_then(|name| FolderFile::parse(&folder.to_string(), name)) {
                files.insert(file, listed.bytes);
            }
        }
        Ok(files)
    }

    /// Creates the manifest with the first number that is free behind that which it has. Returns the
    /// number, or `None` if the push has to begin anew.
    async fn commit(
        &self,
        mut manifest: RefManifest,
        folder: Nonce,
        local: &mut Local,
    ) -> Result<Option<u64>> {
        loop {
            manifest.number += 1;
            local.note_doubt(&manifest).await?;
            let pause = self.settings.retry_pause;
            let taken = match self.at.commit(&manifest, pause).await? {
                Commit::Done => {
                    local.note_pushed(&manifest).await?;
                    return Ok(Some(manifest.number));
                }
                Commit::Taken(taken) => taken.manifest,
            };
            let is_collection = Some(taken.push) == manifest.parent;
            if taken.condemned.contains(&folder) {
                local.forget_folder(manifest.ref_id);
            }
            if !is_collection || taken.condemned.contains(&folder) {
                return Ok(None);
            }
        }
    }
}

/// The files of new segments and of runs that the newest manifest does not list. Two segments with the
/// same records have one name.
fn files_to_upload(
    new: &[Arc<Sealed>],
    content: &Content,
    newest: &Stored,
    folder: Nonce,
) -> BTreeMap<FolderFile, Source> {
    let file = |digest, kind| FolderFile {
        folder,
        digest,
        kind,
    };
    let mut files = BTreeMap::new();
    for sealed in new {
        let digest = sealed.binding().sidecar_checksum;
        let source = Source::Data(Arc::clone(sealed));
        files.insert(file(digest, RefFileKind::Data), source);
        let source = Source::Sidecar(Arc::clone(sealed));
        files.insert(file(digest, RefFileKind::Sidecar), source);
    }
    let listed = newest.state().map(|state| &state.runs);
    for (digest, resolved) in &content.runs {
        if !listed.is_some_and(|runs| runs.contains_key(digest)) {
            let source = Source::Run(Arc::clone(resolved.run()), *digest);
            files.insert(file(*digest, RefFileKind::Run), source);
        }
    }
    files
}

/// What names the files of a segment.
type Key = (Digest, u64, u32);

fn key(sealed: &Sealed) -> Key {
    let binding = sealed.binding();
    (
        binding.sidecar_checksum,
        binding.data_bytes,
        binding.objects,
    )
}

/// The segments that a manifest lists, and the folders of their files.
fn listed(newest: &Stored) -> BTreeMap<Key, Nonce> {
    let segments = newest
        .state()
        .into_iter()
        .flat_map(|state| state.segments.values());
    let listed = segments.map(|RefSegment { sealed, folder }| {
        let key = (sealed.sidecar_checksum, sealed.data_bytes, sealed.objects);
        (key, *folder)
    });
    listed.collect()
}
