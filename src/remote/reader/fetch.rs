//! Reads objects from the data files of segments by ranged requests, and checks each against its digest.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::index::{Index, IndexedSegment, Place};
use super::inner::Inner;
use crate::digest::{Digest, Hashed};
use crate::error::Result;
use crate::format::{SealedSegment, record};
use crate::remote::format::RefFileKind;
use crate::remote::runtime::blocking;

/// Shortest and longest first request for an object whose length is not known, in bytes.
const FIRST_BYTES: (u64, u64) = (16 << 10, 1 << 20);
/// How many times the mean length of the segment's records a first request asks for.
const FIRST_RECORDS: u64 = 4;
/// Longer objects are read in parts.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one object that are under way at once.
const PARTS_AT_ONCE: usize = 4;
/// Length of a record's header in bytes.
const HEADER_BYTES: u64 = record::HEADER_BYTES;

impl Place {
    /// The part of the data file to ask for first. `None` if no record can be there.
    pub(super) fn first_range(&self, sealed: &SealedSegment) -> Option<Range<u64>> {
        let begin = self.offset.checked_sub(HEADER_BYTES)?;
        let end = match self.len {
            Some(len) => self.offset.checked_add(len.into())?,
            None if sealed.objects == 1 => sealed.data_bytes,
            None => begin
                .checked_add(first_bytes(sealed))?
                .min(sealed.data_bytes),
        };
        (end >= self.offset && end <= sealed.data_bytes).then_some(begin..end)
    }
}

/// How much of a data file to ask for at first, for a record of which only the beginning is known.
fn first_bytes(sealed: &SealedSegment) -> u64 {
    let mean = sealed.data_bytes / u64::from(sealed.objects).max(1);
    let (least, most) = FIRST_BYTES;
    mean.saturating_mul(FIRST_RECORDS).clamp(least, most)
}

/// Returns the content of the record with which `bytes` begin, if all of it is there, or else how many
/// bytes it has with its header.
pub(super) fn split_content(bytes: &Bytes) -> std::result::Result<Bytes, u64> {
    let header = bytes.first_chunk().copied().map(u32::from_le_bytes);
    let Some(len) = header else {
        return Err(HEADER_BYTES);
    };
    let all = HEADER_BYTES + u64::from(len);
    match usize::try_from(all) {
        Ok(end) if end <= bytes.len() => Ok(bytes.slice(record::header(0).len()..end)),
        _ => Err(all),
    }
}

impl Inner {
    /// Reads the content of an object at one place, and checks it. `prefix` is what was read before from
    /// the beginning of the record on. `None` if another object is there.
    pub(super) async fn read_place(
        &self,
        index: &Index,
        digest: &Digest,
        place: Place,
        prefix: Option<Bytes>,
    ) -> Result<Option<Bytes>> {
        let segment = &index.segments()[place.segment];
        let sealed = &segment.listed.sealed;
        let is_local = segment.sidecar.get().is_some();
        let may_be_there = !is_local || place.len.is_some();
        let first = place.first_range(sealed).filter(|_| may_be_there);
        let Some(first) = first else {
            // Another object has the same tag, unless the sidecar is damaged that says so.
            if is_local {
                self.sound_sidecar(index, place.segment).await?;
            }
            return Ok(None);
        };
        let record = self.read_record(segment, first.clone(), prefix).await?;
        if let Some(content) = record
            && self.verifies(index, digest, &content).await?
        {
            return Ok(Some(content));
        }
        // Another object has the same tag, or the bytes are damaged. The sidecar tells which, and then
        // the answer may have been damaged on the way.
        let sidecar = self.sound_sidecar(index, place.segment).await?;
        let entry = sidecar
            .find(digest)
            .find(|entry| entry.offset == place.offset);
        let Some(entry) = entry else {
            return Ok(None);
        };
        let end = entry.offset + u64::from(entry.len);
        let again = self.read_range(segment, first.start..end).await?;
        if let Ok(content) = split_content(&again)
            && self.verifies(index, digest, &content).await?
        {
            return Ok(Some(content));
        }
        let object = self.at.segment_object(&segment.listed, RefFileKind::Data);
        let reason = format_args!(
            "object {digest} at offset {} is not what was pushed",
            entry.offset
        );
        Err(self.at.bucket.damaged(&object, &reason))
    }

    /// Reads a record, of which `first` is asked for at first. `None` if it would go beyond the file.
    async fn read_record(
        &self,
        segment: &Arc<IndexedSegment>,
        first: Range<u64>,
        prefix: Option<Bytes>,
    ) -> Result<Option<Bytes>> {
        let begin = first.start;
        let read = match prefix {
            Some(prefix) if prefix.len() as u64 >= HEADER_BYTES => prefix,
            _ => self.read_range(segment, first).await?,
        };
        let all = match split_content(&read) {
            Ok(content) => return Ok(Some(content)),
            Err(all) => all,
        };
        let Some(end) = begin.checked_add(all) else {
            return Ok(None);
        };
        if end > segment.listed.sealed.data_bytes {
            return Ok(None);
        }
        let rest = self
            .read_range(segment, begin + read.len() as u64..end)
            .await?;
        let mut whole = BytesMut::from(read);
        whole.extend_from_slice(&rest);
        Ok(split_content(&whole.freeze()).ok())
    }

    /// Reads a range of the data file of a segment, in parts if it is long.
    pub(super) async fn read_range(
        &self,
        segment: &Arc<IndexedSegment>,
        range: Range<u64>,
    ) -> Result<Bytes> {
        let object = self.at.segment_object(&segment.listed, RefFileKind::Data);
        let bucket = &self.at.bucket;
        if range.end - range.start <= PART_BYTES {
            self.note_asked(segment, range.end - range.start);
            return bucket.read_range(&object, range).await;
        }
        // It is never closed.
        let _permit = self.long_reads.acquire().await;
        let begins = range
            .clone()
            .step_by(usize::try_from(PART_BYTES).unwrap_or(usize::MAX));
        let parts = begins.map(|begin| begin..range.end.min(begin + PART_BYTES));
        let reads = parts.map(|part| {
            self.note_asked(segment, part.end - part.start);
            bucket.read_range(&object, part).boxed()
        });
        let reads = futures_util::stream::iter(reads).buffered(PARTS_AT_ONCE);
        let mut whole = BytesMut::new();
        let mut reads = std::pin::pin!(reads);
        while let Some(part) = reads.try_next().await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// Whether content has a digest. If so, keeps it in the cache.
    async fn verifies(&self, index: &Index, digest: &Digest, content: &Bytes) -> Result<bool> {
        let function = index.hash_function();
        let (cache, digest, content) = (self.cache.clone(), *digest, content.clone());
        blocking(move || {
            let Ok(hashed) = Hashed::check_with(function, digest, &content) else {
                return Ok(false);
            };
            cache.keep(&[hashed]);
            Ok(true)
        })
        .await
    }
}
