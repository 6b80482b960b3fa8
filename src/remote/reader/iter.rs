//! The digests of all objects that a ref lists.

use std::fmt;
use std::sync::Arc;

use super::index::{Index, LocalSidecar};
use super::inner::Inner;
use crate::digest::Digest;
use crate::error::Result;
use crate::remote::runtime::Blocking;

/// The iterator of [`RemoteReader::iter`](super::RemoteReader::iter).
pub struct RemoteDigests {
    inner: Arc<Inner>,
    blocking: Arc<Blocking>,
    index: Arc<Index>,
    /// The segment that comes next.
    segment: usize,
    /// The sidecar that is being read, and the position of the next entry.
    present: Option<(LocalSidecar, usize)>,
}

impl RemoteDigests {
    pub(super) fn new(inner: Arc<Inner>, blocking: Arc<Blocking>) -> Self {
        Self {
            index: inner.index.load_full(),
            inner,
            blocking,
            segment: 0,
            present: None,
        }
    }
}

impl fmt::Debug for RemoteDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteDigests")
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}

impl Iterator for RemoteDigests {
    type Item = Result<Digest>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((sidecar, position)) = &mut self.present
                && let Some(entry) = sidecar.entry(*position)
            {
                *position += 1;
                return Some(Ok(entry.digest));
            }
            if self.segment >= self.index.segments().len() {
                return None;
            }
            let sidecar = self.inner.sidecar_of_walk(&self.index, self.segment);
            match self.blocking.wait_for(sidecar) {
                Ok(sidecar) => {
                    self.present = Some((sidecar, 0));
                    self.segment += 1;
                }
                Err(error) => {
                    self.present = None;
                    self.segment = usize::MAX;
                    return Some(Err(error));
                }
            }
        }
    }
}
