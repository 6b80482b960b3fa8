//! What a put has to know of a running compaction.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};

use crate::digest::Digest;
use crate::format::Index;
use crate::sync::{Mutex, MutexGuard};

/// Every put holds the phase for as long as it takes, so that after a change of phase none is under
/// way that has seen the one before.
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
    pub(super) replaced: BTreeSet<u32>,
    /// The indexes of the new segments.
    pub(super) outputs: Vec<Arc<Index<Vec<u8>>>>,
}

impl Phase {
    /// Whether a copy in this segment means that the object need not be stored again.
    pub(super) fn accepts(&self, segment: u32, digest: &Digest) -> bool {
        match self {
            Self::Idle | Self::Pinning(_) => true,
            Self::Closing(closing) => {
                !closing.replaced.contains(&segment) || closing.will_hold(digest)
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
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Closing {
    pub(super) fn will_hold(&self, digest: &Digest) -> bool {
        let mut outputs = self.outputs.iter();
        outputs.any(|index| index.find(digest).next().is_some())
    }
}
