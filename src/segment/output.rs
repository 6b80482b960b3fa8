//! A new segment that is written as a whole, before it is part of the store.

use std::sync::Arc;

use super::sidecar::binding_of;
use crate::dir::{Dir, FileKind, FilePath, WritableFile};
use crate::error::Result;
use crate::format::{SealedSegment, Sidecar};

/// A new segment, durable under temporary names.
pub(crate) struct Output {
    pub(crate) id: u32,
    pub(crate) binding: SealedSegment,
    pub(crate) sidecar: Arc<Sidecar<Vec<u8>>>,
    data_path: FilePath,
    sidecar_path: FilePath,
}

impl Output {
    /// Makes a data file durable that has `data_bytes` bytes and the name of a temporary, and writes its
    /// sidecar. On an error there is no sidecar.
    pub(crate) fn of_temporary(
        dir: &Dir,
        id: u32,
        data: &WritableFile,
        data_bytes: u64,
        sidecar: Sidecar<Vec<u8>>,
    ) -> Result<Self> {
        data.sync()?;
        let file = dir.create_segment_temporary(id, FileKind::Sidecar)?;
        let written = file.write_all_at(sidecar.as_bytes(), 0);
        written.and_then(|()| file.sync()).inspect_err(|_| {
            let _ = dir.remove_if_present(file.path());
        })?;
        Ok(Self {
            id,
            binding: binding_of(&sidecar, data_bytes),
            sidecar: Arc::new(sidecar),
            // The paths are enough from here on; open files could be too many.
            data_path: data.path().clone(),
            sidecar_path: file.path().clone(),
        })
    }

    /// Gives both files their names. The directory is not synced yet.
    pub(crate) fn rename_into_place(&self, dir: &Dir) -> Result<()> {
        dir.rename_into_place(&self.data_path)?;
        dir.rename_into_place(&self.sidecar_path)
    }

    /// Removes the files, under whatever name they have.
    pub(crate) fn discard(&self, dir: &Dir) {
        // The next opening removes files that stay: they have the name of a temporary, or the
        // manifest lists their segment as retired.
        let _ = dir.remove_if_present(&self.data_path);
        let _ = dir.remove_if_present(&self.sidecar_path);
        let _ = dir.remove_segment(self.id);
    }
}
