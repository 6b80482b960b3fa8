//! Downloads the data file of a segment and computes its sidecar on the way.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::arriving::Arriving;
use super::bucket::Bucket;
use super::format::{RefFileKind, RefSegment};
use super::refs::Ref;
use super::runtime::blocking;
use crate::digest::{Digest, HashFunction, Hasher};
use crate::error::{Error, Result};
use crate::format::Sidecar;

/// Length of a part, in bytes.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one file that are under way at once.
const PARTS_AT_ONCE: usize = 2;

/// The damage of an object that has other bytes than those that were pushed.
pub(super) const CHANGED: &str = "its content is not what was pushed";

/// Most bytes that are checked and written at a time: so few that they are still in the processor's cache
/// when they are written.
const PIECE_BYTES_MAX: usize = 512 << 10;

/// Takes the bytes of a file, in their order.
pub(super) trait Sink: Send + 'static {
    /// Takes the piece that begins at `offset`.
    fn take(&mut self, piece: &[u8], offset: u64) -> Result<()>;
}

/// The sink of a check, which keeps nothing.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }
}

/// A file that is downloaded.
pub(super) struct Download<'a> {
    pub(super) at: &'a Ref,
    pub(super) segment: &'a RefSegment,
    pub(super) function: HashFunction,
}

impl Download<'_> {
    /// Gives a data file to a sink, piece by piece, and returns the sink and the sidecar. Fails with
    /// [`RemoteError::Damaged`](crate::RemoteError::Damaged) if that is not the one that the manifest
    /// names. `done` is called with the length of each part; if it fails, the download ends.
    pub(super) async fn data<S: Sink>(
        &self,
        sink: S,
        done: impl Fn(u64) -> Result<()>,
    ) -> Result<(S, Sidecar<Vec<u8>>)> {
        let sealed = self.segment.sealed;
        let object = self.object(RefFileKind::Data);
        let bucket = &self.at.bucket;
        let parts = futures_util::stream::iter(parts(sealed.data_bytes));
        let reads = parts.map(|range| read_part(bucket, &object, range).boxed());
        let mut reads = std::pin::pin!(reads.buffered(PARTS_AT_ONCE));
        // Parts arrive while others are checked and written: both sides are polled at once.
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let arrive = async move {
            while let Some(part) = reads.try_next().await? {
                // The other side has failed.
                if sender.send(part).await.is_err() {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        let take = async {
            let mut state = (sink, Arriving::new(self.function, sealed));
            while let Some((offset, part)) = receiver.recv().await {
                let (mut sink, mut arriving) = state;
                let bytes = part.iter().map(|piece| piece.len() as u64).sum();
                let taken = blocking(move || {
                    let pieces = part.iter().flat_map(|piece| piece.chunks(PIECE_BYTES_MAX));
                    let mut offset = offset;
                    for piece in pieces {
                        if !arriving.take(piece) {
                            return Ok(None);
                        }
                        sink.take(piece, offset)?;
                        offset += piece.len() as u64;
                    }
                    Ok(Some((sink, arriving)))
                });
                let taken = taken.await?;
                state = taken.ok_or_else(|| bucket.damaged(&object, &CHANGED))?;
                done(bytes)?;
            }
            Ok(state)
        };
        let ((), (sink, arriving)) = future::try_join(arrive, take).await?;
        let sidecar = blocking(move || Ok(arriving.finish())).await?;
        let sidecar = sidecar.ok_or_else(|| bucket.damaged(&object, &CHANGED))?;
        Ok((sink, sidecar))
    }

    /// Returns the name of the data file or the sidecar.
    pub(super) fn object(&self, kind: RefFileKind) -> String {
        self.at.segment_object(self.segment, kind)
    }
}

/// Reads an object with this digest (BLAKE2b-512 truncated to 32 bytes) and length by one request, and
/// gives its pieces to `take`, each with its offset. Fails if it is another object; then the pieces that
/// were taken are wrong.
pub(super) async fn copy_checked(
    bucket: &Bucket,
    object: &str,
    (digest, bytes): (Digest, u64),
    mut take: impl FnMut(&Bytes, u64) -> Result<()>,
) -> Result<()> {
    let mut hasher = Hasher::new(HashFunction::default());
    let copied = copy(bucket, object, bytes, |piece, offset| {
        hasher.update(piece);
        take(piece, offset)
    });
    copied.await?;
    if hasher.finish() == digest {
        Ok(())
    } else {
        Err(bucket.damaged(object, &CHANGED))
    }
}

/// Reads an object of this length by one request, and gives its pieces to `take`, each with its offset.
/// Fails if it has another length; then no more than that was taken.
pub(super) async fn copy(
    bucket: &Bucket,
    object: &str,
    bytes: u64,
    mut take: impl FnMut(&Bytes, u64) -> Result<()>,
) -> Result<()> {
    let mut pieces = bucket.stream(object, bytes).await?;
    let mut offset = 0;
    while let Some(piece) = pieces.try_next().await.map_err(bucket.fault(object))? {
        let end = offset + piece.len() as u64;
        if end > bytes {
            break;
        }
        take(&piece, offset)?;
        offset = end;
    }
    if offset == bytes {
        Ok(())
    } else {
        Err(bucket.damaged(object, &CHANGED))
    }
}

/// Reads a part of an object, and returns its offset too.
async fn read_part(bucket: &Bucket, object: &str, range: Range<u64>) -> Result<(u64, Vec<Bytes>)> {
    let offset = range.start;
    let part = bucket.read_pieces(object, range).await?;
    Ok((offset, part))
}

fn parts(file_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let beginning = |part: u64| part * PART_BYTES;
    let count = file_bytes.div_ceil(PART_BYTES);
    (0..count).map(move |part| beginning(part)..beginning(part + 1).min(file_bytes))
}
