//! Keeping the set index up to date.

use std::sync::Arc;

use super::Inner;
use super::write::Writer;
use crate::error::{Error, Result};
use crate::format::SealedSegment;
use crate::format::set_index::Geometry;
use crate::indexing::{self, Step};
use crate::run::Run;
use crate::segment::Sealed;
use crate::segment_set::{ResolvedRun, RunSize, SegmentSet};
use crate::sync::mpsc::Receiver;
use crate::threads::in_own_threads;

/// How far a call of [`Inner::index`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Merges runs and builds damaged ones anew.
    All,
    /// Whoever closes the store waits, so large runs are not merged, and nothing is done but to cover
    /// what is not covered.
    Closing,
}

/// At closing runs are merged if the result has no more objects than this, which takes about as long
/// as sealing a segment.
const MERGED_AT_CLOSING_MAX: u64 = 4 << 20;

impl Inner {
    /// The thread that indexes. Each message asks it to look whether there is something to do.
    pub(super) fn index_in_background(&self, asked: &Receiver<()>) {
        while asked.recv().is_ok() {
            let Ok(writer) = self.writer() else { return };
            writer.begin_indexing();
            // The set index is derived: what fails here costs time at lookups and no more.
            let indexed = self.index_if_needed(writer, Effort::All);
            #[cfg(feature = "tracing")]
            if let Err(error) = &indexed {
                tracing::warn!(%error, "building the set index");
            }
            let _ = indexed;
        }
    }

    /// Brings the set index up to date, in threads of its own. Most openings and closings find nothing
    /// to do, and to find that takes less time than to start a thread.
    pub(super) fn index_if_needed(&self, writer: &Writer, effort: Effort) -> Result<()> {
        let set = self.set.load_full();
        if set.has_damaged_run() || self.next_step(&set, effort).is_some() {
            drop(set);
            let index = || self.index(writer, effort);
            in_own_threads(index).map_err(Error::io(&self.root))?
        } else {
            Ok(())
        }
    }

    /// As [`index_if_needed`](Self::index_if_needed), on the threads of the current pool.
    fn index(&self, writer: &Writer, effort: Effort) -> Result<()> {
        self.drop_damaged_runs(writer);
        loop {
            let set = self.set.load_full();
            let Some(step) = self.next_step(&set, effort) else {
                return Ok(());
            };
            let is_cancelled = || effort == Effort::All && writer.is_closing();
            if !self.carry_out(writer, &set, &step, &is_cancelled)? {
                return Ok(());
            }
        }
    }

    /// Does without runs that are damaged, so that their segments are covered anew.
    fn drop_damaged_runs(&self, writer: &Writer) {
        let set = self.set.load_full();
        let damaged = set.runs().iter().map(ResolvedRun::run);
        let damaged = damaged.filter(|run| run.is_damaged());
        let damaged: Vec<u32> = damaged.map(|run| run.number()).collect();
        if !damaged.is_empty() {
            self.publish(writer, |set| set.with_run(&damaged, None));
            self.remove_unused_runs(damaged);
        }
    }

    fn next_step(&self, set: &SegmentSet, effort: Effort) -> Option<Step> {
        let minimum = self.options.set_index_minimum;
        let objects = |sealed: &Arc<Sealed>| u64::from(sealed.binding().objects);
        let (segments, objects) = uncovered(set).fold((0, 0), |(segments, sum), sealed| {
            (segments + 1, sum + objects(sealed))
        });
        let wants_cover =
            segments > 0 && (segments >= minimum.segments || objects >= minimum.objects);
        if effort == Effort::Closing && !wants_cover {
            return None;
        }
        let sizes: Vec<RunSize> = set.runs().iter().map(ResolvedRun::size).collect();
        let mut step = indexing::plan(&sizes, objects, wants_cover)?;
        let merged = step.replaced.iter().map(|&at| sizes[at].live_objects);
        if effort == Effort::Closing && objects + merged.sum::<u64>() > MERGED_AT_CLOSING_MAX {
            step.replaced.clear();
        }
        Some(step)
    }

    /// Builds one run. False if that was given up and so is not to be tried again now.
    fn carry_out(
        &self,
        writer: &Writer,
        set: &SegmentSet,
        step: &Step,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let mut replaced: Vec<_> = step.replaced.iter().map(|&at| &set.runs()[at]).collect();
        // From one whose index is in doubt a new run would lack what the old one still leads to.
        for at in (0..replaced.len()).rev() {
            if may_be_in_doubt(replaced[at], is_cancelled)? {
                replaced.swap_remove(at);
            }
        }
        if !fits_a_run(set, &replaced) {
            // Then there is one more.
            replaced.clear();
            if !fits_a_run(set, &replaced) {
                return Ok(false);
            }
        }
        let mut segments: Vec<Arc<Sealed>> = uncovered(set).cloned().collect();
        segments.extend(replaced.iter().flat_map(|bound| bound.segments().cloned()));
        if segments.is_empty() {
            // Nothing would come of it, now or at the next look.
            return Ok(false);
        }
        segments.sort_by_key(|sealed| sealed.id());
        let number = writer.take_run_number();
        if indexing::build(&self.dir, number, &segments, is_cancelled)?.is_none() {
            return Ok(false);
        }
        let run = Run::open(&self.dir, number, self.options.reading())?.map(Arc::new);
        let is_whole = run.is_some();
        let replaced: Vec<u32> = replaced.iter().map(|bound| bound.run().number()).collect();
        self.publish(writer, |set| set.with_run(&replaced, run.clone()));
        self.remove_unused_runs(replaced.into_iter().chain([number]));
        #[cfg(feature = "tracing")]
        tracing::debug!(number, segments = segments.len(), "indexed");
        Ok(is_whole)
    }

    /// Removes the files of those of these runs that are of no use any more: their segments are gone,
    /// or covered by another.
    pub(super) fn remove_unused_runs(&self, numbers: impl IntoIterator<Item = u32>) {
        let used = self.set.load().run_numbers();
        for number in numbers {
            if !used.contains(&number) {
                // What stays is removed by the next opening.
                let path = self.dir.set_index_path(number);
                let _ = self.dir.remove_if_present(&path);
            }
        }
    }
}

/// A segment whose index is in doubt, or that no manifest binds, is left to its sidecar.
fn can_be_covered(sealed: &Sealed) -> bool {
    sealed.is_bound() && sealed.known_doubt().is_none()
}

/// Whether a segment that is found by this run has an index that may lack objects, as far as that
/// was looked at before it was given up.
fn may_be_in_doubt(bound: &ResolvedRun, is_cancelled: &dyn Fn() -> bool) -> Result<bool> {
    for sealed in bound.segments() {
        if is_cancelled() || sealed.doubt()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uncovered(set: &SegmentSet) -> impl Iterator<Item = &Arc<Sealed>> {
    set.uncovered()
        .iter()
        .filter(|sealed| can_be_covered(sealed))
}

fn fits_a_run(set: &SegmentSet, replaced: &[&ResolvedRun]) -> bool {
    let of_runs = replaced.iter().flat_map(|bound| bound.segments());
    let bindings: Vec<(u32, SealedSegment)> = uncovered(set)
        .chain(of_runs)
        .map(|sealed| (sealed.id(), *sealed.binding()))
        .collect();
    Geometry::of(&bindings).is_some()
}
