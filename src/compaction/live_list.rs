//! A list of live objects.

use crate::digest::Digest;

/// A list of live objects as a set: sorted, each once.
pub(crate) struct LiveList(Vec<Digest>);

impl LiveList {
    pub(crate) fn new(live: &[Digest]) -> Self {
        let mut live = live.to_vec();
        live.sort_unstable();
        live.dedup();
        Self(live)
    }

    /// Logarithmic in the length of the list.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.binary_search(digest).is_ok()
    }

    /// The objects, sorted.
    pub(crate) fn digests(&self) -> &[Digest] {
        &self.0
    }
}
