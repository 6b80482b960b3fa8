//! One segment: an [`Active`](active::Active) until it is sealed, a [`Sealed`](sealed::Sealed) from
//! then on.

pub(crate) mod active;
pub(crate) mod active_index;
pub(crate) mod appender;
pub(crate) mod batches;
pub(crate) mod begun;
pub(crate) mod content;
pub(crate) mod data;
mod drop_behind;
pub(crate) mod expected;
pub(crate) mod fanout;
pub(crate) mod file_bytes;
mod journal_writer;
mod keyed_hash;
mod once;
mod output;
#[cfg(all(test, shuttle))]
mod publication;
pub(crate) mod read_ahead;
pub(crate) mod record_scan;
pub(crate) mod sealed;
pub(crate) mod sidecar;

pub(crate) use active::Active;
pub(crate) use appender::Appender;
pub(crate) use data::Data;
pub(crate) use output::Output;
pub(crate) use sealed::Sealed;

use batches::{BATCH_RECORDS_MAX, batches};

use crate::digest::{Digest, HashFunction};
use crate::error::{Error, Result};
use crate::format::{Entry, Record};
use crate::threads::map_parts;

/// Where a record's content lies in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Returns the length of content as the `u32` that records and sidecars store.
pub(crate) fn content_len(content: &[u8]) -> Result<u32> {
    u32::try_from(content.len()).map_err(|_| Error::TooLarge {
        bytes: content.len() as u64,
    })
}

/// How the records of a segment are hashed that nothing vouches for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHash {
    pub(crate) function: HashFunction,
    /// Whether other threads may be waited for.
    is_shared: bool,
}

impl RecordHash {
    pub(crate) const fn on_all_cores(function: HashFunction) -> Self {
        Self {
            function,
            is_shared: true,
        }
    }

    /// Hashes without waiting for other threads.
    pub(crate) const fn on_this_thread(function: HashFunction) -> Self {
        Self {
            function,
            is_shared: false,
        }
    }

    /// Hashes each record and makes its entry.
    pub(crate) fn entries(self, records: &[Record<'_>]) -> Vec<Entry> {
        let mut entries = vec![VACANT_ENTRY; records.len()];
        if !self.is_shared {
            let parts = entries.chunks_mut(BATCH_RECORDS_MAX);
            for (batch, part) in records.chunks(BATCH_RECORDS_MAX).zip(parts) {
                self.hash_batch(batch, part);
            }
            return entries;
        }
        let mut rest = &mut entries[..];
        let mut parts = Vec::new();
        for batch in batches(records, |record| record.content.len() as u64) {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(batch.len());
            parts.push((batch, part));
            rest = others;
        }
        map_parts(parts, |(batch, part)| self.hash_batch(batch, part));
        entries
    }

    /// Makes the entries of at most [`BATCH_RECORDS_MAX`] records.
    fn hash_batch(self, records: &[Record<'_>], entries: &mut [Entry]) {
        let mut contents = [&[][..]; BATCH_RECORDS_MAX];
        let mut digests = [Digest::ZERO; BATCH_RECORDS_MAX];
        let contents = &mut contents[..records.len()];
        let digests = &mut digests[..records.len()];
        for (content, record) in contents.iter_mut().zip(records) {
            *content = record.content;
        }
        self.function.digest_many_into(contents, digests);
        for ((entry, record), digest) in entries.iter_mut().zip(records).zip(digests) {
            *entry = Entry {
                digest: *digest,
                offset: record.offset,
                // A record's length was read from a `u32`.
                len: u32::try_from(record.content.len()).unwrap_or(u32::MAX),
            };
        }
    }
}

const VACANT_ENTRY: Entry = Entry {
    digest: Digest::ZERO,
    offset: 0,
    len: 0,
};

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dir::FileKind;
    use crate::format::Sidecar;
    use crate::format::set_index::{Geometry, Ordinal};
    use crate::options::Options;

    /// The set index gives out the location of another object if that object has the same tag.
    #[test]
    fn an_entry_is_given_out_for_its_own_digest_only() {
        let folder = TempDir::new().unwrap();
        let options = Options::new();
        let dir = options.create_dir(folder.path()).unwrap();
        fs::write(dir.segment_path(1, FileKind::Data), [0; 1600]).unwrap();
        let data = Data::open(&dir, 1, options.reading(), 1600).unwrap();
        let entry = |number: u64| Entry {
            digest: Digest::of(number.to_le_bytes()),
            offset: 4 + number * 16,
            len: 12,
        };
        let mut entries: Vec<Entry> = (0..100).map(entry).collect();
        let sidecar = Sidecar::build(&mut entries);
        let sealed = Sealed::in_memory(data, 1600, sidecar, None);
        let geometry = Geometry::of(&[(1, *sealed.binding())]).unwrap();
        let entries: Vec<Entry> = sealed.sidecar().unwrap().entries().collect();
        let location = |at: usize| geometry.location_of(Ordinal::new(0), at, entries[at].offset);
        // No entry is given out before the sidecar is searched for the first time.
        let first = &entries[0].digest;
        assert!(sealed.entry_at(first, &geometry, &location(0)).is_none());
        assert_eq!(sealed.find(first).unwrap().count(), 1);
        for (at, entry) in entries.iter().enumerate() {
            let (own, digest) = (location(at), entry.digest);
            assert_eq!(
                sealed.entry_at(&digest, &geometry, &own),
                Some((at, *entry))
            );
            let mut alike = *digest.as_bytes();
            alike[31] ^= 1;
            let alike = Digest::from(alike);
            assert_eq!(sealed.entry_at(&alike, &geometry, &own), None);
        }
    }

    #[test]
    fn hashed_entries_stand_in_the_order_of_their_records() {
        let buffer = vec![7; 3000];
        for count in [0, 1, 5, 256, 257, 1000] {
            let records: Vec<Record<'_>> = (0..count)
                .map(|i| Record {
                    offset: i as u64,
                    content: &buffer[..i * 1231 % 3000],
                })
                .collect();
            let function = HashFunction::Blake2b;
            let entries = RecordHash::on_all_cores(function).entries(&records);
            let alone = RecordHash::on_this_thread(function).entries(&records);
            assert_eq!(entries, alone);
            assert_eq!(entries.len(), count);
            for (entry, record) in entries.iter().zip(&records) {
                assert_eq!(entry.digest, Digest::of(record.content));
                assert_eq!(entry.offset, record.offset);
                assert_eq!(entry.len as usize, record.content.len());
            }
        }
    }
}
