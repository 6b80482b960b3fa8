//! Completes the prefix of a digest.

use std::collections::BTreeSet;

use super::{ObjectCopy, SegmentSet};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Number of candidates that the error for an ambiguous prefix lists.
const CANDIDATES_MAX: usize = 8;

impl SegmentSet {
    /// Returns the only digest from `low` to `high`, both included. Takes time logarithmic in the
    /// objects of each sealed segment, and linear in unsealed objects.
    pub(crate) fn find_between(
        &self,
        low: &Digest,
        high: &Digest,
        prefix: &str,
    ) -> Result<Option<Digest>> {
        let mut candidates = BTreeSet::new();
        for segment in &self.sealed {
            let sidecar = segment.sidecar()?;
            let first = sidecar.lower_bound(0..sidecar.len(), low);
            let matching = (first..sidecar.len())
                .map_while(|position| sidecar.entry(position))
                .take_while(|entry| entry.digest <= *high)
                // An object rarely has two copies in a segment, so these are candidates enough.
                .take(2 * CANDIDATES_MAX);
            candidates.extend(matching.map(|entry| entry.digest));
        }
        for segment in &self.unsealed {
            let entries = segment.entries().into_iter();
            for entry in entries.filter(|entry| (low..=high).contains(&&entry.digest)) {
                if ObjectCopy::unsealed(segment, entry).is_there()? {
                    candidates.insert(entry.digest);
                }
            }
        }
        if candidates.is_empty() {
            // A sidecar that may lack objects may lack this one.
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
