//! A segment from which an appender is made: new, or read by recovery.

use crate::dir::{Dir, FileKind, WritableFile};
use crate::error::Result;
use crate::format::{Entry, Journal, journal};

/// A new segment that has a data file but no journal yet.
#[derive(Debug)]
pub(crate) struct Begun {
    id: u32,
    data: WritableFile,
}

impl Begun {
    pub(crate) fn create(dir: &Dir, id: u32) -> Result<Self> {
        let data = dir.create_segment_file(id, FileKind::Data)?;
        Ok(Self { id, data })
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Creates the journal. On an error there is none, and the call can be repeated.
    pub(crate) fn create_journal(&self, dir: &Dir) -> Result<WritableFile> {
        let journal = dir.create_segment_file(self.id, FileKind::Journal)?;
        match journal.write_all_at(&journal::encode_header(self.id).0, 0) {
            Ok(()) => Ok(journal),
            Err(error) => {
                let _ = dir.remove_segment_file(self.id, FileKind::Journal);
                Err(error)
            }
        }
    }

    /// Makes the empty state from which an appender of the new segment starts.
    pub(super) fn into_resumed(self, journal_file: WritableFile) -> Resumed {
        Resumed {
            journal: Journal::empty(self.id),
            id: self.id,
            data: self.data,
            journal_file: Some(journal_file),
            noted: 0,
            entries: Vec::new(),
            end: 0,
        }
    }

    /// Removes the segment. Nobody knows of it, so a failure leaves only an empty segment behind.
    pub(crate) fn discard(self, dir: &Dir) {
        let _ = dir.remove_segment(self.id);
    }
}

/// A segment that recovery has read and that an appender goes on with.
pub(crate) struct Resumed {
    pub(crate) id: u32,
    pub(crate) data: WritableFile,
    /// Absent where the disk is full and the journal would have to be replaced; nothing is appended
    /// then.
    pub(crate) journal_file: Option<WritableFile>,
    /// The journal on disk, without its entries.
    pub(crate) journal: Journal,
    /// Number of leading `entries` that the journal on disk holds.
    pub(crate) noted: usize,
    /// All records in file order.
    pub(crate) entries: Vec<Entry>,
    /// Where the last record ends.
    pub(crate) end: u64,
}
