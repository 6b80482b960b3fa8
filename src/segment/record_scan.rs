//! Reads and hashes records that nothing vouches for, a batch at a time.

use std::fs::File;
use std::io;
use std::path::Path;

use super::RecordHash;
use crate::digest::Hasher;
use crate::dir::{DATA_HOLE_BYTES_MAX, hole_bytes, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{Entry, Record, Records, record};

/// Bytes that are read at a time. They bound the memory that the scan takes beside the entries.
const BATCH_BYTES: usize = 2 << 20;

/// A walk over the complete records of a file. It takes memory and time for the stored bytes only,
/// not for holes.
pub(crate) struct RecordScan<'a> {
    file: &'a File,
    path: &'a Path,
    /// Where the next record begins.
    position: u64,
    file_bytes: u64,
    seen_empty: bool,
    hole_bytes: u64,
    hash: RecordHash,
    buffer: Vec<u8>,
}

impl<'a> RecordScan<'a> {
    /// Begins at `position`; `seen_empty` says whether the empty object came before it.
    pub(crate) fn new(
        (file, path): (&'a File, &'a Path),
        position: u64,
        file_bytes: u64,
        seen_empty: bool,
        hash: RecordHash,
    ) -> Self {
        Self {
            file,
            path,
            position,
            file_bytes,
            seen_empty,
            hole_bytes: 0,
            hash,
            buffer: Vec::new(),
        }
    }

    /// The end of the last complete record.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Returns the entries of the next complete records, or none at the first byte that belongs to
    /// no complete record.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<Entry>> {
        let left = self.file_bytes.saturating_sub(self.position);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(BATCH_BYTES);
        self.buffer.resize(len, 0);
        self.read(self.position, len)?;
        let mut records = Records::resume(&self.buffer, 0, self.seen_empty);
        let whole: Vec<Record<'_>> = records.by_ref().collect();
        if whole.is_empty() {
            return self.next_large();
        }
        let mut entries = self.hash.entries(&whole);
        for entry in &mut entries {
            entry.offset += self.position;
        }
        self.seen_empty |= entries.iter().any(|entry| entry.len == 0);
        self.position += records.position() as u64;
        Ok(entries)
    }

    /// Appends the entries of all remaining complete records.
    pub(crate) fn append_rest(&mut self, entries: &mut Vec<Entry>) -> Result<()> {
        loop {
            let batch = self.next_batch()?;
            if batch.is_empty() {
                return Ok(());
            }
            entries.extend(batch);
        }
    }

    /// Does [`next_batch`](Self::next_batch) for a record that is longer than a batch.
    fn next_large(&mut self) -> Result<Vec<Entry>> {
        let header = self.buffer.get(..4).and_then(record::parse_header);
        let buffered_bytes = self.buffer.len() as u64;
        let goes_beyond = |len: &u32| record::HEADER_BYTES + u64::from(*len) > buffered_bytes;
        let Some(len) = header.filter(goes_beyond) else {
            return Ok(Vec::new());
        };
        let offset = self.position + record::HEADER_BYTES;
        let end = offset + u64::from(len);
        if end > self.file_bytes {
            return Ok(Vec::new());
        }
        self.hole_bytes += hole_bytes(self.file, offset..end).map_err(Error::io(self.path))?;
        if self.hole_bytes > DATA_HOLE_BYTES_MAX {
            let message = "most of this file is holes, so it would take too long to read; copy it \
                           without them (`cp --sparse=never`) if it is a data file, else remove it";
            let error = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(Error::io(self.path)(error));
        }
        let mut hasher = Hasher::new(self.hash.function);
        let mut at = offset;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(usize::MAX);
            let part = part.min(self.buffer.len());
            self.read(at, part)?;
            hasher.update(&self.buffer[..part]);
            at += part as u64;
        }
        self.position = end;
        let digest = hasher.finish();
        Ok(vec![Entry {
            digest,
            offset,
            len,
        }])
    }

    fn read(&mut self, at: u64, len: usize) -> Result<()> {
        let read = read_exact_at(self.file, &mut self.buffer[..len], at);
        read.map_err(Error::io(self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::digest::{Digest, HashFunction};

    fn scan(file: &File, position: u64, seen_empty: bool) -> Result<(Vec<Entry>, u64)> {
        let file_bytes = file.metadata().unwrap().len();
        let named = (file, Path::new("file"));
        let hash = RecordHash::on_this_thread(HashFunction::Blake2b);
        let mut scan = RecordScan::new(named, position, file_bytes, seen_empty, hash);
        let mut entries = Vec::new();
        scan.append_rest(&mut entries)?;
        Ok((entries, scan.position()))
    }

    fn record_of(content: &[u8]) -> Vec<u8> {
        let header = record::header(content.len().try_into().unwrap());
        [&header[..], content].concat()
    }

    /// Tries the lengths around which a batch ends.
    #[test]
    fn records_of_every_length_are_found_up_to_the_first_incomplete_record() {
        let near = [
            BATCH_BYTES - 5,
            BATCH_BYTES - 4,
            BATCH_BYTES - 3,
            BATCH_BYTES,
        ];
        for len in near.into_iter().chain([0, 1, 100, 2 * BATCH_BYTES + 7]) {
            let contents = [vec![1; 9], vec![2; len], vec![3; 9]];
            let mut bytes: Vec<u8> = contents.iter().flat_map(|c| record_of(c)).collect();
            let whole_bytes = bytes.len() as u64;
            bytes.extend_from_slice(&record_of(&[4; 50])[..20]);
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let (entries, end) = scan(&file, 0, false).unwrap();
            assert_eq!(end, whole_bytes, "{len}");
            let digests: Vec<Digest> = entries.iter().map(|entry| entry.digest).collect();
            let expected: Vec<Digest> = contents.iter().map(Digest::of).collect();
            assert_eq!(digests, expected, "{len}");
            assert_eq!(entries[2].end(), Some(whole_bytes));
            // A scan from the second record on finds the same.
            assert_eq!(scan(&file, 13, false).unwrap().0, entries[1..]);
        }
    }

    #[test]
    fn h20_a_second_empty_record_ends_the_scan() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(scan(&file, 0, false).unwrap().1, 4);
        assert_eq!(scan(&file, 0, true).unwrap().1, 0);
    }

    /// H65: the file claims a terabyte and stores a kibibyte.
    #[cfg(target_os = "linux")]
    #[test]
    fn h65_records_that_are_mostly_holes_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        for at in 0..8 {
            let begin = at * ((1 << 30) + 4);
            file.write_all_at(&record::header(1 << 30), begin).unwrap();
        }
        match scan(&file, 0, false) {
            Err(Error::Io { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::InvalidData);
            }
            other => panic!("{other:?}"),
        }
    }
}
