//! What an application knows of its store when the power fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use sealstone::Digest;

use crate::disk::Disk;
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
    /// Put while a compaction was running: if they were there before, there may be two copies.
    pub twice: BTreeSet<Digest>,
    pub is_compacting: bool,
    pub checkpoints: BTreeMap<PathBuf, BTreeSet<Digest>>,
    /// One that was begun and has not ended, and what it has to hold if it seems to be whole.
    pub checkpointing: Option<(PathBuf, BTreeSet<Digest>)>,
    /// What was cut off a data file, as far as it has to be kept, and was not all zero: the file of torn
    /// bytes beside it holds it.
    pub cut: BTreeSet<(PathBuf, Arc<[u8]>)>,
}

impl Known {
    /// `disk`: as it was before the event.
    pub fn apply(&mut self, event: &Event, disk: &Disk) {
        match event {
            Event::Mark(mark) => self.apply_mark(mark),
            Event::Cut(path, len) => {
                let held = disk.read(path).unwrap_or_default();
                let kept = usize::try_from(*len).unwrap().min(held.len());
                let torn = kept_of(&held[kept..]);
                if torn.iter().any(|byte| *byte != 0) {
                    self.cut.insert((path.with_extension("torn"), torn.into()));
                }
            }
            _ => {}
        }
    }

    fn apply_mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Putting(digest) => {
                if self.is_compacting && self.tried.contains(digest) {
                    self.twice.insert(*digest);
                }
                self.tried.insert(*digest);
                self.dropping.remove(digest);
                self.dropped.remove(digest);
            }
            Mark::Put(digest) => _ = self.put.insert(*digest),
            Mark::Synced => self.synced.clone_from(&self.put),
            Mark::Compacting => self.is_compacting = true,
            Mark::Dropping(digests) => {
                self.put.retain(|digest| !digests.contains(digest));
                self.synced.retain(|digest| !digests.contains(digest));
                self.dropping.clone_from(digests);
            }
            Mark::Dropped => {
                self.dropped.append(&mut self.dropping);
                self.is_compacting = false;
            }
            Mark::Checkpointing(folder) => {
                self.checkpointing = Some((folder.clone(), self.put.clone()));
            }
            Mark::Checkpoint => self.checkpoints.extend(self.checkpointing.take()),
            Mark::Opened => {}
        }
    }

    /// Who opens the store after a crash can count on what was synced.
    pub fn after_crash(&self) -> Self {
        Self {
            put: self.synced.clone(),
            is_compacting: false,
            ..self.clone()
        }
    }
}

/// The first 64 KiB of an interrupted put have to be kept, and all of anything else.
fn kept_of(torn: &[u8]) -> &[u8] {
    const FRONT_BYTES: usize = 64 << 10;
    let len = |header: &[u8; 4]| usize::try_from(u32::from_le_bytes(*header)).unwrap();
    let goes_beyond = torn
        .first_chunk()
        .is_some_and(|header| 4 + len(header) > torn.len());
    &torn[..if goes_beyond {
        torn.len().min(FRONT_BYTES)
    } else {
        torn.len()
    }]
}
