//! Finding one object.

use std::borrow::Cow;
use std::sync::Arc;

use super::tried::Tried;
use super::{Found, Place, SegmentSet};
use crate::digest::{Digest, Hashed};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::memory::prefetch;
use crate::object::{Backing, Object};
use crate::options::VerifyReads;
use crate::segment::{Extent, Sealed};

/// How many uncovered segments a lookup looks ahead.
const PREFETCHED_SEGMENTS: usize = 8;

/// What the runs of the set index say of an object.
pub(super) enum ByRuns<T> {
    Found(T),
    /// None of the segments that they cover holds it.
    Absent,
    /// A run or a record is damaged, or another object has the same tag.
    InDoubt,
}

impl SegmentSet {
    /// The object, verified. Of several copies the first that verifies.
    ///
    /// Nearly always the set index leads to the record at once, and the content is its own proof.
    /// Where that fails, the sidecars say what is damaged and what was never there.
    #[inline]
    pub(crate) fn lookup(&self, digest: &Digest, verify: VerifyReads) -> Result<Option<Found<'_>>> {
        let mut tried = Tried::default();
        match self.lookup_at_once(digest, verify) {
            Some(Ok(found)) => return Ok(Some(found)),
            Some(Err((segment, offset, len))) => tried.insert(segment, offset, len),
            None => {}
        }
        self.lookup_further(digest, verify, tried)
    }

    /// As [`lookup`](Self::lookup), after some records were hashed in vain.
    pub(super) fn lookup_further(
        &self,
        digest: &Digest,
        verify: VerifyReads,
        mut tried: Tried,
    ) -> Result<Option<Found<'_>>> {
        if verify == VerifyReads::FirstRead {
            self.prefetch_sidecars(digest);
        }
        match self.by_runs(digest, |segment, offset| {
            verified(segment, offset, digest, verify, &mut tried)
        }) {
            ByRuns::Found(found) => Ok(Some(found)),
            ByRuns::Absent => self.lookup_beside_runs(digest, verify, &mut tried),
            ByRuns::InDoubt => self.lookup_by_sidecars(digest, &mut tried),
        }
    }

    /// The object, if it is where it is looked for first; with [`VerifyReads::FirstRead`], if it was
    /// verified before, too. Nearly all gets of what is there end here. The first record that was hashed
    /// in vain ends it, too: its segment, and offset and length of its content.
    ///
    /// No branch on the way depends on what is read, but for whether it is as expected. So the
    /// processor can begin with the next get while this one waits for memory.
    #[inline]
    fn lookup_at_once(
        &self,
        digest: &Digest,
        verify: VerifyReads,
    ) -> Option<Result<Found<'_>, (u32, u64, usize)>> {
        self.prefetch_if_several(digest);
        self.runs.iter().find_map(|bound| {
            let run = bound.run();
            let location = run.first_in_own_bucket(&run.probe(digest))?;
            let segment = bound.segment(location)?;
            segment.prefetch_record(location.offset());
            match verify {
                VerifyReads::FirstRead => {
                    let geometry = &run.index().header().geometry;
                    let entry = segment.verified_entry(digest, geometry, &location)?;
                    let bytes = segment.data().mapped(entry.offset, entry.len as usize)?;
                    let bytes = Cow::Borrowed(bytes);
                    Some(Ok(found(segment, entry.offset, bytes, digest)))
                }
                // As `verified`, but only of what is mapped. To call that here made unchecked gets take
                // half as long again, as measured; nothing else of the function was changed.
                VerifyReads::EveryRead => {
                    let bytes = segment.data().mapped_record(location.offset())?;
                    prefetch(bytes);
                    let is_right = Digest::of(bytes) == *digest;
                    Some(if is_right {
                        Ok(found(
                            segment,
                            location.offset(),
                            Cow::Borrowed(bytes),
                            digest,
                        ))
                    } else {
                        Err((segment.id(), location.offset(), bytes.len()))
                    })
                }
            }
        })
    }

    /// The object, verified now.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Object>> {
        let found = self.lookup(digest, VerifyReads::EveryRead)?;
        Ok(found.map(|found| found.into_object(digest)))
    }

    /// Asks the runs, and `take` for each place that they name.
    #[inline]
    pub(super) fn by_runs<'a, T>(
        &'a self,
        digest: &Digest,
        mut take: impl FnMut(&'a Arc<Sealed>, u64) -> Option<T>,
    ) -> ByRuns<T> {
        self.prefetch_if_several(digest);
        let mut in_doubt = false;
        for bound in &self.runs {
            let run = bound.run();
            for location in run.find(run.probe(digest)) {
                let Ok(location) = location else {
                    in_doubt = true;
                    break;
                };
                let Some(segment) = bound.segment(location) else {
                    continue;
                };
                match take(segment, location.offset()) {
                    Some(taken) => return ByRuns::Found(taken),
                    None => in_doubt = true,
                }
            }
        }
        if in_doubt {
            ByRuns::InDoubt
        } else {
            ByRuns::Absent
        }
    }

    /// As [`prefetch_buckets`](Self::prefetch_buckets) where there are several runs: waiting for all of
    /// them at once takes no longer than waiting for the first.
    #[inline]
    fn prefetch_if_several(&self, digest: &Digest) {
        if self.runs.len() > 1 {
            self.prefetch_buckets(digest);
        }
    }

    /// Asks for what [`by_runs`](Self::by_runs) reads first.
    #[inline]
    pub(crate) fn prefetch_buckets(&self, digest: &Digest) {
        for bound in &self.runs {
            let run = bound.run();
            run.prefetch(&run.probe(digest));
        }
    }

    /// Asks for what the sidecars will be asked, where there are so few segments that this is less
    /// than to wait until the set index has said which it is.
    #[inline]
    fn prefetch_sidecars(&self, digest: &Digest) {
        if self.sealed.len() <= PREFETCHED_SEGMENTS {
            self.prefetch_buckets(digest);
            self.sealed
                .iter()
                .for_each(|segment| segment.prefetch_bucket(digest));
            self.sealed
                .iter()
                .for_each(|segment| segment.prefetch_entry(digest));
        }
    }

    /// The object, if a segment holds it that no run covers.
    fn lookup_beside_runs(
        &self,
        digest: &Digest,
        verify: VerifyReads,
        tried: &mut Tried,
    ) -> Result<Option<Found<'_>>> {
        let mut failure = None;
        if verify == VerifyReads::FirstRead {
            for segment in self.uncovered.iter().rev() {
                if let Some(found) = verified_once(segment, digest, tried) {
                    return Ok(Some(found));
                }
            }
        }
        let mut take = |place: Place<'_>| Ok(tried.object(&place)?.map(Found::Object));
        let found = match self.find_uncovered(digest, &mut failure, &mut take) {
            None => self.find_unsealed(digest, &mut failure, take),
            found => found,
        };
        unless_failed(found, failure)
    }

    /// As [`lookup`](Self::lookup), by what the sidecars say, which name what is damaged.
    #[cold]
    fn lookup_by_sidecars(&self, digest: &Digest, tried: &mut Tried) -> Result<Option<Found<'_>>> {
        self.find_copy(digest, |place| Ok(tried.object(&place)?.map(Found::Object)))
    }

    /// Asks the indexes, and reads content only where a crash may have taken it.
    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool> {
        let found = self.find_copy(digest, |place| Ok(place.is_there()?.then_some(())));
        Ok(found?.is_some())
    }

    /// The segment that holds a copy with exactly these bytes, if one does that `accept` takes.
    /// A copy that cannot be read is none, and neither is one that its sidecar does not name: a
    /// compaction would not know of it.
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

    /// Whether one of the segments that hold a copy, as the sidecars know them, is one that `is_meant`
    /// is true of.
    pub(crate) fn is_held_in(
        &self,
        digest: &Digest,
        is_meant: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let found = self.find_copy(digest, |place| Ok(is_meant(place.segment()).then_some(())));
        Ok(found?.is_some())
    }

    /// Whether a segment that does not go holds a copy that verifies.
    pub(crate) fn is_held_outside(
        &self,
        digest: &Digest,
        goes: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let mut tried = Tried::default();
        let found = self.find_copy(digest, |place| {
            let stays = !goes(place.segment()) && tried.object(&place)?.is_some();
            Ok(stays.then_some(()))
        });
        Ok(found?.is_some())
    }

    /// Whether this copy in a sealed segment is the one in the newest of them that is known to have
    /// one. `None` asks whether there is none.
    pub(crate) fn is_newest_sealed_copy(&self, digest: &Digest, copy: Option<(u32, u64)>) -> bool {
        let mut by_runs = None;
        let mut several = false;
        let named = self.by_runs(digest, |segment, offset| -> Option<()> {
            several |= by_runs.replace((segment.id(), offset)).is_some();
            None
        });
        let is_sure = matches!(named, ByRuns::Absent) || (by_runs == copy && !several);
        // A damaged run may have kept a copy to itself.
        if is_sure && self.uncovered.is_empty() && !self.has_damaged_run() {
            return by_runs == copy;
        }
        self.newest_sealed_copy(digest) == copy
    }

    /// Segment and offset of the first copy in the newest sealed segment that is known to have one.
    fn newest_sealed_copy(&self, digest: &Digest) -> Option<(u32, u64)> {
        let mut newest: Option<(u32, u64)> = None;
        let mut failure = None;
        self.find_sealed(digest, &mut failure, |place| -> Result<Option<()>> {
            let copy = (place.segment(), place.entry().offset);
            let is_newer =
                |newest: (u32, u64)| copy.0 > newest.0 || (copy.0 == newest.0 && copy.1 < newest.1);
            if newest.is_none_or(is_newer) {
                newest = Some(copy);
            }
            Ok(None)
        });
        newest
    }

    /// Visits the copies of an object as the sidecars and the unsealed segments know them, until
    /// `take` takes one; a copy may be visited twice. What failed on the way is the result only if none
    /// was taken.
    pub(crate) fn find_copy<'a, T>(
        &'a self,
        digest: &Digest,
        mut take: impl FnMut(Place<'a>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut failure = None;
        let found = match self.find_sealed(digest, &mut failure, &mut take) {
            None => self.find_unsealed(digest, &mut failure, take),
            found => found,
        };
        unless_failed(found, failure)
    }

    /// Asks the sidecars of the segments that the runs name, and of those that no run covers.
    fn find_sealed<'a, T>(
        &'a self,
        digest: &Digest,
        failure: &mut Option<Error>,
        mut take: impl FnMut(Place<'a>) -> Result<Option<T>>,
    ) -> Option<T> {
        self.prefetch_if_several(digest);
        for bound in &self.runs {
            let run = bound.run();
            let mut asked = None;
            for location in run.find(run.probe(digest)) {
                let Ok(location) = location else {
                    // It could be in any of them.
                    for segment in bound.segments().rev() {
                        let taken = find_in(segment, digest, failure, &mut take);
                        if taken.is_some() {
                            return taken;
                        }
                    }
                    break;
                };
                // Copies in one segment stand beside each other.
                if let Some(segment) = bound.segment(location)
                    && asked.replace(segment.id()) != Some(segment.id())
                {
                    // Mostly the location says which entry it is, and to search for it reads more. A
                    // copy that is not taken now is met among the others again.
                    let geometry = &run.index().header().geometry;
                    if let Some(entry) = segment.entry_at(digest, geometry, &location) {
                        match take(Place::Sealed(segment, entry)) {
                            Ok(None) => {}
                            Ok(taken) => return taken,
                            Err(error) => _ = failure.get_or_insert(error),
                        }
                    }
                    let taken = find_in(segment, digest, failure, &mut take);
                    if taken.is_some() {
                        return taken;
                    }
                }
            }
        }
        self.find_uncovered(digest, failure, take)
    }

    fn find_uncovered<'a, T>(
        &'a self,
        digest: &Digest,
        failure: &mut Option<Error>,
        mut take: impl FnMut(Place<'a>) -> Result<Option<T>>,
    ) -> Option<T> {
        if self.uncovered.len() > 1 {
            // The segments' tables lie in different places of memory: waiting for all of them at
            // once takes no longer than waiting for the first.
            let soon = || self.uncovered.iter().rev().take(PREFETCHED_SEGMENTS);
            soon().for_each(|segment| segment.prefetch_bucket(digest));
            soon().for_each(|segment| segment.prefetch_entry(digest));
        }
        let mut newest_first = self.uncovered.iter().rev();
        newest_first.find_map(|segment| find_in(segment, digest, failure, &mut take))
    }

    #[inline]
    fn find_unsealed<'a, T>(
        &'a self,
        digest: &Digest,
        failure: &mut Option<Error>,
        mut take: impl FnMut(Place<'a>) -> Result<Option<T>>,
    ) -> Option<T> {
        for active in self.unsealed.iter().rev() {
            let Some(Extent { offset, len }) = active.find(digest) else {
                continue;
            };
            let digest = *digest;
            let entry = Entry {
                digest,
                offset,
                len,
            };
            match take(Place::Unsealed(active, entry)) {
                Ok(None) => {}
                Ok(taken) => return taken,
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        None
    }
}

/// Visits the copies of an object that the sidecar of a segment knows.
fn find_in<'a, T>(
    segment: &'a Arc<Sealed>,
    digest: &Digest,
    failure: &mut Option<Error>,
    take: &mut impl FnMut(Place<'a>) -> Result<Option<T>>,
) -> Option<T> {
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
    None
}

fn unless_failed<T>(found: Option<T>, failure: Option<Error>) -> Result<Option<T>> {
    match (found, failure) {
        (None, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}

/// The record whose content begins at `offset`, if it is this object. Anything else, failures
/// included, is for the sidecars to explain.
#[inline]
fn verified<'a>(
    segment: &'a Arc<Sealed>,
    offset: u64,
    digest: &Digest,
    verify: VerifyReads,
    tried: &mut Tried,
) -> Option<Found<'a>> {
    segment.prefetch_record(offset);
    if verify == VerifyReads::FirstRead
        // The content is not looked at, so the sidecar has to say that it is this object's. Where it
        // does not, the content may do so all the same.
        && let Some(found) = verified_once(segment, digest, tried)
    {
        return Some(found);
    }
    let (id, data) = (segment.id(), segment.data());
    let len = data.content_len(offset).ok()??;
    if tried.overlaps(id, offset, len) {
        return None;
    }
    let content = data.read(offset, len).ok()??;
    if let Cow::Borrowed(bytes) = content {
        prefetch(bytes);
    }
    if Digest::of(&content) == *digest {
        return Some(found(segment, offset, content, digest));
    }
    tried.insert(id, offset, len);
    None
}

/// Wraps content that was verified.
#[inline]
fn found<'a>(
    segment: &'a Arc<Sealed>,
    offset: u64,
    content: Cow<'a, [u8]>,
    digest: &Digest,
) -> Found<'a> {
    match content {
        Cow::Borrowed(bytes) => Found::Mapped {
            data: segment.data(),
            offset,
            bytes,
        },
        Cow::Owned(bytes) => {
            let len = bytes.len();
            Found::Object(Object::new(*digest, Backing::Heap(bytes.into()), 0, len))
        }
    }
}

/// A copy in a mapped segment that was verified in this process, now or before.
#[inline]
fn verified_once<'a>(
    segment: &'a Arc<Sealed>,
    digest: &Digest,
    tried: &mut Tried,
) -> Option<Found<'a>> {
    let (id, verified) = (segment.id(), segment.verified());
    for (position, Entry { offset, len, .. }) in segment.find_positions(digest).ok()? {
        let len = len as usize;
        let Some(bytes) = segment.data().mapped(offset, len) else {
            continue;
        };
        if !verified.get(position) {
            if tried.contains(id, offset, len) {
                continue;
            }
            if Digest::of(bytes) != *digest {
                tried.insert(id, offset, len);
                continue;
            }
            verified.set(position);
        }
        return Some(found(segment, offset, Cow::Borrowed(bytes), digest));
    }
    None
}
