//! Giving up what a walk has brought into memory, behind it.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::quota::HeldFile;
use crate::memory::{Map, give_up, memory_bytes};

/// Bytes behind a walk that stay in memory, since other threads, or the caller, may still read them.
const KEPT_BYTES: u64 = 4 << 20;
/// Bytes that are given up at a time.
const GIVEN_UP_AT_A_TIME: u64 = 4 << 20;
/// Walks give nothing up while the data files that this process maps take at most one part in this many
/// of its memory: the next walk then finds them there.
const PART_OF_MEMORY: u64 = 2;

/// Bytes of the data files that this process maps.
static MAPPED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts the bytes of a mapped data file for as long as it lives.
#[derive(Debug)]
pub(super) struct MappedBytes(u64);

impl MappedBytes {
    pub(super) fn count(bytes: u64) -> Self {
        MAPPED_BYTES.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }
}

impl Drop for MappedBytes {
    fn drop(&mut self) {
        MAPPED_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Gives up behind a walk the parts of a file that were not in memory before. What gets keep warm stays:
/// where the data files do not fit into memory, each page that a walk leaves behind drives out another.
#[derive(Debug)]
pub(super) struct DropBehind {
    file: HeldFile,
    /// The parts that were on the disk when the walk began and were not given up since, in order.
    brought_in: VecDeque<Range<u64>>,
    /// Everything before this was given up, or was not read by the walk.
    done: Option<u64>,
}

impl DropBehind {
    /// Returns `None` if the data files fit into memory, or if this one, of `len` bytes, is short. The
    /// parts `on_disk` are not in memory.
    pub(super) fn of_walk(file: File, len: u64, on_disk: Vec<Range<u64>>) -> Option<Self> {
        let is_long = len >= KEPT_BYTES + GIVEN_UP_AT_A_TIME;
        if !is_long || MAPPED_BYTES.load(Ordering::Relaxed) <= memory_bytes() / PART_OF_MEMORY {
            return None;
        }
        Some(Self {
            file: HeldFile::hold(file)?,
            brought_in: on_disk.into(),
            done: None,
        })
    }

    /// Gives up what the walk has passed long before `at`. The `maps` are those through which it reads.
    pub(super) fn drop_before(&mut self, at: u64, maps: [&Map; 2]) {
        let begin = *self.done.get_or_insert(at);
        let end = at.saturating_sub(KEPT_BYTES);
        if end.saturating_sub(begin) < GIVEN_UP_AT_A_TIME {
            return;
        }
        self.done = Some(end);
        // The system gives up no page that is in a page table.
        for map in maps {
            map.forget(begin..end);
        }
        while let Some(part) = self.brought_in.front_mut()
            && part.start < end
        {
            let given_up = part.start.max(begin)..part.end.min(end);
            part.start = end;
            if part.is_empty() {
                self.brought_in.pop_front();
            }
            give_up(self.file.file(), given_up);
        }
    }
}
