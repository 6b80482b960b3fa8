//! A list of live objects.

use crate::digest::Digest;

/// A sorted list of live objects without duplicates.
pub(crate) struct LiveList(Vec<Digest>);

impl LiveList {
    pub(crate) fn new(live: impl IntoIterator<Item = impl AsRef<Digest>>) -> Self {
        let live = live.into_iter().map(|digest| *digest.as_ref());
        let mut live: Vec<Digest> = live.collect();
        live.sort_unstable();
        live.dedup();
        Self(live)
    }

    /// Whether an object is in the list. Takes time logarithmic in its length.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.binary_search(digest).is_ok()
    }

    /// The objects, sorted.
    pub(crate) fn digests(&self) -> &[Digest] {
        &self.0
    }
}
