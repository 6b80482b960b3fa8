//! What an application knows of its store when the power fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sealstone::Digest;

use crate::log::{Event, Mark};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Whatever may be there.
    pub tried: BTreeSet<Digest>,
    /// Acknowledged by a put.
    pub put: BTreeSet<Digest>,
    /// Acknowledged by a sync.
    pub synced: BTreeSet<Digest>,
    /// To be dropped by a compaction that has not ended: all or none of them are there.
    pub dropping: BTreeSet<Digest>,
    /// Dropped by one that has, and not put again.
    pub dropped: BTreeSet<Digest>,
    pub checkpoints: BTreeMap<PathBuf, BTreeSet<Digest>>,
}

impl Known {
    pub fn apply(&mut self, event: &Event) {
        let Event::Mark(mark) = event else { return };
        match mark {
            Mark::Putting(digest) => {
                self.tried.insert(*digest);
                self.dropping.remove(digest);
                self.dropped.remove(digest);
            }
            Mark::Put(digest) => _ = self.put.insert(*digest),
            Mark::Synced => self.synced.clone_from(&self.put),
            Mark::Dropping(digests) => {
                self.put.retain(|digest| !digests.contains(digest));
                self.synced.retain(|digest| !digests.contains(digest));
                self.dropping.clone_from(digests);
            }
            Mark::Dropped => self.dropped.append(&mut self.dropping),
            Mark::Checkpoint(folder) => {
                self.checkpoints.insert(folder.clone(), self.put.clone());
            }
        }
    }

    /// Who opens the store after a crash can count on what was synced.
    pub fn after_crash(&self) -> Self {
        Self {
            put: self.synced.clone(),
            ..self.clone()
        }
    }
}
