//! Looking at a folder before anything in it is changed: does the manifest fit the files?
//!
//! Files and manifest can be of different moments: a backup was restored file by file, an older
//! manifest was put back, or NEDB v3, which knows no manifest, wrote in between. So the manifest is
//! first compared with the files, and an opening that is refused has changed nothing.

use std::collections::BTreeMap;

use super::read_journal;
use super::report::{RecoveryReport, Repair};
use crate::dir::{Dir, FileKind, Listing};
use crate::error::{Error, Result};
use crate::format::{Manifest, SealedSegment};
use crate::options::Options;

/// The state in the folder of the segments that a manifest lists.
pub(super) struct Look {
    /// Length of the data file of each sealed segment that has one, in bytes.
    pub(super) sealed_bytes: BTreeMap<u32, u64>,
    /// Segments whose data file is missing.
    missing: Vec<u32>,
    /// Unsealed segments that are shorter than the manifest says, with the number of missing bytes.
    pub(super) short_unsealed: Vec<(u32, u64)>,
    /// Segments that have a journal and no data file.
    pub(super) journals_without_data: Vec<u32>,
    /// Whether a program that knows no manifest has compacted the store. Then the missing segments
    /// are gone for good, and their objects are in newer segments or were dropped.
    pub(super) was_compacted_by_another: bool,
}

impl Look {
    pub(super) fn at(dir: &Dir, listing: &Listing, manifest: &Manifest) -> Result<Self> {
        let mut look = Self {
            sealed_bytes: BTreeMap::new(),
            missing: Vec::new(),
            short_unsealed: Vec::new(),
            journals_without_data: journals_without_data(listing, manifest),
            was_compacted_by_another: false,
        };
        for &id in manifest.sealed.keys() {
            match dir.data_bytes(id)? {
                Some(bytes) => drop(look.sealed_bytes.insert(id, bytes)),
                None => look.missing.push(id),
            }
        }
        for (&id, &durable_bytes) in &manifest.unsealed {
            match dir.data_bytes(id)? {
                Some(bytes) if bytes < durable_bytes => {
                    look.short_unsealed.push((id, durable_bytes - bytes));
                }
                Some(_) => {}
                None => look.missing.push(id),
            }
        }
        for &id in &look.journals_without_data {
            let journal = read_journal(dir, id)?;
            if !manifest.unsealed.contains_key(&id)
                && journal.is_some_and(|journal| journal.synced_bytes > 0)
            {
                look.missing.push(id);
            }
        }
        look.was_compacted_by_another = look.is_compacted_by_another(listing, manifest);
        Ok(look)
    }

    /// Whether a segment without a journal has a higher id than all missing ones. We give each
    /// segment a journal until the manifest lists it, so another program wrote that segment, or a
    /// later manifest listed it. The segment can be empty: a compaction that keeps nothing leaves
    /// such a segment.
    fn is_compacted_by_another(&self, listing: &Listing, manifest: &Manifest) -> bool {
        let Some(&highest) = self.missing.iter().max() else {
            return false;
        };
        let mut above = unlisted(listing, manifest).filter(|&above| above > highest);
        above.any(|above| !listing.journals.contains(&above))
    }

    /// Whether the manifest or a journal speaks of the segment's data and its file is missing.
    pub(super) fn is_missing(&self, id: u32) -> bool {
        self.missing.contains(&id)
    }

    /// Whether every file that the manifest lists exists with the length that it says. A sealed
    /// segment that is longer has lost nothing.
    pub(super) fn is_complete(&self, manifest: &Manifest) -> bool {
        let is_whole = |(id, segment): (&u32, &SealedSegment)| {
            let bytes = self.sealed_bytes.get(id);
            bytes.is_some_and(|&bytes| bytes >= segment.data_bytes)
        };
        self.missing.is_empty()
            && self.short_unsealed.is_empty()
            && manifest.sealed.iter().all(is_whole)
    }

    /// Reports the missing segments, or refuses the opening because of them.
    pub(super) fn judge_missing(
        &self,
        dir: &Dir,
        manifest: &Manifest,
        options: &Options,
        report: &mut RecoveryReport,
    ) -> Result<()> {
        for &segment in &self.missing {
            if self.was_compacted_by_another {
                let sealed = manifest.sealed.get(&segment);
                report.push(Repair::GoneSegment {
                    segment,
                    objects: sealed.map(|sealed| sealed.objects),
                });
            } else if options.allow_missing_segments {
                report.push(Repair::MissingSegment { segment });
            } else {
                return Err(Error::MissingSegment {
                    segment,
                    path: dir.segment_path(segment, FileKind::Data).to_path_buf(),
                });
            }
        }
        Ok(())
    }
}

/// Returns the data files that the manifest lists neither as sealed nor as retired.
pub(super) fn unlisted(listing: &Listing, manifest: &Manifest) -> impl Iterator<Item = u32> {
    let ids = listing.data.iter().copied();
    ids.filter(|&id| !is_listed(id, manifest))
}

/// Returns the journals without a data file, of segments that the manifest lists neither as sealed
/// nor as retired.
fn journals_without_data(listing: &Listing, manifest: &Manifest) -> Vec<u32> {
    let ids = listing.journals.difference(&listing.data).copied();
    ids.filter(|&id| !is_listed(id, manifest)).collect()
}

fn is_listed(id: u32, manifest: &Manifest) -> bool {
    manifest.sealed.contains_key(&id) || manifest.retired.contains_key(&id)
}
