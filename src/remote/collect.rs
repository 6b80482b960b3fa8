//! Collecting: removes the files that no manifest needs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::Remote;
use super::commit::Commit;
use super::format::{CLOCKS, FolderFile, Nonce, PROBES, REFS, RefFileKind, RefManifest};
use super::options::{GcOptions, GcReport};
use super::progress::{GcProgress, Progress};
use super::refs::{Ref, Stored, is_damaged};
use crate::error::{Error, RemoteError, Result};

/// Most attempts of a collection. It begins anew if another manifest of the ref came first.
const TIMES_MAX: u32 = 8;

/// For how long markers and probes are kept, in milliseconds.
const MARKERS_KEPT: i64 = 24 * 60 * 60 * 1000;

/// One collection of all refs.
pub(super) struct Collection<'a> {
    pub(super) remote: &'a Remote,
    pub(super) options: GcOptions,
    pub(super) progress: Progress<'a, GcProgress>,
}

/// A file of a ref, as it is listed.
#[derive(Clone, Copy, Debug)]
struct Listed {
    bytes: u64,
    modified: i64,
}

type Files = BTreeMap<FolderFile, Listed>;

impl Collection<'_> {
    pub(super) async fn run(&self) -> Result<GcReport> {
        let bucket = &self.remote.bucket;
        // Everything that is read later is at least as new.
        let now = self.now().await?;
        let grace = i64::try_from(self.options.grace.as_millis()).unwrap_or(i64::MAX);
        let before = now.saturating_sub(grace);
        let mut report = GcReport::default();
        let mut failed = None;
        for name in bucket.folders(REFS).await? {
            // Folders of other names are not ours.
            let Ok(at) = self.remote.at(&name) else {
                continue;
            };
            match self.collect(&at, before, &mut report).await {
                // Refs share nothing, so this one is no obstacle to collecting the others.
                Err(error) if is_of_one_ref(&error) => failed = failed.or(Some(error)),
                collected => collected?,
            }
        }
        if !self.options.dry_run {
            for folder in [CLOCKS, PROBES] {
                // Others are in use for a moment, whatever the grace period is.
                self.remove_markers(folder, before.min(now - MARKERS_KEPT))
                    .await?;
            }
        }
        failed.map_or(Ok(report), Err)
    }

    /// Returns the time by the bucket's clock, in milliseconds.
    async fn now(&self) -> Result<i64> {
        let bucket = &self.remote.bucket;
        let nonce = Nonce::random().map_err(Error::io(bucket.url().as_ref()))?;
        let marker = format!("{CLOCKS}/{nonce}");
        bucket.put(&marker, Bytes::new().into()).await?;
        let modified = bucket.modified(&marker).await?;
        // A marker that stays is removed by a later collection.
        let _ = bucket.remove(&marker).await;
        modified.ok_or_else(|| bucket.missing(&marker))
    }

    /// Collects the files of a ref that were unneeded at the time `before`.
    async fn collect(&self, at: &Ref, before: i64, report: &mut GcReport) -> Result<()> {
        for _ in 0..TIMES_MAX {
            // The files first: a manifest that is read later lists all of them that are needed.
            let files = self.files(at).await?;
            let Some(newest) = at.newest().await? else {
                return Ok(());
            };
            let older = self.older(at, &newest, before).await?;
            let dead = if older.is_unknown {
                Files::new()
            } else {
                dead(&files, &older.needed, before)
            };
            let folders = folders_of(&dead);
            if !self.options.dry_run {
                if !folders.is_empty() && !self.condemn(at, &newest, folders).await? {
                    continue;
                }
                self.empty(at, &older.superseded).await?;
                let objects = objects_of(at, &dead);
                self.remote.bucket.remove_all(objects).await?;
            }
            report.refs += 1;
            report.files += dead.len() as u64;
            report.bytes += dead.values().map(|listed| listed.bytes).sum::<u64>();
            report.manifests += older.superseded.len() as u64;
            return Ok(());
        }
        Err(RemoteError::Busy {
            object: self.remote.bucket.display(&at.folder()),
            times: TIMES_MAX,
        }
        .into())
    }

    async fn files(&self, at: &Ref) -> Result<Files> {
        let mut listing = self.remote.bucket.list(&at.files_folder());
        let mut files = Files::new();
        while let Some(listed) = listing.try_next().await? {
            let mut parts = listed.name.rsplitn(3, '/');
            let file = parts.next().zip(parts.next());
            let file = file.and_then(|(name, folder)| FolderFile::parse(folder, name));
            if let Some(file) = file.filter(|file| at.file_object(file) == listed.name) {
                let (bytes, modified) = (listed.bytes, listed.modified);
                files.insert(file, Listed { bytes, modified });
            }
            self.progress.report(&GcProgress {
                files: files.len() as u64,
            })?;
        }
        Ok(files)
    }

    /// Reads the manifests before the newest down to one that was emptied, or to one that is missing: those
    /// below it were superseded before its successor was created.
    async fn older(&self, at: &Ref, newest: &Stored, before: i64) -> Result<Older> {
        let mut older = Older {
            needed: files_of(newest).collect(),
            ..Older::default()
        };
        // When the manifest that is read next was superseded.
        let mut superseded = newest.modified;
        for number in (1..newest.manifest.number).rev() {
            let is_needed = superseded >= before;
            let read = match at.read(number).await {
                Err(error) if is_damaged(&error) => {
                    older.is_unknown |= is_needed;
                    let object = at.manifest_object(number);
                    let modified = self.remote.bucket.modified(&object).await?;
                    superseded = modified.ok_or_else(|| self.remote.bucket.missing(&object))?;
                    continue;
                }
                read => read?,
            };
            let Some(read) = read else {
                older.is_unknown |= is_needed;
                break;
            };
            if read.manifest.ref_id != newest.manifest.ref_id {
                let object = at.manifest_object(number);
                return Err(self.remote.bucket.damaged(&object, &"it is of another ref"));
            }
            if read.state().is_none() {
                break;
            }
            superseded = read.modified;
            if is_needed {
                older.needed.extend(files_of(&read));
            } else {
                // The state can be long, and is not needed any more.
                older.superseded.push(RefManifest {
                    state: None,
                    ..read.manifest
                });
            }
        }
        // If this is cut off, the next collection finds those that are left above those that are emptied.
        older.superseded.reverse();
        Ok(older)
    }

    /// Creates the next manifest, which condemns folders. Returns false if another manifest came first.
    async fn condemn(&self, at: &Ref, newest: &Stored, folders: BTreeSet<Nonce>) -> Result<bool> {
        let nonce = Nonce::random().map_err(Error::io(self.remote.bucket.url().as_ref()))?;
        let base = &newest.manifest;
        let manifest = RefManifest {
            number: base.number + 1,
            nonce,
            // In manifest 1 there is none, and the first collection follows its push as all do.
            parent: base.parent.or(Some(base.push)),
            condemned: folders,
            ..base.clone()
        };
        let pause = self.remote.settings.retry_pause;
        let commit = at.commit(&manifest, pause).await?;
        Ok(matches!(commit, Commit::Done))
    }

    /// Empties manifests, in their order.
    async fn empty(&self, at: &Ref, manifests: &[RefManifest]) -> Result<()> {
        for emptied in manifests {
            let object = at.manifest_object(emptied.number);
            let text = Bytes::from(emptied.encode());
            self.remote.bucket.put(&object, text.into()).await?;
        }
        Ok(())
    }

    /// Removes the markers and probes that collections and pushes have left behind.
    async fn remove_markers(&self, folder: &str, before: i64) -> Result<()> {
        let mut listing = self.remote.bucket.list(folder);
        let mut objects = Vec::new();
        while let Some(listed) = listing.try_next().await? {
            let name = listed.name.strip_prefix(folder);
            let name = name.and_then(|name| name.strip_prefix('/'));
            let is_ours = name.is_some_and(|name| name.parse::<Nonce>().is_ok());
            if is_ours && listed.modified < before {
                objects.push(listed.name);
            }
        }
        self.remote.bucket.remove_all(objects).await
    }
}

/// The manifests that were not emptied, as far as a collection needs them.
#[derive(Default)]
struct Older {
    /// The files of the newest manifest, and of those that were superseded within the grace period.
    needed: BTreeSet<FolderFile>,
    /// Whether a manifest that was superseded within the grace period is damaged or missing, so that it is
    /// unknown which files it needs.
    is_unknown: bool,
    /// The other manifests as they are when they are emptied, the oldest first.
    superseded: Vec<RefManifest>,
}

/// Whether an error says something about one ref, and nothing about the bucket or the caller.
fn is_of_one_ref(error: &Error) -> bool {
    matches!(
        error,
        Error::Remote(
            RemoteError::Damaged { .. }
                | RemoteError::Missing { .. }
                | RemoteError::UnsupportedVersion { .. }
                | RemoteError::Unknown { .. }
                | RemoteError::Busy { .. }
        )
    )
}

fn folders_of(files: &Files) -> BTreeSet<Nonce> {
    files.keys().map(|file| file.folder).collect()
}

fn objects_of(at: &Ref, files: &Files) -> Vec<String> {
    files.keys().map(|file| at.file_object(file)).collect()
}

/// The files that a manifest lists.
fn files_of(stored: &Stored) -> impl Iterator<Item = FolderFile> {
    stored.state().into_iter().flat_map(|state| {
        let segments = state.segments.values().flat_map(|segment| {
            [RefFileKind::Data, RefFileKind::Sidecar].map(|kind| FolderFile {
                folder: segment.folder,
                digest: segment.sealed.sidecar_checksum,
                kind,
            })
        });
        let runs = state.runs.iter().map(|(&digest, run)| FolderFile {
            folder: run.folder,
            digest,
            kind: RefFileKind::Run,
        });
        segments.chain(runs)
    })
}

/// The files that are not needed, in folders in which no file is younger than `before`: a push that is
/// under way uploads one after the other.
fn dead(files: &Files, needed: &BTreeSet<FolderFile>, before: i64) -> Files {
    let mut youngest: BTreeMap<Nonce, i64> = BTreeMap::new();
    for (file, listed) in files {
        let youngest = youngest.entry(file.folder).or_insert(i64::MIN);
        *youngest = listed.modified.max(*youngest);
    }
    let is_old = |file: &FolderFile| youngest.get(&file.folder).is_some_and(|at| *at < before);
    let dead = files
        .iter()
        .filter(|(file, _)| !needed.contains(file) && is_old(file));
    dead.map(|(file, listed)| (*file, *listed)).collect()
}
