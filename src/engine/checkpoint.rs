//! Makes a checkpoint: another store with the same objects, made of hard links.

use std::path::Path;
use std::sync::Arc;

use super::copy::{finish_copy, manifest_of_copy};
use super::writer::Writer;
use crate::dir::{Dir, FileKind, is_vacant};
use crate::error::{Error, Result};
use crate::segment_set::SegmentSet;

impl Writer {
    /// Writes another store into the folder `target`.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<()> {
        // The empty path names no folder, but a path joined to it is in the working directory.
        let is_empty = target.as_os_str().is_empty();
        let target = if is_empty { Path::new(".") } else { target };
        let taken = || Error::NotEmpty {
            path: target.to_owned(),
        };
        if !is_vacant(target)? {
            return Err(taken());
        }
        let (set, active) = self.sealed_set()?;
        let copy = self.shared.options.create_new_dir(target)?;
        let copy = copy.ok_or_else(taken)?;
        // From here on no other checkpoint and no writer begins there, but one may have before.
        let lock = copy.lock()?;
        if !copy.is_new()? {
            return Err(taken());
        }
        self.link_all(&set, active, &copy)?;
        lock.make_known(&copy);
        Ok(())
    }

    /// Seals what was put so far, and returns the segments and the id of the segment that is appended
    /// to, which is the highest. While the set is held, none of its files is removed.
    pub(crate) fn sealed_set(&self) -> Result<(Arc<SegmentSet>, u32)> {
        let active = self.seal_all()?;
        Ok((self.shared.set.load_full(), active))
    }

    /// Writes the manifest of the copy, links all files, and makes them durable. `active` is the id
    /// of the segment that this store appends to.
    fn link_all(&self, set: &SegmentSet, active: u32, copy: &Dir) -> Result<()> {
        let sealed = set.sealed().iter();
        let sealed = sealed.map(|sealed| (sealed.id(), *sealed.binding()));
        let (manifest, above) = manifest_of_copy(set.hash_function(), sealed.collect(), active);
        // The manifest comes first, so that an opening of an interrupted checkpoint reports the
        // missing segments.
        copy.replace_manifest(&manifest.encode())?;
        for sealed in set.sealed() {
            for kind in [FileKind::Data, FileKind::Sidecar] {
                self.dir().link_segment_file(sealed.id(), kind, copy)?;
            }
        }
        for resolved in set.runs() {
            self.dir().link_set_index(resolved.run().number(), copy);
        }
        finish_copy(copy, above)
    }
}
