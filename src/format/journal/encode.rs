//! Encoding a journal.

use super::{Chain, HEADER_BYTES, KIND_ENTRIES, KIND_SYNC_MARK, MAGIC};
use crate::format::Entry;
use crate::format::layout::{frame, journal};

/// Encodes a journal, one frame behind the other.
///
/// ```
/// use sealstone::Digest;
/// use sealstone::format::journal::Encoder;
/// use sealstone::format::{Entry, Journal};
///
/// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
/// let mut encoder = Encoder::new(7);
/// encoder.entries(&[entry], 7);
/// encoder.sync_mark(7);
///
/// let journal = Journal::parse(encoder.as_bytes(), 7).expect("it is the journal of segment 7");
/// assert_eq!((journal.entries, journal.synced_bytes), (vec![entry], 7));
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    chain: Chain,
}

impl Encoder {
    /// Begins the journal of segment `id`.
    #[must_use]
    pub fn new(id: u32) -> Self {
        let (header, chain) = encode_header(id);
        Self {
            bytes: header.to_vec(),
            chain,
        }
    }

    /// Appends a frame that says: the records up to `end` are `entries`.
    pub fn entries(&mut self, entries: &[Entry], end: u64) {
        self.chain = encode_entries(&mut self.bytes, self.chain, entries, end);
    }

    /// Appends a frame that says: the data file was made durable up to `end`.
    pub fn sync_mark(&mut self, end: u64) {
        self.chain = encode_sync_mark(&mut self.bytes, self.chain, end);
    }

    /// The journal up to here.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The journal.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Returns the header of the journal of segment `id`, and the chain that its first frame continues.
#[must_use]
pub(crate) fn encode_header(id: u32) -> ([u8; HEADER_BYTES], Chain) {
    let mut bytes = [0; HEADER_BYTES];
    journal::MAGIC.write(&mut bytes, MAGIC);
    journal::SEGMENT_ID.write(&mut bytes, id.to_le_bytes());
    (bytes, Chain::of_header(bytes))
}

/// Appends a frame that says: the records up to `end` are `entries`.
pub(crate) fn encode_entries(
    out: &mut Vec<u8>,
    chain: Chain,
    entries: &[Entry],
    end: u64,
) -> Chain {
    let begin = out.len();
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    push_head(out, KIND_ENTRIES, count, end);
    for entry in entries {
        out.extend_from_slice(&entry.to_bytes());
    }
    push_checksum(out, begin, chain)
}

/// Appends a frame that says: the data file was made durable up to `end`.
pub(crate) fn encode_sync_mark(out: &mut Vec<u8>, chain: Chain, end: u64) -> Chain {
    let begin = out.len();
    push_head(out, KIND_SYNC_MARK, 0, end);
    push_checksum(out, begin, chain)
}

pub(super) fn push_head(out: &mut Vec<u8>, kind: u32, count: u32, end: u64) {
    let mut head = [0; frame::HEAD_BYTES];
    frame::KIND.write(&mut head, kind.to_le_bytes());
    frame::COUNT.write(&mut head, count.to_le_bytes());
    frame::END.write(&mut head, end.to_le_bytes());
    out.extend_from_slice(&head);
}

/// Ends the frame that began at `begin`, and returns the chain that the next frame continues.
pub(super) fn push_checksum(out: &mut Vec<u8>, begin: usize, chain: Chain) -> Chain {
    let chain = chain.next(&out[begin..]);
    out.extend_from_slice(&chain.0);
    chain
}
