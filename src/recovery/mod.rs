//! Opening: from what is on disk to a segment set, and what has to be repaired on the way.
//!
//! An opening first [looks](look) whether the manifest fits the files, then repairs, and removes files last
//! of all. So one that is refused has changed nothing, and one that fails has removed nothing. Every step
//! can be cut off and done again by the next opening.

mod adoption;
mod appended;
mod look;
pub(crate) mod reader;
mod report;
mod retired;
mod tail;
mod torn;
mod unsealed;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use report::{RecoveryReport, Repair};

use crate::dir::{Dir, FileKind, FilePath, Listing, Temporary, TemporaryOf, regular_file_bytes};
use crate::error::{Error, Result};
use crate::format::{FormatError, Manifest, SealedSegment};
use crate::options::Options;
use crate::run::Run;
use crate::segment::expected::Expected;
use crate::segment::sidecar::{rebuild_sidecar, sidecar_fits};
use crate::segment::{Appender, Data, Sealed, hash_records};
use crate::segment_set::SegmentSet;
use adoption::{Adopted, adopt_sidecar};
use look::Look;
use retired::is_what_was_retired;
use unsealed::Recovered;
pub(crate) use unsealed::{is_journal_undamaged, read_journal};

/// With more objects than this an unsealed segment is sealed at opening and closing instead of being
/// loaded into memory again and again: 32,768 load in a few milliseconds.
pub(crate) const UNSEALED_OBJECTS_MAX: u64 = 32_768;

/// What a writer starts from.
pub(crate) struct Opened {
    pub(crate) set: SegmentSet,
    pub(crate) appender: Appender,
    pub(crate) manifest: Manifest,
    pub(crate) report: RecoveryReport,
    /// The numbers of all runs of the set index that were there.
    pub(crate) run_numbers: BTreeSet<u32>,
}

/// Opens for writing. The caller holds the lock.
pub(crate) fn open_writer(dir: &Dir, options: &Options) -> Result<Opened> {
    let mut recovery = Recovery::look(dir, options)?;
    recovery.keep_damaged_manifest()?;
    recovery.keep_temporaries()?;
    recovery.open_listed()?;
    recovery.keep_temporaries()?;
    recovery.judge_retired()?;
    recovery.forget_what_is_gone()?;
    recovery.open_runs()?;
    let appender = recovery.open_unlisted()?;
    recovery.finish(appender)
}

/// Parses the bytes of a manifest: `None` if there are none, or if they are damaged, which `report`
/// is told. A manifest of a newer version is an error, nothing may be concluded from it.
fn parse_manifest(
    dir: &Dir,
    bytes: Option<&[u8]>,
    report: &mut RecoveryReport,
) -> Result<Option<Manifest>> {
    match bytes.map(Manifest::parse).transpose() {
        Ok(manifest) => Ok(manifest),
        Err(FormatError::Version) => Err(Error::UnsupportedVersion {
            path: dir.manifest_path().to_path_buf(),
        }),
        Err(error) => {
            report.push(Repair::IgnoredManifest {
                reason: error.to_string(),
            });
            Ok(None)
        }
    }
}

/// Files that go when everything else has succeeded.
#[derive(Default)]
struct Removals {
    files: Vec<FilePath>,
    /// Segments that the manifest means when it calls them retired.
    retired: Vec<u32>,
}

struct Recovery<'a> {
    dir: &'a Dir,
    options: &'a Options,
    listing: Listing,
    /// The highest id of a data file.
    highest_data: Option<u32>,
    /// The manifest on disk, if there is one that holds.
    stored: Option<Manifest>,
    is_manifest_damaged: bool,
    look: Look,
    /// Whether there is a manifest, and every file that it relies on is as it says. Only then are files
    /// removed on its word.
    fits: bool,
    /// The manifest as it is to be.
    manifest: Manifest,
    sealed: Vec<Arc<Sealed>>,
    /// Runs of the set index that hold, whatever they cover.
    runs: Vec<Arc<Run>>,
    /// Segments that are to be sealed in the background.
    sealing: Vec<Appender>,
    removals: Removals,
    report: RecoveryReport,
}

impl<'a> Recovery<'a> {
    /// Changes nothing, and fails if the opening is to be refused.
    fn look(dir: &'a Dir, options: &'a Options) -> Result<Self> {
        let mut report = RecoveryReport::default();
        let listing = dir.list()?;
        let bytes = dir.read_manifest()?;
        let stored = parse_manifest(dir, bytes.as_deref(), &mut report)?;
        let mut manifest = stored.clone().unwrap_or_default();
        let look = Look::at(dir, &listing, &manifest)?;
        look.judge_missing(dir, &manifest, options, &mut report)?;
        for &(segment, missing_bytes) in &look.short_unsealed {
            // Where there is a journal, it says which objects these were.
            if !listing.journals.contains(&segment) {
                report.push(Repair::ShortData {
                    segment,
                    missing_bytes,
                });
            }
        }
        let fits = stored.is_some() && look.is_complete(&manifest);
        manifest.active = None;
        manifest.unsealed.clear();
        let after_highest = listing.highest_id().map_or(0, |id| u64::from(id) + 1);
        manifest.next_id = manifest.next_id.max(after_highest);
        Ok(Self {
            dir,
            options,
            highest_data: listing.data.last().copied(),
            listing,
            is_manifest_damaged: stored.is_none() && bytes.is_some(),
            stored,
            look,
            fits,
            manifest,
            sealed: Vec::new(),
            runs: Vec::new(),
            sealing: Vec::new(),
            removals: Removals::default(),
            report,
        })
    }

    /// A damaged manifest says something all the same, to somebody who looks for what was lost.
    fn keep_damaged_manifest(&mut self) -> Result<()> {
        if self.is_manifest_damaged {
            let path = self.dir.keep_damaged_manifest()?.to_path_buf();
            self.report.push(Repair::KeptManifest { path });
        }
        Ok(())
    }

    /// Opens the segments that the manifest says are sealed.
    fn open_listed(&mut self) -> Result<()> {
        for (id, binding) in self.manifest.sealed.clone() {
            self.listing.data.remove(&id);
            match self.look.sealed_bytes.get(&id) {
                None if self.look.has_moved_on => drop(self.manifest.sealed.remove(&id)),
                // It may come back.
                None => {}
                Some(&bytes) if bytes > binding.data_bytes => self.open_longer(id, binding)?,
                Some(_) => self.open_sealed(id, binding)?,
            }
            if self.listing.journals.contains(&id) {
                // A crash came between the commit of a seal and this.
                self.remove_journal(id)?;
            }
        }
        for id in self.look.journals_without_data.clone() {
            // Nothing of what they speak of was synced.
            if !self.look.is_missing(id) {
                self.remove_journal(id)?;
            }
        }
        Ok(())
    }

    /// Has a journal removed that is not needed any more, if it is one.
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
            // Another segment may have its id.
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

    /// Opens a segment that is longer than when it was sealed, with what was appended to it.
    fn open_longer(&mut self, id: u32, binding: SealedSegment) -> Result<()> {
        if self.adopt_sealed(id)? {
            return Ok(());
        }
        let (dir, reading) = (self.dir, self.options.reading());
        if let Some(appended) = appended::find(dir, id, reading, binding, hash_records)? {
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
            let sealed = Sealed::open(dir, id, reading, binding)?;
            self.sealed.push(Arc::new(sealed));
        }
        Ok(())
    }

    /// Makes the sidecar of a sealed segment anew, if the data gives back exactly what it was. If
    /// not, it is left as it is: an index is never healed over damage. The result says why.
    fn rewrite_sidecar(
        &mut self,
        sealed: &Sealed,
        binding: &SealedSegment,
    ) -> Result<Option<String>> {
        let rebuilt = rebuild_sidecar(sealed.data(), Some(binding), hash_records)?;
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

    /// Decides which of the retired segments are to be removed: those that are there as the manifest
    /// means them, in a folder that fits the manifest. Others are data.
    fn judge_retired(&mut self) -> Result<()> {
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
                // What is left of it is removed when the manifest fits.
                self.manifest.retired.insert(id, binding);
            }
        }
        Ok(())
    }

    /// Writes a manifest that does not list what another program has removed, and removes the journals of
    /// that, before the segments of that program get journals: those without one are what shows that it was
    /// there. So these journals do not wait until everything else has succeeded.
    fn forget_what_is_gone(&mut self) -> Result<()> {
        if !self.look.has_moved_on {
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

    /// Where manifest and files are of different moments, a data file that was being written may be all
    /// that there is of its objects, so it becomes a data file.
    fn keep_temporaries(&mut self) -> Result<()> {
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

    /// Takes over the data files that the manifest does not know, and finds or makes the segment to
    /// append to.
    fn open_unlisted(&mut self) -> Result<Appender> {
        let mut active = None;
        for id in std::mem::take(&mut self.listing.data) {
            let is_highest = Some(id) == self.highest_data;
            if !is_highest && self.dir.data_bytes(id)? == Some(0) {
                // A crash came just after another segment was begun in its place.
                if self.listing.journals.contains(&id) {
                    self.removals.files.extend(self.files_of(id));
                }
                continue;
            }
            if self.adopt_sealed(id)? {
                continue;
            }
            let is_ours = self.listing.journals.contains(&id);
            match unsealed::recover(self.dir, self.options, id, is_ours, &mut self.report)? {
                // A sidecar that does not fit is replaced when the segment is sealed, so that no
                // other reader of the format meets it beside data that has grown.
                Recovered::Appender(mut appender) if self.listing.sidecars.contains(&id) => {
                    appender.close();
                    self.sealing.push(appender);
                }
                Recovered::Appender(appender) => self.sealing.extend(active.replace(appender)),
                Recovered::Full(appender) => self.sealing.push(appender),
                Recovered::Damaged(sealed) => {
                    self.manifest.sealed.insert(id, *sealed.binding());
                    self.sealed.push(Arc::new(sealed));
                }
                Recovered::NotOurs => {}
            }
        }
        // A program that knows no manifest appends to the segment with the highest id, and so do we.
        let goes_on = |appender: &Appender| {
            appender.active().objects() <= UNSEALED_OBJECTS_MAX
                && appender.has_room_for(0)
                && Some(appender.active().id()) >= self.highest_data
        };
        match active {
            Some(appender) if goes_on(&appender) => Ok(appender),
            full => {
                self.sealing.extend(full);
                match self.create_active() {
                    Err(error) if error.is_out_of_space() => self.take_newest().ok_or(error),
                    created => created,
                }
            }
        }
    }

    /// Goes on with the newest segment where a full disk has no room for another: what is held can be read,
    /// and a put that this segment does not take fails until there is room.
    fn take_newest(&mut self) -> Option<Appender> {
        let ids = self.sealing.iter().map(|appender| appender.active().id());
        let (_, newest) = ids.zip(0..).max()?;
        let mut appender = self.sealing.swap_remove(newest);
        if Some(appender.active().id()) < self.highest_data {
            // Another program appends to the highest segment, so this store appends nothing below it.
            appender.close();
        }
        Some(appender)
    }

    fn files_of(&self, id: u32) -> impl Iterator<Item = FilePath> + use<'a> {
        let dir = self.dir;
        let kinds = [FileKind::Data, FileKind::Sidecar, FileKind::Journal];
        kinds
            .into_iter()
            .map(move |kind| dir.segment_path(id, kind))
    }

    /// Opens the runs of the set index. They are derived, so one that does not hold goes.
    fn open_runs(&mut self) -> Result<()> {
        for &number in &self.listing.set_indexes {
            if let Some(run) = Run::open(self.dir, number, self.options.reading())? {
                self.runs.push(Arc::new(run));
            } else {
                self.removals.files.push(self.dir.set_index_path(number));
                self.report.push(Repair::RemovedSetIndex { number });
            }
        }
        Ok(())
    }

    fn create_active(&mut self) -> Result<Appender> {
        let next_id = self.manifest.next_id;
        let id = u32::try_from(next_id).map_err(|_| Error::SegmentIdsExhausted)?;
        let expected = Expected::of_size(self.options.segment_bytes_max);
        let appender = Appender::create(self.dir, id, self.options.read_mode, expected)?;
        self.manifest.next_id = next_id + 1;
        Ok(appender)
    }

    /// Takes over a segment whose sidecar belongs to its data: one that NEDB v3 wrote, or one that we
    /// sealed just before a crash. False if there is no such sidecar.
    fn adopt_sealed(&mut self, id: u32) -> Result<bool> {
        if !self.listing.sidecars.contains(&id) {
            return Ok(false);
        }
        let (dir, reading) = (self.dir, self.options.reading());
        let data = Data::open(dir, id, reading, u64::MAX)?;
        let Some(Adopted { index, data_bytes }) = adopt_sidecar(dir, &data, reading)? else {
            return Ok(false);
        };
        // Whoever wrote them may not have synced them, and NEDB v3 does not sort.
        dir.open_segment_file(id, FileKind::Data)?.sync()?;
        dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
        let sealed = Sealed::with_sidecar(dir, id, reading, data_bytes, &index)?;
        let binding = *sealed.binding();
        self.manifest.sealed.insert(id, binding);
        self.report.push(Repair::AdoptedSegment {
            segment: id,
            objects: u64::from(binding.objects),
        });
        self.note_short_data(&sealed);
        self.sealed.push(Arc::new(sealed));
        Ok(true)
    }

    fn note_short_data(&mut self, sealed: &Sealed) {
        let missing_bytes = sealed
            .binding()
            .data_bytes
            .saturating_sub(sealed.data().len());
        if missing_bytes > 0 {
            self.report.push(Repair::ShortData {
                segment: sealed.id(),
                missing_bytes,
            });
        }
    }

    /// Writes the manifest if it is to say something else than it does, removes what is not needed any
    /// more, and puts the set together.
    fn finish(mut self, appender: Appender) -> Result<Opened> {
        self.manifest.active = Some(appender.active().id());
        let unchanged = match &self.stored {
            // Which segment is active, how much is in it, and which id is next is known from the files as
            // well.
            Some(stored) => {
                stored.sealed == self.manifest.sealed && stored.retired == self.manifest.retired
            }
            None => self.manifest.sealed.is_empty() && self.report.is_clean(),
        };
        if !unchanged {
            // What the new manifest no longer lists as retired must be gone for good.
            self.dir.sync()?;
            // A put can rely on a copy in a segment that was kept, so the manifest has to stop calling that
            // segment retired before anything is put.
            let kept = |repair: &Repair| matches!(repair, Repair::KeptRetired { .. });
            let can_wait = !self.report.repairs.iter().any(kept);
            match self.dir.replace_manifest(&self.manifest.encode()) {
                // The next commit writes it, or the next opening decides the same. Until then no file is removed.
                Err(error) if can_wait && error.is_out_of_space() => {
                    self.removals = Removals::default();
                    self.listing.temporaries.clear();
                }
                replaced => replaced?,
            }
        }
        self.remove()?;
        let unsealed = self.sealing.iter().chain([&appender]);
        let unsealed = unsealed.map(|appender| Arc::clone(appender.active()));
        Ok(Opened {
            run_numbers: self.listing.set_indexes,
            set: SegmentSet::new(self.sealed, unsealed.collect(), self.runs),
            appender,
            manifest: self.manifest,
            report: self.report,
        })
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
                // Windows removes no file that a reader has mapped: it stays retired.
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
