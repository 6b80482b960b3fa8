//! The segments of a store at one moment, and lookups among them.
//!
//! A set is immutable. Rolling, sealing and compacting make a new one from the old and publish it;
//! who reads goes on with the set it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::digest::{Digest, Hashed};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::mmap::prefetch;
use crate::object::{Backing, Object};
use crate::segment::active::Content;
use crate::segment::{Active, Extent, Sealed};

/// How many candidates an ambiguous prefix lists.
const CANDIDATES_MAX: usize = 8;
/// How many segments a lookup looks ahead.
const PREFETCHED_SEGMENTS: usize = 8;

#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentSet {
    /// By id.
    sealed: Vec<Arc<Sealed>>,
    /// By id; the last is the one that is appended to.
    unsealed: Vec<Arc<Active>>,
}

/// One copy of an object.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Sealed(&'a Arc<Sealed>, Entry),
    Unsealed(&'a Arc<Active>, Entry),
}

impl SegmentSet {
    pub(crate) fn new(mut sealed: Vec<Arc<Sealed>>, mut unsealed: Vec<Arc<Active>>) -> Self {
        sealed.sort_by_key(|segment| segment.id());
        unsealed.sort_by_key(|segment| segment.id());
        Self { sealed, unsealed }
    }

    pub(crate) fn sealed(&self) -> &[Arc<Sealed>] {
        &self.sealed
    }

    pub(crate) fn unsealed(&self) -> &[Arc<Active>] {
        &self.unsealed
    }

    /// This set and a new segment to append to.
    pub(crate) fn with_active(&self, active: Arc<Active>) -> Self {
        let unsealed = self.unsealed.iter().cloned().chain([active]).collect();
        Self::new(self.sealed.clone(), unsealed)
    }

    /// This set after an unsealed segment became a sealed one.
    pub(crate) fn with_sealed(&self, sealed: Arc<Sealed>) -> Self {
        let others = self
            .unsealed
            .iter()
            .filter(|active| active.id() != sealed.id());
        let unsealed = others.cloned().collect();
        let sealed = self.sealed.iter().cloned().chain([sealed]).collect();
        Self::new(sealed, unsealed)
    }

    /// This set after a compaction turned the sealed segments `inputs` into `outputs`.
    pub(crate) fn with_replaced(&self, inputs: &BTreeSet<u32>, outputs: &[Arc<Sealed>]) -> Self {
        let kept = self
            .sealed
            .iter()
            .filter(|sealed| !inputs.contains(&sealed.id()));
        let sealed = kept.chain(outputs).cloned().collect();
        Self::new(sealed, self.unsealed.clone())
    }

    /// Number of objects. One that was put again to repair it counts twice until a compaction.
    pub(crate) fn objects(&self) -> u64 {
        let sealed = self.sealed.iter().map(|s| u64::from(s.binding().objects));
        let unsealed = self.unsealed.iter().map(|active| active.objects());
        sealed.sum::<u64>() + unsealed.sum::<u64>()
    }

    /// The object, verified. Of several copies the first that verifies.
    #[inline]
    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Object>> {
        self.find_copy(digest, |place| place.object())
    }

    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.find_copy(digest, |_| Ok(Some(())))?.is_some())
    }

    /// The segment that holds a copy with exactly these bytes, if one does that `accept` takes.
    /// A copy that cannot be read is none.
    pub(crate) fn segment_holding(
        &self,
        hashed: &Hashed<'_>,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let found = self.find_copy(hashed.digest(), |place| place.holding(hashed, &accept));
        found.ok().flatten()
    }

    /// As [`segment_holding`](Self::segment_holding), among unsealed segments only.
    pub(crate) fn unsealed_segment_holding(
        &self,
        hashed: &Hashed<'_>,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut failure = None;
        self.find_unsealed(hashed.digest(), &mut failure, |place| {
            place.holding(hashed, &accept)
        })
    }

    /// Whether a segment that does not go holds a copy that verifies.
    pub(crate) fn is_held_outside(
        &self,
        digest: &Digest,
        goes: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let found = self.find_copy(digest, |place| {
            let stays = !goes(place.segment()) && place.object()?.is_some();
            Ok(stays.then_some(()))
        });
        Ok(found?.is_some())
    }

    /// Whether both hold the same segments in the same state.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.sealed.len() == other.sealed.len()
            && self.unsealed.len() == other.unsealed.len()
            && self
                .sealed
                .iter()
                .zip(&other.sealed)
                .all(|(a, b)| Arc::ptr_eq(a, b))
            && self
                .unsealed
                .iter()
                .zip(&other.unsealed)
                .all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Segment and offset of the copy in the newest sealed segment that is known to have one.
    pub(crate) fn newest_sealed_copy(&self, digest: &Digest) -> Option<(u32, u64)> {
        let mut failure = None;
        self.find_sealed(digest, &mut failure, |place| {
            Ok(Some((place.segment(), place.entry().offset)))
        })
    }

    /// Visits the copies of an object, newest sealed segment first, then the unsealed ones, until
    /// `take` takes one. What failed on the way is the result only if none was taken.
    #[inline]
    pub(crate) fn find_copy<T>(
        &self,
        digest: &Digest,
        mut take: impl FnMut(Place<'_>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut failure = None;
        let found = match self.find_sealed(digest, &mut failure, &mut take) {
            None => self.find_unsealed(digest, &mut failure, take),
            found => found,
        };
        match (found, failure) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    #[inline]
    fn find_sealed<T>(
        &self,
        digest: &Digest,
        failure: &mut Option<Error>,
        mut take: impl FnMut(Place<'_>) -> Result<Option<T>>,
    ) -> Option<T> {
        if self.sealed.len() > 1 {
            // The segments' tables lie in different places of memory: waiting for all of them at
            // once takes no longer than waiting for the first.
            let soon = || self.sealed.iter().rev().take(PREFETCHED_SEGMENTS);
            soon().for_each(|segment| segment.prefetch_bucket(digest));
            soon().for_each(|segment| segment.prefetch_entry(digest));
        }
        for segment in self.sealed.iter().rev() {
            match segment.find(digest) {
                Ok(entries) => {
                    for entry in entries {
                        match take(Place::Sealed(segment, entry)) {
                            Ok(None) => {}
                            Ok(taken) => return taken,
                            Err(error) => _ = failure.get_or_insert(error),
                        }
                    }
                }
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        None
    }

    #[inline]
    fn find_unsealed<T>(
        &self,
        digest: &Digest,
        failure: &mut Option<Error>,
        mut take: impl FnMut(Place<'_>) -> Result<Option<T>>,
    ) -> Option<T> {
        for active in self.unsealed.iter().rev() {
            let Some(Extent { offset, len }) = active.find(digest) else {
                continue;
            };
            let digest = *digest;
            match take(Place::Unsealed(
                active,
                Entry {
                    digest,
                    offset,
                    len,
                },
            )) {
                Ok(None) => {}
                Ok(taken) => return taken,
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        None
    }

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
            let index = segment.index()?;
            let first = index.lower_bound(0..index.len(), low);
            let matching = (first..index.len())
                .map_while(|position| index.entry(position))
                .take_while(|entry| entry.digest <= *high)
                // Copies of one object stand beside each other, so this is enough of them.
                .take(2 * CANDIDATES_MAX);
            candidates.extend(matching.map(|entry| entry.digest));
        }
        for active in &self.unsealed {
            let entries = active.entries().into_iter().map(|entry| entry.digest);
            candidates.extend(entries.filter(|digest| (low..=high).contains(&digest)));
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

impl Place<'_> {
    pub(crate) fn segment(&self) -> u32 {
        match self {
            Self::Sealed(segment, _) => segment.id(),
            Self::Unsealed(active, _) => active.id(),
        }
    }

    pub(crate) const fn entry(&self) -> &Entry {
        match self {
            Self::Sealed(_, entry) | Self::Unsealed(_, entry) => entry,
        }
    }

    /// Reads and verifies this copy. `None` for what a crash took before it was ever synced, which
    /// only a reader that repairs nothing can meet.
    #[inline]
    pub(crate) fn object(&self) -> Result<Option<Object>> {
        match self {
            Self::Sealed(segment, entry) => self.sealed_object(segment, entry),
            Self::Unsealed(active, entry) => self.unsealed_object(active, entry),
        }
    }

    #[inline]
    fn sealed_object(&self, segment: &Sealed, entry: &Entry) -> Result<Option<Object>> {
        let Entry { offset, len, .. } = *entry;
        let len = len as usize;
        let data = segment.data();
        if let Some(bytes) = data.mapped(offset, len) {
            prefetch(bytes);
            self.verify(bytes)?;
            let backing = Backing::Sealed(Arc::clone(data));
            return Ok(Some(Object::new(entry.digest, backing, offset, len)));
        }
        let bytes = data.read(offset, len)?.ok_or_else(|| self.corrupt())?;
        self.verify(&bytes)?;
        let backing = Backing::Heap(bytes.into_owned().into());
        Ok(Some(Object::new(entry.digest, backing, 0, len)))
    }

    fn unsealed_object(&self, active: &Arc<Active>, entry: &Entry) -> Result<Option<Object>> {
        let Entry {
            offset,
            len,
            digest,
        } = *entry;
        let content = active.read(Extent { offset, len })?;
        let len = len as usize;
        let verified = match &content {
            Some(content) => self.verify(content.bytes(len)),
            None => Err(self.corrupt()),
        };
        match verified {
            Err(Error::Corrupt { .. }) if active.may_be_torn(entry) => return Ok(None),
            result => result?,
        }
        let (backing, offset) = match content {
            Some(Content::Mapped(map, _)) => (Backing::Map(Arc::clone(map)), offset),
            Some(Content::Buffered(buffer, at)) => (Backing::Buffer(buffer), at as u64),
            Some(Content::Copied(bytes)) => (Backing::Heap(bytes.into()), 0),
            None => return Ok(None),
        };
        Ok(Some(Object::new(digest, backing, offset, len)))
    }

    fn verify(&self, bytes: &[u8]) -> Result<()> {
        if Digest::of(bytes) == self.entry().digest {
            Ok(())
        } else {
            Err(self.corrupt())
        }
    }

    #[cold]
    fn corrupt(&self) -> Error {
        Error::Corrupt {
            digest: self.entry().digest,
            segment: self.segment(),
            offset: self.entry().offset,
        }
    }

    /// The segment, if `accept` takes it and this copy is, byte for byte, the content.
    fn holding(&self, hashed: &Hashed<'_>, accept: &impl Fn(u32) -> bool) -> Result<Option<u32>> {
        let segment = self.segment();
        let holds = accept(segment) && self.holds(hashed.content())?;
        Ok(holds.then_some(segment))
    }

    /// Whether this copy is, byte for byte, `content`.
    fn holds(&self, content: &[u8]) -> Result<bool> {
        let Entry { offset, len, .. } = *self.entry();
        if len as usize != content.len() {
            return Ok(false);
        }
        Ok(match self {
            Self::Sealed(segment, _) => {
                let bytes = segment.data().read(offset, content.len())?;
                bytes.is_some_and(|bytes| *bytes == *content)
            }
            Self::Unsealed(active, _) => {
                let stored = active.read(Extent { offset, len })?;
                stored.is_some_and(|stored| stored.bytes(content.len()) == content)
            }
        })
    }
}
