//! The phase of the store: whether a compaction runs, and what it asks of puts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::compaction::Prepared;
use crate::digest::Digest;
use crate::sync::{Mutex, MutexGuard, lock};

/// The phase of the store. Each put holds a read lock on the phase, so changing the phase waits for
/// puts of the old one.
#[derive(Clone, Debug, Default)]
pub(super) enum Phase {
    /// No compaction and no trim is running.
    #[default]
    Idle,
    /// A compaction has begun: a put pins an object that an input of the compaction already holds.
    Pinning(Arc<Pins>),
    /// The compaction or trim is about to commit, so pins come too late: a put appends an object of
    /// which no copy survives.
    Closing(Arc<Closing>),
}

/// Objects that a running compaction must keep, whatever its caller says.
#[derive(Debug)]
pub(super) struct Pins {
    /// The segments that existed when the compaction began.
    inputs: BTreeSet<u32>,
    digests: Mutex<HashSet<Digest>>,
}

/// A prepared compaction, from the moment on at which no object can be pinned any more, or a trim.
#[derive(Debug)]
pub(super) struct Closing {
    /// Absent for a trim, which carries nothing over.
    prepared: Option<Arc<Prepared>>,
    /// By id, the numbers in `prepared` of the segments that do not survive.
    replaced: BTreeMap<u32, usize>,
}

impl Phase {
    /// Whether a copy in this segment makes storing the object again superfluous.
    pub(super) fn accepts(&self, segment: u32, digest: &Digest) -> bool {
        match self {
            Self::Idle | Self::Pinning(_) => true,
            Self::Closing(closing) => {
                !closing.replaces(segment) || closing.carries_over(segment, digest)
            }
        }
    }

    /// Pins an object that was put and that this segment already holds, if the segment is an input.
    pub(super) fn pin(&self, segment: u32, digest: &Digest) {
        if let Self::Pinning(pins) = self
            && pins.inputs.contains(&segment)
        {
            pins.lock().insert(*digest);
        }
    }
}

impl Pins {
    pub(super) fn new(inputs: BTreeSet<u32>) -> Self {
        Self {
            inputs,
            digests: Mutex::new(HashSet::new()),
        }
    }

    pub(super) const fn inputs(&self) -> &BTreeSet<u32> {
        &self.inputs
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    pub(super) fn to_vec(&self) -> Vec<Digest> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        // An insertion that a panic cut off has either happened or not.
        lock(&self.digests)
    }
}

impl Closing {
    pub(super) fn new(prepared: Arc<Prepared>) -> Self {
        let replaced = prepared.plan.replaced.iter();
        let replaced = replaced.map(|&number| (prepared.inputs[number].id(), number));
        Self {
            replaced: replaced.collect(),
            prepared: Some(prepared),
        }
    }

    /// Makes the state for a trim that drops the segments with these ids.
    pub(super) fn that_drops(ids: &BTreeSet<u32>) -> Self {
        Self {
            prepared: None,
            replaced: ids.iter().copied().zip(0..).collect(),
        }
    }

    pub(super) fn replaces(&self, segment: u32) -> bool {
        self.replaced.contains_key(&segment)
    }

    /// Whether the compaction replaces this segment and carries its copy of the object over into a
    /// new one. Asks this segment only, not the new segments, of which there may be many.
    pub(super) fn carries_over(&self, segment: u32, digest: &Digest) -> bool {
        let (prepared, number) = (self.prepared.as_ref(), self.replaced.get(&segment));
        let both = prepared.zip(number);
        both.is_some_and(|(prepared, &number)| prepared.is_live_in(number, digest))
    }

    /// The ids of the segments that do not survive.
    pub(super) fn replaced_ids(&self) -> BTreeSet<u32> {
        self.replaced.keys().copied().collect()
    }
}
