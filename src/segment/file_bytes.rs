//! The bytes of a file that is derived from data: a sidecar or a run.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::dir::{FilePath, is_mostly_holes, null_device, open_regular_file, read_new_at};
use crate::error::{Error, Result};
use crate::memory::quota::MapUse;
use crate::memory::{Map, keep_in_memory};
use crate::options::Reading;

/// The bytes of a whole file, mapped or read.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Map(Map),
    Heap(Vec<u8>),
}

impl AsRef<[u8]> for FileBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map.bytes(),
            Self::Heap(bytes) => bytes,
        }
    }
}

impl FileBytes {
    /// The map of the file, if it is mapped.
    pub(crate) const fn map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Heap(_) => None,
        }
    }

    /// Asks the system for bytes of the file that are not in memory, and does not wait for them.
    pub(crate) fn will_need(&self, range: Range<u64>) {
        if let Self::Map(map) = self {
            map.will_need(range);
        }
    }

    /// Returns where in the file a `part` of its bytes is.
    pub(crate) fn range_of(&self, part: &[u8]) -> Range<u64> {
        match self {
            Self::Map(map) => map.range_of(part),
            Self::Heap(_) => 0..0,
        }
    }

    /// Has the system keep the whole file in memory, whose name is `path`.
    pub(crate) fn keep(&self, path: &FilePath) {
        if let Self::Map(map) = self
            && let Ok((file, len)) = open_regular_file(path)
            && let Some(null_device) = null_device()
        {
            keep_in_memory(&file, len.min(map.bytes().len() as u64), &null_device);
        }
    }

    /// Asks for the whole file, for a pass over it.
    pub(crate) fn fetch(&self) {
        self.will_need(0..u64::MAX);
    }
}

/// Maps an open file, or reads it where no map may be made.
pub(crate) fn file_bytes(
    file: &File,
    path: &Path,
    len: u64,
    reading: Reading,
    map_use: MapUse,
) -> Result<FileBytes> {
    match map_file(file, len, reading, map_use) {
        Some(map) => Ok(FileBytes::Map(map)),
        None => read_file(file, path).map(FileBytes::Heap),
    }
}

pub(super) fn map_file(file: &File, len: u64, reading: Reading, map_use: MapUse) -> Option<Map> {
    if is_mostly_holes(file, len).unwrap_or(true) {
        return None;
    }
    let map = reading.map(file, len, map_use)?;
    reading.advice.advise_index(&map);
    Some(map)
}

/// Reads a file that holds digests or tables. Returns no bytes, which every caller takes for
/// damage, if the file has more holes than such a file can have.
pub(super) fn read_file(file: &File, path: &Path) -> Result<Vec<u8>> {
    let len = file.metadata().map_err(Error::io(path))?.len();
    if is_mostly_holes(file, len).map_err(Error::io(path))? {
        return Ok(Vec::new());
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    read_new_at(file, len, 0).map_err(Error::io(path))
}
