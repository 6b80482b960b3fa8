//! What an application knows of its store when the power fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use sealstone::Digest;

use crate::disk::Disk;
use crate::log::{Event, Mark};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Objects that may be there.
    pub tried: BTreeSet<Digest>,
    /// Objects that a put acknowledged.
    pub put: BTreeSet<Digest>,
    /// Objects that a sync acknowledged.
    pub synced: BTreeSet<Digest>,
    /// Objects that an unfinished compaction drops: all or none of them are there.
    pub dropping: BTreeSet<Digest>,
    /// Objects that a finished compaction dropped, and that were not put again.
    pub dropped: BTreeSet<Digest>,
    /// Objects put while a compaction was running: those that were there before may have two
    /// copies.
    pub twice: BTreeSet<Digest>,
    pub is_compacting: bool,
    pub checkpoints: BTreeMap<PathBuf, BTreeSet<Digest>>,
    /// The unfinished checkpoint, and the objects that it must hold if it seems to be whole.
    pub checkpointing: Option<(PathBuf, BTreeSet<Digest>)>,
    /// Bytes cut off a data file that must be kept and were not all zero, with the file of torn
    /// bytes that holds them.
    pub cut: BTreeSet<(PathBuf, Arc<[u8]>)>,
}

impl Known {
    /// Applies an event. `disk` is the disk before the event.
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
            Mark::SyncedOne(digest) => _ = self.synced.insert(*digest),
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

    /// Returns the knowledge after a crash, when an application can count on synced objects only.
    pub fn after_crash(&self) -> Self {
        Self {
            put: self.synced.clone(),
            is_compacting: false,
            ..self.clone()
        }
    }
}

/// Returns the bytes that must be kept: the first 64 KiB of an interrupted put, and all of anything
/// else.
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
