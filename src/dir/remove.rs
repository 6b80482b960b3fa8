//! Removing files.

use std::io;

use super::names::FileKind;
use super::operations::uninterrupted;
use super::{Dir, FilePath};
use crate::error::{Error, Result};

impl Dir {
    /// Removes all files of a retired segment.
    pub(crate) fn remove_segment(&self, id: u32) -> Result<()> {
        // The data goes first: what an interrupted removal leaves is then derived from the data and
        // has no meaning without it.
        for kind in FileKind::OF_SEGMENT {
            self.remove_segment_file(id, kind)?;
        }
        Ok(())
    }

    pub(crate) fn remove_segment_file(&self, id: u32, kind: FileKind) -> Result<()> {
        self.remove_if_present(&self.segment_path(id, kind))
    }

    pub(crate) fn remove_if_present(&self, path: &FilePath) -> Result<()> {
        self.check_own()?;
        match uninterrupted(|| self.operations().remove(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
            _ => Ok(()),
        }
    }
}
