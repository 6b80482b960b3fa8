//! Creating a manifest: the commit of a push and of a collection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::bucket::{Bucket, Creation};
use super::format::{NUMBER_MAX, Nonce, PROBES, RefManifest};
use super::refs::{Ref, Stored};
use crate::error::{Error, RemoteError, Result};

/// Most attempts of a creation whose outcome is unclear.
const ATTEMPTS_MAX: u32 = 6;
/// Most time of a request for a manifest, which is short, with the client's own attempts.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// No attempt begins later than this behind the first one. A caller waits for it without a sign.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(120);

/// The outcome of a commit.
#[derive(Debug)]
pub(super) enum Commit {
    Done,
    /// Another manifest has the number.
    Taken(Box<Stored>),
}

impl Ref {
    /// Creates a manifest if there is none of its number. `pause` is the time before the second
    /// attempt; it doubles from one attempt to the next.
    ///
    /// [`RemoteError::Unknown`] means that the manifest may exist, or may still come to exist.
    pub(super) async fn commit(&self, manifest: &RefManifest, pause: Duration) -> Result<Commit> {
        let object = self.manifest_object(manifest.number);
        if manifest.number > NUMBER_MAX {
            return Err(self.bucket.damaged(&object, &"the numbers are used up"));
        }
        let bytes = Bytes::from(manifest.encode());
        let mut last = None;
        let begin = Instant::now();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 && begin.elapsed() > COMMIT_TIME_MAX {
                break;
            }
            wait(pause, attempt).await;
            let created = timeout(REQUEST_TIME_MAX, self.bucket.create(&object, bytes.clone()));
            let created = created.await;
            match created.unwrap_or_else(|late| Creation::Unclear(no_answer(late))) {
                Creation::Done => return Ok(Commit::Done),
                Creation::Refused(error) if last.is_none() => {
                    let error = self.bucket.fault(&object)(error);
                    // An earlier attempt of the client may have had its effect.
                    return match self.read(manifest.number).await {
                        Ok(Some(stored)) if stored.manifest.nonce == manifest.nonce => {
                            Ok(Commit::Done)
                        }
                        _ => Err(error),
                    };
                }
                Creation::Refused(error) | Creation::Unclear(error) => {
                    last = Some(self.bucket.fault(&object)(error));
                }
            }
            let read = timeout(REQUEST_TIME_MAX, self.read(manifest.number)).await;
            let read = read.unwrap_or_else(|late| Err(self.bucket.fault(&object)(no_answer(late))));
            match read {
                Ok(Some(stored)) if stored.manifest.nonce == manifest.nonce => {
                    return Ok(Commit::Done);
                }
                Ok(Some(stored)) => return Ok(Commit::Taken(Box::new(stored))),
                // The creation failed, or has not arrived yet.
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(unknown(self.bucket.display(&object), last))
    }
}

/// The error of a request that was given up.
fn no_answer(late: Elapsed) -> object_store::Error {
    object_store::Error::Generic {
        store: "object store",
        source: Box::new(late),
    }
}

fn unknown(object: String, last: Option<Error>) -> Error {
    let source = match last {
        Some(Error::Remote(RemoteError::Bucket { source, .. })) => source,
        Some(error) => error.into(),
        None => "no attempt was made".into(),
    };
    RemoteError::Unknown { object, source }.into()
}

async fn wait(pause: Duration, attempt: u32) {
    if attempt > 0 && !pause.is_zero() {
        tokio::time::sleep(pause.saturating_mul(1 << (attempt - 1))).await;
    }
}

/// Finds out whether the bucket refuses to create an object that exists. Fails with
/// [`RemoteError::CreateNotExclusive`] if it does not.
pub(super) async fn probe(bucket: &Bucket, pause: Duration) -> Result<()> {
    let io = |error| Error::io(bucket.url().as_ref())(error);
    let [first, second] = [Nonce::random().map_err(io)?, Nonce::random().map_err(io)?];
    let object = format!("{PROBES}/{first}");
    let contents = [first, second].map(|nonce| Bytes::from(nonce.to_string()));
    create_probe(bucket, &object, &contents[0], pause).await?;
    let refused = is_refused(bucket, &object, &contents, pause).await;
    // A probe that stays is removed by a collection.
    let _ = bucket.remove(&object).await;
    if refused? {
        return Ok(());
    }
    let object = bucket.display(&object);
    Err(RemoteError::CreateNotExclusive { object }.into())
}

/// Creates an object of a name that nobody else has.
async fn create_probe(
    bucket: &Bucket,
    object: &str,
    content: &Bytes,
    pause: Duration,
) -> Result<()> {
    let mut last = None;
    for attempt in 0..ATTEMPTS_MAX {
        wait(pause, attempt).await;
        match bucket.create(object, content.clone()).await {
            Creation::Done => return Ok(()),
            Creation::Refused(error) => return Err(bucket.fault(object)(error)),
            Creation::Unclear(error) => last = Some(bucket.fault(object)(error)),
        }
        match bucket.read(object, content.len() as u64).await {
            Ok(Some(read)) if read.bytes == content => return Ok(()),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| bucket.missing(object)))
}

/// Whether the second content is refused under the name of the first.
async fn is_refused(
    bucket: &Bucket,
    object: &str,
    [first, second]: &[Bytes; 2],
    pause: Duration,
) -> Result<bool> {
    let mut last = None;
    for attempt in 0..ATTEMPTS_MAX {
        wait(pause, attempt).await;
        let is_said_to_exist = match bucket.create(object, second.clone()).await {
            Creation::Done => return Ok(false),
            Creation::Refused(error) => return Err(bucket.fault(object)(error)),
            Creation::Unclear(error) => {
                let exists = matches!(error, object_store::Error::AlreadyExists { .. });
                last = Some(bucket.fault(object)(error));
                exists
            }
        };
        match bucket.read(object, second.len() as u64).await {
            Ok(Some(read)) if read.bytes == second => return Ok(false),
            Ok(Some(read)) if read.bytes == first && is_said_to_exist => return Ok(true),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| bucket.missing(object)))
}
