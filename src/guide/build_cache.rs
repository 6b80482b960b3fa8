//! A build cache: finds the outputs of an action by a digest of all that went into it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sealstone::{CompactionStats, Digest, Object, Result, Store};

/// The outputs of each action. A real cache keeps this index in a file.
type Actions = HashMap<Digest, Vec<Digest>>;

pub struct BuildCache {
    store: Store,
    actions: Mutex<Actions>,
}

impl BuildCache {
    pub fn new(store: Store) -> Self {
        let actions = Mutex::default();
        Self { store, actions }
    }

    /// Records what an action has put out. The contents are flushed before the index names them. A cache
    /// can lose its last entries in a power loss, so it need not sync.
    pub fn record(&self, action: Digest, outputs: &[&[u8]]) -> Result<()> {
        let digests = self.store.put_many(outputs)?;
        self.store.flush()?;
        self.with_actions(|actions| actions.insert(action, digests));
        Ok(())
    }

    /// Returns the outputs of an action, or `None` if it has to run: it is unknown, or an output is gone.
    pub fn outputs(&self, action: &Digest) -> Result<Option<Vec<Object>>> {
        let Some(digests) = self.with_actions(|actions| actions.get(action).cloned()) else {
            return Ok(None);
        };
        self.store.get_many(&digests).into_iter().collect()
    }

    /// Returns how many bytes the outputs of an action have, without reading them.
    pub fn output_bytes(&self, action: &Digest) -> Result<u64> {
        let digests = self.with_actions(|actions| actions.get(action).cloned());
        let lengths = digests
            .into_iter()
            .flatten()
            .map(|digest| self.store.len_of(digest));
        lengths.map(|len| Ok(len?.unwrap_or(0))).sum()
    }

    /// Forgets actions, and drops the outputs that no other action has. Outputs that are put from the
    /// beginning on are kept, since the compaction begins before the index is read. Outputs that were put
    /// just before, and are not in the index yet, can be dropped; then their action runs again.
    pub fn forget(&self, is_old: impl Fn(&Digest) -> bool) -> Result<CompactionStats> {
        let compaction = self.store.begin_compaction()?;
        let live: Vec<Digest> = self.with_actions(|actions| {
            actions.retain(|action, _| !is_old(action));
            actions.values().flatten().copied().collect()
        });
        compaction.finish_list(live)
    }

    fn with_actions<T>(&self, work: impl FnOnce(&mut Actions) -> T) -> T {
        work(&mut self.actions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
