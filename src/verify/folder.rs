//! Whether the files of the folder and the manifest fit together, even those that the handle has
//! not opened.

use super::{Leftover, Problem};
use crate::dir::{Dir, FileKind, FilePath, Listing, open_regular_file, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{Manifest, Sidecar, record};
use crate::options::Reading;
use crate::recovery::{is_journal_undamaged, read_journal};
use crate::run::Run;
use crate::segment::sidecar::open_sidecar;

/// How often the folder is read again because a writer committed something meanwhile. After that
/// nothing is said of the folder.
const ATTEMPTS_MAX: usize = 16;

/// What the files of the folder show, apart from their content.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) leftovers: Vec<Leftover>,
}

/// Checks the files of the folder, apart from their content. Takes time in proportion to their
/// number.
pub(super) fn check(dir: &Dir, reading: Reading) -> Result<Findings> {
    for _ in 0..ATTEMPTS_MAX {
        let before = dir.read_manifest()?;
        let stored = before.as_deref().map(Manifest::parse);
        let folder = Folder {
            dir,
            reading,
            listing: dir.list()?,
            has_manifest: stored.is_some(),
            // Another check reports a damaged manifest.
            manifest: stored.and_then(Result::ok).unwrap_or_default(),
        };
        let problems = folder.problems();
        if dir.read_manifest()? == before {
            return Ok(Findings {
                problems: problems?,
                leftovers: folder.leftovers(),
            });
        }
    }
    Ok(Findings::default())
}

/// Returns the files that openings have kept, and that nothing reads.
pub(crate) fn kept_files(dir: &Dir, listing: &Listing) -> Vec<(FilePath, Leftover)> {
    let manifests = listing.damaged_manifests.iter().map(|file| {
        let path = file.to_path_buf();
        (file.clone(), Leftover::DamagedManifest { path })
    });
    let torn = listing.torn.iter().map(|&segment| {
        let file = dir.segment_path(segment, FileKind::Torn);
        let path = file.to_path_buf();
        (file, Leftover::Torn { path })
    });
    manifests.chain(torn).collect()
}

struct Folder<'a> {
    dir: &'a Dir,
    reading: Reading,
    listing: Listing,
    has_manifest: bool,
    manifest: Manifest,
}

impl Folder<'_> {
    fn problems(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        if self.lost_its_manifest()? {
            problems.push(Problem::MissingManifest);
        }
        for &id in self.listing.data.iter().filter(|id| !self.is_listed(**id)) {
            problems.extend(self.problem_of_unlisted(id)?);
        }
        for (&segment, &durable_bytes) in &self.manifest.unsealed {
            match self.dir.data_bytes(segment)? {
                None => problems.push(Problem::MissingData { segment }),
                Some(bytes) if bytes < durable_bytes => {
                    problems.push(Problem::ShortData { segment });
                }
                Some(_) => {}
            }
        }
        for &segment in self.listing.sidecars.union(&self.listing.journals) {
            if self.is_orphan(segment)? {
                problems.push(Problem::OrphanedIndex { segment });
            }
        }
        for &run in &self.listing.set_indexes {
            // A writer replaces runs all the time, so a run may have been removed since.
            let is_whole = match Run::open(self.dir, run, self.reading) {
                Err(error) if error.is_not_found() => true,
                run => run?.is_some(),
            };
            if !is_whole {
                problems.push(Problem::DamagedRun { run });
            }
        }
        Ok(problems)
    }

    fn leftovers(&self) -> Vec<Leftover> {
        let temporaries = self.listing.temporaries.iter();
        let temporaries = temporaries.map(|file| Leftover::Temporary {
            path: file.path.to_path_buf(),
        });
        let foreign = self.listing.foreign.iter();
        let foreign = foreign.map(|name| Leftover::Foreign {
            path: self.dir.path().join(name),
        });
        let kept = kept_files(self.dir, &self.listing).into_iter();
        let kept = kept.map(|(_, leftover)| leftover);
        let mut leftovers: Vec<Leftover> = kept.chain(temporaries).chain(foreign).collect();
        leftovers.sort_unstable();
        leftovers
    }

    /// Whether there was a manifest and is none any more. A store gets its manifest with the first
    /// segment that is sealed. Before that it has no run, and each of its segments has a journal.
    fn lost_its_manifest(&self) -> Result<bool> {
        if self.has_manifest {
            return Ok(false);
        }
        if !self.listing.set_indexes.is_empty() {
            return Ok(true);
        }
        let without_journal = self.listing.data.difference(&self.listing.journals);
        for &id in without_journal {
            if !self.listing.journals.is_empty() && self.dir.data_bytes(id)?.is_some_and(|b| b > 0)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn problem_of_unlisted(&self, segment: u32) -> Result<Option<Problem>> {
        let is_empty = self.dir.data_bytes(segment)?.is_none_or(|bytes| bytes == 0);
        if self.listing.journals.contains(&segment) {
            let is_damaged = !is_empty && !is_journal_undamaged(self.dir, segment)?;
            return Ok(is_damaged.then_some(Problem::DamagedJournal { segment }));
        }
        // A writer creates the data file of a segment, then the journal; it may have been listed in
        // between. It removes the journal when the manifest lists the segment.
        let journal = self.dir.segment_path(segment, FileKind::Journal);
        let is_foreign = self.has_manifest
            && !is_empty
            && journal.status().is_err()
            && self.holds_record(segment)?;
        Ok(is_foreign.then_some(Problem::UnlistedSegment { segment }))
    }

    /// Whether a data file begins with a whole record. Otherwise it holds no object.
    fn holds_record(&self, id: u32) -> Result<bool> {
        let path = self.dir.segment_path(id, FileKind::Data);
        let (file, file_bytes) = match open_regular_file(&path) {
            Err(error) if error.is_not_found() => return Ok(false),
            opened => opened?,
        };
        let mut header = [0; 4];
        if file_bytes < record::HEADER_BYTES {
            return Ok(false);
        }
        read_exact_at(&file, &mut header, 0).map_err(Error::io(&path))?;
        let len = record::parse_header(&header).unwrap_or(u32::MAX);
        Ok(record::HEADER_BYTES + u64::from(len) <= file_bytes)
    }

    /// Whether the index or the journal of a segment speaks of data that is missing. An interrupted
    /// compaction of another program can leave the index of a segment whose id is below that of
    /// others.
    fn is_orphan(&self, id: u32) -> Result<bool> {
        if self.listing.journals.contains(&id) {
            let journal = read_journal(self.dir, id)?;
            // A journal is removed when its segment is sealed, which can happen at any moment.
            let path = self.dir.segment_path(id, FileKind::Journal);
            let is_unknown = journal.is_none() && path.own_status().is_ok();
            let speaks_of_data = journal.is_some_and(|journal| journal.synced_bytes > 0);
            let is_retired = self.manifest.retired.contains_key(&id);
            let is_missing = !self.listing.data.contains(&id) && !is_retired;
            let is_sealed = self.manifest.sealed.contains_key(&id);
            if is_unknown && (is_missing || is_sealed) || speaks_of_data && is_missing {
                return Ok(true);
            }
        }
        let is_below = Some(&id) < self.listing.data.last();
        let has_data = self.listing.data.contains(&id) || self.is_listed(id);
        Ok(self.listing.sidecars.contains(&id) && !has_data && !(is_below && self.is_index(id)))
    }

    /// Whether the sidecar is valid, or was removed since the folder was listed.
    fn is_index(&self, id: u32) -> bool {
        match open_sidecar(self.dir, id, self.reading) {
            Err(error) => error.is_not_found(),
            Ok(bytes) => Sidecar::parse(bytes).is_ok(),
        }
    }

    fn is_listed(&self, id: u32) -> bool {
        self.manifest.sealed.contains_key(&id) || self.manifest.retired.contains_key(&id)
    }
}
