//! A run of the set index with the segments that it speaks of.

use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::Result;
use crate::format::set_index::{Location, Ordinal};
use crate::run::Run;
use crate::segment::Sealed;

/// A run, and for each segment that it covers the segment itself if it is still there and no other
/// run covers it.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedRun {
    run: Arc<Run>,
    /// By ordinal.
    segments: Arc<[Option<Arc<Sealed>>]>,
}

/// How many objects a run leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunSize {
    /// Objects in segments that are still there.
    pub(crate) live_objects: u64,
    /// Objects in segments that are gone.
    pub(crate) dead_objects: u64,
}

impl ResolvedRun {
    pub(crate) const fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The segment that a location speaks of. `None` for one that is gone.
    #[inline]
    pub(crate) fn segment(&self, location: Location) -> Option<&Arc<Sealed>> {
        self.segments.get(location.ordinal().index())?.as_ref()
    }

    /// The segments that are found by this run.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Arc<Sealed>> {
        self.segments.iter().flatten()
    }

    /// Whether each object of the segments is found by this run, as far as their sidecars are known
    /// to be whole. Linear in their number, in parallel.
    pub(crate) fn leads_to_all_objects(&self) -> Result<bool> {
        let numbered = (0..).map(Ordinal::new).zip(self.segments.iter());
        for (ordinal, segment) in numbered.filter_map(|(ordinal, s)| Some((ordinal, s.as_ref()?))) {
            if segment.doubt()?.is_some() {
                continue;
            }
            let (index, run) = (segment.sidecar()?, self.run.index());
            let is_found = |position: usize| {
                let Some(entry) = index.entry(position) else {
                    return false;
                };
                let geometry = &run.header().geometry;
                let location = geometry.location_of(ordinal, position, entry.offset);
                run.find(&entry.digest).any(|found| found == location)
            };
            if !(0..index.len()).into_par_iter().all(is_found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn size(&self) -> RunSize {
        let objects = |sealed: &Arc<Sealed>| u64::from(sealed.binding().objects);
        let live_objects = self.segments().map(objects).sum();
        let objects = self.run.index().header().objects;
        RunSize {
            live_objects,
            dead_objects: objects.saturating_sub(live_objects),
        }
    }
}

/// Binds each run to the segments of which it says what their manifest says, the largest run first,
/// and gives those that none covers. Runs that cover nothing more are left out.
///
/// `sealed` is sorted by id. A segment's id is never used again and the checksum of its sidecar is
/// part of what is compared, so a run that fits was built from just this segment.
pub(super) fn bind(
    mut runs: Vec<Arc<Run>>,
    sealed: &[Arc<Sealed>],
) -> (Vec<ResolvedRun>, Vec<Arc<Sealed>>) {
    runs.sort_by_key(|run| {
        (
            std::cmp::Reverse(run.index().header().objects),
            run.number(),
        )
    });
    let mut covered = HashSet::new();
    let mut bounds = Vec::new();
    for run in runs {
        let segments: Arc<[Option<Arc<Sealed>>]> = run
            .index()
            .header()
            .segments
            .iter()
            .map(|(id, binding)| {
                let at = sealed.binary_search_by_key(id, |sealed| sealed.id()).ok()?;
                let fits = sealed[at].is_bound() && sealed[at].binding() == binding;
                (fits && covered.insert(*id)).then(|| Arc::clone(&sealed[at]))
            })
            .collect();
        if segments.iter().any(Option::is_some) {
            bounds.push(ResolvedRun { run, segments });
        }
    }
    let uncovered = sealed
        .iter()
        .filter(|sealed| !covered.contains(&sealed.id()));
    (bounds, uncovered.cloned().collect())
}
