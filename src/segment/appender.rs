//! The writing end of the active segment.

use std::io::ErrorKind;
use std::sync::Arc;

use super::active::Contents;
use super::active_index::ActiveIndexWriter;
use super::begun::{Begun, Resumed};
use super::expected::Expected;
use super::journal_writer::JournalWriter;
use super::{Active, content_len};
use crate::digest::Hashed;
use crate::dir::{Dir, WritableFile};
use crate::error::{Error, Result};
use crate::format::sidecar::ENTRY_BYTES;
use crate::format::{Entry, journal, record};
use crate::memory::{AppendBuffer, AppendBufferWriter, Map};
use crate::options::{ReadMode, Reading};
use crate::sync::CountedArc;

/// Longest record that is collected in the buffer; longer records are written directly. So are
/// records longer than a block, since no buffered record may reach beyond the next block.
const BUFFERED_RECORD_BYTES_MAX: usize = 256 << 10;

/// Address space that is reserved for one unsealed segment at most. Unsealed records beyond it are
/// read by system calls.
const RESERVED_BYTES_MAX: u64 = if usize::BITS < 64 { 1 << 28 } else { 1 << 36 };

/// Appends records to one segment. A store has one appender, behind its append lock.
///
/// Between two syncs records are written in whole blocks, as by a
/// [`BlockWriter`](crate::dir::BlockWriter), so the file may end in the middle of a record.
#[derive(Debug)]
pub(crate) struct Appender {
    active: Arc<Active>,
    index: ActiveIndexWriter,
    /// Size beyond which a further record goes to the next segment.
    segment_bytes_max: u64,
    buffer: AppendBufferWriter,
    /// The previous buffer. The two take turns unless a reader keeps this one.
    spare: AppendBufferWriter,
    /// Position of the buffer's first byte in the data file.
    buffer_base: u64,
    block_bytes: usize,
    /// Where the block that is being buffered ends.
    block_end: u64,
    /// Length of the data file that has been written. The flushed records end there too, or at the
    /// start of a record that the last block has cut in two.
    written_bytes: u64,
    /// End of the last record that was acknowledged.
    end: u64,
    journal: JournalWriter,
    /// The next segment, while its journal could not be created.
    begun: Option<Begun>,
    /// Whether nothing more may be appended, because the bytes behind `end`, or the journal or
    /// sidecar on disk, do not fit the records.
    is_closed: bool,
}

impl Appender {
    /// Creates the files of a new segment.
    pub(crate) fn create(dir: &Dir, id: u32, reading: Reading, expected: Expected) -> Result<Self> {
        let begun = Begun::create(dir, id)?;
        match begun.create_journal(dir) {
            Ok(journal) => Ok(Self::begin(begun, journal, reading, expected)),
            Err(error) => {
                begun.discard(dir);
                Err(error)
            }
        }
    }

    /// Takes the segment that [`keep_begun`](Self::keep_begun) was given.
    pub(crate) const fn take_begun(&mut self) -> Option<Begun> {
        self.begun.take()
    }

    /// Keeps the next segment until its journal can be created.
    pub(crate) fn keep_begun(&mut self, begun: Begun) {
        self.begun = Some(begun);
    }

    /// Begins with a new segment.
    pub(crate) fn begin(
        begun: Begun,
        journal_file: WritableFile,
        reading: Reading,
        expected: Expected,
    ) -> Self {
        Self::resume(begun.into_resumed(journal_file), reading, expected)
    }

    /// Goes on with a segment that recovery has read.
    pub(crate) fn resume(resumed: Resumed, reading: Reading, expected: Expected) -> Self {
        let Resumed { journal, end, .. } = resumed;
        let reserved_bytes = expected.segment_bytes_max.max(expected.first_bytes);
        let reserved_bytes = reserved_bytes.min(RESERVED_BYTES_MAX).max(end);
        let map = match reading.mode {
            ReadMode::Mmap => Map::reserve(resumed.data.file(), reserved_bytes).ok(),
            ReadMode::Pread => None,
        };
        let pending = resumed.entries.get(resumed.noted..);
        let pending = pending.unwrap_or_default().to_vec();
        // Recovery takes longer the larger the map is, so one with records is not made larger than they
        // ask for.
        let is_new = resumed.entries.is_empty();
        let records = if is_new { expected.records } else { 0 };
        let index = ActiveIndexWriter::new(&resumed.entries, records);
        let contents = Contents {
            hash_function: reading.hash_function,
            index: Arc::clone(index.shared()),
            bytes: end,
            durable_bytes: journal.synced_bytes,
        };
        let block_bytes = resumed.data.write_block_bytes();
        let active = Active::for_writer(resumed.id, resumed.data, map, contents);
        Self {
            active: Arc::new(active),
            index,
            segment_bytes_max: expected.segment_bytes_max,
            buffer: AppendBuffer::with_capacity(0),
            spare: AppendBuffer::with_capacity(0),
            buffer_base: end,
            block_bytes,
            block_end: block_end(end, block_bytes),
            written_bytes: end,
            end,
            journal: JournalWriter::new(resumed.journal_file, &journal, pending),
            begun: None,
            is_closed: false,
        }
    }

    /// Allows no further record in this segment. The next put goes on with another segment.
    pub(crate) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the segment holds nothing and another segment may take its place.
    pub(crate) const fn is_vacant(&self) -> bool {
        self.end == 0 && !self.is_closed
    }

    /// Room for a block and for the record that began in the block before, but no more than a
    /// segment takes, since the memory is cleared before it is used.
    fn buffer_bytes(&self) -> usize {
        let segment_bytes_max = usize::try_from(self.segment_bytes_max).unwrap_or(usize::MAX);
        segment_bytes_max.min(self.block_bytes + self.buffered_record_bytes_max())
    }

    fn buffered_record_bytes_max(&self) -> usize {
        BUFFERED_RECORD_BYTES_MAX.min(self.block_bytes)
    }

    /// What the next segment is prepared for.
    pub(crate) fn expected_next(&self, first_bytes: u64) -> Expected {
        let size = Expected::of_size(self.segment_bytes_max);
        Expected {
            first_bytes,
            ..size.after(self.active.records(), self.end)
        }
    }

    pub(crate) const fn active(&self) -> &Arc<Active> {
        &self.active
    }

    /// End of the last record that was acknowledged, flushed or not.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that the next sync adds to the data file and to the journal.
    pub(crate) fn unwritten_bytes(&self) -> [u64; 2] {
        let entries = self.journal.pending().len() * ENTRY_BYTES;
        let journal = entries + 2 * journal::FRAME_BYTES;
        [self.end - self.written_bytes, journal as u64]
    }

    /// Whether a record of this content length belongs into this segment. The first record always
    /// does.
    pub(crate) fn has_room_for(&self, content_bytes: u64) -> bool {
        let record_bytes = content_bytes.saturating_add(record::HEADER_BYTES);
        let fits = self.end.saturating_add(record_bytes) <= self.segment_bytes_max;
        !self.is_closed && (self.end == 0 || fits && self.index.has_room())
    }

    /// Appends one record. On an error nothing is appended; acknowledged records stay in the file
    /// or in the buffer, and are written when the cause is gone.
    pub(crate) fn append(&mut self, hashed: &Hashed<'_>) -> Result<()> {
        let content = hashed.content();
        let len = content_len(content)?;
        let header = record::header(len);
        let entry = Entry {
            digest: *hashed.digest(),
            offset: self.end + record::HEADER_BYTES,
            len,
        };
        let end = entry.offset + u64::from(len);
        if end > self.block_end || !self.buffer.append([&header, content]) {
            self.append_beyond(&header, content)?;
        }
        self.end = end;
        // The content can be read already.
        self.index.insert(&entry, true);
        self.journal.append(entry);
        Ok(())
    }

    /// Appends a record for which the buffer or its block has no room.
    #[cold]
    fn append_beyond(&mut self, header: &[u8], content: &[u8]) -> Result<()> {
        let record_bytes = header.len() + content.len();
        if record_bytes > self.buffered_record_bytes_max() {
            return self.write_directly(header, content);
        }
        if self.buffer.capacity() == 0 {
            self.flush()?;
            self.renew_buffer(self.buffer_bytes());
        }
        if self.end + record_bytes as u64 > self.block_end {
            self.write_block(header, content)?;
        }
        if self.buffer.append([header, content]) {
            Ok(())
        } else {
            self.write_directly(header, content)
        }
    }

    /// Writes a record that is too large for the buffer.
    fn write_directly(&mut self, header: &[u8], content: &[u8]) -> Result<()> {
        self.flush()?;
        let file = self.active.writable()?;
        let content_begin = self.end + header.len() as u64;
        let written = file
            .write_all_at(header, self.end)
            .and_then(|()| file.write_all_at(content, content_begin));
        if let Err(error) = written {
            self.roll_back();
            return Err(error);
        }
        self.end = content_begin + content.len() as u64;
        self.written_bytes = self.end;
        self.active.set_flushed(self.end);
        self.renew_buffer(0);
        Ok(())
    }

    /// Writes the block that ends before this record or in the middle of it, and goes on with a
    /// buffer for the next block, in which the record has room.
    fn write_block(&mut self, header: &[u8], content: &[u8]) -> Result<()> {
        let rest = usize::try_from(self.block_end - self.end).unwrap_or(usize::MAX);
        let of_header = rest.min(header.len());
        let of_content = (rest - of_header).min(content.len());
        self.buffer
            .append([&header[..of_header], &content[..of_content]]);
        if let Err(error) = self.write_up_to(self.block_end) {
            self.forget_unacknowledged();
            return Err(error);
        }
        self.journal.write_pending(self.end);
        self.renew_buffer(self.buffer_bytes());
        Ok(())
    }

    /// Goes on with a buffer that holds the acknowledged records that are not flushed, and nothing
    /// else.
    fn forget_unacknowledged(&mut self) {
        let flushed = self.active.flushed_bytes();
        let full = CountedArc::clone(self.buffer.shared());
        let begin = usize::try_from(flushed - self.buffer_base).unwrap_or(usize::MAX);
        let unflushed = usize::try_from(self.end - flushed).unwrap_or(usize::MAX);
        let acknowledged = full.slice(begin, unflushed).unwrap_or_default();
        self.buffer = AppendBuffer::with_capacity(self.buffer_bytes());
        self.buffer.append([acknowledged, &[]]);
        self.buffer_base = flushed;
        self.publish_buffer();
    }

    /// Writes the buffer, and then the journal.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.write_up_to(self.end)?;
        self.journal.write_pending(self.end);
        Ok(())
    }

    /// Writes the buffer up to this position in the file, so that all acknowledged records are
    /// flushed. On an error the file ends with the flushed records; where the disk is full, those
    /// are all acknowledged records for which there was room.
    fn write_up_to(&mut self, position: u64) -> Result<()> {
        let Err(error) = self.write_piece(position) else {
            return Ok(());
        };
        if self.roll_back() && error.is_out_of_space() && self.write_in_pieces(position) {
            return Ok(());
        }
        Err(error)
    }

    /// Writes the buffer up to this position, in one write. On an error any part of it may be in
    /// the file behind the flushed records.
    fn write_piece(&mut self, position: u64) -> Result<()> {
        let unwritten = position.saturating_sub(self.written_bytes);
        let unwritten = usize::try_from(unwritten).unwrap_or(usize::MAX);
        if unwritten > 0 {
            let begin = self.written_bytes.saturating_sub(self.buffer_base);
            let shared = self.buffer.shared();
            let bytes = shared.slice(usize::try_from(begin).unwrap_or(usize::MAX), unwritten);
            let file = self.active.writable()?;
            let bytes =
                bytes.ok_or_else(|| Error::io(file.path())(ErrorKind::UnexpectedEof.into()))?;
            file.write_all_at(bytes, self.written_bytes)?;
            self.written_bytes = position;
        }
        self.active.set_flushed(position.min(self.end));
        Ok(())
    }

    /// Uses up a disk that has no room for the whole buffer: writes half as many records each time
    /// that the rest does not fit, until not even one fits. A file system may refuse a whole write
    /// although there is room for a part of it. Returns whether everything fitted in the end.
    fn write_in_pieces(&mut self, position: u64) -> bool {
        let ends = self.unflushed_ends(position);
        let mut rest = &ends[..];
        let mut records = rest.len() / 2;
        while let Some(&end) = records.checked_sub(1).and_then(|last| rest.get(last)) {
            match self.write_piece(end) {
                Ok(()) => {
                    rest = rest.get(records..).unwrap_or_default();
                    records = records.min(rest.len());
                }
                Err(error) => {
                    if !self.roll_back() || !error.is_out_of_space() {
                        return false;
                    }
                    records /= 2;
                }
            }
        }
        rest.is_empty()
    }

    /// The ends of the acknowledged records that are not flushed, and then this position if it lies
    /// beyond them.
    fn unflushed_ends(&self, position: u64) -> Vec<u64> {
        let flushed = self.active.flushed_bytes();
        // The journal holds flushed records only, so all of these are still pending for it.
        let pending = self.journal.pending();
        let first = pending.partition_point(|entry| entry.offset <= flushed);
        let unflushed = pending.iter().skip(first);
        let mut ends: Vec<u64> = unflushed.filter_map(Entry::end).collect();
        if position > self.end {
            ends.push(position);
        }
        ends
    }

    /// Cuts off the bytes that a failed write may have left behind the last good record. Returns
    /// whether the cut succeeded; if not, the directory refuses all further writes.
    fn roll_back(&mut self) -> bool {
        let is_cut = self.active.cut_unflushed().is_ok();
        self.written_bytes = self.active.flushed_bytes();
        is_cut
    }

    /// Goes on with an empty buffer of at least this capacity.
    fn renew_buffer(&mut self, capacity: usize) {
        if self.spare.capacity() < capacity || !self.spare.clear() {
            self.spare = AppendBuffer::with_capacity(capacity);
        }
        std::mem::swap(&mut self.buffer, &mut self.spare);
        self.buffer_base = self.end;
        self.block_end = block_end(self.written_bytes, self.block_bytes);
        self.publish_buffer();
    }

    fn publish_buffer(&self) {
        let buffer = CountedArc::clone(self.buffer.shared());
        self.active.set_buffer(self.buffer_base, buffer);
    }

    /// Notes in the journal that the data file is durable up to `bytes`.
    pub(crate) fn mark_synced(&mut self, bytes: u64) {
        self.journal.write_sync_mark(bytes);
    }
}

/// Returns the end of the block that a position lies in.
const fn block_end(position: u64, block_bytes: usize) -> u64 {
    (position / block_bytes as u64 + 1) * block_bytes as u64
}
