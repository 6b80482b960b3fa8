//! The journal of the segment that is appended to.

use crate::dir::WritableFile;
use crate::format::{Entry, Journal, journal};

/// Appends to the journal. A store can do without its journal, so a failed write is no error: its
/// entries are kept for the next write.
#[derive(Debug)]
pub(super) struct JournalWriter {
    file: Option<WritableFile>,
    written_bytes: u64,
    chain: journal::Chain,
    covered_bytes: u64,
    synced_bytes: u64,
    pending: Vec<Entry>,
    /// Buffer for a frame, kept for its capacity.
    frame: Vec<u8>,
}

impl JournalWriter {
    /// Goes on with a journal that was read and that lacks the entries `pending`.
    pub(super) fn new(file: Option<WritableFile>, journal: &Journal, pending: Vec<Entry>) -> Self {
        Self {
            file,
            written_bytes: journal.valid_bytes,
            chain: journal.chain,
            covered_bytes: journal.covered_bytes,
            synced_bytes: journal.synced_bytes,
            pending,
            frame: Vec::new(),
        }
    }

    /// The entries that are not in the file yet, in file order.
    pub(super) fn pending(&self) -> &[Entry] {
        &self.pending
    }

    /// Adds an entry to the next write.
    pub(super) fn append(&mut self, entry: Entry) {
        self.pending.push(entry);
    }

    /// Writes the pending entries, whose last record ends at `end`.
    pub(super) fn write_pending(&mut self, end: u64) {
        if self.pending.is_empty() {
            return;
        }
        self.frame.clear();
        let chain = journal::encode_entries(&mut self.frame, self.chain, &self.pending, end);
        if self.write_frame(chain) {
            self.pending.clear();
            self.covered_bytes = end;
        }
    }

    /// Notes that the data file is durable up to `end`.
    pub(super) fn write_sync_mark(&mut self, end: u64) {
        // Of two concurrent syncs, the one with the greater `end` may have finished first.
        if end > self.synced_bytes && end <= self.covered_bytes {
            self.frame.clear();
            let chain = journal::encode_sync_mark(&mut self.frame, self.chain, end);
            if self.write_frame(chain) {
                self.synced_bytes = end;
            }
        }
    }

    fn write_frame(&mut self, chain: journal::Chain) -> bool {
        let written = self
            .file
            .as_ref()
            .is_some_and(|file| file.write_all_at(&self.frame, self.written_bytes).is_ok());
        if written {
            self.written_bytes += self.frame.len() as u64;
            self.chain = chain;
        }
        written
    }
}
