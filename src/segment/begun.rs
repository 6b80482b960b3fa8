//! A segment before its first record is appended: new, or read by recovery.

use crate::dir::{Dir, FileKind, WritableFile};
use crate::error::Result;
use crate::format::{Entry, Journal, journal};

/// A new segment that has a data file, and no journal yet.
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

    /// On an error there is no journal, and it can be tried again.
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

    /// What an appender of the new segment goes on with.
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

    /// Removes it. Nobody knows of it, and what stays is an empty segment.
    pub(crate) fn discard(self, dir: &Dir) {
        let _ = dir.remove_segment(self.id);
    }
}

/// What recovery hands over for a segment that is to be appended to.
pub(crate) struct Resumed {
    pub(crate) id: u32,
    pub(crate) data: WritableFile,
    /// Absent where the disk is full and the journal would have to be replaced. Nothing is appended then.
    pub(crate) journal_file: Option<WritableFile>,
    /// What the journal on disk says, without its entries.
    pub(crate) journal: Journal,
    /// How many of `entries` the journal on disk holds.
    pub(crate) noted: usize,
    /// All records in file order.
    pub(crate) entries: Vec<Entry>,
    /// Where the last of them ends.
    pub(crate) end: u64,
}
