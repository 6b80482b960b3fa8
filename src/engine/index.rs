//! Keeps the set index up to date.

use std::sync::Arc;

use super::writer::Writer;
use crate::error::{Error, Result};
use crate::format::SealedSegment;
use crate::format::set_index::Geometry;
use crate::indexing::{self, Step};
use crate::run::Run;
use crate::segment::Sealed;
use crate::segment_set::{ResolvedRun, RunSize, SegmentSet};
use crate::sync::lock;
use crate::sync::mpsc::Receiver;
use crate::threads::in_own_threads;

/// The amount of work that a call of [`Writer::index`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Merges runs and builds damaged ones anew.
    All,
    /// Keeps `close` short: indexes the uncovered segments and merges no large runs.
    Closing,
}

/// Most objects of a run that is built by a merge while the store is closed. Indexing them takes
/// about as long as sealing a segment.
const MERGED_AT_CLOSING_MAX: u64 = 4 << 20;

impl Writer {
    /// Runs the thread that indexes. Each message asks it to look for work.
    pub(super) fn index_until_closed(&self, requests: &Receiver<()>) {
        while requests.recv().is_ok() {
            self.shared.index_requests.begin();
            // The set index is derived data: a failure makes lookups slower and does no other harm.
            let indexed = self.index_if_needed(Effort::All);
            #[cfg(feature = "tracing")]
            if let Err(error) = &indexed {
                tracing::warn!(error = error.as_reason(), "building the set index");
            }
            let _ = indexed;
        }
    }

    /// Brings the set index up to date as far as it can, before somebody copies it.
    #[cfg(feature = "remote")]
    pub(crate) fn index_now(&self) {
        // Runs that are missing make lookups slower and do no other harm.
        let _ = self.index_if_needed(Effort::All);
    }

    /// Brings the set index up to date, in threads of its own. Starts no threads if it is up to
    /// date, as at most openings and closings.
    pub(super) fn index_if_needed(&self, effort: Effort) -> Result<()> {
        let _one_at_a_time = lock(&self.indexing);
        let set = self.shared.set.load_full();
        if !set.has_damaged_run() && self.next_step(&set, effort).is_none() {
            return Ok(());
        }
        drop(set);
        let index = || self.index(effort);
        in_own_threads(index).map_err(Error::io(&self.shared.root))?
    }

    /// Does [`index_if_needed`](Self::index_if_needed) on the threads of the current pool.
    fn index(&self, effort: Effort) -> Result<()> {
        self.drop_damaged_runs();
        loop {
            let set = self.shared.set.load_full();
            let Some(step) = self.next_step(&set, effort) else {
                return Ok(());
            };
            let is_cancelled = || effort == Effort::All && self.shared.index_requests.is_closing();
            if !self.build_run(&set, &step, &is_cancelled)? {
                return Ok(());
            }
        }
    }

    /// Drops damaged runs, so that their segments are covered anew.
    fn drop_damaged_runs(&self) {
        let set = self.shared.set.load_full();
        let damaged = set.runs().iter().map(ResolvedRun::run);
        let damaged = damaged.filter(|run| run.is_damaged());
        let damaged: Vec<u32> = damaged.map(|run| run.number()).collect();
        if !damaged.is_empty() {
            self.events.repairs.add(damaged.len() as u64);
            self.publish(|set| set.with_run(&damaged, None));
            self.shared.remove_unused_runs(damaged);
        }
    }

    fn next_step(&self, set: &SegmentSet, effort: Effort) -> Option<Step> {
        let minimum = self.shared.options.set_index_minimum;
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

    /// Builds one run. Returns false if it gave up, and then trying again at once is of no use.
    fn build_run(
        &self,
        set: &SegmentSet,
        step: &Step,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let mut replaced: Vec<_> = step.replaced.iter().map(|&at| &set.runs()[at]).collect();
        // A run with a segment whose sidecar is in doubt is kept: a new run would lack objects to
        // which the old run still leads.
        for at in (0..replaced.len()).rev() {
            if may_be_in_doubt(replaced[at], is_cancelled)? {
                replaced.swap_remove(at);
            }
        }
        if !fits_a_run(set, &replaced) {
            // The new run covers the uncovered segments only, beside the runs that there are.
            replaced.clear();
            if !fits_a_run(set, &replaced) {
                return Ok(false);
            }
        }
        let mut segments: Vec<Arc<Sealed>> = uncovered(set).cloned().collect();
        let covered = replaced.iter().flat_map(|resolved| resolved.segments());
        segments.extend(covered.cloned());
        if segments.is_empty() {
            // There is no segment to cover, now or at the next look.
            return Ok(false);
        }
        segments.sort_by_key(|sealed| sealed.id());
        let number = self.take_run_number();
        if indexing::build(self.dir(), number, &segments, is_cancelled)?.is_none() {
            return Ok(false);
        }
        let run = Run::open(self.dir(), number, self.shared.options.reading())?.map(Arc::new);
        let is_whole = run.is_some();
        let replaced = replaced.iter().map(|resolved| resolved.run().number());
        let replaced: Vec<u32> = replaced.collect();
        if is_whole && !replaced.is_empty() {
            self.events.run_merges.add(1);
        }
        self.publish(|set| set.with_run(&replaced, run.clone()));
        self.shared
            .remove_unused_runs(replaced.into_iter().chain([number]));
        #[cfg(feature = "tracing")]
        tracing::debug!(number, segments = segments.len(), "indexed");
        Ok(is_whole)
    }
}

/// Whether a run may cover a segment: the manifest binds it and its sidecar is not in doubt.
/// Lookups ask the sidecar of any other segment.
fn can_be_covered(sealed: &Sealed) -> bool {
    sealed.is_bound() && sealed.known_doubt().is_none()
}

/// Whether a segment of this run has a sidecar that may lack objects. True also if it was cancelled
/// before all of them were checked.
fn may_be_in_doubt(resolved: &ResolvedRun, is_cancelled: &dyn Fn() -> bool) -> Result<bool> {
    for sealed in resolved.segments() {
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
    let covered = replaced.iter().flat_map(|resolved| resolved.segments());
    let bindings: Vec<(u32, SealedSegment)> = uncovered(set)
        .chain(covered)
        .map(|sealed| (sealed.id(), *sealed.binding()))
        .collect();
    Geometry::of(&bindings).is_some()
}
