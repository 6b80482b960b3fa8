//! The journal of the active segment: what was appended, and how far it was made durable.

use super::index::{ENTRY_BYTES, Entry};
use super::{bytes_at, record};
use crate::digest::Hasher;

/// First bytes of a journal.
pub const MAGIC: [u8; 4] = *b"SSJ1";
/// Length of the header: magic and segment id.
pub const HEADER_BYTES: usize = 8;
/// Length of a frame without its entries: kind, count, end, checksum.
pub const FRAME_BYTES: usize = 4 + 4 + 8 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 16;
const KIND_ENTRIES: u32 = 1;
const KIND_SYNC_MARK: u32 = 2;

/// The state that a writer or a reader carries from frame to frame. Each checksum covers the one
/// before it, so a frame is accepted only in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain([u8; CHECKSUM_BYTES]);

impl Chain {
    fn next(self, frame: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&self.0);
        hasher.update(frame);
        Self(bytes_at(hasher.finish().as_bytes(), 0).unwrap_or_default())
    }
}

/// The header of the journal of segment `id`, and the chain that its first frame continues.
#[must_use]
pub fn encode_header(id: u32) -> ([u8; HEADER_BYTES], Chain) {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..].copy_from_slice(&id.to_le_bytes());
    (bytes, Chain([0; CHECKSUM_BYTES]).next(&bytes))
}

/// Appends a frame that says: the records up to `end` are `entries`.
pub fn encode_entries(out: &mut Vec<u8>, chain: Chain, entries: &[Entry], end: u64) -> Chain {
    encode_frame(out, chain, KIND_ENTRIES, entries, end)
}

/// Appends a frame that says: the data file was made durable up to `end`.
pub fn encode_sync_mark(out: &mut Vec<u8>, chain: Chain, end: u64) -> Chain {
    encode_frame(out, chain, KIND_SYNC_MARK, &[], end)
}

fn encode_frame(out: &mut Vec<u8>, chain: Chain, kind: u32, entries: &[Entry], end: u64) -> Chain {
    let begin = out.len();
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.to_bytes());
    }
    let chain = chain.next(&out[begin..]);
    out.extend_from_slice(&chain.0);
    chain
}

/// What a journal says, up to its first frame that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The records in file order. They tile the data file from the beginning to
    /// [`covered_bytes`](Self::covered_bytes).
    pub entries: Vec<Entry>,
    /// How many bytes of the data file the entries cover.
    pub covered_bytes: u64,
    /// How many bytes of the data file were durable at the last sync mark.
    pub synced_bytes: u64,
    /// How many bytes of the journal hold.
    pub valid_bytes: u64,
    /// What the next frame continues.
    pub chain: Chain,
}

impl Journal {
    /// An empty journal of segment `id`: a header and no frame.
    #[must_use]
    pub fn empty(id: u32) -> Self {
        Self {
            entries: Vec::new(),
            covered_bytes: 0,
            synced_bytes: 0,
            valid_bytes: HEADER_BYTES as u64,
            chain: encode_header(id).1,
        }
    }

    /// Reads the journal of segment `id`. `None` if the header is not its. A damaged or unfinished
    /// frame ends the journal; that is no error, a journal is never needed.
    ///
    /// ```
    /// use sealstone::Digest;
    /// use sealstone::format::{Entry, Journal, journal};
    ///
    /// let (header, chain) = journal::encode_header(7);
    /// let mut bytes = header.to_vec();
    /// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
    /// let chain = journal::encode_entries(&mut bytes, chain, &[entry], 7);
    /// journal::encode_sync_mark(&mut bytes, chain, 7);
    ///
    /// let journal = Journal::parse(&bytes, 7).unwrap();
    /// assert_eq!((journal.entries, journal.synced_bytes), (vec![entry], 7));
    /// assert!(Journal::parse(&bytes, 8).is_none());
    /// ```
    #[must_use]
    pub fn parse(bytes: &[u8], id: u32) -> Option<Self> {
        let (header, _) = encode_header(id);
        let mut journal = Self::empty(id);
        let frames = bytes.strip_prefix(&header)?;
        journal.extend(frames);
        Some(journal)
    }

    /// Reads on in `frames`, the bytes that follow [`valid_bytes`](Self::valid_bytes).
    pub fn extend(&mut self, mut frames: &[u8]) {
        while let Some(rest) = self.accept_frame(frames) {
            self.valid_bytes += (frames.len() - rest.len()) as u64;
            frames = rest;
        }
    }

    /// Whether `bytes` end as the valid part of this journal does, so that what follows them in the
    /// file can be [read on](Self::extend). False for a journal that was replaced.
    #[must_use]
    pub fn is_continued_by(&self, bytes: &[u8]) -> bool {
        self.valid_bytes == HEADER_BYTES as u64 || bytes.ends_with(&self.chain.0)
    }

    fn accept_frame<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let kind = u32::from_le_bytes(bytes_at(bytes, 0)?);
        let count = usize::try_from(u32::from_le_bytes(bytes_at(bytes, 4)?)).ok()?;
        let end = u64::from_le_bytes(bytes_at(bytes, 8)?);
        let covered = count.checked_mul(ENTRY_BYTES)?.checked_add(16)?;
        let frame = bytes.get(..covered)?;
        let chain = self.chain.next(frame);
        if bytes_at(bytes, covered)? != chain.0 {
            return None;
        }
        match kind {
            KIND_ENTRIES => self.accept_entries(frame.get(16..)?, end)?,
            KIND_SYNC_MARK if count == 0 && end <= self.covered_bytes => self.synced_bytes = end,
            _ => return None,
        }
        self.chain = chain;
        bytes.get(covered + CHECKSUM_BYTES..)
    }

    /// Takes the entries only if each record begins where the one before it ends.
    fn accept_entries(&mut self, bytes: &[u8], end: u64) -> Option<()> {
        let before = self.entries.len();
        let tiled = bytes
            .as_chunks::<ENTRY_BYTES>()
            .0
            .iter()
            .map(Entry::from_bytes)
            .try_fold(self.covered_bytes, |position, entry| {
                let begin = position.checked_add(record::HEADER_BYTES)?;
                (entry.offset == begin).then(|| self.entries.push(entry))?;
                entry.end()
            });
        if tiled == Some(end) {
            self.covered_bytes = end;
            Some(())
        } else {
            self.entries.truncate(before);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn sample() -> (Vec<u8>, Vec<usize>) {
        let (header, mut chain) = encode_header(3);
        let mut bytes = header.to_vec();
        let mut frame_ends = vec![bytes.len()];
        let mut end = 0;
        for i in 0..4_u32 {
            let entry = Entry {
                digest: Digest::of(&i.to_le_bytes()),
                offset: end + 4,
                len: i,
            };
            end = entry.end().unwrap();
            chain = encode_entries(&mut bytes, chain, &[entry], end);
            frame_ends.push(bytes.len());
            chain = encode_sync_mark(&mut bytes, chain, end);
            frame_ends.push(bytes.len());
        }
        (bytes, frame_ends)
    }

    #[test]
    fn every_cut_keeps_the_whole_frames() {
        let (bytes, frame_ends) = sample();
        for cut in HEADER_BYTES..=bytes.len() {
            let journal = Journal::parse(&bytes[..cut], 3).unwrap();
            let expected = *frame_ends.iter().rfind(|&&end| end <= cut).unwrap();
            assert_eq!(journal.valid_bytes, expected as u64);
        }
    }

    #[test]
    fn every_flipped_bit_ends_the_journal_before_it() {
        let (bytes, frame_ends) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let valid = Journal::parse(&bytes, 3).map_or(0, |journal| journal.valid_bytes);
            let expected = frame_ends.iter().rfind(|&&end| end <= bit / 8);
            assert_eq!(valid, expected.map_or(0, |&end| end as u64), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_accepted_in_its_place_only() {
        let (bytes, frame_ends) = sample();
        let swapped = [
            &bytes[..frame_ends[0]],
            &bytes[frame_ends[1]..frame_ends[2]],
            &bytes[frame_ends[0]..frame_ends[1]],
        ]
        .concat();
        assert_eq!(Journal::parse(&swapped, 3).unwrap(), Journal::empty(3));
    }

    #[test]
    fn reading_on_gives_what_reading_at_once_gives() {
        let (bytes, frame_ends) = sample();
        for end in frame_ends {
            let mut journal = Journal::parse(&bytes[..end], 3).unwrap();
            journal.extend(&bytes[end..]);
            assert_eq!(Some(journal), Journal::parse(&bytes, 3));
        }
    }
}
