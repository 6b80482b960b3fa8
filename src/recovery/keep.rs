//! Deciding what is kept where the manifest and the files do not fit.

use super::report::Repair;
use super::retired::is_what_was_retired;
use super::{Recovery, read_journal};
use crate::dir::{FileKind, TemporaryOf, regular_file_bytes};
use crate::error::Result;

impl Recovery<'_> {
    /// Keeps a damaged manifest, which still tells something to somebody who searches for what was
    /// lost.
    pub(super) fn keep_damaged_manifest(&mut self) -> Result<()> {
        if self.is_manifest_damaged {
            let path = self.dir.keep_damaged_manifest()?.to_path_buf();
            self.report.push(Repair::KeptManifest { path });
        }
        Ok(())
    }

    /// Makes a data file of each temporary of one where the manifest and the files are of different
    /// moments: it may hold the only copies of its objects.
    pub(super) fn keep_temporaries(&mut self) -> Result<()> {
        if self.fits {
            return Ok(());
        }
        let mut others = Vec::new();
        for temporary in std::mem::take(&mut self.listing.temporaries) {
            let TemporaryOf::Segment(id, FileKind::Data) = temporary.of else {
                others.push(temporary);
                continue;
            };
            let bytes = regular_file_bytes(&temporary.path)?;
            if self.dir.data_bytes(id)?.is_some() {
                others.push(temporary);
                continue;
            }
            self.dir.rename_into_place(&temporary.path)?;
            self.report.push(Repair::KeptTemporary { segment: id });
            self.listing.data.insert(id);
            self.highest_data = self.highest_data.max(Some(id));
            if self.manifest.sealed.contains_key(&id) {
                self.look.sealed_bytes.insert(id, bytes);
            }
        }
        self.listing.temporaries = others;
        Ok(())
    }

    /// Decides which of the retired segments are removed: those whose files are the ones that the
    /// manifest means, in a folder that fits the manifest. Other segments are data.
    pub(super) fn judge_retired(&mut self) -> Result<()> {
        for (id, binding) in std::mem::take(&mut self.manifest.retired) {
            if !self.dir.holds_segment(id) {
                continue;
            }
            let is_data = self.listing.data.contains(&id);
            let is_meant = match binding {
                _ if !self.fits => false,
                _ if !is_data => true,
                Some(binding) => {
                    is_what_was_retired(self.dir, id, &binding, self.options.reading())?
                }
                None => false,
            };
            if is_meant {
                self.listing.data.remove(&id);
                self.manifest.retired.insert(id, binding);
                self.removals.retired.push(id);
            } else if is_data {
                self.report.push(Repair::KeptRetired { segment: id });
            } else {
                // Its other files are removed by an opening whose manifest fits.
                self.manifest.retired.insert(id, binding);
            }
        }
        Ok(())
    }

    /// Writes a manifest that does not list the segments that another program has removed, and
    /// removes their journals. This cannot wait until everything else has succeeded: segments
    /// without a journal show that the other program was there, and its segments get journals soon.
    pub(super) fn forget_what_is_gone(&mut self) -> Result<()> {
        if !self.look.was_compacted_by_another {
            return Ok(());
        }
        self.dir.replace_manifest(&self.manifest.encode())?;
        self.stored = Some(self.manifest.clone());
        for &id in &self.look.journals_without_data {
            if self.dir.data_bytes(id)?.is_none() && read_journal(self.dir, id)?.is_some() {
                self.dir.remove_segment_file(id, FileKind::Journal)?;
            }
        }
        self.dir.sync()
    }
}
