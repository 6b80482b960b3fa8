//! Opening the segments that the manifest lists as sealed.

use std::sync::Arc;

use super::report::Repair;
use super::{Recovery, appended, read_journal};
use crate::dir::FileKind;
use crate::error::Result;
use crate::format::SealedSegment;
use crate::segment::Sealed;
use crate::segment::sidecar::{rebuild_sidecar, sidecar_fits};

impl Recovery<'_> {
    /// Opens the segments that the manifest lists as sealed.
    pub(super) fn open_listed(&mut self) -> Result<()> {
        for (id, binding) in self.manifest.sealed.clone() {
            self.listing.data.remove(&id);
            match self.look.sealed_bytes.get(&id) {
                None if self.look.was_compacted_by_another => {
                    self.manifest.sealed.remove(&id);
                }
                // A missing segment stays listed, since its file may be brought back.
                None => {}
                Some(&bytes) if bytes > binding.data_bytes => self.open_longer(id, binding)?,
                Some(_) => self.open_sealed(id, binding)?,
            }
            if self.listing.journals.contains(&id) {
                // A crash came between the commit of a seal and the removal of the journal.
                self.remove_journal(id)?;
            }
        }
        for id in self.look.journals_without_data.clone() {
            // A journal of a segment that is not missing speaks of nothing that was synced.
            if !self.look.is_missing(id) {
                self.remove_journal(id)?;
            }
        }
        Ok(())
    }

    /// Has the file removed that has the name of a journal and is not needed any more, if it is a
    /// journal.
    fn remove_journal(&mut self, id: u32) -> Result<()> {
        let path = self.dir.segment_path(id, FileKind::Journal);
        if read_journal(self.dir, id)?.is_some() {
            self.removals.files.push(path);
        } else {
            let path = path.to_path_buf();
            self.report.push(Repair::IgnoredFile { path });
        }
        Ok(())
    }

    fn open_sealed(&mut self, id: u32, binding: SealedSegment) -> Result<()> {
        let (dir, reading) = (self.dir, self.options.reading());
        let sealed = Sealed::open(dir, id, reading, binding)?;
        self.note_short_data(&sealed);
        if sidecar_fits(dir, id, &binding)? {
            self.sealed.push(Arc::new(sealed));
            return Ok(());
        }
        match self.rewrite_sidecar(&sealed, &binding)? {
            None => {
                let sealed = Sealed::open(dir, id, reading, binding)?;
                self.sealed.push(Arc::new(sealed));
            }
            // Another segment may have this id.
            Some(_) if self.adopt_sealed(id)? => self.fits = false,
            Some(reason) => {
                self.fits = false;
                let segment = id;
                self.report.push(Repair::DamagedSegment { segment, reason });
                self.sealed.push(Arc::new(sealed));
            }
        }
        Ok(())
    }

    /// Opens a segment that is longer than when it was sealed, with the records that were appended
    /// to it.
    fn open_longer(&mut self, id: u32, binding: SealedSegment) -> Result<()> {
        if self.adopt_sealed(id)? {
            return Ok(());
        }
        let (dir, reading) = (self.dir, self.options.reading());
        let sealed = Sealed::open(dir, id, reading, binding)?;
        if let Some(appended) = appended::find(dir, &sealed, sealed.data().hash_on_all_cores())? {
            let sealed = appended.seal(dir, id, reading, &mut self.report)?;
            self.manifest.sealed.insert(id, *sealed.binding());
            self.sealed.push(Arc::new(sealed));
        } else {
            let reason = "the file is longer than when it was sealed, and its front part differs";
            self.report.push(Repair::DamagedSegment {
                segment: id,
                reason: reason.to_owned(),
            });
            self.fits = false;
            self.sealed.push(Arc::new(sealed));
        }
        Ok(())
    }

    /// Writes the sidecar of a sealed segment anew if the data yields exactly the sidecar that was
    /// sealed. Otherwise leaves it as it is, for an index is never healed over damage, and returns
    /// the reason.
    fn rewrite_sidecar(
        &mut self,
        sealed: &Sealed,
        binding: &SealedSegment,
    ) -> Result<Option<String>> {
        let rebuilt = rebuild_sidecar(
            sealed.data(),
            Some(binding),
            sealed.data().hash_on_all_cores(),
        )?;
        if rebuilt.doubt.is_none() {
            let (segment, bytes) = (sealed.id(), rebuilt.sidecar.as_bytes());
            let replaced = self
                .dir
                .replace_segment_file(segment, FileKind::Sidecar, bytes);
            if let Err(error) = &replaced
                && error.is_out_of_space()
            {
                return Ok(Some(format!(
                    "its index is damaged, and there is no room to write it anew: {}",
                    error.as_reason()
                )));
            }
            replaced?;
            self.report.push(Repair::RebuiltSidecar { segment });
        }
        Ok(rebuilt.doubt)
    }
}
