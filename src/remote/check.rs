//! Listing the refs of a bucket, and checking what one lists.

use std::sync::Mutex;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::download::{Download, Nowhere, copy_checked};
use super::format::{RefFileKind, RefRun, RefSegment};
use super::options::{RefInfo, RefProblem, RefReport};
use super::progress::{Progress, Transfer, TransferProgress};
use super::refs::{Ref, Stored};
use crate::digest::{Digest, HashFunction};
use crate::error::{Error, RemoteError, Result};
use crate::format::Sidecar;
use crate::sync::lock;

/// Segments that are checked at once.
const SEGMENTS_AT_ONCE: usize = 4;
/// The reason of a problem with an object that is not there.
const MISSING: &str = "it is missing";

impl Ref {
    /// Returns what the newest manifest says, or `None` if there is none.
    pub(super) async fn info(&self) -> Result<Option<RefInfo>> {
        let mut info = RefInfo {
            name: self.name.to_string(),
            number: 0,
            epoch: 0,
            hash_function: HashFunction::default(),
            segments: 0,
            objects: 0,
            data_bytes: 0,
            problem: None,
        };
        let newest = match self.newest().await {
            Ok(Some(newest)) => newest,
            Ok(None) => return Ok(None),
            Err(error) => {
                info.problem = Some(problem(error)?);
                info.number = self.newest_number().await?.unwrap_or_default();
                return Ok(Some(info));
            }
        };
        info.number = newest.manifest.number;
        info.epoch = newest.manifest.epoch;
        let Some(state) = newest.state() else {
            return Ok(Some(info));
        };
        info.hash_function = state.hash_function;
        for RefSegment { sealed, .. } in state.segments.values() {
            info.segments += 1;
            info.objects += u64::from(sealed.objects);
            info.data_bytes += sealed.data_bytes;
        }
        Ok(Some(info))
    }
}

/// One check of a ref.
pub(super) struct Check<'a> {
    pub(super) at: &'a Ref,
    pub(super) progress: Progress<'a, TransferProgress>,
}

impl Check<'_> {
    pub(super) async fn run(&self) -> Result<RefReport> {
        let newest = self.at.newest_or_error().await?;
        let problems = Mutex::new(Vec::new());
        let objects = self.check_segments(&newest, &problems).await?;
        let mut problems = std::mem::take(&mut *lock(&problems));
        problems.sort_unstable();
        let missing = problems.iter().find(|problem| problem.reason == MISSING);
        if let Some(RefProblem { object, .. }) = missing
            && self.at.was_replaced(&newest).await?
        {
            let object = object.clone();
            return Err(RemoteError::Collected { object }.into());
        }
        Ok(RefReport {
            number: newest.manifest.number,
            objects,
            problems,
        })
    }

    /// Checks the files of all segments, and returns how many objects are sound.
    async fn check_segments(
        &self,
        newest: &Stored,
        problems: &Mutex<Vec<RefProblem>>,
    ) -> Result<u64> {
        let state = newest.state().cloned().unwrap_or_default();
        let bytes_total = state
            .segments
            .values()
            .map(|segment| segment.sealed.data_bytes)
            .sum();
        let transfer = Transfer::begin(&self.progress, bytes_total)?;
        let done = |bytes| transfer.done(bytes);
        // Boxed, so that the whole future can be sent to another thread: the compiler cannot tell
        // otherwise.
        let mut checks: Vec<BoxFuture<'_, Result<u64>>> = state
            .segments
            .values()
            .map(|segment| {
                self.check(segment, (state.hash_function, problems), done)
                    .boxed()
            })
            .collect();
        for (&digest, run) in &state.runs {
            checks.push(self.check_run(digest, run, problems).boxed());
        }
        let checks = futures_util::stream::iter(checks).buffer_unordered(SEGMENTS_AT_ONCE);
        let objects: Vec<u64> = checks.try_collect().await?;
        Ok(objects.iter().sum())
    }

    /// Checks the files of a segment. Returns how many objects are sound: all or none.
    async fn check(
        &self,
        segment: &RefSegment,
        (function, problems): (HashFunction, &Mutex<Vec<RefProblem>>),
        done: impl Fn(u64) -> Result<()>,
    ) -> Result<u64> {
        let download = Download {
            at: self.at,
            segment,
            function,
        };
        let sidecar = self.check_sidecar(&download).await;
        let data = download.data(Nowhere, done).await.map(drop);
        let is_data_sound = data.is_ok();
        let data = match data {
            // A download ends where the file should.
            Ok(()) => self.check_bytes(&download).await,
            failed => failed,
        };
        for result in [sidecar, data] {
            if let Err(error) = result {
                lock(problems).push(problem(error)?);
            }
        }
        Ok(if is_data_sound {
            segment.sealed.objects.into()
        } else {
            0
        })
    }

    /// Checks a run, which holds no objects.
    async fn check_run(
        &self,
        digest: Digest,
        run: &RefRun,
        problems: &Mutex<Vec<RefProblem>>,
    ) -> Result<u64> {
        let (bucket, object) = (&self.at.bucket, self.at.run_object(digest, run));
        let checked = copy_checked(bucket, &object, (digest, run.bytes), |_, _| Ok(())).await;
        if let Err(error) = checked {
            lock(problems).push(problem(error)?);
        }
        Ok(0)
    }

    async fn check_bytes(&self, download: &Download<'_>) -> Result<()> {
        let object = download.object(RefFileKind::Data);
        let bytes = download.segment.sealed.data_bytes;
        self.at.bucket.require_bytes(&object, bytes).await
    }

    async fn check_sidecar(&self, download: &Download<'_>) -> Result<()> {
        let (object, sealed) = (
            download.object(RefFileKind::Sidecar),
            download.segment.sealed,
        );
        let bytes_max = Sidecar::<&[u8]>::encoded_bytes(sealed.objects);
        let read = self.at.bucket.read(&object, bytes_max).await?;
        let read = read.ok_or_else(|| self.at.bucket.missing(&object))?;
        let parsed = Sidecar::parse(&read.bytes[..]);
        let sidecar = parsed.map_err(|error| self.at.bucket.damaged(&object, &error))?;
        if sidecar.checksum() == sealed.sidecar_checksum {
            return Ok(());
        }
        Err(self.at.bucket.damaged(&object, &"it is another sidecar"))
    }
}

/// Makes a problem of an error that says something about an object, and returns other errors.
fn problem(error: Error) -> Result<RefProblem> {
    match error {
        Error::Remote(RemoteError::Missing { object }) => Ok(RefProblem {
            object,
            reason: MISSING.to_owned(),
        }),
        Error::Remote(RemoteError::Damaged { object, reason }) => Ok(RefProblem { object, reason }),
        Error::Remote(RemoteError::UnsupportedVersion { object }) => Ok(RefProblem {
            object,
            reason: "a newer version wrote it".to_owned(),
        }),
        error => Err(error),
    }
}
