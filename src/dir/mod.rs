//! The folder of a store: file names, the lock, and every operation that changes something on disk.
//!
//! Every change is a call of [`Operations`], which a test can replace to record the calls or to
//! make one fail, and is relative to the [`Folder`] that was opened.
//!
//! After a failed fsync, or another failure that leaves unknown what is on disk, the folder refuses
//! every further change. After a failed fsync the kernel drops the dirty pages and reports success
//! the next time, so a second fsync would confirm data that is lost ([LWN]).
//!
//! [LWN]: https://lwn.net/Articles/752063/

mod block_writer;
mod create;
mod extents;
mod file;
mod folder;
mod link;
mod lock;
mod names;
mod null_device;
mod operations;
mod publish;
mod refuse;
mod remove;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use block_writer::{BlockWriter, HUGE_PAGE_BYTES, SMALL_BLOCK_BYTES};
pub(crate) use create::is_vacant;
pub(crate) use extents::{
    DATA_HOLE_BYTES_MAX, first_stored, has_more_holes_than_data, hole_bytes, is_mostly_holes,
};
pub(crate) use file::{
    WritableFile, open_regular_file, read_exact_at, read_new_at, regular_file_bytes,
};
pub use folder::{FilePath, Folder};
pub(crate) use folder::{Identity, identity_of};
pub(crate) use lock::WriterLock;
pub(crate) use names::{FileKind, Listing, Temporary, TemporaryOf};
pub(crate) use null_device::null_device;
pub use operations::{Operations, System};

use crate::error::{Error, Result};
use crate::sync::Counter;
#[cfg(feature = "remote")]
use names::REMOTE;
use names::{MANIFEST, SEGMENTS, segment_file_name, set_index_file_name};

/// Size of a file system's block: on most file systems a file takes a multiple of it.
const BLOCK_BYTES: u64 = 4096;

/// How much of a file of text is read at a time.
const TEXT_CHUNK_BYTES: u64 = 1 << 20;

/// The folder with the segment files, shared by all parts of one open store.
#[derive(Clone, Debug)]
pub(crate) struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Folder,
    writing: Writing,
    /// The failure after which every change is refused.
    poison: OnceLock<String>,
    /// Whether the lock was given up: the folder may be another writer's by now.
    closed: AtomicBool,
    /// The process that opened the folder.
    process: u32,
    traffic: Traffic,
}

/// Counts writes and fsyncs since the folder was opened.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes that were written to files.
    pub(crate) bytes_written: Counter,
    /// Number of fsyncs of data files.
    pub(crate) data_syncs: Counter,
    /// Time that these took, in nanoseconds.
    pub(crate) data_sync_nanoseconds: Counter,
}

/// How a [`Dir`] changes files.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    pub(crate) operations: Arc<dyn Operations>,
    /// See [`Options::fast_fsync`](crate::Options::fast_fsync).
    pub(crate) fast_fsync: bool,
    /// Length of the blocks of a [`BlockWriter`].
    pub(crate) write_block_bytes: usize,
}

impl Traffic {
    fn count_data_sync(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.data_syncs.add(1);
        self.data_sync_nanoseconds.add(nanoseconds);
    }
}

impl Dir {
    /// Opens the folder of the store in `root`. `None` if there is no such folder; a file in its
    /// place is an error.
    pub(crate) fn open(root: &Path, writing: Writing) -> Result<Option<Self>> {
        let path = root.join(SEGMENTS);
        let folder = match Folder::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        Ok(Some(Self(Arc::new(Inner {
            folder,
            writing,
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            process: std::process::id(),
            traffic: Traffic::default(),
        }))))
    }

    fn operations(&self) -> &dyn Operations {
        &*self.0.writing.operations
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.folder.path()
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    pub(crate) fn manifest_path(&self) -> FilePath {
        self.0.folder.file(MANIFEST)
    }

    pub(crate) fn segment_path(&self, id: u32, kind: FileKind) -> FilePath {
        self.0.folder.file(segment_file_name(id, kind))
    }

    pub(crate) fn set_index_path(&self, number: u32) -> FilePath {
        self.0.folder.file(set_index_file_name(number))
    }

    pub(crate) fn list(&self) -> Result<Listing> {
        let names = self.0.folder.names().map_err(Error::io(self.path()))?;
        let mut listing = Listing::default();
        for name in names {
            listing.add(name, &self.0.folder);
        }
        Ok(listing)
    }

    /// Whether there is a manifest.
    pub(crate) fn has_manifest(&self) -> Result<bool> {
        let path = self.manifest_path();
        match path.own_status() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Returns the bytes of the manifest, or `None` if there is none.
    pub(crate) fn read_manifest(&self) -> Result<Option<Vec<u8>>> {
        read_text(&self.manifest_path())
    }

    /// Returns the path of what the store knows of refs in object stores.
    #[cfg(feature = "remote")]
    pub(crate) fn remote_state_path(&self) -> FilePath {
        self.0.folder.file(REMOTE)
    }

    /// Returns what the store knows of refs in object stores, or `None` if it has pushed to none.
    #[cfg(feature = "remote")]
    pub(crate) fn read_remote_state(&self) -> Result<Option<Vec<u8>>> {
        read_text(&self.remote_state_path())
    }

    /// Returns the length of the data file of a segment, or `None` if there is no such file.
    pub(crate) fn data_bytes(&self, id: u32) -> Result<Option<u64>> {
        match regular_file_bytes(&self.segment_path(id, FileKind::Data)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether any file of a retired segment is left.
    pub(crate) fn holds_segment(&self, id: u32) -> bool {
        FileKind::OF_SEGMENT.into_iter().any(|kind| {
            let status = self.segment_path(id, kind).own_status();
            status.map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
        })
    }

    /// Creates an empty file of a segment. Its name is durable after the next [`sync`](Self::sync).
    pub(crate) fn create_segment_file(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        self.check_own()?;
        let path = self.segment_path(id, kind);
        let file = self.operations().create(&path).map_err(Error::io(&path))?;
        Ok(self.writable(file, path).of_kind(kind))
    }

    /// Opens an existing file of a segment for reading and writing.
    pub(crate) fn open_segment_file(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        let path = self.segment_path(id, kind);
        let file = path.open_to_write().map_err(Error::io(&path))?;
        Ok(self.writable(file, path).of_kind(kind))
    }

    fn writable(&self, file: File, path: FilePath) -> WritableFile {
        WritableFile {
            file,
            path,
            dir: self.clone(),
            is_data: false,
        }
    }

    /// Fails if the file system says that it has no room for files of these lengths, so that none
    /// of them is begun. Others may take the room afterwards, and not every file system says how
    /// much it has.
    pub(crate) fn require_space(&self, file_bytes: impl IntoIterator<Item = u64>) -> Result<()> {
        let blocks = file_bytes
            .into_iter()
            .map(|bytes| bytes.div_ceil(BLOCK_BYTES));
        let needed_bytes = blocks.sum::<u64>().saturating_mul(BLOCK_BYTES);
        match self.operations().available_bytes(&self.0.folder) {
            Some(available_bytes) if available_bytes < needed_bytes => Err(Error::NoSpace {
                path: self.path().to_owned(),
                needed_bytes,
                available_bytes,
            }),
            _ => Ok(()),
        }
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_own()?;
        let folder = &self.0.folder;
        self.operations().sync_dir(folder).map_err(|error| {
            self.poison(folder, "fsync", &error);
            Error::io(folder)(error)
        })
    }
}

/// Returns the bytes of a file of text, or `None` if there is none. Nothing is read behind the first
/// zeros: otherwise a file of any length that stores nothing would be read as a whole.
fn read_text(path: &FilePath) -> Result<Option<Vec<u8>>> {
    let (mut file, _) = match open_regular_file(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    loop {
        let begin = bytes.len();
        let chunk = file.by_ref().take(TEXT_CHUNK_BYTES);
        let read = { chunk }.read_to_end(&mut bytes);
        if read.map_err(Error::io(path))? == 0 || bytes[begin..].contains(&0) {
            return Ok(Some(bytes));
        }
    }
}

#[cfg(test)]
mod tests;
