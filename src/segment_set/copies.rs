//! All copies of an object, one after the other.
//!
//! Every lookup but the fast path of a get goes through one iterator, [`SegmentSet::copies`]. It is
//! lazy: it asks a segment only when the caller has rejected the copies before. An index that
//! cannot be asked is an item too, so that damage is never taken for absence.
//!
//! The iterators are written out. Made of adapters, `contains` ran through nearly twice as many
//! instructions.

use std::iter::Rev;
use std::slice;
use std::sync::Arc;

use super::copy::{ObjectCopy, unsealed_copy};
use super::{ResolvedRun, SegmentSet};
use crate::digest::Digest;
use crate::error::Result;
use crate::format::set_index::Location;
use crate::format::sidecar::Found;
use crate::run::RunMatches;
use crate::segment::file_bytes::FileBytes;
use crate::segment::{Active, Sealed};

/// Uncovered segments that a lookup looks ahead.
const PREFETCHED_SEGMENTS: usize = 8;

impl SegmentSet {
    /// The copies of an object that the indexes know: first the copies to which the runs lead,
    /// nearly always a single one, then the copies in segments that no run covers and in unsealed
    /// segments, the newest first. In the opposite order `contains` took up to 2.7 times as long.
    ///
    /// An item that is an error stands for an index that could not be asked.
    #[inline]
    pub(crate) fn copies<'a>(&'a self, digest: &Digest) -> Copies<'a> {
        self.prefetch_if_several(digest);
        Copies::from_stage(self, digest, Stage::ByRuns(self.named(digest)))
    }

    /// The [`copies`](Self::copies) to which no run leads.
    #[inline]
    pub(super) fn copies_beside_runs<'a>(&'a self, digest: &Digest) -> Copies<'a> {
        Copies::from_stage(self, digest, self.uncovered_stage(digest))
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

    /// The answers of the runs about an object, the largest run first.
    #[inline]
    pub(super) fn named<'a>(&'a self, digest: &Digest) -> NamedByRuns<'a> {
        NamedByRuns {
            digest: *digest,
            runs: self.runs.iter(),
            run: None,
        }
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

    #[inline]
    fn uncovered_stage(&self, digest: &Digest) -> Stage<'_> {
        self.prefetch_uncovered(digest);
        Stage::Uncovered(self.uncovered.iter().rev())
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

/// The answer of a run about an object.
#[derive(Clone, Copy)]
pub(super) enum Named<'a> {
    /// A record that is mostly the object's, but may be that of another object with the same tag.
    Record(&'a ResolvedRun, &'a Arc<Sealed>, Location),
    /// A page of the run is damaged, so any of its segments may hold the object.
    Anywhere(&'a ResolvedRun),
}

/// The iterator of [`SegmentSet::named`].
pub(super) struct NamedByRuns<'a> {
    digest: Digest,
    /// The runs to ask next.
    runs: slice::Iter<'a, ResolvedRun>,
    /// The run that was asked, and the rest of its answer.
    run: Option<(&'a ResolvedRun, RunMatches<'a>)>,
}

impl<'a> Iterator for NamedByRuns<'a> {
    type Item = Named<'a>;

    #[inline]
    fn next(&mut self) -> Option<Named<'a>> {
        loop {
            if let Some((resolved, matches)) = &mut self.run {
                for location in matches {
                    let Ok(location) = location else {
                        // A damaged page is the last item of its run.
                        return Some(Named::Anywhere(resolved));
                    };
                    if let Some(segment) = resolved.segment(location) {
                        return Some(Named::Record(resolved, segment, location));
                    }
                }
            }
            let resolved = self.runs.next()?;
            let run = resolved.run();
            self.run = Some((resolved, run.find(run.probe(&self.digest))));
        }
    }
}

/// The iterator of [`SegmentSet::copies`].
pub(crate) struct Copies<'a> {
    set: &'a SegmentSet,
    digest: Digest,
    stage: Stage<'a>,
    /// The segment whose copies are returned now, or were returned last.
    listing: Listing<'a>,
    /// Segments of a damaged run, all of which have to be asked.
    suspects: slice::Iter<'a, Option<Arc<Sealed>>>,
}

enum Stage<'a> {
    ByRuns(NamedByRuns<'a>),
    Uncovered(Rev<slice::Iter<'a, Arc<Sealed>>>),
    Unsealed(Rev<slice::Iter<'a, Arc<Active>>>),
}

/// What is left to return of the copies in one segment.
enum Listing<'a> {
    None,
    /// The sidecar has not been searched. The copy at this offset was returned without a search.
    Sidecar(&'a Arc<Sealed>, Option<u64>),
    Found(&'a Arc<Sealed>, Option<u64>, Found<'a, FileBytes>),
    /// Nothing is left of the segment with this id.
    End(u32),
}

impl<'a> Copies<'a> {
    #[inline]
    fn from_stage(set: &'a SegmentSet, digest: &Digest, stage: Stage<'a>) -> Self {
        Self {
            set,
            digest: *digest,
            stage,
            listing: Listing::None,
            suspects: [].iter(),
        }
    }
}

impl<'a> Iterator for Copies<'a> {
    type Item = Result<ObjectCopy<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(copy) = self.listing.next(&self.digest) {
                return Some(copy);
            }
            if let Some(segment) = self.suspects.next_back() {
                self.listing = segment.as_ref().map_or(Listing::None, Listing::of);
                continue;
            }
            match &mut self.stage {
                Stage::ByRuns(named) => match named.next() {
                    // The copies in one segment stand beside each other in a run, and were
                    // returned together.
                    Some(Named::Record(_, segment, _)) if self.listing.is_of(segment) => {}
                    Some(Named::Record(resolved, segment, location)) => {
                        let first = first_copy(resolved, segment, &location, &self.digest);
                        let first_offset = first.map(|first| first.entry().offset);
                        self.listing = Listing::Sidecar(segment, first_offset);
                        if let Some(first) = first {
                            return Some(Ok(first));
                        }
                    }
                    Some(Named::Anywhere(resolved)) => self.suspects = resolved.by_ordinal().iter(),
                    None => self.stage = self.set.uncovered_stage(&self.digest),
                },
                Stage::Uncovered(segments) => match segments.next() {
                    Some(segment) => self.listing = Listing::of(segment),
                    None => self.stage = Stage::Unsealed(self.set.unsealed.iter().rev()),
                },
                Stage::Unsealed(segments) => {
                    let found = segments.find_map(|segment| unsealed_copy(segment, &self.digest));
                    return found.map(Ok);
                }
            }
        }
    }
}

impl<'a> Listing<'a> {
    const fn of(segment: &'a Arc<Sealed>) -> Self {
        Self::Sidecar(segment, None)
    }

    /// Whether the copies in this segment are returned now, or were returned last.
    fn is_of(&self, segment: &Arc<Sealed>) -> bool {
        let id = match self {
            Self::None => return false,
            Self::Sidecar(segment, _) | Self::Found(segment, ..) => segment.id(),
            Self::End(id) => *id,
        };
        id == segment.id()
    }

    #[inline]
    fn next(&mut self, digest: &Digest) -> Option<Result<ObjectCopy<'a>>> {
        match self {
            Self::None | Self::End(_) => None,
            Self::Sidecar(..) | Self::Found(..) => self.search(digest),
        }
    }

    fn search(&mut self, digest: &Digest) -> Option<Result<ObjectCopy<'a>>> {
        loop {
            match self {
                Self::None | Self::End(_) => return None,
                Self::Sidecar(segment, returned) => match segment.find(digest) {
                    Ok(found) => *self = Self::Found(segment, *returned, found),
                    Err(error) => {
                        *self = Self::End(segment.id());
                        return Some(Err(error));
                    }
                },
                Self::Found(segment, returned, found) => match found.next() {
                    Some((_, entry)) if Some(entry.offset) == *returned => {}
                    Some((position, entry)) => {
                        return Some(Ok(ObjectCopy::Sealed {
                            segment,
                            entry,
                            position: Some(position),
                        }));
                    }
                    None => *self = Self::End(segment.id()),
                },
            }
        }
    }
}

/// The copy to which a location leads. The location mostly tells the position of its entry in the
/// sidecar, which reads less than a search.
#[inline]
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
pub(super) fn sidecar_copies<'a>(
    segment: &'a Arc<Sealed>,
    digest: &Digest,
) -> impl Iterator<Item = Result<ObjectCopy<'a>>> {
    let mut listing = Listing::of(segment);
    std::iter::from_fn(move || listing.next(digest))
}

/// Returns what `take` makes of the first copy that it accepts. If it accepts none, returns the
/// first failure on the way.
#[inline]
pub(super) fn first_taken<'a, T>(
    mut copies: impl Iterator<Item = Result<ObjectCopy<'a>>>,
    mut take: impl FnMut(ObjectCopy<'a>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let mut failure = None;
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
