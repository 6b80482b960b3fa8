//! Taking over a data file that was not sealed.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::open_listed_data;
use super::report::{RecoveryReport, Repair};
use super::tail::{self, Tail};
use crate::dir::{Dir, FileKind, WritableFile, open_regular_file, require_regular_file};
use crate::error::{Error, Result};
use crate::format::{Entry, Index, Journal, journal};
use crate::mmap::Map;
use crate::options::{Options, ReadMode, Reading};
use crate::segment::Appender;
use crate::segment::Sealed;
use crate::segment::appender::Resumed;
use crate::threads::sharing;

/// A shorter journal is checked before other threads have begun to help.
const SHARED_JOURNAL_BYTES_MIN: u64 = 256 << 10;

/// What became of it.
pub(super) enum Recovered {
    /// It can be appended to.
    Appender(Appender),
    /// It lost synced bytes, so nothing is appended to it or cut from it; it is sealed as it is.
    Damaged(Sealed),
    /// It holds no record and nothing says that we wrote it.
    NotOurs,
}

/// The journal of a segment, or `None` if there is none that is its.
pub(super) fn read_journal(dir: &Dir, id: u32) -> Result<Option<Journal>> {
    let path = dir.segment_path(id, FileKind::Journal);
    match require_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(None),
        result => result?,
    };
    match fs::read(&path) {
        Ok(bytes) => Ok(Journal::parse(&bytes, id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// As [`read_journal`], on all cores and without a copy, which whoever holds the lock may do: the
/// file becomes no shorter, and nobody waits for this. With the length of the file.
fn read_own_journal(dir: &Dir, mode: ReadMode, id: u32) -> Result<Option<(Journal, u64)>> {
    let path = dir.segment_path(id, FileKind::Journal);
    let (file, len) = match open_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let bytes = Bytes::of(&file, &path, len, mode)?;
    let bytes = bytes.as_slice();
    let journal = if len >= SHARED_JOURNAL_BYTES_MIN
        && let Some(threads) = sharing()
    {
        threads.run(|| Journal::parse_in_parallel(bytes, id))
    } else {
        Journal::parse(bytes, id)
    };
    Ok(journal.map(|journal| (journal, len)))
}

/// For a journal whose data file is not there: an error if it notes that something was synced.
pub(super) fn check_data_is_not_missing(
    dir: &Dir,
    options: &Options,
    id: u32,
    report: &mut RecoveryReport,
) -> Result<()> {
    let journal = read_journal(dir, id)?;
    if journal.is_none_or(|journal| journal.synced_bytes == 0) {
        return Ok(());
    }
    let open = || require_regular_file(&dir.segment_path(id, FileKind::Data));
    open_listed_data(dir, options, id, report, open).map(drop)
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
    // Of a journal that was not synced a crash can leave the end and not the middle. If the middle is
    // written again as it was, the old end would follow it, and speak of what has other content by then.
    let goes_on = noted
        .as_ref()
        .is_some_and(|(journal, len)| journal.valid_bytes == *len);
    let mut noted = noted.map_or_else(|| Journal::empty(id), |(journal, _)| journal);
    if data_bytes < noted.synced_bytes {
        let sealed = seal_as_it_is(dir, options.reading(), id, &mut noted)?;
        report.push(Repair::ShortData {
            segment: id,
            missing_bytes: noted.synced_bytes - data_bytes,
        });
        return Ok(Recovered::Damaged(sealed));
    }
    let bytes = Bytes::of(data.file(), data.path(), data_bytes, options.read_mode)?;
    let noted_entries = noted.entries.len();
    let tail = tail::examine(bytes.as_slice(), &mut noted);
    if tail.end == 0 && data_bytes > 0 && !is_ours {
        report.push(Repair::IgnoredFile {
            path: data.path().to_owned(),
        });
        return Ok(Recovered::NotOurs);
    }
    if tail.rehashed_bytes > 0 {
        report.push(Repair::RehashedTail {
            segment: id,
            bytes: tail.rehashed_bytes,
        });
        let unsynced = range(bytes.as_slice(), noted.synced_bytes, tail.end);
        dirty_again(&data, unsynced, noted.synced_bytes)?;
    }
    let saved_as = save_torn(dir, id, range(bytes.as_slice(), tail.end, data_bytes))?;
    // Windows cuts no file that is mapped.
    drop(bytes);
    if tail.end < data_bytes {
        data.cut(tail.end)?;
        report.push(Repair::CutTail {
            segment: id,
            bytes: data_bytes - tail.end,
            saved_as,
        });
    }
    let resumed = resume_journal(dir, id, data, goes_on.then_some(noted_entries), noted, tail)?;
    let segment_bytes_max = options.segment_bytes_max;
    Ok(Recovered::Appender(Appender::resume(
        resumed,
        options.read_mode,
        segment_bytes_max,
        segment_bytes_max,
    )))
}

fn range(bytes: &[u8], begin: u64, end: u64) -> &[u8] {
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes
        .get(position(begin)..position(end))
        .unwrap_or_default()
}

/// Writes bytes over themselves. If they are in the page cache only because an fsync failed, which
/// leaves them there as if they were on disk, the next fsync would otherwise confirm data that is
/// lost.
fn dirty_again(data: &WritableFile, bytes: &[u8], offset: u64) -> Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let mut offset = offset;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        // A copy, since the bytes may be mapped from the pages that are written.
        let copy = chunk.to_vec();
        data.write_all_at(&copy, offset)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}

/// All bytes of a file.
struct Bytes(Cow<'static, [u8]>, Option<Map>);

impl Bytes {
    fn of(file: &File, path: &Path, len: u64, mode: ReadMode) -> Result<Self> {
        if mode == ReadMode::Mmap
            && let Ok(map) = Map::of_file(file, len)
        {
            return Ok(Self(Cow::Borrowed(&[]), Some(map)));
        }
        let bytes = fs::read(path).map_err(Error::io(path))?;
        Ok(Self(Cow::Owned(bytes), None))
    }

    fn as_slice(&self) -> &[u8] {
        self.1.as_ref().map_or(&self.0, Map::bytes)
    }
}

/// Goes on with the journal on disk, which has `noted_entries` and nothing behind them, if all that it
/// says still holds; otherwise replaces it.
fn resume_journal(
    dir: &Dir,
    id: u32,
    data: WritableFile,
    noted_entries: Option<usize>,
    noted: Journal,
    tail: Tail,
) -> Result<Resumed> {
    let Tail { entries, end, .. } = tail;
    let (journal, noted) = match noted_entries {
        Some(count) if noted.covered_bytes <= end => (noted, count),
        _ => {
            let bytes = encode_journal(id, &entries, end, noted.synced_bytes);
            dir.replace_segment_file(id, FileKind::Journal, &bytes)?;
            let journal = Journal::parse(&bytes, id).unwrap_or_else(|| Journal::empty(id));
            let count = journal.entries.len();
            (journal, count)
        }
    };
    Ok(Resumed {
        id,
        data,
        journal_file: dir.open_segment_file(id, FileKind::Journal)?,
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
    let index = Index::build(&mut noted.entries[..covered]);
    dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
    Sealed::with_index(dir, id, reading, noted.synced_bytes, &index)
}

/// Saves bytes that are to be cut off, unless they are all zero. An earlier file of another content
/// is kept: the new one is appended to it.
fn save_torn(dir: &Dir, id: u32, torn: &[u8]) -> Result<Option<PathBuf>> {
    if torn.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let path = dir.segment_path(id, FileKind::Torn);
    let mut saved = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    // A crash came between saving and cutting: it is there already.
    if !saved.ends_with(torn) {
        saved.extend_from_slice(torn);
        dir.replace_segment_file(id, FileKind::Torn, &saved)?;
    }
    Ok(Some(path))
}
