//! Makes a checkpoint: another store with the same objects, made of hard links.

use std::path::Path;

use super::writer::Writer;
use crate::dir::{Dir, FileKind, is_vacant};
use crate::error::{Error, Result};
use crate::format::Manifest;
use crate::segment::begun::Begun;
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
        let active = self.seal_all()?;
        // While this set is held, none of its files is removed.
        let set = self.shared.set.load_full();
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

    /// Writes the manifest of the copy, links all files, and makes them durable. `active` is the id
    /// of the segment that this store appends to.
    fn link_all(&self, set: &SegmentSet, active: u32, copy: &Dir) -> Result<()> {
        let ids = set.sealed().iter().map(|sealed| sealed.id());
        let above_sealed = ids.max().map_or(0, |highest| u64::from(highest) + 1);
        // A program that knows no manifest appends to the segment with the highest id, so the copy
        // gets an empty segment above the segments that the stores share.
        let above = u32::try_from(above_sealed.max(u64::from(active)));
        let sealed = set.sealed().iter();
        let manifest = Manifest {
            hash_function: set.hash_function(),
            next_id: above.map_or(1 << 32, |above| u64::from(above) + 1),
            sealed: sealed
                .map(|sealed| (sealed.id(), *sealed.binding()))
                .collect(),
            ..Manifest::default()
        };
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
        if let Ok(id) = above {
            // A segment without a journal above missing segments is taken for the work of another
            // program that compacted the store. An interrupted checkpoint must not look like that.
            copy.sync()?;
            let begun = Begun::create(copy, id)?;
            begun.create_journal(copy)?;
        }
        copy.sync()
    }
}
