//! The journal of the segment that is appended to.

use crate::dir::WritableFile;
use crate::format::{Entry, Journal, journal};

/// Appends to the journal. A journal is never needed, so a write that fails is no error: what it
/// should have said is kept and goes with the next.
#[derive(Debug)]
pub(super) struct JournalWriter {
    file: Option<WritableFile>,
    written_bytes: u64,
    chain: journal::Chain,
    covered_bytes: u64,
    synced_bytes: u64,
    pending: Vec<Entry>,
    /// Kept for its capacity.
    frame: Vec<u8>,
}

impl JournalWriter {
    /// Goes on with a journal that was read. `pending` are the entries that it does not have yet.
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

    /// Adds an entry to those that are written next.
    pub(super) fn append(&mut self, entry: Entry) {
        self.pending.push(entry);
    }

    /// `end`: where the last pending entry ends.
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

    pub(super) fn write_sync_mark(&mut self, end: u64) {
        // Of two syncs at the same time the longer may have come first.
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
