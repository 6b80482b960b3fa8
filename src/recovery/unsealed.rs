//! Taking over a data file that was not sealed.

use std::ops::Range;

use super::read_journal::{ReadJournal, read_own_journal};
use super::report::{RecoveryReport, Repair};
use super::tail::{self, Tail};
use super::torn::{self, Torn};
use crate::dir::{Dir, FileKind, WritableFile, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{Entry, Journal, Sidecar, journal};
use crate::options::Options;
use crate::segment::begun::Resumed;
use crate::segment::expected::Expected;
use crate::segment::{Appender, RecordHash, Sealed};

/// The result of taking over a data file.
pub(super) enum Recovered {
    /// More can be appended to the segment.
    Appender(Appender),
    /// The segment is sealed as far as it is good, since nothing more can be appended to it: its
    /// end could neither be kept nor cut off, the file has other names, or there was no room for a
    /// new journal.
    Full(Appender),
    /// The segment lost synced bytes, so it is sealed as it is: nothing is appended to it or cut
    /// from it.
    Damaged(Sealed),
    /// The file holds no record, and nothing shows that we wrote it.
    NotOurs,
}

/// A segment whose data file was not sealed.
pub(super) struct Unsealed<'a> {
    pub(super) dir: &'a Dir,
    pub(super) options: &'a Options,
    pub(super) id: u32,
}

impl Unsealed<'_> {
    /// Takes over the data file. `is_ours` is whether there is a journal of this name, which only
    /// we write.
    pub(super) fn recover(&self, is_ours: bool, report: &mut RecoveryReport) -> Result<Recovered> {
        let (dir, segment) = (self.dir, self.id);
        let data = dir.open_segment_file(segment, FileKind::Data)?;
        let data_bytes = data.len()?;
        let read = read_own_journal(dir, self.options.read_mode, segment)?;
        let is_damaged = read.as_ref().is_none_or(|read| read.is_damaged);
        if is_damaged && read.is_some() {
            report.push(Repair::DamagedJournal { segment });
        }
        let goes_on = read.as_ref().is_some_and(ends_with_a_frame);
        let mut noted = read.map_or_else(|| Journal::empty(segment), |read| read.journal);
        if data_bytes < noted.synced_bytes {
            let sealed = self.seal_as_it_is(&mut noted)?;
            let missing_bytes = noted.synced_bytes - data_bytes;
            report.push(Repair::ShortData {
                segment,
                missing_bytes,
            });
            return Ok(Recovered::Damaged(sealed));
        }
        let noted_entries = noted.entries.len();
        let named = (data.file(), &**data.path());
        let hash = RecordHash::on_all_cores(self.options.reading().hash_function);
        let tail = tail::examine(named, data_bytes, &mut noted, hash)?;
        if tail.end == 0 && data_bytes > 0 && !is_ours {
            let path = data.path().to_path_buf();
            report.push(Repair::IgnoredFile { path });
            return Ok(Recovered::NotOurs);
        }
        // Two stores that were copied by links would write over each other's records.
        let is_shared = data.has_other_names()?;
        if tail.rehashed_bytes > 0 {
            let bytes = tail.rehashed_bytes;
            report.push(Repair::RehashedTail { segment, bytes });
            if !is_shared {
                dirty_again(&data, noted.synced_bytes..tail.end)?;
            }
        }
        let torn = Torn {
            segment,
            range: tail.end..data_bytes,
            is_unnoted: !is_damaged && noted.covered_bytes <= tail.end,
        };
        let is_cut =
            !is_shared && (torn.range.is_empty() || torn::cut_off(dir, &data, &torn, report)?);
        let noted = Noted {
            kept_entries: (goes_on && !is_shared).then_some(noted_entries),
            journal: noted,
        };
        let resumed = self.resume_journal(data, noted, tail)?;
        Ok(self.resume(resumed, is_cut))
    }

    fn resume(&self, resumed: Resumed, is_cut: bool) -> Recovered {
        let has_journal = resumed.journal_file.is_some();
        let expected = Expected::of_size(self.options.segment_bytes_max);
        let mut appender = Appender::resume(resumed, self.options.reading(), expected);
        if is_cut && has_journal {
            Recovered::Appender(appender)
        } else {
            appender.close();
            Recovered::Full(appender)
        }
    }

    /// Goes on with the journal on disk if everything in it still holds. Otherwise replaces it, for
    /// which a full disk can lack the room.
    fn resume_journal(&self, data: WritableFile, noted: Noted, tail: Tail) -> Result<Resumed> {
        let (dir, id) = (self.dir, self.id);
        let Tail { entries, end, .. } = tail;
        let mut has_journal = true;
        let (journal, noted) = match noted.kept_entries {
            Some(count) if noted.journal.covered_bytes <= end => (noted.journal, count),
            _ => {
                let bytes = encode_journal(id, &entries, end, noted.journal.synced_bytes);
                match dir.replace_segment_file(id, FileKind::Journal, &bytes) {
                    Err(error) if error.is_out_of_space() => has_journal = false,
                    replaced => replaced?,
                }
                let journal = Journal::parse(&bytes, id).unwrap_or_else(|| Journal::empty(id));
                let count = journal.entries.len();
                (journal, count)
            }
        };
        let open_journal = || dir.open_segment_file(id, FileKind::Journal);
        Ok(Resumed {
            id,
            data,
            journal_file: has_journal.then(open_journal).transpose()?,
            journal,
            noted,
            entries,
            end,
        })
    }

    /// Seals a segment that is shorter than its sync mark. The sidecar lists the lost objects too,
    /// so they are known to be lost.
    fn seal_as_it_is(&self, noted: &mut Journal) -> Result<Sealed> {
        let covered = tail::count_covered(&noted.entries, noted.synced_bytes);
        let index = Sidecar::build(&mut noted.entries[..covered]);
        let (dir, id, bytes) = (self.dir, self.id, noted.synced_bytes);
        dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
        Sealed::with_sidecar(dir, id, self.options.reading(), bytes, &index)
    }
}

/// A journal that was read.
struct Noted {
    journal: Journal,
    /// Number of entries in the file, if the file can be appended to.
    kept_entries: Option<usize>,
}

/// Whether the file ends with the last valid frame, so that others can follow it.
///
/// A crash can leave the end of a journal that was not synced, and not its middle. If the same
/// middle were written again, the old end would follow it, and speak of records whose content is
/// another by then.
fn ends_with_a_frame(read: &ReadJournal) -> bool {
    !read.is_damaged && read.journal.valid_bytes == read.file_bytes
}

/// Writes a part of the file over itself. After a failed fsync the page cache holds data as if it
/// were on disk; without this the next fsync would confirm such data, although it is lost.
fn dirty_again(data: &WritableFile, part: Range<u64>) -> Result<()> {
    const CHUNK_BYTES: u64 = 1 << 20;
    let mut chunk = Vec::new();
    let mut at = part.start;
    while at < part.end {
        let len = CHUNK_BYTES.min(part.end - at);
        chunk.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        let read = read_exact_at(data.file(), &mut chunk, at);
        read.map_err(Error::io(data.path()))?;
        data.write_all_at(&chunk, at)?;
        at += len;
    }
    Ok(())
}

/// Entries in a frame. Frames are checked in parallel, so a journal should have several.
const FRAME_ENTRIES: usize = 1024;

fn encode_journal(id: u32, entries: &[Entry], end: u64, synced_bytes: u64) -> Vec<u8> {
    let (header, mut chain) = journal::encode_header(id);
    let mut bytes = header.to_vec();
    if entries.is_empty() {
        return bytes;
    }
    for part in entries.chunks(FRAME_ENTRIES) {
        let part_end = part.last().and_then(Entry::end).unwrap_or(end);
        chain = journal::encode_entries(&mut bytes, chain, part, part_end);
    }
    journal::encode_sync_mark(&mut bytes, chain, synced_bytes);
    bytes
}
