//! Single files: writing to one that is open, and reading at an offset.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use super::folder::{FilePath, identity_of};
use super::operations::{positional, uninterrupted};
use super::{BlockWriter, Dir, FileKind};
use crate::error::{Error, Result};

/// A file of ours that is open for writing.
#[derive(Debug)]
pub(crate) struct WritableFile {
    pub(super) file: File,
    pub(super) path: FilePath,
    pub(super) dir: Dir,
    /// Whether its fsyncs are counted as those of data.
    pub(super) is_data: bool,
}

impl WritableFile {
    /// Says which file of a segment this is.
    pub(super) fn of_kind(self, kind: FileKind) -> Self {
        Self {
            is_data: kind == FileKind::Data,
            ..self
        }
    }

    /// Returns the open file, for reading and mapping.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    pub(crate) const fn path(&self) -> &FilePath {
        &self.path
    }

    /// Fails if the file no longer has its name: what is written to it would not be found again.
    pub(crate) fn require_name(&self) -> Result<()> {
        let named = match self.path.identity() {
            Ok(named) => Some(named),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(&self.path)(error)),
        };
        if named == Some(identity_of(&self.file).map_err(Error::io(&self.path))?) {
            return Ok(());
        }
        let message = "the file was removed or replaced while the store wrote to it, so what was \
                       put since cannot be found again";
        Err(Error::io(&self.path)(io::Error::new(
            io::ErrorKind::NotFound,
            message,
        )))
    }

    /// Whether the file has other names (hard links), under which somebody else may write to it.
    /// False where the system does not say.
    pub(crate) fn has_other_names(&self) -> Result<bool> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = self.file.metadata().map_err(Error::io(&self.path))?;
            Ok(metadata.nlink() > 1)
        }
        #[cfg(not(unix))]
        Ok(false)
    }

    /// Returns the length of the blocks in which a [`BlockWriter`] writes this file.
    pub(crate) fn write_block_bytes(&self) -> usize {
        self.dir.0.writing.write_block_bytes
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(Error::io(&self.path))?;
        Ok(metadata.len())
    }

    /// Writes all of `bytes`. After an error any part of them may have been written.
    pub(crate) fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        self.dir.check_own()?;
        while !bytes.is_empty() {
            let operations = self.dir.operations();
            let write = || operations.write_at(&self.file, &self.path, bytes, offset);
            match uninterrupted(write) {
                Ok(0) => return Err(Error::io(&self.path)(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.dir.traffic().bytes_written.add(written as u64);
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) => return Err(Error::io(&self.path)(error)),
            }
        }
        Ok(())
    }

    /// Copies a file with its permissions, so that a private file does not become readable for
    /// others.
    pub(super) fn copy_from(&self, source: &File, source_path: &Path) -> Result<()> {
        const CHUNK_BYTES: usize = 1 << 20;
        self.take_permissions_of(source)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut writer = BlockWriter::new(self, self.write_block_bytes());
        loop {
            let at = writer.position();
            let read = uninterrupted(|| positional::read_at(source, &mut chunk, at));
            let read = read.map_err(Error::io(source_path))?;
            if read == 0 {
                return writer.finish().map(|_| ());
            }
            writer.append(&chunk[..read])?;
        }
    }

    /// Gives the file the permissions of another one.
    pub(crate) fn take_permissions_of(&self, source: &File) -> Result<()> {
        let permissions = |file: &File| file.metadata().map(|metadata| metadata.permissions());
        let change = || {
            let wanted = permissions(source)?;
            if permissions(&self.file)? == wanted {
                return Ok(());
            }
            self.file.set_permissions(wanted)
        };
        change().map_err(Error::io(&self.path))
    }

    /// Cuts the file. If that fails, every further change is refused: the file may end in bytes
    /// that belong to no record.
    pub(crate) fn cut(&self, len: u64) -> Result<()> {
        self.dir.check_own()?;
        let operations = self.dir.operations();
        let result = operations.set_len(&self.file, &self.path, len);
        result.map_err(|error| {
            self.dir.poison(&self.path, "truncation", &error);
            Error::io(&self.path)(error)
        })
    }

    /// Makes content and length durable. After an error this is never tried again.
    pub(crate) fn sync(&self) -> Result<()> {
        self.dir.check_own()?;
        let fast = self.dir.0.writing.fast_fsync;
        let operations = self.dir.operations();
        let begin = Instant::now();
        let result = operations.sync_file(&self.file, &self.path, fast);
        if self.is_data {
            self.dir.traffic().count_data_sync(begin.elapsed());
        }
        result.map_err(|error| {
            self.dir.poison(&self.path, "fsync", &error);
            Error::io(&self.path)(error)
        })
    }
}

/// Opens a file for reading, and returns its length too. A link is followed; a pipe or a folder is
/// an error.
pub(crate) fn open_regular_file(path: &FilePath) -> Result<(File, u64)> {
    let file = path.open_to_read().map_err(Error::io(path))?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    Ok((file, len))
}

/// Returns the length of a file, or of the file that a link leads to. Fails unless that is a
/// regular file.
pub(crate) fn regular_file_bytes(path: &FilePath) -> Result<u64> {
    let status = path.status().map_err(Error::io(path))?;
    if status.is_file {
        Ok(status.len)
    } else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file");
        Err(Error::io(path)(error))
    }
}

/// Reads exactly `buffer.len()` bytes at `offset`.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = uninterrupted(|| positional::read_at(file, buffer, offset))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Reads `len` bytes at `offset` into a new buffer. Fails if there is no memory for that length.
pub(crate) fn read_new_at(file: &File, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    bytes.resize(len, 0);
    read_exact_at(file, &mut bytes, offset)?;
    Ok(bytes)
}
