//! The segments of a store at one moment, and lookups among them.
//!
//! A set is immutable. Rolling, sealing, compacting and indexing make a new set from the old and
//! publish it; a lookup that is under way goes on with the set that it has.

mod batch;
mod copies;
mod copy;
mod disk_waits;
mod fast_path;
mod fetch;
mod lookup;
mod prefix;
mod resolved_run;
mod tried;
mod unread_record;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

pub(crate) use copy::ObjectCopy;
pub(crate) use fetch::Wanted;
pub(crate) use resolved_run::{ResolvedRun, RunSize};
pub(crate) use tried::Tried;

use disk_waits::LookupWaits;
use fetch::LookIntervals;

use crate::digest::HashFunction;
use crate::run::Run;
use crate::segment::{Active, Sealed};

/// The segments of a store, and the runs that cover them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentSet {
    /// The function that names the objects.
    hash_function: HashFunction,
    /// Sorted by id.
    sealed: Vec<Arc<Sealed>>,
    /// Sorted by id; records are appended to the last.
    unsealed: Vec<Arc<Active>>,
    /// The set index, the largest run first. At most one run covers each sealed segment.
    runs: Vec<ResolvedRun>,
    /// The sealed segments that no run covers, sorted by id.
    uncovered: Vec<Arc<Sealed>>,
    /// Average length of a sealed record, in bytes.
    record_bytes_mean: u64,
    /// Whether lookups wait for the disk.
    waits: LookupWaits,
    look_intervals: LookIntervals,
}

impl SegmentSet {
    pub(crate) fn new(
        hash_function: HashFunction,
        mut sealed: Vec<Arc<Sealed>>,
        mut unsealed: Vec<Arc<Active>>,
        runs: Vec<Arc<Run>>,
    ) -> Self {
        sealed.sort_by_key(|segment| segment.id());
        unsealed.sort_by_key(|segment| segment.id());
        let (runs, uncovered) = resolved_run::resolve(runs, &sealed);
        let bindings = || sealed.iter().map(|sealed| sealed.binding());
        let bytes: u64 = bindings().map(|binding| binding.data_bytes).sum();
        let objects: u64 = bindings().map(|binding| u64::from(binding.objects)).sum();
        let record_bytes_mean = bytes / objects.max(1);
        Self {
            hash_function,
            record_bytes_mean,
            waits: LookupWaits::default(),
            look_intervals: LookIntervals::new(record_bytes_mean),
            sealed,
            unsealed,
            runs,
            uncovered,
        }
    }

    pub(crate) const fn hash_function(&self) -> HashFunction {
        self.hash_function
    }

    pub(crate) fn sealed(&self) -> &[Arc<Sealed>] {
        &self.sealed
    }

    pub(crate) fn unsealed(&self) -> &[Arc<Active>] {
        &self.unsealed
    }

    /// The sealed segment with this id.
    pub(crate) fn sealed_with_id(&self, id: u32) -> Option<&Arc<Sealed>> {
        let at = self.sealed.binary_search_by_key(&id, |sealed| sealed.id());
        self.sealed.get(at.ok()?)
    }

    /// The unsealed segment with this id.
    pub(crate) fn unsealed_with_id(&self, id: u32) -> Option<&Arc<Active>> {
        let at = self
            .unsealed
            .binary_search_by_key(&id, |active| active.id());
        self.unsealed.get(at.ok()?)
    }

    /// The numbers of the runs that cover a segment.
    pub(crate) fn run_numbers(&self) -> HashSet<u32> {
        let numbers = self.runs.iter().map(|resolved| resolved.run().number());
        numbers.collect()
    }

    /// The runs that cover a segment, the largest first.
    pub(crate) fn runs(&self) -> &[ResolvedRun] {
        &self.runs
    }

    /// The sealed segments that no run covers, sorted by id.
    pub(crate) fn uncovered(&self) -> &[Arc<Sealed>] {
        &self.uncovered
    }

    /// Whether a lookup has met a damaged run, which has to be built anew.
    #[inline]
    pub(crate) fn has_damaged_run(&self) -> bool {
        self.runs.iter().any(|resolved| resolved.run().is_damaged())
    }

    /// This set with a further segment to append to.
    pub(crate) fn with_active(&self, active: Arc<Active>) -> Self {
        let mut set = self.clone();
        set.unsealed.push(active);
        set.unsealed.sort_by_key(|segment| segment.id());
        set
    }

    /// This set with another segment to append to in the place of the empty segment `empty`.
    pub(crate) fn with_active_instead(&self, empty: u32, active: Arc<Active>) -> Self {
        let mut set = self.clone();
        set.unsealed.retain(|segment| segment.id() != empty);
        set.unsealed.push(active);
        set
    }

    /// This set after an unsealed segment was sealed.
    pub(crate) fn with_sealed(&self, sealed: Arc<Sealed>) -> Self {
        let others = self
            .unsealed
            .iter()
            .filter(|active| active.id() != sealed.id());
        let unsealed = others.cloned().collect();
        let sealed = self.sealed.iter().cloned().chain([sealed]).collect();
        self.with(sealed, unsealed, self.all_runs())
    }

    /// This set after a compaction turned the sealed segments `inputs` into `outputs`.
    pub(crate) fn with_replaced(&self, inputs: &BTreeSet<u32>, outputs: &[Arc<Sealed>]) -> Self {
        let kept = self
            .sealed
            .iter()
            .filter(|sealed| !inputs.contains(&sealed.id()));
        let sealed = kept.chain(outputs).cloned().collect();
        let unsealed = self.unsealed.clone();
        self.with(sealed, unsealed, self.all_runs())
    }

    /// This set without the runs with the numbers `replaced`, and with the new run, if any.
    pub(crate) fn with_run(&self, replaced: &[u32], run: Option<Arc<Run>>) -> Self {
        let mut runs = self.all_runs();
        let replaced: HashSet<u32> = replaced.iter().copied().collect();
        runs.retain(|run| !replaced.contains(&run.number()));
        runs.extend(run);
        self.with(self.sealed.clone(), self.unsealed.clone(), runs)
    }

    /// A set of other segments or runs of the same store.
    fn with(
        &self,
        sealed: Vec<Arc<Sealed>>,
        unsealed: Vec<Arc<Active>>,
        runs: Vec<Arc<Run>>,
    ) -> Self {
        Self {
            waits: self.waits.clone(),
            ..Self::new(self.hash_function, sealed, unsealed, runs)
        }
    }

    fn all_runs(&self) -> Vec<Arc<Run>> {
        let runs = self.runs.iter();
        runs.map(|resolved| Arc::clone(resolved.run())).collect()
    }

    /// Number of objects. An object that was put again to repair it counts twice until a
    /// compaction.
    pub(crate) fn objects(&self) -> u64 {
        let sealed = self.sealed.iter().map(|s| u64::from(s.binding().objects));
        let unsealed = self.unsealed.iter().map(|active| active.objects());
        sealed.sum::<u64>() + unsealed.sum::<u64>()
    }

    /// Whether both sets hold the same segments in the same state, and the same runs.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        }
        same(&self.sealed, &other.sealed)
            && same(&self.unsealed, &other.unsealed)
            && same(&self.all_runs(), &other.all_runs())
    }
}
