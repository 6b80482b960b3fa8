//! Puts content that comes from a reader.
//!
//! Short content is collected and put like any other. Long content goes into a segment of its own,
//! under the name of a temporary until all of it has come, so that it is never in memory as a whole,
//! and no lock is held while the reader is waited for. Its digest is known at the end only. The commit
//! is that of a compaction that replaces nothing: a crash leaves a temporary or the whole object.

use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;

use super::writer::Writer;
use crate::digest::{Digest, DigestMismatch, Hashed, Hasher};
use crate::dir::{BlockWriter, FileKind, WritableFile};
use crate::error::{Error, Result};
use crate::format::{Entry, Sidecar, record};
use crate::segment::Output;

/// Longest content that is collected in memory, unless segments are small.
const COLLECTED_BYTES_MAX: u64 = 32 << 20;
/// Collected content is no longer than this part of a segment. A segment of one long object then has at
/// least an eighth of the usual size, so there are at most eight times as many segments.
const PART_OF_SEGMENT: u64 = 8;
/// Bytes of long content that are read and hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a put from a reader has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content.
    pub bytes: u64,
    /// Whether the store did not hold the content yet.
    pub is_new: bool,
}

impl Writer {
    /// Puts the content that a reader gives, if it has the `expected` digest.
    pub(crate) fn put_reader(
        &self,
        content: &mut dyn Read,
        expected: Option<&Digest>,
    ) -> Result<Stored> {
        self.require_acceptable(0)?;
        let collected_max = self.shared.options.segment_bytes_max / PART_OF_SEGMENT;
        let collected_max = collected_max.min(COLLECTED_BYTES_MAX);
        let mut begin = Vec::new();
        read_up_to(content, collected_max + 1, &mut begin)?;
        if begin.len() as u64 > collected_max {
            return self.put_long(begin, content, expected);
        }
        let hashed = Hashed::with(self.shared.hash_function(), &begin);
        require_expected(expected, hashed.digest())?;
        Ok(Stored {
            digest: *hashed.digest(),
            bytes: begin.len() as u64,
            is_new: self.put(&hashed)?,
        })
    }

    /// Puts content that begins with `begin` and is too long to be collected.
    fn put_long(
        &self,
        begin: Vec<u8>,
        rest: &mut dyn Read,
        expected: Option<&Digest>,
    ) -> Result<Stored> {
        // Without a manifest an opening cannot tell what a temporary is, and keeps it as data.
        self.commit_first()?;
        let segment = OwnSegment::create(self)?;
        let (digest, len) = segment.write(begin, rest)?;
        require_expected(expected, &digest)?;
        let is_new = !self.holds_long(&digest, len)?;
        if is_new {
            segment.commit(digest, len)?;
        } else {
            self.count_dedup_hits(1);
            // The copy may be one that was appended and is not durable yet.
            self.sync()?;
        }
        Ok(Stored {
            digest,
            bytes: len.into(),
            is_new,
        })
    }

    /// Decides dedup as `put` does, for content that is not in memory. The copies are read and hashed before a lock is
    /// taken, since that takes long.
    fn holds_long(&self, digest: &Digest, len: u32) -> Result<bool> {
        let set = self.shared.set.load_full();
        let Some(segment) = set.segment_with_whole_copy(digest, len) else {
            return Ok(false);
        };
        drop(set);
        let (phase, set) = self.begin_put()?;
        // A compaction may have replaced the segment meanwhile.
        let is_held =
            phase.accepts(segment, digest) && set.is_held_in(digest, |id| id == segment)?;
        if is_held {
            phase.pin(segment, digest);
        }
        Ok(is_held)
    }
}

/// Appends to `bytes` what comes, up to a length. Fewer bytes mean that the content has ended.
fn read_up_to(content: &mut dyn Read, bytes_max: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let read = content.take(bytes_max).read_to_end(bytes);
    read.map(drop).map_err(|source| Error::Content { source })
}

fn require_expected(expected: Option<&Digest>, actual: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(Error::from(DigestMismatch {
            expected: *expected,
            actual: *actual,
        })),
        _ => Ok(()),
    }
}

/// A new segment for one record. Unless it is committed, its file is removed when it is dropped, also
/// if the reader panics.
struct OwnSegment<'a> {
    writer: &'a Writer,
    id: u32,
    data: WritableFile,
    /// The id while it can be given back, because no file but a temporary had it.
    unused: Option<Range<u64>>,
}

impl<'a> OwnSegment<'a> {
    fn create(writer: &'a Writer) -> Result<Self> {
        let ids = writer.ids.take(1)?;
        // All ids fit into a `u32`.
        let id = u32::try_from(ids.start).map_err(|_| Error::SegmentIdsExhausted)?;
        let data = writer.dir().create_segment_temporary(id, FileKind::Data);
        let data = data.inspect_err(|_| writer.ids.give_back(ids.clone()))?;
        Ok(Self {
            writer,
            id,
            data,
            unused: Some(ids),
        })
    }

    /// Writes the record, its header last. Returns digest and length of the content.
    fn write(&self, begin: Vec<u8>, rest: &mut dyn Read) -> Result<(Digest, u32)> {
        let mut hasher = Hasher::new(self.writer.shared.hash_function());
        let mut file = BlockWriter::new(&self.data, self.data.write_block_bytes());
        // Until the length is known, one that no file has: what a crash leaves is then no record. With 0
        // it would be one, and the bytes of the content would be taken for those that follow.
        file.append(&record::header(u32::MAX))?;
        hasher.update(&begin);
        file.append(&begin)?;
        drop(begin);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            piece.clear();
            read_up_to(rest, PIECE_BYTES as u64, &mut piece)?;
            hasher.update(&piece);
            file.append(&piece)?;
            let bytes = file.position() - record::HEADER_BYTES;
            let len = u32::try_from(bytes).map_err(|_| Error::TooLarge { bytes })?;
            if piece.len() < PIECE_BYTES {
                file.finish()?;
                self.data.write_all_at(&record::header(len), 0)?;
                return Ok((hasher.finish(), len));
            }
        }
    }

    /// Makes the segment durable and part of the store.
    fn commit(mut self, digest: Digest, len: u32) -> Result<()> {
        let (writer, dir) = (self.writer, self.writer.dir());
        let entry = Entry {
            digest,
            offset: record::HEADER_BYTES,
            len,
        };
        let data_bytes = entry.offset + u64::from(len);
        let sidecar = Sidecar::build(&mut [entry]);
        let output = Output::of_temporary(dir, self.id, &self.data, data_bytes, sidecar)?;
        // From here on the manifest may name the id.
        self.unused = None;
        let emptied = writer.go_on_above(self.id);
        let committed = emptied.and_then(|emptied| {
            writer.commit_compaction(&BTreeSet::new(), std::slice::from_ref(&output))?;
            Ok(emptied)
        });
        match committed {
            Ok(emptied) => {
                // The next opening removes files that stay.
                let _ = emptied.map(|id| dir.remove_segment(id));
                Ok(())
            }
            Err(error) => {
                // The directory refuses to remove files if the commit may have happened.
                output.discard(dir);
                Err(error)
            }
        }
    }
}

impl Drop for OwnSegment<'_> {
    fn drop(&mut self) {
        if let Some(ids) = self.unused.take() {
            // The next opening removes a file that stays.
            let _ = self.writer.dir().remove_if_present(self.data.path());
            self.writer.ids.give_back(ids);
        }
    }
}
