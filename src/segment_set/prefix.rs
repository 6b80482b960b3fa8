//! Completing the prefix of a digest.

use std::collections::BTreeSet;

use super::{ObjectCopy, SegmentSet};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How many candidates an ambiguous prefix lists.
const CANDIDATES_MAX: usize = 8;

impl SegmentSet {
    /// The one digest from `low` to `high`, both included. Logarithmic in sealed segments, linear in
    /// unsealed ones.
    pub(crate) fn find_between(
        &self,
        low: &Digest,
        high: &Digest,
        prefix: &str,
    ) -> Result<Option<Digest>> {
        let mut candidates = BTreeSet::new();
        for segment in &self.sealed {
            let index = segment.sidecar()?;
            let first = index.lower_bound(0..index.len(), low);
            let matching = (first..index.len())
                .map_while(|position| index.entry(position))
                .take_while(|entry| entry.digest <= *high)
                // Copies of one object stand beside each other, so this is enough of them.
                .take(2 * CANDIDATES_MAX);
            candidates.extend(matching.map(|entry| entry.digest));
        }
        for segment in &self.unsealed {
            let entries = segment.entries().into_iter();
            for entry in entries.filter(|entry| (low..=high).contains(&&entry.digest)) {
                if (ObjectCopy::Unsealed { segment, entry }).is_there()? {
                    candidates.insert(entry.digest);
                }
            }
        }
        if candidates.is_empty() {
            // An index that may lack objects may lack this one.
            self.sealed
                .iter()
                .try_for_each(|segment| segment.check_complete())?;
        }
        if candidates.len() <= 1 {
            return Ok(candidates.pop_first());
        }
        Err(Error::AmbiguousPrefix {
            prefix: prefix.to_owned(),
            candidates: candidates.into_iter().take(CANDIDATES_MAX).collect(),
        })
    }
}
