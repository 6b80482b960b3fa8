//! Single files: one that is open for writing, and reading by position.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::operations::{positional, uninterrupted};
use super::{BlockWriter, Dir};
use crate::error::{Error, Result};

/// A file of ours that is open for writing.
#[derive(Debug)]
pub(crate) struct WritableFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) dir: Dir,
}

impl WritableFile {
    /// For reading and mapping.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`BlockWriter`].
    pub(crate) fn write_block_bytes(&self) -> usize {
        self.dir.0.write_block_bytes
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(Error::io(&self.path))?;
        Ok(metadata.len())
    }

    /// Writes all of `bytes`. After an error any part of them may have been written.
    pub(crate) fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        self.dir.check_own()?;
        while !bytes.is_empty() {
            let operations = &self.dir.0.operations;
            let write = || operations.write_at(&self.file, &self.path, bytes, offset);
            match uninterrupted(write) {
                Ok(0) => return Err(Error::io(&self.path)(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) => return Err(Error::io(&self.path)(error)),
            }
        }
        Ok(())
    }

    pub(super) fn copy_from(&self, source: &File, source_path: &Path) -> Result<()> {
        const CHUNK_BYTES: usize = 1 << 20;
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

    /// Cuts the file. If that fails, nothing is changed any more: the file may end in bytes that
    /// belong to no record.
    pub(crate) fn cut(&self, len: u64) -> Result<()> {
        self.dir.check_own()?;
        let operations = &self.dir.0.operations;
        let result = operations.set_len(&self.file, &self.path, len);
        result.map_err(|error| {
            self.dir.poison(&self.path, "truncation", &error);
            Error::io(&self.path)(error)
        })
    }

    /// Makes content and length durable. Never tried again after an error.
    pub(crate) fn sync(&self) -> Result<()> {
        self.dir.check_own()?;
        let fast = self.dir.0.fast_fsync;
        let operations = &self.dir.0.operations;
        let result = operations.sync_file(&self.file, &self.path, fast);
        result.map_err(|error| {
            self.dir.poison(&self.path, "fsync", &error);
            Error::io(&self.path)(error)
        })
    }
}

/// Fails unless `path` is a file or a link to one: opening a pipe would wait, and a folder fails
/// later with a message that does not say so.
pub(crate) fn require_regular_file(path: &Path) -> Result<fs::Metadata> {
    let metadata = fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file");
        Err(Error::io(path)(error))
    }
}

/// Opens a file for reading, with its length.
pub(crate) fn open_regular_file(path: &Path) -> Result<(File, u64)> {
    require_regular_file(path)?;
    let file = File::open(path).map_err(Error::io(path))?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    Ok((file, len))
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
