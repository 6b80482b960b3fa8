//! Taking over a data file that was not sealed.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use super::report::{RecoveryReport, Repair};
use super::tail::{self, Tail};
use super::torn::{self, Torn};
use crate::dir::{Dir, FileKind, WritableFile, open_regular_file, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{Entry, Journal, Sidecar, journal};
use crate::memory::Map;
use crate::options::{Options, ReadMode, Reading};
use crate::segment::Appender;
use crate::segment::Sealed;
use crate::segment::begun::Resumed;
use crate::segment::expected::Expected;
use crate::threads::in_parallel_if;

/// A shorter journal is checked before other threads have begun to help.
const SHARED_JOURNAL_BYTES_MIN: usize = 256 << 10;

/// What became of it.
pub(super) enum Recovered {
    /// It can be appended to.
    Appender(Appender),
    /// Its end could be neither kept nor cut off, the file has other names, or there was no room for a new
    /// journal, so it is sealed as far as it is good.
    Full(Appender),
    /// It lost synced bytes, so nothing is appended to it or cut from it; it is sealed as it is.
    Damaged(Sealed),
    /// It holds no record and nothing says that we wrote it.
    NotOurs,
}

/// A journal with what is said by the file that it was read from.
struct ReadJournal {
    journal: Journal,
    /// Length of the file.
    file_bytes: u64,
    /// Whether it goes on with anything but the beginning of a frame, as a crash leaves it.
    is_damaged: bool,
}

/// The journal of a segment, or `None` if there is none that is its. Reads no more of the file than can be
/// a journal.
pub(crate) fn read_journal(dir: &Dir, id: u32) -> Result<Option<Journal>> {
    Ok(read_whole_journal(dir, id)?.map(|read| read.journal))
}

/// Whether the journal of a segment, if there is one, is whole but for a frame that was not written to its
/// end, as a crash leaves it.
pub(crate) fn is_journal_undamaged(dir: &Dir, id: u32) -> Result<bool> {
    let read = read_whole_journal(dir, id)?;
    Ok(read.is_some_and(|read| !read.is_damaged))
}

fn read_whole_journal(dir: &Dir, id: u32) -> Result<Option<ReadJournal>> {
    const FIRST_BYTES: u64 = 1 << 20;
    let path = dir.segment_path(id, FileKind::Journal);
    let (mut file, file_bytes) = match open_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    let mut more_bytes = FIRST_BYTES;
    loop {
        let part = file.by_ref().take(more_bytes);
        let read = { part }.read_to_end(&mut bytes);
        let read = read.map_err(Error::io(&path))?;
        if read == 0 || !journal::plausible(&bytes).goes_on {
            return Ok(parse(&bytes, id, file_bytes, Journal::parse));
        }
        more_bytes = bytes.len() as u64;
    }
}

fn parse(
    bytes: &[u8],
    id: u32,
    file_bytes: u64,
    parse: impl FnOnce(&[u8], u32) -> Option<Journal>,
) -> Option<ReadJournal> {
    let (header, _) = journal::encode_header(id);
    let begin = &bytes[..header.len().min(bytes.len())];
    let is_unwritten = begin.iter().all(|&byte| byte == 0);
    if is_unwritten || begin.len() < header.len() && header.starts_with(begin) {
        // A crash came before its header was written.
        return Some(ReadJournal {
            journal: Journal::empty(id),
            file_bytes,
            is_damaged: true,
        });
    }
    let plausible = journal::plausible(bytes);
    let frames = &bytes[..plausible.bytes];
    let journal = parse(frames, id)?;
    // A file system can leave zeros behind a crash.
    let is_cut_off = || {
        let behind = &bytes[frames.len()..];
        plausible.goes_on || behind.first().is_none_or(|&byte| byte == 0)
    };
    let is_damaged = journal.valid_bytes < frames.len() as u64 || !is_cut_off();
    Some(ReadJournal {
        journal,
        file_bytes,
        is_damaged,
    })
}

/// As [`read_whole_journal`], on all cores and without a copy, which whoever holds the lock may do: the
/// file becomes no shorter, and nobody waits for this.
fn read_own_journal(dir: &Dir, mode: ReadMode, id: u32) -> Result<Option<ReadJournal>> {
    let path = dir.segment_path(id, FileKind::Journal);
    let (file, len) = match open_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let Some(map) = map_if_wanted(&file, len, mode) else {
        return read_whole_journal(dir, id);
    };
    Ok(parse(map.bytes(), id, len, |frames, id| {
        in_parallel_if(
            frames.len() >= SHARED_JOURNAL_BYTES_MIN,
            || Journal::parse_in_parallel(frames, id),
            || Journal::parse(frames, id),
        )
    }))
}

/// `is_ours`: there is a journal of this name, which only we write.
pub(super) fn recover(
    dir: &Dir,
    options: &Options,
    id: u32,
    is_ours: bool,
    report: &mut RecoveryReport,
) -> Result<Recovered> {
    let data = dir.open_segment_file(id, FileKind::Data)?;
    let data_bytes = data.len()?;
    let noted = read_own_journal(dir, options.read_mode, id)?;
    let is_damaged = noted.as_ref().is_none_or(|read| read.is_damaged);
    if is_damaged && noted.is_some() {
        report.push(Repair::DamagedJournal { segment: id });
    }
    // Of a journal that was not synced a crash can leave the end and not the middle. If the middle is
    // written again as it was, the old end would follow it, and speak of what has other content by then.
    let goes_on = noted
        .as_ref()
        .is_some_and(|read| !read.is_damaged && read.journal.valid_bytes == read.file_bytes);
    let mut noted = noted.map_or_else(|| Journal::empty(id), |read| read.journal);
    if data_bytes < noted.synced_bytes {
        let sealed = seal_as_it_is(dir, options.reading(), id, &mut noted)?;
        report.push(Repair::ShortData {
            segment: id,
            missing_bytes: noted.synced_bytes - data_bytes,
        });
        return Ok(Recovered::Damaged(sealed));
    }
    let noted_entries = noted.entries.len();
    let named = (data.file(), &**data.path());
    let tail = tail::examine(named, data_bytes, &mut noted)?;
    if tail.end == 0 && data_bytes > 0 && !is_ours {
        report.push(Repair::IgnoredFile {
            path: data.path().to_path_buf(),
        });
        return Ok(Recovered::NotOurs);
    }
    // Two stores that were copied by links would write over each other's records.
    let is_shared = data.has_other_names()?;
    if tail.rehashed_bytes > 0 {
        report.push(Repair::RehashedTail {
            segment: id,
            bytes: tail.rehashed_bytes,
        });
        if !is_shared {
            dirty_again(&data, noted.synced_bytes..tail.end)?;
        }
    }
    let torn = Torn {
        segment: id,
        range: tail.end..data_bytes,
        is_unnoted: !is_damaged && noted.covered_bytes <= tail.end,
    };
    let is_cut = !is_shared && (torn.range.is_empty() || torn::cut_off(dir, &data, &torn, report)?);
    let noted_entries = (goes_on && !is_shared).then_some(noted_entries);
    let resumed = resume_journal(dir, id, data, noted_entries, noted, tail)?;
    let has_journal = resumed.journal_file.is_some();
    let expected = Expected::of_size(options.segment_bytes_max);
    let mut appender = Appender::resume(resumed, options.read_mode, expected);
    Ok(if is_cut && has_journal {
        Recovered::Appender(appender)
    } else {
        appender.close();
        Recovered::Full(appender)
    })
}

/// Writes a part of the file over itself. If it is in the page cache only because an fsync failed, which
/// leaves it there as if it were on disk, the next fsync would otherwise confirm data that is lost.
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

fn map_if_wanted(file: &File, len: u64, mode: ReadMode) -> Option<Map> {
    match mode {
        ReadMode::Mmap => Map::of_file(file, len).ok(),
        ReadMode::Pread => None,
    }
}

/// Goes on with the journal on disk, which has `noted_entries` and nothing behind them, if all that it
/// says still holds; otherwise replaces it, for which a full disk can lack the room.
fn resume_journal(
    dir: &Dir,
    id: u32,
    data: WritableFile,
    noted_entries: Option<usize>,
    noted: Journal,
    tail: Tail,
) -> Result<Resumed> {
    let Tail { entries, end, .. } = tail;
    let mut has_journal = true;
    let (journal, noted) = match noted_entries {
        Some(count) if noted.covered_bytes <= end => (noted, count),
        _ => {
            let bytes = encode_journal(id, &entries, end, noted.synced_bytes);
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

/// Frames are checked beside each other, so there should be several.
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

/// Seals a segment that is shorter than its sync mark. The sidecar says what was there, so a lost
/// object is known to be lost.
fn seal_as_it_is(dir: &Dir, reading: Reading, id: u32, noted: &mut Journal) -> Result<Sealed> {
    let covered = tail::count_covered(&noted.entries, noted.synced_bytes);
    let index = Sidecar::build(&mut noted.entries[..covered]);
    dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
    Sealed::with_sidecar(dir, id, reading, noted.synced_bytes, &index)
}
