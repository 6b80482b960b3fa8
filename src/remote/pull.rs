//! Pulling: makes a store of what a ref lists.

mod target;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use self::target::Target;
use super::download::{Download, Sink};
use super::format::RefSegment;
use super::local::Local;
use super::options::PullReport;
use super::progress::{Progress, Transfer, TransferProgress};
use super::refs::{Ref, Stored};
use super::runtime::blocking;
use crate::digest::HashFunction;
use crate::dir::WritableFile;
use crate::error::Result;

/// Segments whose files are downloaded at once.
const SEGMENTS_AT_ONCE: usize = 4;

/// One pull of a ref.
pub(super) struct Pull<'a> {
    pub(super) at: &'a Ref,
    pub(super) progress: Progress<'a, TransferProgress>,
}

impl Pull<'_> {
    pub(super) async fn run(&self, root: &Path) -> Result<PullReport> {
        let newest = self.at.newest_or_error().await?;
        let pulled = self.pull(&newest, root).await;
        self.at.collected_or(&newest, pulled).await
    }

    /// Makes the store in `root` that of a manifest.
    async fn pull(&self, newest: &Stored, root: &Path) -> Result<PullReport> {
        let state = newest.state().cloned().unwrap_or_default();
        let function = state.hash_function;
        let (root, wanted) = (root.to_owned(), state.clone());
        let target = blocking(move || Target::prepare(&root, &wanted)).await?;
        let missing: Vec<(u32, RefSegment)> = target.missing().collect();

        let bytes_total = missing
            .iter()
            .map(|(_, segment)| segment.sealed.data_bytes)
            .sum();
        let transfer = Transfer::begin(&self.progress, bytes_total)?;
        let done = |bytes| transfer.done(bytes);
        // Boxed, so that the whole future can be sent to another thread: the compiler cannot tell
        // otherwise.
        let downloads: Vec<BoxFuture<'_, Result<()>>> = missing
            .iter()
            .map(|(id, segment)| self.fetch(&target, (*id, segment, function), done).boxed())
            .collect();
        let downloads = futures_util::stream::iter(downloads).buffer_unordered(SEGMENTS_AT_ONCE);
        downloads.try_collect::<()>().await?;

        // While the folder is locked and the store cannot be opened: a push of it reads this.
        let (dir, held) = (target.dir().clone(), target.clone());
        let mut local = blocking(move || Local::load(&dir, Arc::new(held))).await?;
        local
            .note_pulled(&newest.manifest, target.highest_id())
            .await?;
        blocking(move || target.finish()).await?;
        Ok(PullReport {
            number: newest.manifest.number,
            segments: state.segments.len(),
            downloaded_segments: missing.len(),
            downloaded_bytes: bytes_total,
        })
    }

    /// Downloads a segment. Its files get their names when all of it was checked.
    async fn fetch(
        &self,
        target: &Target,
        (id, segment, function): (u32, &RefSegment, HashFunction),
        done: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let begin = target.clone();
        let file = blocking(move || begin.begin_data(id)).await?;
        let download = Download {
            at: self.at,
            segment,
            function,
        };
        let (file, sidecar) = download.data(file, done).await?;
        let target = target.clone();
        blocking(move || target.publish(id, &file, &sidecar)).await
    }
}

impl Sink for WritableFile {
    fn take(&mut self, piece: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(piece, offset)
    }
}
