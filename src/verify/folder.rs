//! Whether the files of the folder and the manifest go together, whatever of them a handle has opened.

use super::Problem;
use crate::dir::{Dir, FileKind, Listing, open_regular_file, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{Manifest, Sidecar, record};
use crate::options::Reading;
use crate::recovery::{is_journal_undamaged, read_journal};
use crate::run::Run;
use crate::segment::sealed::open_sidecar;

/// How often the folder is looked at again because a writer committed something meanwhile. Then nothing is
/// said of it.
const ATTEMPTS_MAX: usize = 16;

/// What is wrong with the files of the folder, their content apart. Linear in their number.
pub(super) fn check(dir: &Dir, reading: Reading) -> Result<Vec<Problem>> {
    for _ in 0..ATTEMPTS_MAX {
        let before = dir.read_manifest()?;
        let stored = before.as_deref().map(Manifest::parse);
        let folder = Folder {
            dir,
            reading,
            listing: dir.list()?,
            has_manifest: stored.is_some(),
            // A damaged one is reported by itself.
            manifest: stored.and_then(Result::ok).unwrap_or_default(),
        };
        let problems = folder.problems();
        if dir.read_manifest()? == before {
            return problems;
        }
    }
    Ok(Vec::new())
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
        let mut note = |segment: Option<u32>, what: &str| {
            problems.push(Problem {
                segment,
                run: None,
                what: what.to_owned(),
            });
        };
        if self.lost_its_manifest()? {
            note(
                None,
                "the manifest is missing, so it cannot be known whether segments are; open the store as \
                 a writer to make a new one of what is there",
            );
        }
        for &id in self.listing.data.iter().filter(|id| !self.is_listed(**id)) {
            if let Some(what) = self.problem_of_unlisted(id)? {
                note(Some(id), what);
            }
        }
        for (&id, &durable_bytes) in &self.manifest.unsealed {
            match self.dir.data_bytes(id)? {
                None => note(
                    Some(id),
                    "the data file is missing; restore it from a backup",
                ),
                Some(bytes) if bytes < durable_bytes => note(
                    Some(id),
                    "the data file is shorter than what was synced of it; restore it from a backup",
                ),
                Some(_) => {}
            }
        }
        let derived = self.listing.sidecars.union(&self.listing.journals);
        for &id in derived {
            if self.is_orphan(id)? {
                note(
                    Some(id),
                    "there is an index or a journal and no data file; restore that from a backup, or \
                     remove these files if the segment was removed on purpose",
                );
            }
        }
        for &number in &self.listing.set_indexes {
            // A writer replaces them all the time.
            let is_whole = match Run::open(self.dir, number, self.reading) {
                Err(error) if error.is_not_found() => true,
                run => run?.is_some(),
            };
            if !is_whole {
                problems.push(Problem {
                    segment: None,
                    run: Some(number),
                    what: format!(
                        "run {number} of the set index is damaged; nothing is lost, the next writer removes it"
                    ),
                });
            }
        }
        Ok(problems)
    }

    /// A store gets its manifest with the first segment that is sealed. Until then it has nothing that is
    /// made from sealed segments, and each of its segments has a journal.
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

    fn problem_of_unlisted(&self, id: u32) -> Result<Option<&'static str>> {
        let is_empty = self.dir.data_bytes(id)?.is_none_or(|bytes| bytes == 0);
        if self.listing.journals.contains(&id) {
            let is_damaged = !is_empty && !is_journal_undamaged(self.dir, id)?;
            return Ok(is_damaged.then_some(
                "the journal is damaged, so it cannot be known what was synced; open the store as a \
                 writer to make a new one of what is there",
            ));
        }
        let is_foreign = self.has_manifest && !is_empty && self.holds_record(id)?;
        Ok(is_foreign.then_some(
            "the manifest does not list this segment: the manifest is older, or another program wrote \
             the segment; what else there was cannot be known. Open the store as a writer to take over \
             what is there",
        ))
    }

    /// Whether a data file begins with a whole record. Otherwise there is no object in it.
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

    /// Whether index or journal of a segment speak of data that is not there. A compaction of another
    /// program that was cut off can leave the index of a segment below others.
    fn is_orphan(&self, id: u32) -> Result<bool> {
        if self.listing.journals.contains(&id) {
            let journal = read_journal(self.dir, id)?;
            // It is removed when its segment is sealed, which can be now.
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

    /// Whether the sidecar is one, or has been removed since it was listed.
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
