//! Giving a file a second name.

use std::io;

use super::names::{DAMAGED, FileKind};
use super::operations::uninterrupted;
use super::{Dir, FilePath, open_regular_file};
use crate::error::{Error, Result};

impl Dir {
    /// Links a file of a segment into another store's folder. Copies it where that folder is on
    /// another file system, and where the name is a symbolic link, which may lead elsewhere from
    /// there.
    pub(crate) fn link_segment_file(&self, id: u32, kind: FileKind, target: &Self) -> Result<()> {
        let from = self.segment_path(id, kind);
        let to = target.segment_path(id, kind);
        let is_link = from.own_status().map_err(Error::io(&from))?.is_link;
        if !is_link && uninterrupted(|| self.operations().hard_link(&from, &to)).is_ok() {
            return Ok(());
        }
        let (bytes, _) = open_regular_file(&from)?;
        let copy = target.create_segment_file(id, kind)?;
        copy.copy_from(&bytes, &from)?;
        copy.sync()
    }

    /// Links a run of the set index into another store's folder if the system can. A run is
    /// derived, so nothing is lost without it.
    pub(crate) fn link_set_index(&self, number: u32, target: &Self) {
        let (from, to) = (self.set_index_path(number), target.set_index_path(number));
        let _ = uninterrupted(|| self.operations().hard_link(&from, &to));
    }

    /// Keeps a damaged manifest beside the one that will replace it, and returns its other name.
    pub(crate) fn keep_damaged_manifest(&self) -> Result<FilePath> {
        self.check_own()?;
        let (manifest, operations) = (self.manifest_path(), self.operations());
        let mut kept = manifest.with_suffix(DAMAGED);
        let mut number = 1;
        loop {
            match uninterrupted(|| operations.hard_link(&manifest, &kept)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Where there are no links the manifest is renamed: a store without a manifest
                // opens in the same way as one whose manifest is damaged.
                Err(_) if kept.own_status().is_err() => {
                    let renamed = uninterrupted(|| operations.rename(&manifest, &kept));
                    return renamed.map(|()| kept).map_err(Error::io(&manifest));
                }
                Err(error) => return Err(Error::io(&manifest)(error)),
                Ok(()) => return Ok(kept),
            }
            number += 1;
            kept = manifest.with_suffix(&format!("{DAMAGED}-{number}"));
        }
    }
}
