//! A run of the set index, resolved against the current segments.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::Result;
use crate::format::set_index::{Location, Ordinal};
use crate::run::Run;
use crate::segment::Sealed;
use crate::threads;

/// A run, and each segment that it covers, if that still exists and no other run covers it.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedRun {
    run: Arc<Run>,
    /// By ordinal.
    segments: Arc<[Option<Arc<Sealed>>]>,
}

/// The number of objects in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunSize {
    /// Objects in segments that still exist.
    pub(crate) live_objects: u64,
    /// Objects in segments that no longer exist.
    pub(crate) dead_objects: u64,
}

impl ResolvedRun {
    pub(crate) const fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The segment that a location names. `None` if it no longer exists.
    #[inline]
    pub(crate) fn segment(&self, location: Location) -> Option<&Arc<Sealed>> {
        self.segments.get(location.ordinal().index())?.as_ref()
    }

    /// The segments that this run covers, by ordinal. `None` for those that no longer exist.
    pub(crate) fn by_ordinal(&self) -> &[Option<Arc<Sealed>>] {
        &self.segments
    }

    /// The segments that this run covers and that still exist.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Arc<Sealed>> {
        self.segments.iter().flatten()
    }

    /// Whether this run leads to every object of its segments, but for segments whose sidecar is in
    /// doubt. Takes time linear in the number of objects, on all cores.
    pub(crate) fn leads_to_all_objects(&self) -> Result<bool> {
        let numbered = (0..).map(Ordinal::new).zip(self.segments.iter());
        for (ordinal, segment) in numbered.filter_map(|(ordinal, s)| Some((ordinal, s.as_ref()?))) {
            if segment.doubt()?.is_some() {
                continue;
            }
            segment.fetch_sidecar()?;
            let (sidecar, run) = (segment.sidecar()?, self.run.index());
            let is_found = |position: usize| {
                let Some(entry) = sidecar.entry(position) else {
                    return false;
                };
                let geometry = &run.header().geometry;
                let location = geometry.location_of(ordinal, position, entry.offset);
                run.find(&entry.digest).any(|found| found == location)
            };
            if !threads::all(0..sidecar.len(), is_found) {
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

/// Resolves each run to the segments for which its binding equals that of the manifest, the largest
/// run first, and returns the segments that no run covers too. Leaves out runs that cover nothing
/// more.
///
/// `sealed` is sorted by id. A segment's id is never used again and its binding has the checksum of
/// its sidecar, so a run with this binding was built from this very segment.
pub(super) fn resolve(
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
    let mut all_resolved = Vec::new();
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
            all_resolved.push(ResolvedRun { run, segments });
        }
    }
    let uncovered = sealed
        .iter()
        .filter(|sealed| !covered.contains(&sealed.id()));
    (all_resolved, uncovered.cloned().collect())
}
