//! Taking over the data files that the manifest does not list.

use std::sync::Arc;

use super::Recovery;
use super::unsealed::{Recovered, Unsealed};
use crate::dir::{FileKind, FilePath};
use crate::error::Result;
use crate::segment::Appender;

impl Recovery<'_> {
    /// Takes over the data files that the manifest does not list, and returns the segment to append
    /// to.
    pub(super) fn open_unlisted(&mut self) -> Result<Appender> {
        let mut active = None;
        for id in std::mem::take(&mut self.listing.data) {
            if let Some(appender) = self.take_over(id)? {
                self.sealing.extend(active.replace(appender));
            }
        }
        self.choose_active(active)
    }

    /// Takes over a data file. Returns the segment if more can be appended to it.
    fn take_over(&mut self, id: u32) -> Result<Option<Appender>> {
        let is_highest = Some(id) == self.highest_data;
        let is_ours = self.listing.journals.contains(&id);
        if !is_highest && self.dir.data_bytes(id)? == Some(0) {
            // A crash came just after another segment was begun in place of this one.
            if is_ours {
                self.removals.files.extend(self.files_of(id));
            }
            return Ok(None);
        }
        if self.adopt_sealed(id)? {
            return Ok(None);
        }
        let segment = Unsealed {
            dir: self.dir,
            options: &self.options,
            id,
        };
        match segment.recover(is_ours, &mut self.report)? {
            // The sidecar does not fit. It is replaced when the segment is sealed, so that no other
            // reader of the format meets it beside data that has grown.
            Recovered::Appender(mut appender) if self.listing.sidecars.contains(&id) => {
                appender.close();
                self.sealing.push(appender);
            }
            Recovered::Appender(appender) => return Ok(Some(appender)),
            Recovered::Full(appender) => self.sealing.push(appender),
            Recovered::Damaged(sealed) => {
                self.manifest.sealed.insert(id, *sealed.binding());
                self.sealed.push(Arc::new(sealed));
            }
            Recovered::NotOurs => {}
        }
        Ok(None)
    }

    fn files_of(&self, id: u32) -> [FilePath; 3] {
        let kinds = [FileKind::Data, FileKind::Sidecar, FileKind::Journal];
        kinds.map(|kind| self.dir.segment_path(id, kind))
    }
}
