//! The public API.

mod compaction;
#[cfg(test)]
mod growth;
mod open;
mod reader;
mod reading;
mod statistics;
mod upkeep;
mod writing;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use compaction::Compaction;
pub use reader::{PinnedObject, PinnedReader};
pub use statistics::{SegmentState, SegmentStats, StoreStats};

use crate::engine::{OpenWriter, Shared, Writer};
use crate::error::{Error, Result};
use crate::recovery::RecoveryReport;
use crate::recovery::reader::Reader;
use crate::sync::Mutex;

/// A content-addressed object store in a folder.
///
/// Clones are handles to the same open store. It is `Send` and `Sync`: any number of threads may
/// read and write at once, and no reader ever waits for a writer. The last handle to be dropped
/// flushes, syncs and unlocks; [`close`](Self::close) does so too and reports errors.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use sealstone::Store;
///
/// let store = Store::open(folder.path())?;
/// let digest = store.put(b"content")?;
/// store.sync()?;
/// assert_eq!(store.get(&digest)?.as_deref(), Some(&b"content"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// What all clones of a [`Store`] hold.
struct Handle {
    shared: Arc<Shared>,
    access: Access,
}

enum Access {
    /// Closed when the last clone of the store is dropped.
    Writer(OpenWriter),
    /// What a panic could leave behind in it is at worst read again.
    Reader(Mutex<Reader>),
}

impl Store {
    /// The folder that was opened.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared().root
    }

    /// What was repaired when this handle was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared().report
    }

    /// Syncs and drops this handle.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](Self::sync). A handle that was opened read-only has none.
    pub fn close(self) -> Result<()> {
        match self.handle.access {
            Access::Writer(_) => self.sync(),
            Access::Reader(_) => Ok(()),
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// The writer. Every function that changes something asks here first, and so is refused by a
    /// read-only handle and in a forked process.
    fn writer(&self) -> Result<&Writer> {
        match &self.handle.access {
            Access::Writer(open) => self
                .shared()
                .require_own_process()
                .map(|()| &**open.writer()),
            Access::Reader(_) => Err(Error::ReadOnly),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root())
            .field("objects", &self.len())
            .finish_non_exhaustive()
    }
}
