//! Opening: from what is on disk to a segment set, and what has to be repaired on the way.
//!
//! Every step can be cut off and done again by the next opening.

mod adoption;
pub(crate) mod reader;
mod report;
mod tail;
mod unsealed;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use report::{RecoveryReport, Repair};

use crate::dir::{Dir, FileKind, Listing};
use crate::error::{Error, Result};
use crate::format::{FormatError, Manifest, SealedSegment};
use crate::options::Options;
use crate::segment::sealed::{rebuild_index, sidecar_fits};
use crate::segment::{Appender, Data, Sealed, hash_records};
use crate::segment_set::SegmentSet;
use crate::set_index::Run;
use adoption::{Adopted, adopt_sidecar};
use unsealed::Recovered;

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
    let mut recovery = Recovery::start(dir, options)?;
    recovery.check_journals_without_data()?;
    recovery.finish_removals()?;
    recovery.open_listed()?;
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
            path: dir.manifest_path(),
        }),
        Err(error) => {
            report.push(Repair::IgnoredManifest {
                reason: error.to_string(),
            });
            Ok(None)
        }
    }
}

/// The data file of a segment that the manifest lists: `None` if it is missing and may be.
fn open_listed_data<T>(
    dir: &Dir,
    options: &Options,
    id: u32,
    report: &mut RecoveryReport,
    open: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    match open() {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.is_not_found() && options.allow_missing_segments => {
            report.push(Repair::MissingSegment { segment: id });
            Ok(None)
        }
        Err(error) if error.is_not_found() => Err(Error::MissingSegment {
            segment: id,
            path: dir.segment_path(id, FileKind::Data),
        }),
        Err(error) => Err(error),
    }
}

struct Recovery<'a> {
    dir: &'a Dir,
    options: &'a Options,
    listing: Listing,
    /// The manifest on disk, if there is one that holds.
    stored: Option<Manifest>,
    /// The manifest as it is to be.
    manifest: Manifest,
    sealed: Vec<Arc<Sealed>>,
    /// Runs of the set index that hold, whatever they cover.
    runs: Vec<Arc<Run>>,
    /// Segments that are to be sealed in the background.
    sealing: Vec<Appender>,
    report: RecoveryReport,
}

impl<'a> Recovery<'a> {
    fn start(dir: &'a Dir, options: &'a Options) -> Result<Self> {
        let mut report = RecoveryReport::default();
        let listing = dir.list()?;
        let bytes = dir.read_manifest()?;
        let stored = parse_manifest(dir, bytes.as_deref(), &mut report)?;
        let mut manifest = stored.clone().unwrap_or_default();
        manifest.active = None;
        let after_highest = listing.highest_id().map_or(0, |id| u64::from(id) + 1);
        manifest.next_id = manifest.next_id.max(after_highest);
        Ok(Self {
            dir,
            options,
            listing,
            stored,
            manifest,
            sealed: Vec::new(),
            runs: Vec::new(),
            sealing: Vec::new(),
            report,
        })
    }

    /// Removes temporaries and what the manifest says is retired.
    fn finish_removals(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.listing.temporaries) {
            self.dir.remove_if_present(&path)?;
            self.report.push(Repair::RemovedTemporary { path });
        }
        if !self.manifest.retired.is_empty() {
            // A process that was killed may not have synced the manifest that retires them.
            self.dir.sync()?;
        }
        for id in self.manifest.retired.clone() {
            self.listing.data.remove(&id);
            if self.dir.holds_segment(id) {
                match self.dir.remove_segment(id) {
                    Ok(()) => self.report.push(Repair::RemovedRetired { segment: id }),
                    // Windows removes no file that a reader has mapped: it stays retired.
                    Err(Error::Io { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            self.manifest.retired.remove(&id);
        }
        Ok(())
    }

    /// Opens the segments that the manifest says are sealed.
    fn open_listed(&mut self) -> Result<()> {
        for (id, binding) in self.manifest.sealed.clone() {
            self.listing.data.remove(&id);
            let (dir, reading) = (self.dir, self.options.reading());
            let open = || Sealed::open(dir, id, reading, binding);
            if let Some(sealed) = open_listed_data(dir, self.options, id, &mut self.report, open)? {
                self.note_short_data(&sealed);
                let sealed = if sidecar_fits(dir, id, &binding)? {
                    sealed
                } else {
                    self.rewrite_sidecar(&sealed, &binding)?;
                    Sealed::open(dir, id, reading, binding)?
                };
                self.sealed.push(Arc::new(sealed));
            }
            if self.listing.journals.contains(&id) {
                // A crash came between the commit of a seal and this.
                self.dir.remove_segment_file(id, FileKind::Journal)?;
            }
        }
        Ok(())
    }

    /// Makes the sidecar of a sealed segment anew, if the data gives back exactly what it was. If
    /// not, it is left as it is: an index is never healed over damage.
    fn rewrite_sidecar(&mut self, sealed: &Sealed, binding: &SealedSegment) -> Result<()> {
        let rebuilt = rebuild_index(sealed.data(), Some(binding), hash_records)?;
        let segment = sealed.id();
        if let Some(reason) = rebuilt.doubt {
            self.report.push(Repair::DamagedSegment { segment, reason });
            return Ok(());
        }
        let bytes = rebuilt.index.as_bytes();
        self.dir
            .replace_segment_file(segment, FileKind::Sidecar, bytes)?;
        self.report.push(Repair::RebuiltSidecar { segment });
        Ok(())
    }

    /// Takes over the data files that the manifest does not know, and finds or makes the segment to
    /// append to.
    fn open_unlisted(&mut self) -> Result<Appender> {
        let mut active = None;
        for id in std::mem::take(&mut self.listing.data) {
            if self.adopt_sealed(id)? {
                continue;
            }
            let is_ours = self.listing.journals.contains(&id);
            match unsealed::recover(self.dir, self.options, id, is_ours, &mut self.report)? {
                // A sidecar that does not fit is replaced when the segment is sealed, so that no
                // other reader of the format meets it beside data that has grown.
                Recovered::Appender(appender) if self.listing.sidecars.contains(&id) => {
                    self.sealing.push(appender);
                }
                Recovered::Appender(appender) => self.sealing.extend(active.replace(appender)),
                Recovered::Damaged(sealed) => {
                    self.manifest.sealed.insert(id, *sealed.binding());
                    self.sealed.push(Arc::new(sealed));
                }
                Recovered::NotOurs => {}
            }
        }
        // The active segment has the highest id of all that are not sealed.
        let highest_sealing = self
            .sealing
            .iter()
            .map(|appender| appender.active().id())
            .max();
        let goes_on = |appender: &Appender| {
            appender.active().objects() <= UNSEALED_OBJECTS_MAX
                && appender.has_room_for(0)
                && highest_sealing < Some(appender.active().id())
        };
        match active {
            Some(appender) if goes_on(&appender) => Ok(appender),
            full => {
                self.sealing.extend(full);
                self.create_active()
            }
        }
    }

    /// Opens the runs of the set index. They are derived, so one that does not hold goes.
    fn open_runs(&mut self) -> Result<()> {
        for &number in &self.listing.set_indexes {
            if let Some(run) = Run::open(self.dir, number, self.options.reading())? {
                self.runs.push(Arc::new(run));
            } else {
                let path = self.dir.set_index_path(number);
                self.dir.remove_if_present(&path)?;
                self.report.push(Repair::RemovedSetIndex { number });
            }
        }
        Ok(())
    }

    fn create_active(&mut self) -> Result<Appender> {
        let next_id = self.manifest.next_id;
        let id = u32::try_from(next_id).map_err(|_| Error::SegmentIdsExhausted)?;
        self.manifest.next_id = next_id + 1;
        let Options {
            read_mode,
            segment_bytes_max,
            ..
        } = *self.options;
        Appender::create(self.dir, id, read_mode, segment_bytes_max, 0)
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
        let sealed = Sealed::with_index(dir, id, reading, data_bytes, &index)?;
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

    /// A journal without its data file: if it notes something that was synced, that is missing.
    fn check_journals_without_data(&mut self) -> Result<()> {
        for id in reader::journals_without_data(&self.listing, &self.manifest) {
            unsealed::check_data_is_not_missing(self.dir, self.options, id, &mut self.report)?;
        }
        Ok(())
    }

    /// Writes the manifest if it is to say something else than it does, and puts the set together.
    fn finish(mut self, appender: Appender) -> Result<Opened> {
        self.manifest.active = Some(appender.active().id());
        let unchanged = match &self.stored {
            // Which segment is active and which id is next is known from the files as well.
            Some(stored) => {
                stored.sealed == self.manifest.sealed && stored.retired == self.manifest.retired
            }
            None => self.manifest.sealed.is_empty() && self.report.is_clean(),
        };
        if !unchanged {
            // What the new manifest no longer lists as retired must be gone for good.
            self.dir.sync()?;
            self.dir.replace_manifest(&self.manifest.encode())?;
        }
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
}
