//! Opening a store: from the files on disk to a segment set, with the repairs on the way.
//!
//! An opening first [looks](look) whether the manifest fits the files, then repairs, and removes
//! files last. So an opening that is refused has changed nothing, and an opening that fails has
//! removed nothing. Each step can be interrupted, and the next opening does it again.

mod adopt;
mod appended;
mod choose;
mod finish;
mod hash_function;
mod keep;
mod look;
mod open_listed;
mod open_unlisted;
mod read_journal;
pub(crate) mod reader;
mod report;
mod retired;
mod tail;
mod torn;
mod unsealed;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use read_journal::{is_journal_undamaged, read_journal};
pub use report::{RecoveryReport, Repair};

use crate::dir::{Dir, Listing};
use crate::error::{Error, Result};
use crate::format::{FormatError, Manifest};
use crate::options::Options;
use crate::run::Run;
use crate::segment::{Appender, Sealed};
use crate::segment_set::SegmentSet;
use finish::Removals;
use look::Look;

/// Most objects with which an unsealed segment is loaded into memory. With more it is sealed at
/// opening and closing instead of being loaded again and again: 32,768 load in a few milliseconds.
pub(crate) const UNSEALED_OBJECTS_MAX: u64 = 32_768;

/// The state from which a writer starts.
pub(crate) struct Opened {
    pub(crate) set: SegmentSet,
    pub(crate) appender: Appender,
    pub(crate) manifest: Manifest,
    pub(crate) report: RecoveryReport,
    /// The numbers of all runs of the set index that the folder held, damaged ones included.
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

/// Parses the bytes of a manifest. `None` if there are no bytes, or if they are damaged, which goes
/// into `report`. A manifest of a newer version is an error, since nothing may be concluded from
/// it.
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
        Err(FormatError::HashFunction { feature }) => Err(Error::HashFunctionNotCompiledIn {
            path: dir.manifest_path().to_path_buf(),
            feature,
        }),
        Err(error) => {
            report.push(Repair::IgnoredManifest {
                reason: error.to_string(),
            });
            Ok(None)
        }
    }
}

struct Recovery<'a> {
    dir: &'a Dir,
    /// The options of the caller, with the hash function that the store has.
    options: Options,
    /// Whether the caller has named a hash function.
    was_asked_for_function: bool,
    listing: Listing,
    /// The highest id of a data file.
    highest_data: Option<u32>,
    /// The manifest on disk, if there is an undamaged one.
    stored: Option<Manifest>,
    is_manifest_damaged: bool,
    look: Look,
    /// Whether there is a manifest, and every file that it relies on is as it says. Only then are
    /// files removed because the manifest says so.
    fits: bool,
    /// The manifest as this opening will leave it.
    manifest: Manifest,
    sealed: Vec<Arc<Sealed>>,
    /// The undamaged runs of the set index, whichever segments they cover.
    runs: Vec<Arc<Run>>,
    /// Segments that will be sealed in the background.
    sealing: Vec<Appender>,
    removals: Removals,
    report: RecoveryReport,
}

impl<'a> Recovery<'a> {
    /// Reads the manifest and lists the folder. Changes nothing, and fails if the opening is
    /// refused.
    fn look(dir: &'a Dir, options: &Options) -> Result<Self> {
        let mut report = RecoveryReport::default();
        let listing = dir.list()?;
        let bytes = dir.read_manifest()?;
        let stored = parse_manifest(dir, bytes.as_deref(), &mut report)?;
        let mut manifest = stored.clone().unwrap_or_default();
        let look = Look::at(dir, &listing, &manifest)?;
        let hash_function =
            hash_function::of_store(dir, options, stored.as_ref(), bytes.as_deref())?;
        look.judge_missing(dir, &manifest, options, &mut report)?;
        for &(segment, missing_bytes) in &look.short_unsealed {
            // If there is a journal, it says which objects are lost, and they are reported with it.
            if !listing.journals.contains(&segment) {
                report.push(Repair::ShortData {
                    segment,
                    missing_bytes,
                });
            }
        }
        let fits = stored.is_some() && look.is_complete(&manifest);
        manifest.hash_function = hash_function;
        manifest.active = None;
        manifest.unsealed.clear();
        let after_highest = listing.highest_id().map_or(0, |id| u64::from(id) + 1);
        manifest.next_id = manifest.next_id.max(after_highest);
        Ok(Self {
            dir,
            options: options.clone().hash_function(hash_function),
            was_asked_for_function: options.hash_function.is_some(),
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

    /// Opens the runs of the set index. They are derived, so a damaged one is removed.
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
}
