//! Uploads files of a store. What goes up was checked in the memory from which it goes.

mod checked;

use std::sync::Arc;

use bytes::Bytes;
use object_store::WriteMultipart;

use self::checked::{CheckedData, CheckedRun, CheckedSidecar};
use super::bucket::Bucket;
use super::runtime::blocking;
use crate::digest::Digest;
use crate::error::Result;
use crate::run::Run;
use crate::segment::Sealed;

/// Length of a part, in bytes.
const PART_BYTES: u64 = 8 << 20;
/// Most parts of an object that S3 takes.
const PARTS_MAX: u64 = 10_000;
/// Parts of one file that are under way at once.
const PARTS_AT_ONCE: usize = 2;

/// A file that is uploaded.
pub(super) enum Source {
    /// The data file of a segment. Each record is checked against its digest.
    Data(Arc<Sealed>),
    /// The sidecar of a segment. It is checked against its checksum.
    Sidecar(Arc<Sealed>),
    /// A run. It is checked against the digest.
    Run(Arc<Run>, Digest),
}

impl Source {
    /// Length of the file in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        match self {
            Self::Data(sealed) => sealed.binding().data_bytes,
            Self::Sidecar(sealed) => sealed.index_bytes(),
            Self::Run(run, _) => run.file_bytes(),
        }
    }
}

/// A file that gives its bytes in parts, and fails if one is not what it should be.
trait Parts: Send + 'static {
    /// Returns the next part, `len` bytes long unless it is the last. Returns `None` behind the last.
    /// Fails at the latest where it would have returned `None`.
    fn next_part(&mut self, len: usize) -> Result<Option<Bytes>>;
}

/// Uploads a file and checks it. `done` is called with the length of each part that was read; if it
/// fails, the upload ends.
pub(super) async fn upload(
    bucket: &Bucket,
    object: &str,
    source: &Source,
    done: impl Fn(u64) -> Result<()>,
) -> Result<()> {
    let bytes = source.file_bytes();
    match source {
        Source::Data(sealed) => {
            let segment = Arc::clone(sealed);
            let parts = blocking(move || CheckedData::new(segment)).await?;
            upload_parts(bucket, object, bytes, parts, done).await
        }
        Source::Sidecar(sealed) => {
            let parts = CheckedSidecar::new(Arc::clone(sealed));
            upload_parts(bucket, object, bytes, parts, done).await
        }
        Source::Run(run, digest) => {
            let parts = CheckedRun::new(Arc::clone(run), *digest);
            upload_parts(bucket, object, bytes, parts, done).await
        }
    }
}

async fn upload_parts<P: Parts>(
    bucket: &Bucket,
    object: &str,
    file_bytes: u64,
    parts: P,
    done: impl Fn(u64) -> Result<()>,
) -> Result<()> {
    let part_bytes = part_bytes(file_bytes);
    let mut reader = Reader {
        parts: Some(parts),
        part_bytes,
    };
    let first = reader.next().await?.unwrap_or_default();
    done(first.len() as u64)?;
    let Some(second) = reader.next().await? else {
        return bucket.put(object, first.into()).await;
    };
    let upload = bucket.put_in_parts(object).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, part_bytes);
    writer.put(first);
    let put = async {
        let mut next = Some(second);
        while let Some(part) = next {
            done(part.len() as u64)?;
            let ready = writer.wait_for_capacity(PARTS_AT_ONCE).await;
            ready.map_err(bucket.fault(object))?;
            writer.put(part);
            next = reader.next().await?;
        }
        Ok(())
    };
    match put.await {
        Ok(()) => {
            let finished = writer.finish().await;
            finished.map(drop).map_err(bucket.fault(object))
        }
        Err(error) => {
            // What a failed removal leaves is not visible as an object.
            let _ = writer.abort().await;
            Err(error)
        }
    }
}

/// Reads the parts of a file where that disturbs no task.
struct Reader<P> {
    /// `None` after an error.
    parts: Option<P>,
    part_bytes: usize,
}

impl<P: Parts> Reader<P> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut parts) = self.parts.take() else {
            return Ok(None);
        };
        let len = self.part_bytes;
        let read = blocking(move || {
            let part = parts.next_part(len)?;
            Ok((parts, part))
        });
        let (parts, part) = read.await?;
        self.parts = Some(parts);
        Ok(part)
    }
}

/// Returns the length of the parts of a file: 8 MiB, or more where there would be too many.
fn part_bytes(file_bytes: u64) -> usize {
    let bytes = file_bytes.div_ceil(PARTS_MAX).max(PART_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_8_mib_unless_there_would_be_too_many() {
        let most = PART_BYTES * PARTS_MAX;
        for (file_bytes, expected) in [
            (0, PART_BYTES),
            (most, PART_BYTES),
            (most + 1, PART_BYTES + 1),
            (2 * most, 2 * PART_BYTES),
        ] {
            assert_eq!(part_bytes(file_bytes) as u64, expected, "{file_bytes}");
        }
    }
}
