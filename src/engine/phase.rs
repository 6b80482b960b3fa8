//! What a put has to know of a running compaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::compaction::Prepared;
use crate::digest::Digest;
use crate::sync::{Mutex, MutexGuard, lock};

/// The phase of the store. Each put holds a read lock on it, so changing the phase waits for puts of
/// the old one.
#[derive(Clone, Debug, Default)]
pub(super) enum Phase {
    /// No compaction is running.
    #[default]
    Idle,
    /// A compaction has begun: an object that is put and already held by one of its inputs is pinned.
    Pinning(Arc<Pins>),
    /// The compaction is about to commit, pins come too late: an object that is put and held only by
    /// a segment that will go is appended.
    Closing(Arc<Closing>),
}

/// Objects that a running compaction must keep whatever it is told.
#[derive(Debug)]
pub(super) struct Pins {
    /// The segments that existed when the compaction began.
    inputs: BTreeSet<u32>,
    digests: Mutex<HashSet<Digest>>,
}

/// What is known when nothing can be pinned any more.
#[derive(Debug)]
pub(super) struct Closing {
    prepared: Arc<Prepared>,
    /// By id, the segments that go, as `prepared` numbers them.
    replaced: BTreeMap<u32, usize>,
}

impl Phase {
    /// Whether a copy in this segment means that the object need not be stored again.
    pub(super) fn accepts(&self, segment: u32, digest: &Digest) -> bool {
        match self {
            Self::Idle | Self::Pinning(_) => true,
            Self::Closing(closing) => {
                !closing.replaces(segment) || closing.keeps_copy_in(segment, digest)
            }
        }
    }

    /// Notes that an object was put that this segment already held.
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
            prepared,
        }
    }

    pub(super) fn replaces(&self, segment: u32) -> bool {
        self.replaced.contains_key(&segment)
    }

    /// Whether this segment goes, and its copy of the object was copied. Asks the one segment, not the
    /// new ones, of which there may be many.
    pub(super) fn keeps_copy_in(&self, segment: u32, digest: &Digest) -> bool {
        let number = self.replaced.get(&segment);
        number.is_some_and(|&number| self.prepared.is_live_in(number, digest))
    }

    /// The ids of the segments that go.
    pub(super) fn replaced_ids(&self) -> BTreeSet<u32> {
        self.replaced.keys().copied().collect()
    }
}
