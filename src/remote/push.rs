//! Pushing: makes a ref list what a store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::Settings;
use super::base::Base;
use super::commit::{Commit, probe};
use super::content::Content;
use super::format::{FolderFile, Nonce, RefManifest, RefState};
use super::local::Local;
use super::options::{PushOptions, PushReport};
use super::progress::{Progress, Transfer, TransferProgress};
use super::refs::Ref;
use super::runtime::blocking;
use super::upload::{Source, upload};
use crate::error::{RemoteError, Result};
use crate::recovery::Repair;
use crate::store::Store;

/// Files that are uploaded at once.
const FILES_AT_ONCE: usize = 4;
/// Most attempts of a push. It begins anew if a collection condemned its folder, and when it has begun a
/// ref.
const TIMES_MAX: u32 = 8;

/// One push of a store to a ref.
pub(super) struct Push<'a> {
    pub(super) at: &'a Ref,
    pub(super) settings: Settings,
    pub(super) options: &'a PushOptions,
    pub(super) progress: Progress<'a, TransferProgress>,
}

/// The claim to be the only push of a store. It ends when it is dropped. It keeps the store open, and so the
/// folder locked.
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

/// Fails if a segment of the store was missing when it was opened.
fn require_no_missing_segment(store: &Store) -> Result<()> {
    let missing = store.recovery().repairs.iter();
    let mut missing = missing.filter_map(|repair| match repair {
        Repair::MissingSegment { segment } => Some(*segment),
        _ => None,
    });
    match missing.next() {
        Some(segment) => Err(RemoteError::MissingHere { segment }.into()),
        None => Ok(()),
    }
}

impl Push<'_> {
    pub(super) async fn run(&self, store: &Store) -> Result<PushReport> {
        let claim = Arc::new(Claim::take(store)?);
        if !self.options.take_over {
            require_no_missing_segment(store)?;
        }
        let owned = store.clone();
        let mut content = blocking(move || Content::of(&owned)).await?;
        let dir = store.shared().dir.clone();
        let held = Arc::clone(&claim);
        let mut local = blocking(move || Local::load(&dir, held)).await?;
        let mut seen = None;
        for _ in 0..TIMES_MAX {
            let Some(base) = Base::read(self.at, self.options.take_over, &mut seen).await? else {
                self.begin_ref(&mut local, &content).await?;
                continue;
            };
            let base = Arc::new(base);
            let of_runs = Arc::clone(&base);
            content = blocking(move || content.drop_wrong_runs(&of_runs)).await?;
            let pushed = self.push_onto(&base, &mut local, &content);
            if let Some(report) = pushed.await? {
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
        base: &Base,
        local: &mut Local,
        content: &Content,
    ) -> Result<Option<PushReport>> {
        let epoch = local.allow(self.at, base, content)?;
        self.require_same_function(base, content)?;
        if base.manifest.writer != local.writer() {
            // The ref may have been copied into a bucket of another kind.
            probe(&self.at.bucket, self.settings.retry_pause).await?;
        }
        let (folder, is_begun) = local.folder(&base.manifest)?;
        local
            .note_begin(&base.manifest, folder, content.highest_id)
            .await?;

        let plan = content.plan(base, folder);
        let uploaded_bytes = self.upload(folder, is_begun, plan.files).await?;

        let push = local.nonce()?;
        let manifest = RefManifest {
            ref_id: base.manifest.ref_id,
            number: base.manifest.number,
            nonce: push,
            writer: local.writer(),
            epoch,
            push,
            parent: Some(base.manifest.push),
            condemned: BTreeSet::new(),
            state: Some(plan.state),
        };
        let Some(number) = self.commit(manifest, folder, local).await? else {
            return Ok(None);
        };
        Ok(Some(PushReport {
            number,
            segments: content.set.sealed().len(),
            uploaded_segments: plan.new_segments,
            uploaded_bytes,
        }))
    }

    fn require_same_function(&self, base: &Base, content: &Content) -> Result<()> {
        let of_store = content.set.hash_function();
        match base.hash_function() {
            Some(of_ref) if of_ref != of_store => {
                let object = self.at.manifest_object(base.manifest.number);
                Err(RemoteError::HashFunction {
                    object: self.at.bucket.display(&object),
                    of_ref,
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
        let transfer = Transfer::begin(&self.progress, bytes_total)?;
        let done = |bytes| transfer.done(bytes);
        // Boxed, so that the whole future can be sent to another thread: the compiler cannot tell
        // otherwise.
        let uploads: Vec<BoxFuture<'_, Result<()>>> = files
            .iter()
            .map(|(file, source)| self.upload_file(file, source, done).boxed())
            .collect();
        let uploads = futures_util::stream::iter(uploads).buffer_unordered(FILES_AT_ONCE);
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
                    // The push is committed. Its line `doubt` lets the next one find that out.
                    let _ = local.note_pushed(&manifest).await;
                    return Ok(Some(manifest.number));
                }
                Commit::Taken(taken) => taken.manifest,
            };
            if taken.condemned.contains(&folder) {
                local.forget_folder(manifest.ref_id);
                return Ok(None);
            }
            let is_collection = Some(taken.push) == manifest.parent;
            if !is_collection {
                return Ok(None);
            }
        }
    }
}
