//! Reading the journal of a segment from its file.

use std::fs::File;
use std::io::Read;

use crate::dir::{Dir, FileKind, open_regular_file};
use crate::error::{Error, Result};
use crate::format::{Journal, journal};
use crate::memory::Map;
use crate::options::ReadMode;
use crate::threads::in_parallel_if;

/// A shorter journal is checked before other threads have begun to help.
const SHARED_JOURNAL_BYTES_MIN: usize = 256 << 10;

/// A journal with the state of the file that it was read from.
pub(super) struct ReadJournal {
    pub(super) journal: Journal,
    /// Length of the file.
    pub(super) file_bytes: u64,
    /// Whether anything follows the valid frames but the beginning of another frame. A crash leaves
    /// only such a beginning.
    pub(super) is_damaged: bool,
}

/// Returns the journal of a segment, or `None` if there is none or the file belongs to another
/// segment. Reads no more of the file than can be a journal.
pub(crate) fn read_journal(dir: &Dir, id: u32) -> Result<Option<Journal>> {
    Ok(read_whole_journal(dir, id)?.map(|read| read.journal))
}

/// Returns the journal as far as its first entries, without reading much more of it than they take.
/// `None` if there is none or the file belongs to another segment.
pub(super) fn read_first_frames(dir: &Dir, id: u32) -> Result<Option<Journal>> {
    const FIRST_BYTES: u64 = 64 << 10;
    let Some((mut file, _)) = open_journal(dir, id)? else {
        return Ok(None);
    };
    let path = dir.segment_path(id, FileKind::Journal);
    let mut bytes = Vec::new();
    let mut more_bytes = FIRST_BYTES;
    loop {
        let read = file.by_ref().take(more_bytes).read_to_end(&mut bytes);
        let read = read.map_err(Error::io(&path))?;
        let journal = Journal::parse(&bytes, id);
        let has_entries = journal
            .as_ref()
            .is_some_and(|journal| !journal.entries.is_empty());
        if has_entries || read == 0 || !journal::plausible(&bytes).goes_on {
            return Ok(journal);
        }
        more_bytes = 3 * bytes.len() as u64;
    }
}

/// Whether the journal of a segment is whole, except for a last frame that a crash may have cut
/// short. False if there is no journal.
pub(crate) fn is_journal_undamaged(dir: &Dir, id: u32) -> Result<bool> {
    let read = read_whole_journal(dir, id)?;
    Ok(read.is_some_and(|read| !read.is_damaged))
}

/// Opens the journal of a segment, and returns its length too. `None` if there is no journal.
fn open_journal(dir: &Dir, id: u32) -> Result<Option<(File, u64)>> {
    match open_regular_file(&dir.segment_path(id, FileKind::Journal)) {
        Err(error) if error.is_not_found() => Ok(None),
        opened => opened.map(Some),
    }
}

fn read_whole_journal(dir: &Dir, id: u32) -> Result<Option<ReadJournal>> {
    const FIRST_BYTES: u64 = 1 << 20;
    let Some((mut file, file_bytes)) = open_journal(dir, id)? else {
        return Ok(None);
    };
    let path = dir.segment_path(id, FileKind::Journal);
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

/// Reads a journal as [`read_whole_journal`] does, but on all cores and without a copy. Only the
/// holder of the lock may do so: the file becomes no shorter, and nobody waits for this.
pub(super) fn read_own_journal(dir: &Dir, mode: ReadMode, id: u32) -> Result<Option<ReadJournal>> {
    let Some((file, len)) = open_journal(dir, id)? else {
        return Ok(None);
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

fn map_if_wanted(file: &File, len: u64, mode: ReadMode) -> Option<Map> {
    match mode {
        ReadMode::Mmap => Map::of_file(file, len).ok(),
        ReadMode::Pread => None,
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
