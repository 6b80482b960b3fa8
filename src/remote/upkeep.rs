//! The functions for a whole bucket, and for checking a ref.

use std::ops::ControlFlow;

use super::check::Check;
use super::collect::Collection;
use super::options::{GcOptions, GcReport, RefInfo, RefReport};
use super::progress::{GcProgress, Progress, TransferProgress};
use super::{Remote, format};
use crate::error::Result;

impl Remote {
    /// Removes the files that no ref needs: those of states that were replaced longer ago than the grace
    /// period, and those that pushes have left behind. It may run beside pushes, pulls and other
    /// collections. [`format`](mod@super::format#collection) says why it removes nothing that is needed.
    ///
    /// Lists all files once, reads the manifests that are not emptied yet, and creates one manifest for
    /// each ref of which it removes files. Takes about 200 bytes of memory for each file of a ref.
    ///
    /// `progress` is called for each file that is listed; returning [`ControlFlow::Break`] ends the
    /// collection.
    ///
    /// # Errors
    ///
    /// Fails with these variants of [`RemoteError`](crate::RemoteError): `Damaged`, `Missing` or
    /// `UnsupportedVersion` if a manifest cannot be read, `Busy` if pushes come first again and again,
    /// `Unknown`, `Bucket`, `Cancelled` and `InsideRuntime`. A part may have been removed then. After
    /// an error about one ref the collection goes on with the others, and fails with the first such error.
    pub fn gc(
        &self,
        options: &GcOptions,
        progress: impl Fn(&GcProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<GcReport> {
        self.blocking.wait_for(self.gc_async(options, progress))
    }

    /// Does [`gc`](Self::gc) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`gc`](Self::gc), but for `InsideRuntime`.
    pub async fn gc_async(
        &self,
        options: &GcOptions,
        progress: impl Fn(&GcProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<GcReport> {
        let collection = Collection {
            remote: self,
            options: *options,
            progress: Progress(&progress),
        };
        collection.run().await
    }

    /// Returns the refs of the bucket, sorted by name. Makes three requests for each, and one.
    ///
    /// A ref whose newest manifest cannot be read is returned too: [`RefInfo::problem`] says why, and the
    /// figures are 0.
    ///
    /// # Errors
    ///
    /// Fails with [`RemoteError::Bucket`](crate::RemoteError::Bucket) or `InsideRuntime`.
    pub fn list(&self) -> Result<Vec<RefInfo>> {
        self.blocking.wait_for(self.list_async())
    }

    /// Does [`list`](Self::list) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`list`](Self::list), but for `InsideRuntime`.
    pub async fn list_async(&self) -> Result<Vec<RefInfo>> {
        let mut refs = Vec::new();
        for name in self.bucket.folders(format::REFS).await? {
            // Folders of other names are not ours.
            if let Ok(at) = self.at(&name) {
                refs.extend(at.info().await?);
            }
        }
        Ok(refs)
    }

    /// Downloads and checks all that the ref `name` lists, and keeps nothing. Takes as much memory as
    /// [`pull`](Self::pull), and the sidecars of the segments that are checked at once.
    ///
    /// `progress` is called for each part of a file; returning [`ControlFlow::Break`] ends the check.
    ///
    /// # Errors
    ///
    /// Fails with these variants of [`RemoteError`](crate::RemoteError): `NoRef`, `BadRefName`, `Damaged`
    /// or `UnsupportedVersion` if the manifest is, `Collected` if a newer state has replaced the one that is
    /// checked for so long that its files are gone, `Bucket`, `Cancelled` and `InsideRuntime`. Other damage
    /// is no error; the report lists it.
    pub fn verify(
        &self,
        name: &str,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<RefReport> {
        self.blocking.wait_for(self.verify_async(name, progress))
    }

    /// Does [`verify`](Self::verify) without waiting.
    ///
    /// # Errors
    ///
    /// Fails like [`verify`](Self::verify), but for `InsideRuntime`.
    pub async fn verify_async(
        &self,
        name: &str,
        progress: impl Fn(&TransferProgress) -> ControlFlow<()> + Send + Sync,
    ) -> Result<RefReport> {
        let check = Check {
            at: &self.at(name)?,
            progress: Progress(&progress),
        };
        check.run().await
    }
}
