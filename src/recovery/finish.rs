//! The end of an opening: the new manifest, then the removals, then the segment set.

use std::sync::Arc;

use super::report::Repair;
use super::{Opened, Recovery};
use crate::digest::HashFunction;
use crate::dir::{FilePath, Temporary};
use crate::error::{Error, Result};
use crate::format::Manifest;
use crate::segment::Appender;
use crate::segment_set::SegmentSet;

/// Files that are removed after everything else has succeeded.
#[derive(Default)]
pub(super) struct Removals {
    pub(super) files: Vec<FilePath>,
    /// Segments whose files are the ones that the manifest calls retired.
    pub(super) retired: Vec<u32>,
}

impl Recovery<'_> {
    /// Writes the manifest if it has changed, removes the files that are not needed any more, and
    /// puts the set together.
    pub(super) fn finish(mut self, appender: Appender) -> Result<Opened> {
        self.manifest.active = Some(appender.active().id());
        if self.is_manifest_changed() {
            self.write_manifest()?;
        } else if self.may_lose_hash_function() {
            self.dir.sync()?;
        }
        self.remove()?;
        let unsealed = self.sealing.iter().chain([&appender]);
        let unsealed = unsealed.map(|appender| Arc::clone(appender.active()));
        Ok(Opened {
            run_numbers: self.listing.set_indexes,
            set: SegmentSet::new(
                self.manifest.hash_function,
                self.sealed,
                unsealed.collect(),
                self.runs,
            ),
            appender,
            manifest: self.manifest,
            report: self.report,
        })
    }

    fn is_manifest_changed(&self) -> bool {
        match &self.stored {
            // The files alone tell which segment is active, how much is in it, and which id is
            // next.
            Some(stored) => {
                stored.sealed != self.manifest.sealed || stored.retired != self.manifest.retired
            }
            None => {
                !self.manifest.sealed.is_empty()
                    || !self.report.is_clean()
                    || self.must_name_hash_function()
            }
        }
    }

    /// Whether a manifest is missing that has to say, before anything is put, by which function
    /// objects are named. The default needs none, unless it was asked for: then another caller must
    /// not choose another function while the store is empty.
    fn must_name_hash_function(&self) -> bool {
        let is_default = self.manifest.hash_function == HashFunction::default();
        self.stored.is_none() && (self.was_asked_for_function || !is_default)
    }

    /// Whether the manifest names the function and may be the first one. The process that wrote it may
    /// have been killed before its name was durable.
    fn may_lose_hash_function(&self) -> bool {
        let is_first = |stored: &Manifest| stored.sealed.is_empty() && stored.retired.is_empty();
        self.manifest.hash_function != HashFunction::default()
            && self.stored.as_ref().is_some_and(is_first)
    }

    fn write_manifest(&mut self) -> Result<()> {
        // A file that the new manifest no longer lists as retired must be gone for good.
        self.dir.sync()?;
        // A put can rely on a copy in a segment that was kept, so the manifest has to stop calling
        // that segment retired before anything is put.
        let kept = |repair: &Repair| matches!(repair, Repair::KeptRetired { .. });
        let can_wait = !self.report.repairs.iter().any(kept) && !self.must_name_hash_function();
        match self.dir.replace_manifest(&self.manifest.encode()) {
            // The next commit writes it, or the next opening decides the same. Until then no file
            // is removed.
            Err(error) if can_wait && error.is_out_of_space() => {
                self.removals = Removals::default();
                self.listing.temporaries.clear();
                Ok(())
            }
            replaced => replaced,
        }
    }

    fn remove(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.removals.files) {
            self.dir.remove_if_present(&path)?;
        }
        for Temporary { path, .. } in std::mem::take(&mut self.listing.temporaries) {
            self.dir.remove_if_present(&path)?;
            let path = path.to_path_buf();
            self.report.push(Repair::RemovedTemporary { path });
        }
        if !self.removals.retired.is_empty() {
            // A process that was killed may not have synced the manifest that retires them.
            self.dir.sync()?;
        }
        for segment in std::mem::take(&mut self.removals.retired) {
            match self.dir.remove_segment(segment) {
                Ok(()) => self.report.push(Repair::RemovedRetired { segment }),
                // Windows removes no file that a reader has mapped: the segment stays retired.
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
