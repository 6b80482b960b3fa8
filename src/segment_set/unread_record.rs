//! A record to which an index leads, and what of it can be asked for before it is read.

use std::hint::black_box;
use std::sync::Arc;

use super::{ObjectCopy, ResolvedRun};
use crate::digest::Digest;
use crate::format::record;
use crate::format::set_index::Location;
use crate::memory::{Map, PAGE_BYTES, REQUEST_BYTES};
use crate::segment::Sealed;

/// A record of unknown length is taken to be of average length. Beyond this many bytes such guesses have
/// to prove good: where long records are few, they would read much for nothing.
pub(super) const LONG_GUESS_BYTES: usize = 16 << 10;

/// A record to which an index leads.
pub(super) struct UnreadRecord<'a> {
    /// `None` if the file is not mapped.
    map: Option<&'a Map>,
    /// Where the record begins.
    pub(super) begin: u64,
    /// Length of the record, or the average length where only the record itself gives it. No more than
    /// one request, since it may be shorter.
    pub(super) len: usize,
    /// The index that led here.
    by: By<'a>,
}

pub(super) enum By<'a> {
    /// A run, which knows where the entry is but not the length of the content.
    Run(&'a ResolvedRun, &'a Arc<Sealed>, Location),
    /// Another index. The record ends here.
    Other(u64),
}

impl<'a> UnreadRecord<'a> {
    pub(super) fn by_run(
        resolved: &'a ResolvedRun,
        segment: &'a Arc<Sealed>,
        location: Location,
    ) -> Self {
        Self {
            map: segment.data().map(),
            begin: location.offset().saturating_sub(record::HEADER_BYTES),
            len: segment.record_bytes_mean().min(REQUEST_BYTES),
            by: By::Run(resolved, segment, location),
        }
    }

    pub(super) fn of_copy(copy: &ObjectCopy<'a>) -> Self {
        let entry = copy.entry();
        Self {
            map: copy.map(),
            begin: entry.offset.saturating_sub(record::HEADER_BYTES),
            len: (entry.len as usize).min(REQUEST_BYTES),
            by: By::Other(entry.offset.saturating_add(u64::from(entry.len))),
        }
    }

    /// Asks for the entry in the sidecar, unless it was read to find this place.
    pub(super) fn ask_for_entry(&self, digest: &Digest) {
        if let By::Run(resolved, segment, location) = &self.by {
            let geometry = &resolved.run().index().header().geometry;
            segment.will_need_entry(digest, geometry, location);
        }
    }

    /// Reads the entry in the sidecar, if that was searched before.
    pub(super) fn read_entry(&self, digest: &Digest) {
        if let By::Run(resolved, segment, location) = &self.by {
            let geometry = &resolved.run().index().header().geometry;
            black_box(segment.entry_at(digest, geometry, location));
        }
    }

    /// Asks for the first `len` bytes of the record.
    pub(super) fn ask_for_first(&self, len: usize) {
        if let Some(map) = self.map {
            let page = self.begin - self.begin % PAGE_BYTES as u64;
            let end = self.begin.saturating_add(len as u64);
            map.will_need(page..end.min(page.saturating_add(REQUEST_BYTES as u64)));
        }
    }

    /// Whether the record takes more than one page, which a read of it would bring in by itself.
    pub(super) fn is_in_several_pages(&self) -> bool {
        let page = PAGE_BYTES as u64;
        let last = self.begin.saturating_add(self.len as u64).saturating_sub(1);
        self.begin / page != last / page
    }

    /// Reads the header of the record, and returns where the record ends.
    pub(super) fn read_header(&self) -> Option<u64> {
        let header = self.map?.slice(self.begin, 4);
        let len = black_box(header.and_then(record::parse_header))?;
        Some(match &self.by {
            By::Run(..) => self.begin + record::HEADER_BYTES + u64::from(len),
            By::Other(end) => *end,
        })
    }

    /// Asks for the record up to its end, beyond its first page.
    pub(super) fn ask_for(&self, end: u64) {
        if let Some(map) = self.map {
            let page = PAGE_BYTES as u64;
            let begin = (self.begin / page + 1).saturating_mul(page);
            if end.saturating_sub(begin) > REQUEST_BYTES as u64 {
                map.expect_waits();
            }
            map.will_need(begin..end);
        }
    }

    /// Whether the record is taken to be long, for no other reason than that most are.
    pub(super) fn is_long_by_guess(&self) -> bool {
        matches!(self.by, By::Run(..)) && self.len > LONG_GUESS_BYTES
    }

    /// Whether a record that ends here is at least half as long as it was taken to be.
    pub(super) fn is_guess_good(&self, end: u64) -> bool {
        end.saturating_sub(self.begin) >= self.len as u64 / 2
    }
}
