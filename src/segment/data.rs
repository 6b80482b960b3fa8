//! The data file of a sealed segment, opened for reading.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use super::RecordHash;
use super::drop_behind::MappedBytes;
use super::read_ahead::ReadAhead;
use crate::digest::HashFunction;
use crate::dir::{
    Dir, FileKind, Identity, has_more_holes_than_data, identity_of, open_regular_file, read_new_at,
};
use crate::error::{Error, Result};
use crate::format::record;
use crate::memory::Map;
use crate::memory::quota::{HeldFile, MapUse};
use crate::options::Reading;

/// An open data file, shared by the segment sets that hold the segment and by every object that
/// was read from it. Once it is retired, the last owner to be dropped removes the segment's files.
#[derive(Debug)]
pub(crate) struct Data {
    id: u32,
    dir: Dir,
    len: u64,
    hash_function: HashFunction,
    /// The file that was opened. `None` if the system does not say which it is.
    identity: Option<Identity>,
    source: Source,
    /// Counted while the file is mapped.
    _mapped: Option<MappedBytes>,
    retired: OnceLock<Dir>,
}

#[derive(Debug)]
enum Source {
    /// The file is mapped and its descriptor closed, so that many segments do not use them up.
    Map(Map),
    /// The file is held open, unless the process holds too many.
    File(HeldFile),
    /// The file is opened by its name for each read.
    Named,
    /// The map or file is released before the file is removed, which Windows asks for.
    Closed,
}

impl Data {
    /// Opens the file at its present length, but at most `len_max` bytes of it. Falls back to
    /// positional reads where the system refuses another mapping.
    pub(crate) fn open(dir: &Dir, id: u32, reading: Reading, len_max: u64) -> Result<Self> {
        let path = dir.segment_path(id, FileKind::Data);
        let (file, file_bytes) = open_regular_file(&path)?;
        let len = file_bytes.min(len_max);
        // Mapped records are hashed without a check for holes, so the file is checked once here.
        let is_mappable = !has_more_holes_than_data(&file, len).map_err(Error::io(&path))?;
        let map = is_mappable.then(|| reading.map(&file, len, MapUse::Data));
        let identity = identity_of(&file).ok();
        let source = match map.flatten() {
            Some(map) => {
                reading.advice.advise_data(&map);
                Source::Map(map)
            }
            None => HeldFile::hold(file).map_or(Source::Named, Source::File),
        };
        Ok(Self {
            id,
            dir: dir.clone(),
            len,
            hash_function: reading.hash_function,
            identity,
            _mapped: matches!(source, Source::Map(_)).then(|| MappedBytes::count(len)),
            source,
            retired: OnceLock::new(),
        })
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// The function that names the objects in the file.
    #[inline]
    pub(crate) const fn hash_function(&self) -> HashFunction {
        self.hash_function
    }

    /// How the records are hashed where other threads may be waited for.
    pub(crate) const fn hash_on_all_cores(&self) -> RecordHash {
        RecordHash::on_all_cores(self.hash_function)
    }

    /// How the records are hashed where no other thread may be waited for.
    pub(crate) const fn hash_on_this_thread(&self) -> RecordHash {
        RecordHash::on_this_thread(self.hash_function)
    }

    /// Length in bytes.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Borrows the bytes at `offset`, if all of them are there and the file is mapped.
    #[inline]
    pub(crate) fn mapped(&self, offset: u64, len: usize) -> Option<&[u8]> {
        match &self.source {
            Source::Map(map) => map.slice(offset, len),
            Source::File(_) | Source::Named | Source::Closed => None,
        }
    }

    /// The map of the file. `None` if it is not mapped: each read is then a request of its own.
    pub(crate) const fn map(&self) -> Option<&Map> {
        match &self.source {
            Source::Map(map) => Some(map),
            Source::File(_) | Source::Named | Source::Closed => None,
        }
    }

    /// Begins to read ahead of a walk through the file.
    pub(crate) fn read_ahead(&self) -> ReadAhead {
        match &self.source {
            Source::Map(map) => ReadAhead::of_file(self.len, map, || self.open_same()),
            Source::File(_) | Source::Named | Source::Closed => ReadAhead::default(),
        }
    }

    /// Opens the file by its name, if that is still the file that was opened, and returns its length
    /// too. Whoever maps another file takes on the fate of that.
    fn open_same(&self) -> Option<(File, u64)> {
        let path = self.dir.segment_path(self.id, FileKind::Data);
        let (file, len) = open_regular_file(&path).ok()?;
        let is_same = self.identity.is_some() && identity_of(&file).ok() == self.identity;
        is_same.then_some((file, len))
    }

    /// The bytes at `offset`, or `None` if not all of them are there.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Option<Cow<'_, [u8]>>> {
        match &self.source {
            Source::Map(map) => Ok(map.content(offset, len).map(Cow::Borrowed)),
            Source::File(held) => self.read_from(held.file(), offset, len),
            Source::Named => self.read_from(&self.open_again()?, offset, len),
            Source::Closed => Ok(None),
        }
    }

    fn read_from(&self, file: &File, offset: u64, len: usize) -> Result<Option<Cow<'_, [u8]>>> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let bytes = read_new_at(file, len, offset).map_err(|error| self.failed(error))?;
        Ok(Some(Cow::Owned(bytes)))
    }

    /// Opens the file by its name. A writer in this process keeps the file for as long as `self`
    /// lives; a writer in another process does not know of this reader.
    fn open_again(&self) -> Result<File> {
        match open_regular_file(&self.dir.segment_path(self.id, FileKind::Data)) {
            Ok((file, _)) => Ok(file),
            Err(error) if error.is_not_found() => {
                let reason = "the file was removed since it was listed, refresh this handle";
                Err(self.failed(io::Error::new(io::ErrorKind::NotFound, reason)))
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(&self.dir.segment_path(self.id, FileKind::Data))(error)
    }

    /// Whether this process was forked from the one that opened the file.
    pub(crate) fn is_inherited(&self) -> bool {
        self.dir.is_inherited()
    }

    pub(crate) const fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) const fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Map(_))
    }

    /// The length of the content that begins at `offset`, as the record's header gives it. `None`
    /// if the header is not there.
    #[inline]
    pub(crate) fn content_len(&self, offset: u64) -> Result<Option<usize>> {
        let Some(begin) = offset.checked_sub(record::HEADER_BYTES) else {
            return Ok(None);
        };
        let header = self.read(begin, 4)?;
        let len = header.as_deref().and_then(record::parse_header);
        Ok(len.map(|len| len as usize))
    }

    /// The content that begins at `offset`, with the length that its header claims. `None` if the
    /// file is not mapped or not all of the content is there.
    #[inline]
    pub(crate) fn mapped_record(&self, offset: u64) -> Option<&[u8]> {
        let header = self.mapped(offset.checked_sub(record::HEADER_BYTES)?, 4)?;
        self.mapped(offset, record::parse_header(header)? as usize)
    }

    /// All bytes, if the file is mapped.
    pub(crate) fn mapped_all(&self) -> Option<&[u8]> {
        self.map()?.slice(0, usize::try_from(self.len).ok()?)
    }

    /// Calls `work` with the file, or returns `None` if the file is closed.
    pub(crate) fn with_file<T>(
        &self,
        work: impl FnOnce((&File, &Path)) -> Result<T>,
    ) -> Result<Option<T>> {
        let path = self.dir.segment_path(self.id, FileKind::Data);
        match &self.source {
            Source::File(held) => work((held.file(), &path)).map(Some),
            Source::Map(_) | Source::Named => work((&self.open_again()?, &path)).map(Some),
            Source::Closed => Ok(None),
        }
    }

    /// Has the segment's files removed as soon as the last reader is dropped.
    pub(crate) fn retire(&self, dir: &Dir) {
        let _ = self.retired.set(dir.clone());
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Some(dir) = self.retired.take() {
            self.source = Source::Closed;
            // The manifest lists the segment as retired, so the next opening removes files that
            // remain here. `Dir` refuses after the store was closed: the folder may have another
            // writer by then.
            let _ = dir.remove_segment(self.id);
        }
    }
}
