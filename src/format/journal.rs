//! The journal of the active segment: what was appended, and how far it was made durable.

use rayon::prelude::*;

use super::sidecar::{ENTRY_BYTES, Entry};
use super::{bytes_at, record};
use crate::digest::{Digest, Hasher, digest_many};

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
        Self::from_digest(&hasher.finish())
    }

    fn from_digest(digest: &Digest) -> Self {
        Self(bytes_at(digest.as_bytes(), 0).unwrap_or_default())
    }
}

/// A frame that is whole; whether it holds is another matter.
#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    kind: u32,
    end: u64,
    entries: &'a [u8],
    checksum: Chain,
    /// The frame without its checksum.
    covered: &'a [u8],
    /// The checksum of the frame before and then `covered`. Of the first among these bytes, for
    /// which that is not there, `covered` alone.
    chained: &'a [u8],
}

impl<'a> Frame<'a> {
    fn at(bytes: &'a [u8], begin: usize) -> Option<Self> {
        let rest = bytes.get(begin..)?;
        let count = usize::try_from(u32::from_le_bytes(bytes_at(rest, 4)?)).ok()?;
        let covered_bytes = count.checked_mul(ENTRY_BYTES)?.checked_add(16)?;
        let covered = rest.get(..covered_bytes)?;
        let chained_begin = begin.saturating_sub(CHECKSUM_BYTES);
        Some(Self {
            kind: u32::from_le_bytes(bytes_at(rest, 0)?),
            end: u64::from_le_bytes(bytes_at(rest, 8)?),
            entries: covered.get(16..)?,
            checksum: Chain(bytes_at(rest, covered_bytes)?),
            covered,
            chained: bytes.get(chained_begin..begin.checked_add(covered_bytes)?)?,
        })
    }

    const fn len(&self) -> usize {
        self.covered.len() + CHECKSUM_BYTES
    }
}

/// How many frames are hashed at a time.
const LANE_FRAMES: usize = 32;
/// At most so many frames are looked at before they are accepted, which bounds what is kept of them.
const WINDOW_FRAMES: usize = 1024;
/// Frames of so many bytes are enough for one look.
const WINDOW_BYTES: usize = 8 << 20;

/// How many of the first of `frames` hold if the frame before them does. Each is hashed with the
/// checksum that is stored before it, so none has to wait for another.
fn count_holding(frames: &[Frame<'_>]) -> usize {
    let mut holding = 0;
    for group in frames.chunks(LANE_FRAMES) {
        let holding_here = count_holding_in_lanes(group);
        holding += holding_here;
        if holding_here < group.len() {
            break;
        }
    }
    holding
}

fn count_holding_in_parallel(frames: &[Frame<'_>]) -> usize {
    if frames.len() <= LANE_FRAMES {
        return count_holding_in_lanes(frames);
    }
    let groups = frames.par_chunks(LANE_FRAMES).map(count_holding_in_lanes);
    let groups: Vec<usize> = groups.collect();
    let whole = groups.iter().take_while(|&&holding| holding == LANE_FRAMES);
    let whole = whole.count();
    whole * LANE_FRAMES + groups.get(whole).unwrap_or(&0)
}

fn count_holding_in_lanes(frames: &[Frame<'_>]) -> usize {
    let mut contents = [&[][..]; LANE_FRAMES];
    let mut digests = [Digest::ZERO; LANE_FRAMES];
    for (content, frame) in contents.iter_mut().zip(frames) {
        *content = frame.chained;
    }
    let count = frames.len().min(LANE_FRAMES);
    digest_many(&contents[..count], &mut digests[..count]);
    let held = frames.iter().zip(&digests);
    held.take_while(|(frame, digest)| frame.checksum == Chain::from_digest(digest))
        .count()
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

/// How far bytes can be a journal, as far as that is told without hashing.
pub(crate) struct Plausible {
    /// Length of the header and of the frames that continue the records.
    pub(crate) bytes: usize,
    /// Whether what follows could be a frame that is cut off.
    pub(crate) goes_on: bool,
}

/// Walks over the frames. Holes in a file, and other files, end it at once, so nobody who trusts the result
/// reads or hashes more than what was really written as a journal.
pub(crate) fn plausible(bytes: &[u8]) -> Plausible {
    let (mut at, mut covered_bytes) = (HEADER_BYTES.min(bytes.len()), 0);
    loop {
        let rest = &bytes[at..];
        let kind = bytes_at(rest, 0).map(u32::from_le_bytes);
        let count = bytes_at(rest, 4).map(u32::from_le_bytes);
        let end = bytes_at(rest, 8).map(u64::from_le_bytes);
        let (Some(kind), Some(count), Some(end)) = (kind, count, end) else {
            let goes_on = kind.is_none_or(|kind| kind == KIND_ENTRIES || kind == KIND_SYNC_MARK);
            return Plausible { bytes: at, goes_on };
        };
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
        let entries = rest[16..].as_chunks::<ENTRY_BYTES>().0.iter();
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
        Self::parse_with(bytes, id, count_holding)
    }

    /// As [`parse`](Self::parse), on all cores.
    pub(crate) fn parse_in_parallel(bytes: &[u8], id: u32) -> Option<Self> {
        Self::parse_with(bytes, id, count_holding_in_parallel)
    }

    fn parse_with(bytes: &[u8], id: u32, count: impl Fn(&[Frame<'_>]) -> usize) -> Option<Self> {
        let (header, _) = encode_header(id);
        let mut journal = Self::empty(id);
        let frames = bytes.strip_prefix(&header)?;
        // Nearly all of a journal is entries; this many it can hold at most.
        journal.entries.reserve_exact(frames.len() / ENTRY_BYTES);
        journal.extend_with(frames, count);
        Some(journal)
    }

    /// Reads on in `frames`, the bytes that follow [`valid_bytes`](Self::valid_bytes).
    pub fn extend(&mut self, frames: &[u8]) {
        self.extend_with(frames, count_holding);
    }

    fn extend_with(&mut self, bytes: &[u8], count: impl Fn(&[Frame<'_>]) -> usize) {
        // What the first continues is not among these bytes.
        let Some(first) = Frame::at(bytes, 0) else {
            return;
        };
        if self.chain.next(first.covered) != first.checksum || self.accept(&first).is_none() {
            return;
        }
        let mut begin = first.len();
        let mut window = Vec::new();
        loop {
            let window_begin = begin;
            while window.len() < WINDOW_FRAMES
                && begin - window_begin < WINDOW_BYTES
                && let Some(frame) = Frame::at(bytes, begin)
            {
                begin += frame.len();
                window.push(frame);
            }
            let holding = count(&window);
            let accepted = window.iter().take(holding);
            let accepted = accepted.map_while(|frame| self.accept(frame)).count();
            if accepted == 0 || accepted < window.len() {
                return;
            }
            window.clear();
        }
    }

    /// Whether `bytes` end as the valid part of this journal does, so that what follows them in the
    /// file can be [read on](Self::extend). False for a journal that was replaced.
    #[must_use]
    pub fn is_continued_by(&self, bytes: &[u8]) -> bool {
        self.valid_bytes == HEADER_BYTES as u64 || bytes.ends_with(&self.chain.0)
    }

    /// Takes a frame whose checksum holds.
    fn accept(&mut self, frame: &Frame<'_>) -> Option<()> {
        match frame.kind {
            KIND_ENTRIES => self.accept_entries(frame.entries, frame.end)?,
            KIND_SYNC_MARK if frame.entries.is_empty() && frame.end <= self.covered_bytes => {
                self.synced_bytes = frame.end;
            }
            _ => return None,
        }
        self.chain = frame.checksum;
        self.valid_bytes += frame.len() as u64;
        Some(())
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

    /// H65
    #[test]
    fn h65_what_cannot_be_a_journal_is_told_without_hashing() {
        let (mut bytes, frame_ends) = sample();
        let whole_bytes = bytes.len();
        for cut in 0..=whole_bytes {
            let plausible = plausible(&bytes[..cut]);
            let ends = frame_ends.iter().rfind(|&&end| end <= cut);
            let expected = ends.copied().unwrap_or(cut);
            assert_eq!(
                (plausible.bytes, plausible.goes_on),
                (expected, true),
                "{cut}"
            );
        }
        bytes.resize(whole_bytes + (1 << 20), 0);
        let with_zeros = plausible(&bytes);
        assert_eq!((with_zeros.bytes, with_zeros.goes_on), (whole_bytes, false));
        // A frame that claims more entries than there are, in a hole.
        bytes[whole_bytes..whole_bytes + 8].copy_from_slice(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let with_claim = plausible(&bytes);
        assert_eq!((with_claim.bytes, with_claim.goes_on), (whole_bytes, false));
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

    /// As the format says it, a frame after the other.
    fn parse_one_by_one(bytes: &[u8]) -> Journal {
        let mut journal = Journal::empty(3);
        let mut begin = HEADER_BYTES;
        while let Some(frame) = Frame::at(bytes, begin) {
            if journal.chain.next(frame.covered) != frame.checksum
                || journal.accept(&frame).is_none()
            {
                break;
            }
            begin += frame.len();
        }
        journal
    }

    #[test]
    fn many_frames_are_read_as_one_by_one() {
        let (header, mut chain) = encode_header(3);
        let mut bytes = header.to_vec();
        let mut end = 0;
        for i in 0..3 * WINDOW_FRAMES as u64 {
            let mut entry = |j: u64| {
                let digest = Digest::of(&(i + j).to_le_bytes());
                let (offset, len) = (end + 4, (i % 5) as u32);
                end = offset + u64::from(len);
                Entry {
                    digest,
                    offset,
                    len,
                }
            };
            let entries: Vec<Entry> = (0..i % 9).map(&mut entry).collect();
            chain = encode_entries(&mut bytes, chain, &entries, end);
            if i % 3 == 0 {
                chain = encode_sync_mark(&mut bytes, chain, end);
            }
        }
        let whole = parse_one_by_one(&bytes);
        assert_eq!(whole.valid_bytes, bytes.len() as u64);
        assert_eq!(Journal::parse(&bytes, 3), Some(whole));
        for step in 0..40 {
            let mut bytes = bytes.clone();
            let position = HEADER_BYTES + step * (bytes.len() - HEADER_BYTES - 1) / 39;
            bytes[position] ^= 0x40;
            let expected = Some(parse_one_by_one(&bytes));
            assert_eq!(Journal::parse(&bytes, 3), expected, "{position}");
            assert_eq!(
                Journal::parse_in_parallel(&bytes, 3),
                expected,
                "{position}"
            );
        }
    }

    #[test]
    fn a_journal_of_several_windows_is_read_to_its_end() {
        let (header, mut chain) = encode_header(3);
        let mut bytes = header.to_vec();
        let mut end = 0;
        let entries_in_frame = 4000;
        while bytes.len() < 2 * WINDOW_BYTES + WINDOW_BYTES / 2 {
            let begin = end;
            let entry = |i: u64| Entry {
                digest: Digest::of(&i.to_le_bytes()),
                offset: begin + i * 5 + 4,
                len: 1,
            };
            let entries: Vec<Entry> = (0..entries_in_frame).map(entry).collect();
            end += entries_in_frame * 5;
            chain = encode_entries(&mut bytes, chain, &entries, end);
        }
        let journal = Journal::parse(&bytes, 3).unwrap();
        assert_eq!(journal.valid_bytes, bytes.len() as u64);
        assert_eq!(journal.covered_bytes, end);
        assert_eq!(Journal::parse_in_parallel(&bytes, 3), Some(journal));
    }

    /// A sync mark that is damaged and leaves out nothing: what follows it fits all the same, and is
    /// beyond what is looked at together with it.
    #[test]
    fn h5_nothing_is_taken_from_behind_a_damaged_sync_mark() {
        let (header, mut chain) = encode_header(3);
        let mut bytes = header.to_vec();
        for _ in 0..3 * WINDOW_FRAMES {
            chain = encode_sync_mark(&mut bytes, chain, 0);
        }
        for damaged in [1, 2, 700, WINDOW_FRAMES, WINDOW_FRAMES + 1] {
            let mut bytes = bytes.clone();
            let begin = HEADER_BYTES + damaged * FRAME_BYTES;
            bytes[begin + 8] = 1;
            let journal = Journal::parse(&bytes, 3).unwrap();
            assert_eq!(journal.valid_bytes, begin as u64, "{damaged}");
            assert_eq!(Journal::parse_in_parallel(&bytes, 3), Some(journal));
        }
    }

    #[test]
    fn only_the_same_journal_is_read_on_in() {
        let (bytes, frame_ends) = sample();
        let journal = Journal::parse(&bytes[..frame_ends[3]], 3).unwrap();
        assert!(journal.is_continued_by(&bytes[..frame_ends[3]]));
        assert!(!journal.is_continued_by(&bytes[..frame_ends[2]]));
        assert!(!journal.is_continued_by(&[]));
        assert!(Journal::empty(3).is_continued_by(&[]));
    }

    #[test]
    fn a_frame_that_holds_and_makes_no_sense_ends_the_journal() {
        let (header, chain) = encode_header(3);
        for (kind, end) in [(KIND_SYNC_MARK, 1), (KIND_ENTRIES, 1), (3, 0)] {
            let mut bytes = header.to_vec();
            let chain = encode_sync_mark(&mut bytes, chain, 0);
            let chain = encode_sync_mark(&mut bytes, chain, 0);
            let valid_bytes = bytes.len() as u64;
            let chain = encode_frame(&mut bytes, chain, kind, &[], end);
            encode_sync_mark(&mut bytes, chain, 0);
            let journal = Journal::parse(&bytes, 3).unwrap();
            assert_eq!(
                (journal.valid_bytes, journal.entries),
                (valid_bytes, vec![])
            );
        }
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
