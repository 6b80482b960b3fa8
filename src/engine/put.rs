//! Puts one object: appends it unless the store holds it.

use std::sync::Arc;

use super::phase::Phase;
use super::shared::SetGuard;
use super::writer::Writer;
use crate::digest::Hashed;
use crate::error::Result;
use crate::segment::Appender;
use crate::segment_set::{SegmentSet, Wanted};
use crate::sync::RwLockReadGuard;

/// Unsealed segments that may exist before a put helps to seal. Each holds its index in memory.
const SEALING_SEGMENTS_MAX: usize = 16;

impl Writer {
    /// Appends content unless the store holds it already. Returns whether it was appended.
    pub(crate) fn put(&self, hashed: &Hashed<'_>) -> Result<bool> {
        self.require_acceptable(hashed.content().len())?;
        let (phase, set) = self.begin_put()?;
        let view = View::of(&set);
        set.fetch(hashed.digest(), Wanted::Both);
        if is_duplicate(hashed, &phase, &set) {
            self.count_dedup_hits(1);
            return Ok(false);
        }
        let mut appender = self.lock_appender();
        if view.is_current(&appender) {
            self.append(&mut appender, hashed)?;
            return Ok(true);
        }
        let is_new = self.append_absent(&mut appender, &phase, hashed, &set)?;
        drop(appender);
        if !is_new {
            self.count_dedup_hits(1);
        }
        Ok(is_new)
    }

    /// Notes contents that were put and that the store held already.
    pub(super) fn count_dedup_hits(&self, contents: usize) {
        self.events.dedup_hits.add(contents as u64);
    }

    /// Returns the phase and the segments that exist in it. If the thread that seals does not keep
    /// up, this thread seals a segment first, so that memory stays bounded; it then holds no lock
    /// that other puts wait for.
    pub(super) fn begin_put(&self) -> Result<(RwLockReadGuard<'_, Phase>, SetGuard)> {
        // A set that was loaded before the phase may hold segments that a compaction has replaced.
        let phase = self.read_phase();
        let set = self.set();
        if set.unsealed().len() <= SEALING_SEGMENTS_MAX {
            return Ok((phase, set));
        }
        drop((phase, set));
        self.seal_oldest()?;
        let phase = self.read_phase();
        Ok((phase, self.set()))
    }

    /// Appends content unless another put, or an earlier one of this batch, has appended it since
    /// `looked_at` was searched. Returns whether it was appended.
    pub(super) fn append_absent(
        &self,
        appender: &mut Appender,
        phase: &Phase,
        hashed: &Hashed<'_>,
        looked_at: &Arc<SegmentSet>,
    ) -> Result<bool> {
        let set = self.set();
        let accept = |id| phase.accepts(id, hashed.digest());
        // If the set is still the same, content that was appended since is in an unsealed segment.
        let segment = if Arc::ptr_eq(&set, looked_at) {
            set.unsealed_segment_holding(hashed, accept)
        } else {
            set.segment_holding(hashed, accept)
        };
        if let Some(segment) = segment {
            phase.pin(segment, hashed.digest());
            return Ok(false);
        }
        drop(set);
        self.append(appender, hashed)?;
        Ok(true)
    }

    /// Appends content, to a new segment if this one is full.
    pub(super) fn append(&self, appender: &mut Appender, hashed: &Hashed<'_>) -> Result<()> {
        let content_bytes = hashed.content().len() as u64;
        if !appender.has_room_for(content_bytes) {
            self.roll(appender, content_bytes)?;
        }
        appender.append(hashed)
    }
}

/// The part of the newest segment that a lookup has seen. Every put appends there, so if the
/// segment has not grown, nothing was put since.
#[derive(Clone, Copy)]
pub(super) struct View {
    newest: Option<u32>,
    records: u32,
}

impl View {
    /// Notes what a lookup in this set sees at least. Take it before the lookup that it describes.
    pub(super) fn of(set: &SegmentSet) -> Self {
        let newest = set.unsealed().last();
        Self {
            newest: newest.map(|active| active.id()),
            records: newest.map_or(0, |active| active.records()),
        }
    }

    /// Counts a record that the caller has appended itself.
    pub(super) fn advance(&mut self) {
        self.records += 1;
    }

    /// Whether the lookup has seen every object that was put.
    pub(super) fn is_current(self, appender: &Appender) -> bool {
        let active = appender.active();
        self.newest == Some(active.id()) && self.records == active.records()
    }
}

/// Decides dedup: whether a copy in the store makes storing this content superfluous. If so, pins the
/// object, so that a running compaction keeps it. Another thread may put the same content meanwhile,
/// so [`Writer::append_absent`] decides again while nothing is appended.
pub(super) fn is_duplicate(hashed: &Hashed<'_>, phase: &Phase, set: &SegmentSet) -> bool {
    let accept = |id| phase.accepts(id, hashed.digest());
    let segment = set.segment_holding(hashed, accept);
    if let Some(segment) = segment {
        phase.pin(segment, hashed.digest());
    }
    segment.is_some()
}
