//! The lookups of one object.

use std::sync::Arc;

use super::copies::{Named, first_taken, sidecar_copies};
use super::fast_path::FirstLook;
use super::tried::Tried;
use super::{ObjectCopy, SegmentSet, Wanted};
use crate::digest::{Digest, Hashed};
use crate::error::Result;
use crate::object::Object;
use crate::options::VerifyReads;
use crate::segment::Sealed;
use crate::segment::content::Verified;

/// The result of following the runs to an object.
enum ByContent<'a> {
    Found(Verified<'a>),
    /// No segment that the runs cover holds the object.
    Absent,
    /// A run or a record is damaged, or another object has the same tag.
    InDoubt,
}

impl SegmentSet {
    /// Returns the first copy of the object that verifies.
    #[inline]
    pub(crate) fn lookup<'a>(
        &'a self,
        digest: &Digest,
        verify: VerifyReads,
    ) -> Result<Option<Verified<'a>>> {
        self.fetch(digest, Wanted::by(verify));
        self.lookup_fetched(digest, verify)
    }

    /// Does [`lookup`](Self::lookup) for an object that the caller has fetched.
    #[inline]
    pub(super) fn lookup_fetched<'a>(
        &'a self,
        digest: &Digest,
        verify: VerifyReads,
    ) -> Result<Option<Verified<'a>>> {
        let mut tried = Tried::default();
        match self.look_at_once(digest, verify) {
            FirstLook::Found(found) => return Ok(Some(found)),
            FirstLook::Other(segment, offset, len) => tried.insert_record(segment, offset, len),
            FirstLook::Nothing => {}
        }
        self.lookup_further(digest, verify, tried)
    }

    /// Goes on with a [`lookup`](Self::lookup) that has hashed the records `tried` in vain. The
    /// runs lead to records without a sidecar; where that fails, the sidecars tell a damaged object
    /// from one that was never there.
    pub(super) fn lookup_further<'a>(
        &'a self,
        digest: &Digest,
        verify: VerifyReads,
        mut tried: Tried,
    ) -> Result<Option<Verified<'a>>> {
        match self.by_content(digest, verify, &mut tried) {
            ByContent::Found(found) => Ok(Some(found)),
            ByContent::Absent => first_taken(self.copies_beside_runs(digest), |copy| {
                copy.read(verify, &mut tried)
            }),
            ByContent::InDoubt => {
                first_taken(self.copies(digest), |copy| copy.read(verify, &mut tried))
            }
        }
    }

    /// Follows the runs to records and returns the first that is this object.
    fn by_content<'a>(
        &'a self,
        digest: &Digest,
        verify: VerifyReads,
        tried: &mut Tried,
    ) -> ByContent<'a> {
        let mut result = ByContent::Absent;
        for named in self.named(digest) {
            if let Named::Record(_, segment, location) = named
                && let Some(found) =
                    verified_record(segment, location.offset(), digest, verify, tried)
            {
                return ByContent::Found(found);
            }
            result = ByContent::InDoubt;
        }
        result
    }

    /// Returns the object after hashing it now.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Object>> {
        let found = self.lookup(digest, VerifyReads::EveryRead)?;
        Ok(found.map(|found| found.into_object(digest)))
    }

    /// Whether the store holds an object. Asks the indexes, and reads content only where it may
    /// have been lost in a crash.
    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool> {
        self.fetch(digest, Wanted::Entries);
        self.contains_fetched(digest)
    }

    /// Does [`contains`](Self::contains) for an object that the caller has fetched.
    pub(super) fn contains_fetched(&self, digest: &Digest) -> Result<bool> {
        Ok(self.len_fetched(digest)?.is_some())
    }

    /// Returns the length that the index names, if the store [contains](Self::contains) the object.
    pub(crate) fn len_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.fetch(digest, Wanted::Entries);
        self.len_fetched(digest)
    }

    #[inline]
    fn len_fetched(&self, digest: &Digest) -> Result<Option<u64>> {
        let len = |copy: ObjectCopy<'_>| Ok(copy.is_there()?.then(|| u64::from(copy.entry().len)));
        first_taken(self.copies(digest), len)
    }

    /// Returns a segment that `accept` takes and that holds a copy with exactly these bytes, if
    /// there is one. An unreadable copy does not count, nor does a copy that its sidecar does not
    /// name, since a compaction would not know of it.
    pub(crate) fn segment_holding(
        &self,
        hashed: &Hashed<'_>,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let copies = self.copies(hashed.digest()).flatten();
        holding(copies, hashed, accept)
    }

    /// Does [`segment_holding`](Self::segment_holding) among unsealed segments only.
    pub(crate) fn unsealed_segment_holding(
        &self,
        hashed: &Hashed<'_>,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        holding(self.unsealed_copies(hashed.digest()), hashed, accept)
    }

    /// Returns a segment that holds a whole copy of this length, if there is one. Reads it all, but has no
    /// more than a piece of it in memory at a time.
    pub(crate) fn segment_with_whole_copy(&self, digest: &Digest, len: u32) -> Option<u32> {
        let mut copies = self.copies(digest).flatten();
        let is_whole =
            |copy: &ObjectCopy<'_>| copy.entry().len == len && copy.is_whole().unwrap_or(false);
        Some(copies.find(is_whole)?.segment_id())
    }

    /// Whether a segment for which `is_meant` is true holds a copy.
    pub(crate) fn is_held_in(
        &self,
        digest: &Digest,
        is_meant: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let meant = |copy: ObjectCopy<'_>| Ok(is_meant(copy.segment_id()).then_some(()));
        Ok(first_taken(self.copies(digest), meant)?.is_some())
    }

    /// Whether a segment that survives a compaction holds a copy that verifies. `goes` is true of
    /// the segments that do not survive.
    pub(crate) fn is_held_outside(
        &self,
        digest: &Digest,
        goes: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let mut tried = Tried::default();
        let stays = self.copies(digest).filter(|copy| match copy {
            Ok(copy) => !goes(copy.segment_id()),
            Err(_) => true,
        });
        let whole = first_taken(stays, |copy| copy.read(VerifyReads::EveryRead, &mut tried))?;
        Ok(whole.is_some())
    }

    /// Whether this copy, given by segment and offset, is the newest that is known in a sealed
    /// segment. `None` asks whether no sealed segment has a copy.
    pub(crate) fn is_newest_sealed_copy(&self, digest: &Digest, copy: Option<(u32, u64)>) -> bool {
        let mut named = self.named(digest);
        let only = match (named.next(), named.next()) {
            (None, _) => Some(None),
            (Some(Named::Record(_, segment, location)), None) => {
                Some(Some((segment.id(), location.offset())))
            }
            _ => None,
        };
        // A damaged run may have hidden a copy.
        let is_sure = self.uncovered.is_empty() && !self.has_damaged_run();
        match only {
            Some(None) if is_sure => copy.is_none(),
            Some(only) if is_sure && only == copy => true,
            _ => self.newest_sealed_copy(digest) == copy,
        }
    }

    /// Segment and offset of the first copy in the newest sealed segment that is known to hold one.
    fn newest_sealed_copy(&self, digest: &Digest) -> Option<(u32, u64)> {
        let sealed = self.copies(digest).flatten().filter_map(|copy| match copy {
            ObjectCopy::Sealed { segment, entry, .. } => Some((segment.id(), entry.offset)),
            ObjectCopy::Unsealed { .. } => None,
        });
        sealed.max_by_key(|&(segment, offset)| (segment, std::cmp::Reverse(offset)))
    }
}

/// Returns the segment of the first of `copies` that `accept` takes and that equals the content.
fn holding<'a>(
    mut copies: impl Iterator<Item = ObjectCopy<'a>>,
    hashed: &Hashed<'_>,
    accept: impl Fn(u32) -> bool,
) -> Option<u32> {
    let holds = |copy: &ObjectCopy<'_>| {
        accept(copy.segment_id()) && copy.holds(hashed.content()).unwrap_or(false)
    };
    Some(copies.find(holds)?.segment_id())
}

/// Returns the record whose content begins at `offset`, if it is this object. Every other outcome,
/// failures included, is left to the sidecars to explain.
fn verified_record<'a>(
    segment: &'a Arc<Sealed>,
    offset: u64,
    digest: &Digest,
    verify: VerifyReads,
    tried: &mut Tried,
) -> Option<Verified<'a>> {
    segment.prefetch_record(offset);
    if verify == VerifyReads::FirstRead {
        // Later reads will trust the sidecar without hashing the content, so the sidecar has to
        // name this record. If it does not, the content may still be the object's.
        let copies = sidecar_copies(segment, digest);
        let read = |copy: ObjectCopy<'a>| copy.read(verify, tried);
        if let Ok(Some(found)) = first_taken(copies, read) {
            return Some(found);
        }
    }
    let len = segment.data().content_len(offset).ok()??;
    if tried.overlaps(segment.id(), offset, len) {
        return None;
    }
    let content = segment.content(offset, len).ok()??;
    let found = content.verify(segment.data().hash_function(), digest);
    if found.is_none() {
        tried.insert_record(segment.id(), offset, len);
    }
    found
}
