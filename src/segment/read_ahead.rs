//! Reading ahead of a walk through a file.

use std::ops::Range;

use crate::memory::Map;

/// How far a walk reads ahead, in bytes: some requests, so that the disk is never idle.
const AHEAD_BYTES: u64 = 4 << 20;
/// Bytes that a walk asks for at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// How far a walk through a file has asked for.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    asked: u64,
}

impl ReadAhead {
    /// Has the system read what the walk reads next, which is `step`, and what follows it. Bytes
    /// between the steps before and this step are left out. Does nothing without a map: each read is
    /// then a request of its own.
    pub(crate) fn step(&mut self, map: Option<&Map>, step: Range<u64>) {
        let begin = self.asked.max(step.start);
        let end = step.end.saturating_add(AHEAD_BYTES);
        let has_asked = begin >= step.end;
        if let Some(map) = map
            && (!has_asked || end.saturating_sub(begin) >= BLOCK_BYTES)
        {
            map.will_need(begin..end);
            self.asked = end;
        }
    }
}
