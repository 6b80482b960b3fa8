//! Reads and checks everything.

mod folder;
mod problem;
mod report;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use folder::kept_files;
pub use problem::Problem;
pub use report::{CorruptObject, Leftover, VerifyProgress, VerifyReport};

use crate::digest::HashFunction;
use crate::dir::{Dir, FileKind, regular_file_bytes};
use crate::error::Result;
use crate::file_order::positions_in_file_order;
use crate::format::{Entry, Manifest, Sidecar, record};
use crate::options::Reading;
use crate::recovery::{RecoveryReport, Repair};
use crate::segment::batches::{BATCH_RECORDS_MAX, batches, span};
use crate::segment::content::Content;
use crate::segment::sidecar::open_sidecar;
use crate::segment::{Active, Extent, Sealed};
use crate::segment_set::{ResolvedRun, SegmentSet};
use crate::sync::{Mutex, lock};
use crate::threads;

/// How many sidecars are checked together: one for each lane of the hash, and no more, since those
/// that are not mapped are in memory as a whole.
const SIDECARS_AT_A_TIME: usize = 4;

/// Content of records of average length that a thread takes on at a time, in bytes: all of it is read
/// ahead, and has to stay in memory until its turn comes.
const BATCH_BYTES: usize = 1 << 20;

struct Verification<'a, F> {
    progress: F,
    bytes_total: u64,
    bytes_done: AtomicU64,
    objects_done: AtomicU64,
    cancelled: AtomicBool,
    /// These lists only grow, so they are whole even after a panic.
    corrupt: Mutex<Vec<CorruptObject>>,
    problems: Mutex<Vec<Problem>>,
    leftovers: Mutex<Vec<Leftover>>,
    dir: &'a Dir,
    reading: Reading,
}

/// Checks every record of a set against its digest, in file order and on all cores; every sidecar
/// on disk against its data; every run of the set index against its sidecars; and the manifest.
/// Returns the segments whose sidecar is damaged, too.
pub(crate) fn verify(
    set: &SegmentSet,
    dir: &Dir,
    reading: Reading,
    opening: &RecoveryReport,
    progress: impl Fn(&VerifyProgress) -> ControlFlow<()> + Sync,
) -> Result<(VerifyReport, Vec<Arc<Sealed>>)> {
    let sealed_bytes = set.sealed().iter().map(|sealed| sealed.content_bytes());
    let unsealed_bytes = set.unsealed().iter().map(|active| active.content_bytes());
    let verification = Verification {
        progress,
        bytes_total: sealed_bytes.chain(unsealed_bytes).sum(),
        bytes_done: AtomicU64::new(0),
        objects_done: AtomicU64::new(0),
        cancelled: AtomicBool::new(false),
        corrupt: Mutex::default(),
        problems: Mutex::default(),
        leftovers: Mutex::default(),
        dir,
        reading,
    };
    verification.check_manifest()?;
    verification.check_presence(opening);
    verification.check_folder()?;
    // Segments are checked in parallel as well as the records of each: there may be many small
    // segments, and the work before the records of a segment is not parallel.
    let (damaged_sidecars, checked) = threads::join(
        || verification.check_sidecars(set.sealed()),
        || threads::try_for_each(set.sealed(), |sealed| verification.check_sealed(sealed)),
    );
    let (damaged_sidecars, ()) = (damaged_sidecars?, checked?);
    for resolved in set.runs() {
        verification.check_run(resolved)?;
    }
    for active in set.unsealed() {
        verification.check_unsealed(active)?;
    }
    Ok((verification.finish(), damaged_sidecars))
}

impl<F: Fn(&VerifyProgress) -> ControlFlow<()> + Sync> Verification<'_, F> {
    fn check_manifest(&self) -> Result<()> {
        if let Some(bytes) = self.dir.read_manifest()?
            && let Err(error) = Manifest::parse(&bytes)
        {
            self.note(Problem::DamagedManifest {
                reason: error.to_string(),
            });
        }
        Ok(())
    }

    fn check_folder(&self) -> Result<()> {
        let findings = folder::check(self.dir, self.reading)?;
        lock(&self.problems).extend(findings.problems);
        lock(&self.leftovers).extend(findings.leftovers);
        Ok(())
    }

    /// Notes the segments that were missing when the handle was opened: its set does not show them.
    fn check_presence(&self, opening: &RecoveryReport) {
        for repair in &opening.repairs {
            if let Repair::MissingSegment { segment } = repair {
                self.note(Problem::MissingData { segment: *segment });
            }
        }
    }

    fn check_sealed(&self, sealed: &Sealed) -> Result<()> {
        if self.is_cancelled() {
            return Ok(());
        }
        let order = positions_in_file_order(sealed, |_| true)?;
        if let Some(reason) = sealed.doubt()? {
            self.note(Problem::IncompleteIndex {
                segment: sealed.id(),
                reason: reason.to_owned(),
            });
        }
        let path = self.dir.segment_path(sealed.id(), FileKind::Data);
        let expected_bytes = sealed.binding().data_bytes;
        match regular_file_bytes(&path) {
            Ok(found_bytes) if found_bytes != expected_bytes => {
                self.note(Problem::WrongDataLength {
                    segment: sealed.id(),
                    found_bytes,
                    expected_bytes,
                });
            }
            // If there is no such file, a compaction that ran meanwhile has removed it.
            _ => {}
        }
        let index = sealed.sidecar()?;
        let data = sealed.data();
        let mut ahead = data.read_ahead();
        let read_ahead = |positions: &&[u32]| {
            let ends = [positions.first(), positions.last()];
            let ends = ends.map(|at| index.entry(at.map_or(0, |&at| at as usize)));
            if let [Some(first), Some(last)] = ends {
                ahead.step(data.map(), span(&[first, last]));
            }
        };
        // The batches are dealt out in file order, and read ahead in that order.
        let records = BATCH_BYTES / sealed.record_bytes_mean().max(1);
        let records = records.clamp(1, BATCH_RECORDS_MAX);
        let batches = order.chunks(records).inspect(read_ahead);
        threads::try_for_each_in_order(batches, |positions| {
            let entries = positions.iter().map(|&at| index.entry(at as usize));
            let entries: Vec<Entry> = entries.flatten().collect();
            self.check_in_batches(&entries, |batch| {
                let contents = batch.iter().map(|e| data.read(e.offset, e.len as usize));
                let contents: Vec<Option<Cow<'_, [u8]>>> = contents.collect::<Result<_>>()?;
                let contents = contents.iter().map(Option::as_deref);
                check_batch(data.hash_function(), batch, contents, |entry, verifies| {
                    let header = data.read(header_offset(entry), 4)?;
                    self.note_checked(sealed.id(), entry, header.as_deref(), verifies);
                    Ok(())
                })
            })
        })
    }

    /// Checks the sidecars on disk, not what was loaded from them, and returns the segments whose
    /// sidecar is damaged.
    fn check_sidecars(&self, sealed: &[Arc<Sealed>]) -> Result<Vec<Arc<Sealed>>> {
        let groups = sealed.chunks(SIDECARS_AT_A_TIME).collect();
        let damaged = threads::map_parts(groups, |sealed| self.check_few_sidecars(sealed));
        let damaged: Vec<Vec<Arc<Sealed>>> = damaged.into_iter().collect::<Result<_>>()?;
        Ok(damaged.concat())
    }

    fn check_few_sidecars(&self, sealed: &[Arc<Sealed>]) -> Result<Vec<Arc<Sealed>>> {
        let (mut there, mut sidecars) = (Vec::new(), Vec::new());
        for sealed in sealed {
            if self.is_cancelled() {
                return Ok(Vec::new());
            }
            match open_sidecar(self.dir, sealed.id(), self.reading) {
                Ok(bytes) => {
                    there.push(sealed);
                    sidecars.push(bytes);
                }
                // A reader of a store without a manifest makes the index in memory, or a compaction
                // ran meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let mut damaged = Vec::new();
        for (sealed, parsed) in there.into_iter().zip(Sidecar::parse_many(sidecars)) {
            let binding = sealed.binding();
            let is_other = |index: &Sidecar<_>| {
                let differs = index.checksum() != binding.sidecar_checksum;
                !index.tiles(binding.data_bytes) || (sealed.is_bound() && differs)
            };
            let reason = match parsed {
                Err(error) => error.to_string(),
                Ok(index) if is_other(&index) => "it was made for other data".to_owned(),
                Ok(_) => continue,
            };
            let segment = sealed.id();
            self.note(Problem::DamagedSidecar { segment, reason });
            damaged.push(Arc::clone(sealed));
        }
        Ok(damaged)
    }

    /// Checks every page of a run of the set index, and that the run leads to all objects of its
    /// segments.
    fn check_run(&self, resolved: &ResolvedRun) -> Result<()> {
        if self.is_cancelled() {
            return Ok(());
        }
        let run = resolved.run();
        if !run.all_pages_hold() || !resolved.leads_to_all_objects()? {
            run.set_damaged();
            self.note(Problem::DamagedRun { run: run.number() });
        }
        Ok(())
    }

    fn check_unsealed(&self, active: &Active) -> Result<()> {
        let entries = active.entries_in_file_order();
        self.check_in_batches(&entries, |batch| {
            if let Some(map) = active.map() {
                map.will_need(span(batch));
            }
            let read = |&Entry { offset, len, .. }: &Entry| active.read(Extent { offset, len });
            let contents: Vec<_> = batch.iter().map(read).collect::<Result<_>>()?;
            let contents = contents.iter().map(|c| Some(c.as_ref()?.bytes()));
            check_batch(
                active.hash_function(),
                batch,
                contents,
                |entry, verifies| {
                    if !verifies && active.may_be_torn(entry) {
                        return Ok(());
                    }
                    let header = active.read(Extent {
                        offset: header_offset(entry),
                        len: 4,
                    })?;
                    let header = header.as_ref().map(Content::bytes);
                    self.note_checked(active.id(), entry, header, verifies);
                    Ok(())
                },
            )
        })
    }

    /// Checks batches of `entries` in parallel.
    fn check_in_batches(
        &self,
        entries: &[Entry],
        check: impl Fn(&[Entry]) -> Result<()> + Sync,
    ) -> Result<()> {
        let batches: Vec<_> = batches(entries, |entry| u64::from(entry.len)).collect();
        threads::try_for_each(batches, |batch| {
            if self.is_cancelled() {
                return Ok(());
            }
            check(batch)?;
            self.report_progress();
            Ok(())
        })
    }

    fn note_checked(&self, segment: u32, entry: &Entry, header: Option<&[u8]>, verifies: bool) {
        let Entry {
            digest,
            offset,
            len,
        } = *entry;
        if !verifies {
            lock(&self.corrupt).push(CorruptObject {
                segment,
                offset,
                len,
                digest,
            });
        } else if header != Some(&record::header(len)[..]) {
            self.note(Problem::DamagedRecordLength { segment, offset });
        }
        self.bytes_done.fetch_add(u64::from(len), Ordering::Relaxed);
        self.objects_done.fetch_add(1, Ordering::Relaxed);
    }

    fn report_progress(&self) {
        let progress = VerifyProgress {
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total,
            objects_done: self.objects_done.load(Ordering::Relaxed),
        };
        if (self.progress)(&progress).is_break() {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn note(&self, problem: Problem) {
        lock(&self.problems).push(problem);
    }

    fn finish(self) -> VerifyReport {
        let mut corrupt = std::mem::take(&mut *lock(&self.corrupt));
        let mut problems = std::mem::take(&mut *lock(&self.problems));
        corrupt.sort_unstable();
        let place = |problem: &Problem| (problem.segment(), problem.run());
        problems.sort_unstable_by(|a, b| (place(a), a).cmp(&(place(b), b)));
        // The folder and the set can both show the same problem.
        problems.dedup();
        VerifyReport {
            objects: self.objects_done.into_inner(),
            bytes: self.bytes_done.into_inner(),
            corrupt,
            problems,
            leftovers: std::mem::take(&mut *lock(&self.leftovers)),
            cancelled: self.cancelled.into_inner(),
        }
    }
}

/// Hashes a batch and tells `note` of each entry whether the content that was read is its content.
fn check_batch<'c>(
    function: HashFunction,
    batch: &[Entry],
    contents: impl Iterator<Item = Option<&'c [u8]>>,
    note: impl Fn(&Entry, bool) -> Result<()>,
) -> Result<()> {
    let contents: Vec<Option<&[u8]>> = contents.collect();
    let present: Vec<&[u8]> = contents.iter().map(|c| c.unwrap_or_default()).collect();
    let digests = function.digest_many(&present);
    for ((entry, content), digest) in batch.iter().zip(contents).zip(digests) {
        note(entry, content.is_some() && digest == entry.digest)?;
    }
    Ok(())
}

/// Returns where the record of an entry begins.
const fn header_offset(entry: &Entry) -> u64 {
    entry.offset.saturating_sub(record::HEADER_BYTES)
}
