//! Reading ahead of a walk through a file.

use std::fs::File;
use std::ops::Range;

use super::drop_behind::DropBehind;
use crate::memory::Map;

/// How far a walk that gives advice reads ahead, in bytes: some requests, so that the disk is never
/// idle.
const ADVISED_BYTES: u64 = 4 << 20;
/// Bytes for which a walk gives advice at a time.
const ADVISED_AT_A_TIME: u64 = 1 << 20;
/// Fewest bytes that a walk reads at a time. The system reads on while they are worked on.
const READ_BYTES: u64 = 256 << 10;
/// A shorter file is not worth another map.
const MAPPED_BYTES_MIN: u64 = 1 << 20;

/// How far a walk through a file has read ahead, or has asked to.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    end: u64,
    /// A map for this walk alone, through which the system reads the file in order. The walk finds the
    /// bytes in the map that all use: advice on that one would have gets read ahead, too.
    map_of_walk: Option<Map>,
    behind: Option<DropBehind>,
}

impl ReadAhead {
    /// Reads ahead of a walk through a file of `len` bytes that is mapped by `map`. `open` opens what has
    /// its name now and tells the length of that. Gives advice where that is impossible or not worth it:
    /// for a short file, and for one that is in memory, where another map costs a fault for every few
    /// pages.
    pub(crate) fn of_file(len: u64, map: &Map, open: impl FnOnce() -> Option<(File, u64)>) -> Self {
        if len < MAPPED_BYTES_MIN {
            return Self::default();
        }
        let Some((file, found)) = open() else {
            return Self::default();
        };
        let on_disk = map.parts_on_disk(&file);
        if on_disk.as_ref().is_some_and(Vec::is_empty) {
            return Self::default();
        }
        let Ok(map_of_walk) = Map::of_walked_file(&file, len.min(found)) else {
            return Self::default();
        };
        Self {
            end: 0,
            behind: on_disk.and_then(|parts| DropBehind::of_walk(file, len, parts)),
            map_of_walk: Some(map_of_walk),
        }
    }

    /// Has the system read what the walk reads next, which is `step`, and what follows it. Skips the
    /// bytes between the end of the last step and the beginning of this one. Does nothing without a map:
    /// each read is then a request of its own.
    pub(crate) fn step(&mut self, map: Option<&Map>, step: Range<u64>) {
        let Some(map) = map else {
            return;
        };
        let begin = self.end.max(step.start);
        let has_new_bytes = begin < step.end;
        if let Some(map_of_walk) = &self.map_of_walk {
            if has_new_bytes {
                let end = step.end.max(begin.saturating_add(READ_BYTES));
                map_of_walk.touch(begin..end);
                self.end = end;
            }
            if let Some(behind) = &mut self.behind {
                behind.drop_before(step.start, [map_of_walk, map]);
            }
            return;
        }
        let end = step.end.saturating_add(ADVISED_BYTES);
        if has_new_bytes || end.saturating_sub(begin) >= ADVISED_AT_A_TIME {
            map.will_need(begin..end);
            self.end = end;
        }
    }
}
