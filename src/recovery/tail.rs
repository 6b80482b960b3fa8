//! Finding the good records in the data file of a segment that was not sealed.

use std::fs::File;
use std::path::Path;

use crate::error::Result;
use crate::format::{Entry, Journal};
use crate::segment::RecordHash;
use crate::segment::record_scan::RecordScan;

/// The good part of the data. Up to the last sync mark the journal is trusted, behind it the data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The good records in file order.
    pub(super) entries: Vec<Entry>,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// How many bytes were read and hashed.
    pub(super) rehashed_bytes: u64,
}

/// Examines the data of a segment whose sync mark lies within it.
///
/// Behind the mark a record is good if it is whole and, as far as the journal goes, is the one that
/// the journal notes. The first record that is not good ends the segment: it was being written when
/// the power failed, and so was everything after it.
///
/// Takes the entries out of the journal instead of copying them, since there may be many.
pub(super) fn examine(
    file: (&File, &Path),
    file_bytes: u64,
    journal: &mut Journal,
    hash: RecordHash,
) -> Result<Tail> {
    let mut entries = std::mem::take(&mut journal.entries);
    let synced = journal.synced_bytes;
    let covered = count_covered(&entries, synced);
    let noted = entries.split_off(covered);
    let seen_empty = entries.iter().any(|entry| entry.len == 0);
    let end = |entry: &Entry| entry.end().unwrap_or(u64::MAX);
    // The end of the last covered record, not the mark itself: a mark within a record is forged,
    // and the scan would begin with bytes of its content.
    let begin = entries.last().map_or(0, end);
    let mut scan = RecordScan::new(file, begin, file_bytes, seen_empty, hash);
    loop {
        let batch = scan.next_batch()?;
        let is_noted = |(position, entry): &(usize, &Entry)| {
            let noted = noted.get(entries.len() - covered + *position);
            noted.is_none_or(|noted| noted == *entry)
        };
        let good = batch.iter().enumerate().take_while(is_noted).count();
        entries.extend_from_slice(&batch[..good]);
        if good < batch.len() || batch.is_empty() {
            break;
        }
    }
    Ok(Tail {
        end: entries.last().map_or(0, end),
        entries,
        rehashed_bytes: scan.position() - begin,
    })
}

/// Returns how many entries at the beginning of a journal its sync mark covers.
pub(super) fn count_covered(entries: &[Entry], synced: u64) -> usize {
    entries.partition_point(|entry| entry.end().is_some_and(|end| end <= synced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, HashFunction};
    use crate::format::{Records, journal, record};
    use std::io::Write;

    const HASH: RecordHash = RecordHash::on_all_cores(HashFunction::Blake2b);
    const CONTENTS: [&[u8]; 4] = [b"one", b"", b"three", b"four"];

    fn data() -> Vec<u8> {
        let record = |content: &&[u8]| {
            [&record::header(content.len().try_into().unwrap()), *content].concat()
        };
        CONTENTS.iter().flat_map(record).collect()
    }

    fn entries() -> Vec<Entry> {
        let data = data();
        let whole: Vec<_> = Records::new(&data).collect();
        HASH.entries(&whole)
    }

    fn examine(data: &[u8], journal: &mut Journal) -> Tail {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(data).unwrap();
        super::examine((&file, Path::new("file")), data.len() as u64, journal, HASH).unwrap()
    }

    /// A journal that notes `noted` records and marks `synced` of them.
    fn journal(noted: usize, synced: usize) -> Journal {
        let entries = entries();
        let end = |count: usize| {
            entries[..count]
                .last()
                .map_or(0, |entry| entry.end().unwrap())
        };
        let (header, chain) = journal::encode_header(0);
        let mut bytes = header.to_vec();
        let chain = journal::encode_entries(&mut bytes, chain, &entries[..noted], end(noted));
        journal::encode_sync_mark(&mut bytes, chain, end(synced));
        Journal::parse(&bytes, 0).unwrap()
    }

    #[test]
    fn every_cut_behind_the_mark_keeps_the_whole_records() {
        let data = data();
        for noted in 0..=4 {
            for synced in 0..=noted {
                let journal = journal(noted, synced);
                for cut in usize::try_from(journal.synced_bytes).unwrap()..=data.len() {
                    let tail = examine(&data[..cut], &mut journal.clone());
                    let whole = Records::new(&data[..cut]).count();
                    assert_eq!(tail.entries, entries()[..whole]);
                }
            }
        }
    }

    #[test]
    fn h20_a_zero_run_behind_the_records_is_torn() {
        let mut data = data();
        let end = data.len() as u64;
        data.resize(data.len() + (1 << 20), 0);
        assert_eq!(examine(&data, &mut Journal::empty(0)).end, end);
        assert_eq!(examine(&data, &mut journal(4, 4)).end, end);
    }

    #[test]
    fn h5_damage_before_the_mark_cuts_nothing() {
        for flipped in 0..data().len() {
            let mut data = data();
            data[flipped] ^= 0xff;
            assert_eq!(examine(&data, &mut journal(4, 4)).entries, entries());
        }
    }

    #[test]
    fn a_mark_within_a_record_is_not_where_records_begin() {
        let whole = journal(4, 2);
        let begin = whole.synced_bytes;
        for forged in 1..data().len() as u64 {
            let mut journal = whole.clone();
            journal.synced_bytes = forged;
            let tail = examine(&data(), &mut journal);
            assert_eq!(tail.entries, entries(), "{forged}, not {begin}");
        }
    }

    #[test]
    fn a_record_that_is_not_what_the_journal_noted_ends_the_segment() {
        let mut data = data();
        let third = usize::try_from(entries()[2].offset).unwrap();
        data[third..third + 5].fill(0);
        assert_eq!(examine(&data, &mut journal(4, 1)).entries, entries()[..2]);
        // The journal does not note the record, so it may as well be the one that was put.
        let unnoted = examine(&data, &mut journal(2, 1)).entries;
        assert_eq!(unnoted[2].digest, Digest::of([0; 5]));
        assert_eq!(unnoted.len(), 4);
    }
}
