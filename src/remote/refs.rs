//! The manifests of one ref.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::bucket::Bucket;
use super::format::{
    FolderFile, NUMBER_MAX, REFS, RefFileKind, RefManifest, RefName, RefRun, RefSegment, RefState,
    SEGMENTS, manifest_name, manifest_number,
};
use crate::digest::Digest;
use crate::error::{Error, RemoteError, Result};
use crate::format::FormatError;

/// Longest manifest that is read, in bytes: that of more than a million segments.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Most names of a listing that are looked at for the newest manifest: as many as S3 gives at once.
const NAMES_MAX: usize = 1000;

/// A ref in a bucket.
#[derive(Clone, Debug)]
pub(super) struct Ref {
    pub(super) bucket: Arc<Bucket>,
    pub(super) name: RefName,
}

/// A manifest as it is in the bucket.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) manifest: RefManifest,
    /// When it was created or emptied, in milliseconds by the bucket's clock.
    pub(super) modified: i64,
}

impl Stored {
    /// The segments that the manifest lists; none if it was emptied.
    pub(super) fn state(&self) -> Option<&RefState> {
        self.manifest.state.as_ref()
    }
}

/// Whether an object of the bucket is damaged.
pub(super) fn is_damaged(error: &Error) -> bool {
    matches!(error, Error::Remote(RemoteError::Damaged { .. }))
}

impl Ref {
    /// Returns the name of the object that is manifest `number`.
    pub(super) fn manifest_object(&self, number: u64) -> String {
        format!("{}/{}", self.folder(), manifest_name(number))
    }

    /// Returns the folder of the manifests.
    pub(super) fn folder(&self) -> String {
        format!("{REFS}/{}", self.name)
    }

    /// Returns the folder of the files.
    pub(super) fn files_folder(&self) -> String {
        format!("{SEGMENTS}/{}", self.name)
    }

    /// Returns the name of the object that is a file of the ref.
    pub(super) fn file_object(&self, file: &FolderFile) -> String {
        format!("{}/{}/{}", self.files_folder(), file.folder, file.name())
    }

    /// Returns the name of the object that is a run.
    pub(super) fn run_object(&self, digest: Digest, run: &RefRun) -> String {
        self.file_object(&FolderFile {
            folder: run.folder,
            digest,
            kind: RefFileKind::Run,
        })
    }

    /// Returns the name of the object that is a file of a segment.
    pub(super) fn segment_object(&self, segment: &RefSegment, kind: RefFileKind) -> String {
        self.file_object(&FolderFile {
            folder: segment.folder,
            digest: segment.sealed.sidecar_checksum,
            kind,
        })
    }

    /// Reads a manifest. `None` if there is none of this number.
    pub(super) async fn read(&self, number: u64) -> Result<Option<Stored>> {
        let object = self.manifest_object(number);
        let Some(read) = self.bucket.read(&object, MANIFEST_BYTES_MAX).await? else {
            return Ok(None);
        };
        let manifest = match RefManifest::parse(&read.bytes) {
            Err(FormatError::Version) => {
                let object = self.bucket.display(&object);
                return Err(RemoteError::UnsupportedVersion { object }.into());
            }
            parsed => parsed.map_err(|error| self.bucket.damaged(&object, &error))?,
        };
        if manifest.number != number {
            let reason = format_args!("it is manifest {}", manifest.number);
            return Err(self.bucket.damaged(&object, &reason));
        }
        Ok(Some(Stored {
            manifest,
            modified: read.modified,
        }))
    }

    /// Reads the newest manifest. `None` if the ref has none, and so does not exist.
    ///
    /// Takes three requests if the listing is in the order of names: it, a look for a newer manifest,
    /// and the manifest. If it is not, or is old, the number is found by further looks whose number is
    /// twice the logarithm of the numbers that are skipped.
    pub(super) async fn newest(&self) -> Result<Option<Stored>> {
        let mut emptied = None;
        loop {
            let Some(number) = self.newest_number().await? else {
                return Ok(None);
            };
            let object = self.manifest_object(number);
            let newest = self.read(number).await?;
            let newest = newest.ok_or_else(|| self.bucket.missing(&object))?;
            if newest.state().is_some() {
                return Ok(Some(newest));
            }
            // A collection has emptied it since its number was found, so there is a newer one by now.
            if emptied >= Some(number) {
                let reason = "it is the newest manifest and was emptied";
                return Err(self.bucket.damaged(&object, &reason));
            }
            emptied = Some(number);
        }
    }

    /// Returns the number of the newest manifest, whether it can be read or not.
    pub(super) async fn newest_number(&self) -> Result<Option<u64>> {
        match self.listed_newest().await? {
            Some(listed) => self.last_from(listed).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the newest manifest up to `number` that is not damaged. `None` if there is none. It may have
    /// been emptied.
    pub(super) async fn newest_readable(&self, number: u64) -> Result<Option<Stored>> {
        for number in (1..=number).rev() {
            match self.read(number).await {
                Err(error) if is_damaged(&error) => {}
                // Numbers have no gaps, so what is below a missing one is not known to be of the ref.
                read => return read,
            }
        }
        Ok(None)
    }

    /// Whether there is a newer manifest. If a file is missing that a manifest lists, this tells a removal
    /// by a collection from a loss.
    pub(super) async fn was_replaced(&self, manifest: &Stored) -> Result<bool> {
        let newest = self.newest_number().await?;
        Ok(newest > Some(manifest.manifest.number))
    }

    /// Replaces the error of a missing file by [`RemoteError::Collected`] if the ref has a newer state than
    /// the one that lists it.
    pub(super) async fn collected_or<T>(&self, seen: &Stored, result: Result<T>) -> Result<T> {
        match result {
            Err(Error::Remote(RemoteError::Missing { object }))
                if self.was_replaced(seen).await? =>
            {
                Err(RemoteError::Collected { object }.into())
            }
            result => result,
        }
    }

    /// Reads the newest manifest, or fails if the ref does not exist.
    pub(super) async fn newest_or_error(&self) -> Result<Stored> {
        let no_ref = || RemoteError::NoRef {
            object: self.bucket.display(&self.folder()),
        };
        self.newest().await?.ok_or_else(|| no_ref().into())
    }

    /// Returns the highest number among the first names of a listing, or among all names if they are not in
    /// order, as those of a folder.
    async fn listed_newest(&self) -> Result<Option<u64>> {
        let folder = self.folder();
        let mut listing = self.bucket.list(&folder);
        let (mut newest, mut names) = (None, 0);
        let (mut last, mut is_in_order) = (String::new(), true);
        while let Some(listed) = listing.try_next().await? {
            if newest.is_some() && is_in_order && names >= NAMES_MAX {
                break;
            }
            names += 1;
            is_in_order &= last < listed.name;
            last.clone_from(&listed.name);
            let name = listed.name.strip_prefix(&folder);
            let name = name.and_then(|name| name.strip_prefix('/'));
            newest = newest.max(name.and_then(manifest_number));
        }
        Ok(newest)
    }

    /// Returns the last number of the manifests that follow `existing` without a gap.
    async fn last_from(&self, existing: u64) -> Result<u64> {
        let (mut low, mut step) = (existing, 1_u64);
        while self.exists(low.saturating_add(step)).await? {
            low = low.saturating_add(step);
            step = step.saturating_mul(2);
        }
        let mut high = low.saturating_add(step);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.exists(middle).await? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Whether there is a manifest of this number.
    pub(super) async fn exists(&self, number: u64) -> Result<bool> {
        let object = self.manifest_object(number);
        Ok(number <= NUMBER_MAX && self.bucket.modified(&object).await?.is_some())
    }
}
