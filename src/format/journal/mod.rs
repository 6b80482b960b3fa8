//! The journal of the active segment, format `SSJ1`: what was appended, and how far it was made
//! durable.

mod encode;
mod frame;
mod plausible;

use super::entry::{ENTRY_BYTES, Entry};
use super::{layout, record};
use frame::{Frame, count_holding, count_holding_in_parallel};

pub use encode::Encoder;
pub(crate) use encode::{encode_entries, encode_header, encode_sync_mark};
pub(crate) use frame::Chain;
pub(crate) use plausible::plausible;

/// First bytes of a journal.
pub const MAGIC: [u8; 4] = *b"SSJ1";
/// Length of the header: magic number and segment id.
pub const HEADER_BYTES: usize = layout::journal::HEADER_BYTES;
/// Length of a frame without its entries: kind, count, end, checksum.
pub const FRAME_BYTES: usize = layout::frame::HEAD_BYTES + layout::frame::CHECKSUM_BYTES;
const KIND_ENTRIES: u32 = 1;
const KIND_SYNC_MARK: u32 = 2;

/// Most frames that are hashed before they are accepted; bounds the memory for them.
const WINDOW_FRAMES: usize = 1024;
/// Length of frames, in bytes, beyond which no further frame is added to a window.
const WINDOW_BYTES: usize = 8 << 20;

/// The contents of a journal up to its first frame that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The entries in the order of the data file. Their records tile the data file from the
    /// beginning to [`covered_bytes`](Self::covered_bytes).
    pub entries: Vec<Entry>,
    /// How many bytes of the data file the entries cover.
    pub covered_bytes: u64,
    /// How many bytes of the data file were durable at the last sync mark.
    pub synced_bytes: u64,
    /// How many bytes of the journal hold.
    pub valid_bytes: u64,
    /// What the next frame continues.
    pub(crate) chain: Chain,
}

impl Journal {
    /// Returns the journal of segment `id` that has a header and no frame.
    #[must_use]
    pub(crate) fn empty(id: u32) -> Self {
        Self {
            entries: Vec::new(),
            covered_bytes: 0,
            synced_bytes: 0,
            valid_bytes: HEADER_BYTES as u64,
            chain: encode_header(id).1,
        }
    }

    /// Reads the journal of segment `id`. Returns `None` if the header is of another segment or of
    /// no journal. A damaged or unfinished frame ends the journal. That is no error, since a
    /// journal is never needed.
    ///
    /// ```
    /// use sealstone::format::Journal;
    /// use sealstone::format::journal::Encoder;
    ///
    /// let mut encoder = Encoder::new(7);
    /// encoder.sync_mark(0);
    /// let (whole, torn) = (encoder.as_bytes(), &encoder.as_bytes()[..30]);
    ///
    /// assert_eq!(Journal::parse(whole, 7).map(|journal| journal.valid_bytes), Some(40));
    /// assert_eq!(Journal::parse(torn, 7).map(|journal| journal.valid_bytes), Some(8));
    /// assert_eq!(Journal::parse(whole, 8), None);
    /// ```
    #[must_use]
    pub fn parse(bytes: &[u8], id: u32) -> Option<Self> {
        Self::parse_with(bytes, id, count_holding)
    }

    /// Reads a journal as [`parse`](Self::parse) does, on all threads of the current pool.
    pub(crate) fn parse_in_parallel(bytes: &[u8], id: u32) -> Option<Self> {
        Self::parse_with(bytes, id, count_holding_in_parallel)
    }

    fn parse_with(bytes: &[u8], id: u32, count: impl Fn(&[Frame<'_>]) -> usize) -> Option<Self> {
        let (header, _) = encode_header(id);
        let mut journal = Self::empty(id);
        let frames = bytes.strip_prefix(&header)?;
        // A journal is nearly all entries, and cannot hold more than this.
        journal.entries.reserve_exact(frames.len() / ENTRY_BYTES);
        journal.extend_with(frames, count);
        Some(journal)
    }

    /// Reads further frames from the bytes that follow [`valid_bytes`](Self::valid_bytes).
    pub(crate) fn extend(&mut self, frames: &[u8]) {
        self.extend_with(frames, count_holding);
    }

    fn extend_with(&mut self, bytes: &[u8], count: impl Fn(&[Frame<'_>]) -> usize) {
        // The first frame continues a checksum that is not among these bytes.
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

    /// Whether `bytes` end as the valid part of this journal does, so that the bytes behind them in
    /// the file [extend](Self::extend) it. False for a journal that was replaced.
    #[must_use]
    pub(crate) fn is_continued_by(&self, bytes: &[u8]) -> bool {
        self.valid_bytes == HEADER_BYTES as u64 || bytes.ends_with(&self.chain.0)
    }

    /// Adds a frame whose checksum holds. Returns `None` if its contents contradict the journal.
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

    /// Adds the entries if each record begins where the record before it ends.
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
mod tests;
