//! Saving the bytes that are cut off the end of a data file.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::report::{RecoveryReport, Repair};
use crate::dir::{Dir, FileKind, WritableFile, first_stored, read_exact_at};
use crate::error::{Error, Result};
use crate::format::record;

/// Most bytes that are saved of a put that a crash interrupted. Such a put cannot be completed, and
/// a large one that is interrupted again and again would otherwise fill the disk.
const FRONT_BYTES_MAX: u64 = 64 << 10;
/// Most bytes in the file that holds what was saved of a segment.
const SAVED_BYTES_MAX: u64 = 64 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// What became of bytes that recovery wants to cut off.
enum Saved {
    /// They can be cut off: they are in this file, or they were all zeros.
    Safe(Option<PathBuf>),
    /// They can be cut off, since they are the front part of one record. There was no room to save
    /// them.
    Worthless(String),
    /// They have to stay, since there may be whole records among them. There was no room to save
    /// them.
    Needed(String),
}

/// The end of a data file whose bytes are not the ones that were written.
pub(super) struct Torn {
    pub(super) segment: u32,
    pub(super) range: Range<u64>,
    /// Whether our own journal notes no record in it. Then a record that goes on beyond the file
    /// was never whole. Otherwise it may only look so because its length is damaged.
    pub(super) is_unnoted: bool,
}

/// Saves the end of a data file, cuts it off and reports that. False if it has to stay.
pub(super) fn cut_off(
    dir: &Dir,
    data: &WritableFile,
    torn: &Torn,
    report: &mut RecoveryReport,
) -> Result<bool> {
    let Torn { segment, range, .. } = torn;
    let (segment, bytes) = (*segment, range.end - range.start);
    let repair = match save(dir, data, torn)? {
        Saved::Safe(saved_as) => Repair::CutTail {
            segment,
            bytes,
            saved_as,
        },
        Saved::Worthless(reason) => Repair::UnsavedTail {
            segment,
            bytes,
            reason,
        },
        Saved::Needed(reason) => {
            report.push(Repair::UncutTail {
                segment,
                bytes,
                reason,
            });
            return Ok(false);
        }
    };
    data.cut(range.start)?;
    report.push(repair);
    Ok(true)
}

/// Saves the end of a data file, unless it is all zeros. What was saved earlier is kept: the new
/// part is appended to it.
fn save(dir: &Dir, data: &WritableFile, torn: &Torn) -> Result<Saved> {
    let Torn { segment, range, .. } = torn;
    let is_front = torn.is_unnoted && is_front_of_one_record(data, range)?;
    let end = if is_front {
        range.end.min(range.start + FRONT_BYTES_MAX)
    } else {
        range.end
    };
    let Some(end_of_content) = end_of_content(data, range.start..end)? else {
        return Ok(Saved::Safe(None));
    };
    // A file can be said to be longer than anything that is stored in it.
    let end = if end - range.start > SAVED_BYTES_MAX {
        end_of_content
    } else {
        end
    };
    let path = dir.segment_path(*segment, FileKind::Torn);
    let no_room = |reason: String| {
        if is_front {
            Saved::Worthless(reason)
        } else {
            Saved::Needed(reason)
        }
    };
    match append(dir, *segment, data, range.start..end) {
        Ok(true) => Ok(Saved::Safe(Some(path.to_path_buf()))),
        Ok(false) => Ok(no_room(format!(
            "{} has {SAVED_BYTES_MAX} bytes already, or other names; move it away",
            path.display()
        ))),
        Err(error) if is_full(&error) => Ok(no_room(error.as_reason())),
        Err(error) => Err(error),
    }
}

/// Whether the part begins with a record that goes on beyond it.
fn is_front_of_one_record(data: &WritableFile, torn: &Range<u64>) -> Result<bool> {
    let bytes = torn.end - torn.start;
    if bytes <= record::HEADER_BYTES {
        return Ok(true);
    }
    let mut header = [0; 4];
    read(data, &mut header, torn.start)?;
    let len = record::parse_header(&header).unwrap_or(0);
    Ok(u64::from(len) > bytes - record::HEADER_BYTES)
}

/// Where the last byte in `range` that is not zero ends.
fn end_of_content(data: &WritableFile, range: Range<u64>) -> Result<Option<u64>> {
    let mut end = None;
    let mut chunk = vec![0; CHUNK_BYTES];
    for_each_stored(data, range, |stored| {
        let part = part(&mut chunk, &stored);
        read(data, part, stored.start)?;
        if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
            end = Some(stored.start + last as u64 + 1);
        }
        Ok(())
    })?;
    Ok(end)
}

/// Appends a part of the data file to the file that holds what was saved. False if that file would
/// become too long or has other names.
fn append(dir: &Dir, id: u32, data: &WritableFile, range: Range<u64>) -> Result<bool> {
    let path = dir.segment_path(id, FileKind::Torn);
    let is_new = matches!(path.own_status(), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let saved = if is_new {
        dir.create_segment_file(id, FileKind::Torn)?
    } else {
        dir.open_segment_file(id, FileKind::Torn)?
    };
    let saved_bytes = saved.len()?;
    if saved_bytes >= range.end - range.start {
        let begin = saved_bytes - (range.end - range.start);
        // A crash came between saving and cutting, so the part is there already.
        if is_same(data, &range, &saved, begin)? {
            return Ok(true);
        }
    }
    let is_too_much = saved_bytes + (range.end - range.start) > SAVED_BYTES_MAX;
    if is_too_much || saved.has_other_names()? {
        return Ok(false);
    }
    let copied = copy(data, &range, &saved, saved_bytes);
    if copied.is_err() {
        discard(dir, &saved, saved_bytes, is_new);
    }
    copied?;
    if is_new {
        dir.sync()?;
    }
    Ok(true)
}

fn copy(data: &WritableFile, range: &Range<u64>, to: &WritableFile, at: u64) -> Result<()> {
    to.take_permissions_of(data.file())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = range.start;
    while position < range.end {
        let part = part(&mut chunk, &(position..range.end));
        read(data, part, position)?;
        to.write_all_at(part, at + (position - range.start))?;
        position += part.len() as u64;
    }
    to.sync()
}

/// Takes back a part that was not saved as a whole. Best effort: bytes that stay are evidence that
/// exists twice.
fn discard(dir: &Dir, saved: &WritableFile, saved_bytes: u64, is_new: bool) {
    if is_new {
        let _ = dir.remove_if_present(saved.path());
    } else {
        let _ = saved.cut(saved_bytes);
    }
}

fn is_same(
    data: &WritableFile,
    range: &Range<u64>,
    saved: &WritableFile,
    saved_begin: u64,
) -> Result<bool> {
    let (mut a, mut b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut at = range.start;
    while at < range.end {
        let a = part(&mut a, &(at..range.end));
        let b = &mut b[..a.len()];
        read(data, a, at)?;
        read(saved, b, saved_begin + (at - range.start))?;
        if a != b {
            return Ok(false);
        }
        at += a.len() as u64;
    }
    Ok(true)
}

/// Calls `work` with each part of `range` that is stored, in chunks.
fn for_each_stored(
    data: &WritableFile,
    range: Range<u64>,
    mut work: impl FnMut(Range<u64>) -> Result<()>,
) -> Result<()> {
    let mut at = range.start;
    loop {
        let stored = first_stored(data.file(), at..range.end).map_err(Error::io(data.path()))?;
        let Some(stored) = stored else { return Ok(()) };
        let end = stored.end.min(stored.start + CHUNK_BYTES as u64);
        work(stored.start..end)?;
        at = end;
    }
}

/// Returns as much of `chunk` as `range` is long.
fn part<'a>(chunk: &'a mut [u8], range: &Range<u64>) -> &'a mut [u8] {
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let len = len.min(chunk.len());
    &mut chunk[..len]
}

fn read(file: &WritableFile, buffer: &mut [u8], at: u64) -> Result<()> {
    read_exact_at(file.file(), buffer, at).map_err(Error::io(file.path()))
}

fn is_full(error: &Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, Error::Io { source, .. }
        if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}
