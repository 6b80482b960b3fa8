//! Writing a journal.

use super::{Chain, HEADER_BYTES, KIND_ENTRIES, KIND_SYNC_MARK, MAGIC};
use crate::format::Entry;
use crate::format::layout::{frame, journal};

/// The header of the journal of segment `id`, and the chain that its first frame continues.
#[must_use]
pub fn encode_header(id: u32) -> ([u8; HEADER_BYTES], Chain) {
    let mut bytes = [0; HEADER_BYTES];
    journal::MAGIC.write(&mut bytes, MAGIC);
    journal::SEGMENT_ID.write(&mut bytes, id.to_le_bytes());
    (bytes, Chain::of_header(&bytes))
}

/// Appends a frame that says: the records up to `end` are `entries`.
pub fn encode_entries(out: &mut Vec<u8>, chain: Chain, entries: &[Entry], end: u64) -> Chain {
    encode_frame(out, chain, KIND_ENTRIES, entries, end)
}

/// Appends a frame that says: the data file was made durable up to `end`.
pub fn encode_sync_mark(out: &mut Vec<u8>, chain: Chain, end: u64) -> Chain {
    encode_frame(out, chain, KIND_SYNC_MARK, &[], end)
}

pub(super) fn encode_frame(
    out: &mut Vec<u8>,
    chain: Chain,
    kind: u32,
    entries: &[Entry],
    end: u64,
) -> Chain {
    let begin = out.len();
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut head = [0; frame::HEAD_BYTES];
    frame::KIND.write(&mut head, kind.to_le_bytes());
    frame::COUNT.write(&mut head, count.to_le_bytes());
    frame::END.write(&mut head, end.to_le_bytes());
    out.extend_from_slice(&head);
    for entry in entries {
        out.extend_from_slice(&entry.to_bytes());
    }
    let chain = chain.next(&out[begin..]);
    out.extend_from_slice(&chain.0);
    chain
}
