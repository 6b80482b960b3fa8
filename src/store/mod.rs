//! The public API.

mod compaction;
#[cfg(test)]
mod growth;
mod open;
mod reader;
mod reading;
mod statistics;
mod unwind_safety;
mod upkeep;
mod writing;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use compaction::Compaction;
pub use reader::{PinnedObject, PinnedReader};
pub use statistics::{SegmentState, SegmentStats, StoreStats};

use crate::digest::HashFunction;
use crate::engine::{OpenWriter, Shared, Writer};
use crate::error::{Error, Result};
use crate::recovery::RecoveryReport;
use crate::recovery::reader::Reader;
use crate::sync::Mutex;

/// A content-addressed object store in a folder.
///
/// Clones are handles to the same open store. `Store` is `Send` and `Sync`: any number of threads
/// may read and write at once, and no reader ever waits for a writer. Dropping the last handle
/// flushes, syncs and unlocks; [`close`](Self::close) syncs and reports errors before it drops its
/// handle.
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

/// The state that all clones of a [`Store`] share.
struct Handle {
    shared: Arc<Shared>,
    access: Access,
}

enum Access {
    /// A writer, which is closed when the last clone of the store is dropped.
    Writer(OpenWriter),
    /// A reader. At worst, a panic that cuts off a refresh makes the next one read files again.
    Reader(Mutex<Reader>),
}

impl Store {
    /// Returns the folder that was opened.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared().root
    }

    /// Returns the hash function by which the store names its objects.
    #[must_use]
    pub fn hash_function(&self) -> HashFunction {
        self.shared().hash_function()
    }

    /// Returns the report of the repairs that were made when this handle was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared().report
    }

    /// Syncs and drops this handle.
    ///
    /// # Errors
    ///
    /// Fails like [`sync`](Self::sync). Closing a read-only handle never fails.
    pub fn close(self) -> Result<()> {
        match self.handle.access {
            Access::Writer(_) => self.sync(),
            Access::Reader(_) => Ok(()),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Returns the writer. Every function that changes the store calls this first, and so fails for
    /// a read-only handle and in a forked process.
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
