//! Publishing a file: it is written under the name of a temporary, made durable, and renamed.

use std::io;

use super::names::{FileKind, TEMPORARY};
use super::operations::uninterrupted;
use super::{Dir, FilePath, WritableFile};
use crate::error::{Error, Result};

impl Dir {
    /// Replaces the manifest. Its rename is the commit point of a seal or a compaction.
    pub(crate) fn replace_manifest(&self, text: &str) -> Result<()> {
        self.replace(&self.manifest_path(), text.as_bytes())
    }

    /// Replaces what the store knows of refs in object stores, atomically and durably.
    #[cfg(feature = "remote")]
    pub(crate) fn replace_remote_state(&self, text: &str) -> Result<()> {
        self.replace(&self.remote_state_path(), text.as_bytes())
    }

    /// Replaces a file of a segment, atomically and durably.
    pub(crate) fn replace_segment_file(&self, id: u32, kind: FileKind, bytes: &[u8]) -> Result<()> {
        self.replace(&self.segment_path(id, kind), bytes)
    }

    /// Writes a temporary, syncs it, renames it and syncs the folder, so readers see the old file
    /// or the new one.
    fn replace(&self, path: &FilePath, bytes: &[u8]) -> Result<()> {
        let temporary = self.create_temporary(path)?;
        let written = temporary
            .write_all_at(bytes, 0)
            .and_then(|()| temporary.sync());
        if let Err(error) = written {
            // The name marks it as a temporary; if this fails too, the next opening removes it.
            let _ = uninterrupted(|| self.operations().remove(&temporary.path));
            return Err(error);
        }
        self.rename_into_place(&temporary.path)?;
        self.sync()
    }

    /// Creates the temporary from which `path` will be made.
    fn create_temporary(&self, path: &FilePath) -> Result<WritableFile> {
        self.check_own()?;
        let temporary = path.with_suffix(TEMPORARY);
        let file = match self.operations().create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove_if_present(&temporary)?;
                self.operations().create(&temporary)
            }
            result => result,
        };
        Ok(self.writable(file.map_err(Error::io(&temporary))?, temporary))
    }

    /// Creates the temporary from which a file of segment `id` will be made.
    pub(crate) fn create_segment_temporary(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        let temporary = self.create_temporary(&self.segment_path(id, kind))?;
        Ok(temporary.of_kind(kind))
    }

    /// Creates the temporary from which a run of the set index will be made.
    pub(crate) fn create_set_index_temporary(&self, number: u32) -> Result<WritableFile> {
        self.create_temporary(&self.set_index_path(number))
    }

    /// Gives a run of the set index its name. A run is derived and its pages carry checksums, so
    /// neither the run nor the folder is synced: the next opening notices a run that a crash
    /// damaged, and it is built again.
    pub(crate) fn rename_set_index(&self, temporary: &FilePath) -> Result<()> {
        self.check_own()?;
        let to = temporary.without_extension();
        let renamed = uninterrupted(|| self.operations().rename(temporary, &to));
        renamed.map_err(Error::io(temporary))
    }

    /// Gives a temporary its name. The folder is not synced yet. After a failed rename it is
    /// unknown which of the two files a crash would leave, so every further change is refused.
    pub(crate) fn rename_into_place(&self, temporary: &FilePath) -> Result<()> {
        self.check_own()?;
        let from = temporary;
        let to = from.without_extension();
        let renamed = uninterrupted(|| self.operations().rename(from, &to));
        renamed.map_err(|error| {
            self.poison(from, "rename", &error);
            Error::io(from)(error)
        })
    }
}
