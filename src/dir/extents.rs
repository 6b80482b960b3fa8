//! The parts of a file that are stored. A file can be much longer than what is stored of it: the
//! other parts are holes, which read as zeros.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Returns the first part of a file within `range` that is stored, or `None` if the whole range is
/// a hole. Where the system does not tell, the whole range counts as stored.
#[cfg(all(
    any(target_os = "linux", target_os = "android", target_vendor = "apple"),
    not(miri)
))]
pub(crate) fn first_stored(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    use libc::{EINVAL, ENOSYS, ENXIO, EOPNOTSUPP};
    use rustix::fs::{SeekFrom, seek};

    if range.is_empty() {
        return Ok(None);
    }
    let begin = match seek(file, SeekFrom::Data(range.start)) {
        Ok(begin) if begin < range.end => begin.max(range.start),
        Ok(_) => return Ok(None),
        Err(error) => match error.raw_os_error() {
            // Nothing is stored behind this position.
            ENXIO => return Ok(None),
            EINVAL | ENOSYS | EOPNOTSUPP => return Ok(Some(range)),
            _ => return Err(error.into()),
        },
    };
    let end = seek(file, SeekFrom::Hole(begin)).map_or(range.end, |end| end.min(range.end));
    Ok(Some(begin..end.max(begin + 1)))
}

/// Returns the whole range, since the system does not tell what is stored.
#[cfg(any(
    not(any(target_os = "linux", target_os = "android", target_vendor = "apple")),
    miri
))]
pub(crate) fn first_stored(_file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    Ok((!range.is_empty()).then_some(range))
}

/// Returns how many bytes of `range` are holes.
pub(crate) fn hole_bytes(file: &File, range: Range<u64>) -> io::Result<u64> {
    let (mut at, mut holes) = (range.start, 0);
    while let Some(stored) = first_stored(file, at..range.end)? {
        holes += stored.start - at;
        at = stored.end;
    }
    Ok(holes + range.end.saturating_sub(at))
}

/// Most bytes of holes that are hashed in records that neither manifest nor journal speaks of. A
/// file that was restored may lack its zeros, but hashing a file that stores next to nothing would
/// take as long as its claimed length.
pub(crate) const DATA_HOLE_BYTES_MAX: u64 = 256 << 20;

/// Most bytes of holes in a file that holds digests or tables. Such a file is read as a whole, and
/// hashed.
const TABLE_HOLE_BYTES_MAX: u64 = 1 << 20;

/// Whether a file has more holes than one that holds digests or tables can have.
pub(crate) fn is_mostly_holes(file: &File, file_bytes: u64) -> io::Result<bool> {
    has_more_holes_than(TABLE_HOLE_BYTES_MAX, file, file_bytes)
}

/// Whether a data file has so many holes that not all of its records are hashed: see
/// [`DATA_HOLE_BYTES_MAX`].
pub(crate) fn has_more_holes_than_data(file: &File, file_bytes: u64) -> io::Result<bool> {
    has_more_holes_than(DATA_HOLE_BYTES_MAX, file, file_bytes)
}

fn has_more_holes_than(bytes_max: u64, file: &File, file_bytes: u64) -> io::Result<bool> {
    Ok(file_bytes > bytes_max && hole_bytes(file, 0..file_bytes)? > bytes_max)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn stored_parts_and_holes_are_told_apart() {
        let file = tempfile::tempfile().unwrap();
        let (length, piece) = (1 << 40, 1 << 20);
        file.write_all_at(&vec![1; 1 << 20], 4 << 20).unwrap();
        file.set_len(length).unwrap();
        let stored = first_stored(&file, 0..length).unwrap().unwrap();
        assert_eq!(stored, 4 << 20..5 << 20);
        assert_eq!(hole_bytes(&file, 0..length).unwrap(), length - piece);
        assert_eq!(hole_bytes(&file, 4 << 20..5 << 20).unwrap(), 0);
        assert_eq!(first_stored(&file, 5 << 20..length).unwrap(), None);
        assert_eq!(first_stored(&file, 7..7).unwrap(), None);
    }
}
