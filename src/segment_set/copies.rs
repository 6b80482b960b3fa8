//! All copies of an object, one after the other.
//!
//! Every lookup but the fast path of a get is an adapter of one iterator, [`SegmentSet::copies`].
//! It is lazy: it asks a segment only when the caller has rejected the copies before. An index that
//! cannot be asked is an item too, so that damage is never taken for absence.

use std::sync::Arc;

use super::copy::{ObjectCopy, unsealed_copy};
use super::{ResolvedRun, SegmentSet};
use crate::digest::Digest;
use crate::error::Result;
use crate::format::set_index::Location;
use crate::segment::Sealed;

/// Uncovered segments that a lookup looks ahead.
const PREFETCHED_SEGMENTS: usize = 8;

/// The answer of a run about an object.
#[derive(Clone, Copy)]
pub(super) enum Named<'a> {
    /// A record that is mostly the object's, but may be that of another object with the same tag.
    Record(&'a ResolvedRun, &'a Arc<Sealed>, Location),
    /// A page of the run is damaged, so any of its segments may hold the object.
    Anywhere(&'a ResolvedRun),
}

impl<'a> Named<'a> {
    const fn segment(&self) -> Option<&'a Arc<Sealed>> {
        match self {
            Self::Record(_, segment, _) => Some(segment),
            Self::Anywhere(_) => None,
        }
    }
}

impl SegmentSet {
    /// The copies of an object that the indexes know: first the copies to which the runs lead,
    /// nearly always a single one, then the copies in segments that no run covers and in unsealed
    /// segments, the newest first. In the opposite order `contains` took up to 2.7 times as long.
    ///
    /// An item that is an error stands for an index that could not be asked.
    #[inline]
    pub(crate) fn copies<'a>(
        &'a self,
        digest: &Digest,
    ) -> impl Iterator<Item = Result<ObjectCopy<'a>>> {
        self.prefetch_if_several(digest);
        let mut asked = None;
        let by_runs = self.named(digest).flat_map(move |named| {
            // The copies in one segment stand beside each other in a run, and are returned
            // together.
            let segment = named.segment().map(|segment| segment.id());
            let is_new = asked.replace(segment) != Some(segment) || segment.is_none();
            is_new
                .then(|| copies_of_named(named, digest))
                .into_iter()
                .flatten()
        });
        let others = std::iter::once_with(|| self.copies_beside_runs(digest));
        by_runs.chain(others.flatten())
    }

    /// The [`copies`](Self::copies) to which no run leads.
    #[inline]
    pub(super) fn copies_beside_runs<'a>(
        &'a self,
        digest: &Digest,
    ) -> impl Iterator<Item = Result<ObjectCopy<'a>>> {
        self.prefetch_uncovered(digest);
        let newest_first = self.uncovered.iter().rev();
        let uncovered = newest_first.flat_map(move |segment| sidecar_copies(segment, digest));
        uncovered.chain(self.unsealed_copies(digest).map(Ok))
    }

    /// The copies in unsealed segments, the newest first. Reads only memory that was published by
    /// the writer (see `segment/active.rs`).
    #[inline]
    pub(super) fn unsealed_copies<'a>(
        &'a self,
        digest: &Digest,
    ) -> impl Iterator<Item = ObjectCopy<'a>> {
        let newest_first = self.unsealed.iter().rev();
        newest_first.filter_map(move |segment| unsealed_copy(segment, digest))
    }

    /// The first answer of the runs about an object, nearly always the only one.
    #[inline]
    pub(super) fn first_named<'a>(&'a self, digest: &Digest) -> Option<Named<'a>> {
        for resolved in &self.runs {
            let run = resolved.run();
            for location in run.find(run.probe(digest)) {
                let Ok(location) = location else {
                    return Some(Named::Anywhere(resolved));
                };
                if let Some(segment) = resolved.segment(location) {
                    return Some(Named::Record(resolved, segment, location));
                }
            }
        }
        None
    }

    /// The answers of the runs about an object, the largest run first.
    #[inline]
    pub(super) fn named<'a>(&'a self, digest: &Digest) -> impl Iterator<Item = Named<'a>> {
        self.runs.iter().flat_map(move |resolved| {
            let run = resolved.run();
            let locations = run.find(run.probe(digest));
            locations.filter_map(move |location| {
                // A damaged page is the last item of its run.
                let Ok(location) = location else {
                    return Some(Named::Anywhere(resolved));
                };
                let segment = resolved.segment(location)?;
                Some(Named::Record(resolved, segment, location))
            })
        })
    }

    /// Calls [`prefetch_buckets`](Self::prefetch_buckets) if there are several runs: waiting for
    /// all of their buckets at once takes no longer than waiting for the first.
    #[inline]
    pub(super) fn prefetch_if_several(&self, digest: &Digest) {
        if self.runs.len() > 1 {
            self.prefetch_buckets(digest);
        }
    }

    /// Prefetches, for each run, the bucket in which an object would be.
    #[inline]
    pub(crate) fn prefetch_buckets(&self, digest: &Digest) {
        for resolved in &self.runs {
            let run = resolved.run();
            run.prefetch(&run.probe(digest));
        }
    }

    /// Prefetches the tables of uncovered segments, which lie in different places of memory.
    fn prefetch_uncovered(&self, digest: &Digest) {
        if self.uncovered.len() > 1 {
            let soon = || self.uncovered.iter().rev().take(PREFETCHED_SEGMENTS);
            soon().for_each(|segment| segment.prefetch_bucket(digest));
            soon().for_each(|segment| segment.prefetch_entry(digest));
        }
    }
}

/// The copies that the sidecar of the named segment knows, or of all segments if the run is
/// damaged.
#[inline]
fn copies_of_named<'a>(
    named: Named<'a>,
    digest: &Digest,
) -> impl Iterator<Item = Result<ObjectCopy<'a>>> {
    let (first, one, all) = match named {
        Named::Anywhere(resolved) => (None, None, Some(resolved.segments().rev())),
        Named::Record(resolved, segment, location) => {
            let first = first_copy(resolved, segment, &location, digest);
            (first, Some(segment), None)
        }
    };
    let segments = one.into_iter().chain(all.into_iter().flatten());
    let others = segments.flat_map(move |segment| sidecar_copies(segment, digest));
    let is_another = move |copy: &Result<ObjectCopy<'_>>| {
        let offset = |copy: &ObjectCopy<'_>| copy.entry().offset;
        first.is_none() || copy.as_ref().ok().map(offset) != first.as_ref().map(offset)
    };
    first.map(Ok).into_iter().chain(others.filter(is_another))
}

/// The copy to which a location leads. The location mostly tells the position of its entry in the
/// sidecar, which reads less than a search.
fn first_copy<'a>(
    resolved: &ResolvedRun,
    segment: &'a Arc<Sealed>,
    location: &Location,
    digest: &Digest,
) -> Option<ObjectCopy<'a>> {
    let geometry = &resolved.run().index().header().geometry;
    let (position, entry) = segment.entry_at(digest, geometry, location)?;
    Some(ObjectCopy::Sealed {
        segment,
        entry,
        position: Some(position),
    })
}

/// The copies that the sidecar of a segment knows.
#[inline]
pub(super) fn sidecar_copies<'a>(
    segment: &'a Arc<Sealed>,
    digest: &Digest,
) -> impl Iterator<Item = Result<ObjectCopy<'a>>> {
    let (found, failure) = match segment.find(digest) {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(Err(error))),
    };
    let found = found.into_iter().flatten().map(move |(position, entry)| {
        Ok(ObjectCopy::Sealed {
            segment,
            entry,
            position: Some(position),
        })
    });
    found.chain(failure)
}

/// Returns what `take` makes of the first copy that it accepts. If it accepts none, returns the
/// first failure on the way.
#[inline]
pub(super) fn first_taken<'a, T>(
    mut copies: impl Iterator<Item = Result<ObjectCopy<'a>>>,
    mut take: impl FnMut(ObjectCopy<'a>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let mut failure = None;
    // Not a `for`, which keeps the state of all adapters in memory and takes twice as long.
    let taken = copies.find_map(|copy| match copy.and_then(&mut take) {
        Ok(taken) => taken,
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    });
    match (taken, failure) {
        (None, Some(error)) => Err(error),
        (taken, _) => Ok(taken),
    }
}
