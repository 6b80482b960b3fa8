//! Where bytes stop looking like a journal, found without hashing.

use super::{ENTRY_BYTES, FRAME_BYTES, HEADER_BYTES, KIND_ENTRIES, KIND_SYNC_MARK};
use crate::format::layout::frame::{self as layout, HEAD_BYTES};
use crate::format::{Entry, record};

/// The part of some bytes that can be a journal.
pub(crate) struct Plausible {
    /// Length of the header and of the frames whose entries continue each other.
    pub(crate) bytes: usize,
    /// Whether the bytes behind it could be the beginning of a frame.
    pub(crate) goes_on: bool,
}

/// Walks over the frames without hashing. It stops at once in a hole of a file or in another file,
/// so a caller never reads or hashes more than was written as a journal.
pub(crate) fn plausible(bytes: &[u8]) -> Plausible {
    let (mut at, mut covered_bytes) = (HEADER_BYTES.min(bytes.len()), 0);
    loop {
        let rest = &bytes[at..];
        let Some(head) = rest.first_chunk::<HEAD_BYTES>() else {
            let kind = rest.first_chunk().map(|kind| u32::from_le_bytes(*kind));
            let goes_on = kind.is_none_or(|kind| kind == KIND_ENTRIES || kind == KIND_SYNC_MARK);
            return Plausible { bytes: at, goes_on };
        };
        let (kind, count) = (layout::KIND.number(head), layout::COUNT.number(head));
        let end = layout::END.number(head);
        let ended = Plausible {
            bytes: at,
            goes_on: false,
        };
        let is_plausible = match kind {
            KIND_ENTRIES => count > 0,
            KIND_SYNC_MARK => count == 0 && end <= covered_bytes,
            _ => false,
        };
        if !is_plausible {
            return ended;
        }
        let entries = rest[HEAD_BYTES..].as_chunks::<ENTRY_BYTES>().0.iter();
        let present = entries.take(count as usize).map(Entry::from_bytes);
        let (mut seen, mut position) = (0, covered_bytes);
        for entry in present {
            let follows = position.checked_add(record::HEADER_BYTES) == Some(entry.offset);
            let Some(entry_end) = entry.end().filter(|_| follows) else {
                return ended;
            };
            (seen, position) = (seen + 1, entry_end);
        }
        let frame_bytes = (count as usize)
            .saturating_mul(ENTRY_BYTES)
            .saturating_add(FRAME_BYTES);
        if seen < count || rest.len() < frame_bytes {
            return Plausible {
                bytes: at,
                goes_on: true,
            };
        }
        if kind == KIND_ENTRIES {
            if position != end {
                return ended;
            }
            covered_bytes = end;
        }
        at += frame_bytes;
    }
}
