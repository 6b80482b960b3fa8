//! The directory: file names, the lock, and every operation that changes something on disk.
//!
//! All changes go through [`Operations`], which a test can replace to record them or to make one
//! fail; and all are relative to the [`Folder`] that was opened. A failed fsync, or a failure after which it is unknown what is on disk, makes the directory
//! refuse every further change: after a failed fsync the kernel drops the dirty pages and reports
//! success the next time, so trying again would confirm data that is lost ([LWN]).
//!
//! [LWN]: https://lwn.net/Articles/752063/

mod block_writer;
mod extents;
mod file;
mod folder;
mod lock;
mod names;
mod operations;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

pub(crate) use block_writer::{BlockWriter, HUGE_PAGE_BYTES, SMALL_BLOCK_BYTES};
pub(crate) use extents::{
    DATA_HOLE_BYTES_MAX, first_stored, has_more_holes_than_data, hole_bytes, is_mostly_holes,
};
pub(crate) use file::{
    WritableFile, open_regular_file, read_exact_at, read_new_at, regular_file_bytes,
};
pub use folder::{FilePath, Folder};
pub(crate) use lock::WriterLock;
pub(crate) use names::{FileKind, Listing, Temporary, TemporaryOf};
pub use operations::{Operations, System};

use crate::error::{Error, Result};
use names::{
    DAMAGED, LOCK, MANIFEST, SEGMENTS, TEMPORARY, parse_segment_file_name,
    parse_set_index_file_name, parse_temporary_name, segment_file_name, set_index_file_name,
};
use operations::uninterrupted;

/// What a file takes at least, and in multiples of what, on most file systems.
const BLOCK_BYTES: u64 = 4096;

/// How much of a manifest is read at a time.
const MANIFEST_CHUNK_BYTES: u64 = 1 << 20;

/// The folder with the segment files, shared by all parts of one open store.
#[derive(Clone, Debug)]
pub(crate) struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Folder,
    operations: Arc<dyn Operations>,
    fast_fsync: bool,
    write_block_bytes: usize,
    /// The failure after which nothing is changed any more.
    poison: OnceLock<String>,
    /// The lock is no longer held: the folder may be another writer's.
    closed: AtomicBool,
    /// The process that opened it.
    process: u32,
}

impl Dir {
    /// Opens the folder of the store in `root`. `None` if there is none; a file in its place is an error.
    ///
    /// `write_block_bytes`: see [`BlockWriter`].
    pub(crate) fn open(
        root: &Path,
        operations: Arc<dyn Operations>,
        fast_fsync: bool,
        write_block_bytes: usize,
    ) -> Result<Option<Self>> {
        let path = root.join(SEGMENTS);
        let folder = match Folder::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        Ok(Some(Self(Arc::new(Inner {
            folder,
            operations,
            fast_fsync,
            write_block_bytes,
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            process: std::process::id(),
        }))))
    }

    /// As [`open`](Self::open), and creates the folder before; makes its name durable also where it
    /// exists already.
    pub(crate) fn create(
        root: &Path,
        operations: Arc<dyn Operations>,
        fast_fsync: bool,
        write_block_bytes: usize,
    ) -> Result<Self> {
        let path = root.join(SEGMENTS);
        require_names_fit(&path)?;
        create_all(&path, &*operations)?;
        let dir = Self::open(root, operations, fast_fsync, write_block_bytes)?;
        dir.ok_or_else(|| Error::io(&path)(io::ErrorKind::NotFound.into()))
    }

    /// Creates the folder in a `root` that holds nothing, and opens it. `None` if the root holds something or
    /// somebody else creates the folder first: of several callers at once, one gets it.
    pub(crate) fn create_new(
        root: &Path,
        operations: Arc<dyn Operations>,
        fast_fsync: bool,
        write_block_bytes: usize,
    ) -> Result<Option<Self>> {
        let path = root.join(SEGMENTS);
        require_names_fit(&path)?;
        create_all(root, &*operations)?;
        if !is_vacant(root)? {
            return Ok(None);
        }
        match uninterrupted(|| operations.create_dir(&path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created.map_err(Error::io(&path))?,
        }
        let named = Folder::open(root).and_then(|root| operations.sync_dir(&root));
        named.map_err(Error::io(root))?;
        Self::open(root, operations, fast_fsync, write_block_bytes)
    }

    /// Whether the folder holds the lock file and nothing else.
    pub(crate) fn is_new(&self) -> Result<bool> {
        let names = self.0.folder.names().map_err(Error::io(self.path()))?;
        Ok(names.iter().all(|name| name == LOCK))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.folder.path()
    }

    pub(crate) fn segment_path(&self, id: u32, kind: FileKind) -> FilePath {
        self.0.folder.file(segment_file_name(id, kind))
    }

    pub(crate) fn set_index_path(&self, number: u32) -> FilePath {
        self.0.folder.file(set_index_file_name(number))
    }

    pub(crate) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for name in self.0.folder.names().map_err(Error::io(self.path()))? {
            let Some(name) = name.to_str() else { continue };
            if let Some(of) = parse_temporary_name(name) {
                let path = self.0.folder.file(name);
                listing.temporaries.push(Temporary { path, of });
            } else if let Some(number) = parse_set_index_file_name(name) {
                listing.set_indexes.insert(number);
            } else if let Some((id, kind)) = parse_segment_file_name(name) {
                let ids = match kind {
                    FileKind::Data => &mut listing.data,
                    FileKind::Sidecar => &mut listing.sidecars,
                    FileKind::Journal => &mut listing.journals,
                    FileKind::Torn => &mut listing.torn,
                };
                ids.insert(id);
            }
        }
        Ok(listing)
    }

    /// The files with what recovery cut off, and how many bytes each has.
    pub(crate) fn torn_files(&self) -> Result<Vec<(FilePath, u64)>> {
        let mut files = Vec::new();
        for id in self.list()?.torn {
            let path = self.segment_path(id, FileKind::Torn);
            match path.own_status() {
                Ok(status) => files.push((path, status.len)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
        }
        Ok(files)
    }

    /// The bytes of the manifest, or `None` if there is none. It is text, so nothing is read behind the
    /// first zeros: a file of any length with nothing stored in it would otherwise be read as a whole.
    pub(crate) fn read_manifest(&self) -> Result<Option<Vec<u8>>> {
        let path = self.manifest_path();
        let (mut file, _) = match open_regular_file(&path) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        loop {
            let begin = bytes.len();
            let chunk = file.by_ref().take(MANIFEST_CHUNK_BYTES);
            let read = { chunk }.read_to_end(&mut bytes);
            if read.map_err(Error::io(&path))? == 0 || bytes[begin..].contains(&0) {
                return Ok(Some(bytes));
            }
        }
    }

    pub(crate) fn manifest_path(&self) -> FilePath {
        self.0.folder.file(MANIFEST)
    }

    /// Keeps a damaged manifest beside the one that is going to replace it, and gives the name it has.
    pub(crate) fn keep_damaged_manifest(&self) -> Result<FilePath> {
        self.check_own()?;
        let (manifest, operations) = (self.manifest_path(), &self.0.operations);
        let mut kept = manifest.with_suffix(DAMAGED);
        let mut number = 1;
        loop {
            match uninterrupted(|| operations.hard_link(&manifest, &kept)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Without links it is renamed: a store without a manifest opens as one whose manifest is
                // damaged does.
                Err(_) if kept.own_status().is_err() => {
                    let renamed = uninterrupted(|| operations.rename(&manifest, &kept));
                    return renamed.map(|()| kept).map_err(Error::io(&manifest));
                }
                Err(error) => return Err(Error::io(&manifest)(error)),
                Ok(()) => return Ok(kept),
            }
            number += 1;
            kept = manifest.with_suffix(&format!("{DAMAGED}-{number}"));
        }
    }

    /// Replaces the manifest. Its rename is the commit point of a seal or a compaction.
    pub(crate) fn replace_manifest(&self, text: &str) -> Result<()> {
        self.replace(&self.manifest_path(), text.as_bytes())
    }

    /// Replaces a file of a segment, atomically and durably.
    pub(crate) fn replace_segment_file(&self, id: u32, kind: FileKind, bytes: &[u8]) -> Result<()> {
        self.replace(&self.segment_path(id, kind), bytes)
    }

    /// Temporary, fsync, rename, fsync of the directory: readers see the old file or the new one.
    fn replace(&self, path: &FilePath, bytes: &[u8]) -> Result<()> {
        let temporary = self.create_temporary(path)?;
        let written = temporary
            .write_all_at(bytes, 0)
            .and_then(|()| temporary.sync());
        if let Err(error) = written {
            // The name says what it is; if this fails too, the next opening removes it.
            let _ = uninterrupted(|| self.0.operations.remove(&temporary.path));
            return Err(error);
        }
        self.rename_into_place(&temporary.path)?;
        self.sync()
    }

    /// Creates the temporary that is to become `path`.
    fn create_temporary(&self, path: &FilePath) -> Result<WritableFile> {
        self.check_own()?;
        let temporary = path.with_suffix(TEMPORARY);
        let file = match self.0.operations.create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove_if_present(&temporary)?;
                self.0.operations.create(&temporary)
            }
            result => result,
        };
        Ok(self.writable(file.map_err(Error::io(&temporary))?, temporary))
    }

    /// Creates the temporary that is to become a file of segment `id`.
    pub(crate) fn create_segment_temporary(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        self.create_temporary(&self.segment_path(id, kind))
    }

    /// Creates the temporary that is to become a run of the set index.
    pub(crate) fn create_set_index_temporary(&self, number: u32) -> Result<WritableFile> {
        self.create_temporary(&self.set_index_path(number))
    }

    /// Gives a run of the set index its name. It is derived and its pages carry checksums, so neither
    /// it nor the directory is synced: what a crash leaves of it is noticed and built again.
    pub(crate) fn rename_set_index(&self, temporary: &FilePath) -> Result<()> {
        self.check_own()?;
        let to = temporary.without_extension();
        let renamed = uninterrupted(|| self.0.operations.rename(temporary, &to));
        renamed.map_err(Error::io(temporary))
    }

    /// Gives a temporary its name. The directory is not synced yet. After a failed rename it is
    /// unknown which of the two files a crash would leave, so nothing is changed any more.
    pub(crate) fn rename_into_place(&self, temporary: &FilePath) -> Result<()> {
        self.check_own()?;
        let from = temporary;
        let to = from.without_extension();
        let renamed = uninterrupted(|| self.0.operations.rename(from, &to));
        renamed.map_err(|error| {
            self.poison(from, "rename", &error);
            Error::io(from)(error)
        })
    }

    /// Creates an empty file of a segment. Its name is durable after the next [`sync`](Self::sync).
    pub(crate) fn create_segment_file(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        self.check_own()?;
        let path = self.segment_path(id, kind);
        let file = self.0.operations.create(&path).map_err(Error::io(&path))?;
        Ok(self.writable(file, path))
    }

    /// Opens an existing file of a segment for reading and writing.
    pub(crate) fn open_segment_file(&self, id: u32, kind: FileKind) -> Result<WritableFile> {
        let path = self.segment_path(id, kind);
        let file = path.open_to_write().map_err(Error::io(&path))?;
        Ok(self.writable(file, path))
    }

    /// Fails if the file system says that it has no room for files of these lengths, before the first
    /// of them is begun. Others may take the room afterwards, and not every file system says.
    pub(crate) fn require_space(&self, file_bytes: impl IntoIterator<Item = u64>) -> Result<()> {
        let blocks = file_bytes
            .into_iter()
            .map(|bytes| bytes.div_ceil(BLOCK_BYTES));
        let needed_bytes = blocks.sum::<u64>().saturating_mul(BLOCK_BYTES);
        match self.0.operations.available_bytes(&self.0.folder) {
            Some(available_bytes) if available_bytes < needed_bytes => Err(Error::NoSpace {
                path: self.path().to_owned(),
                needed_bytes,
                available_bytes,
            }),
            _ => Ok(()),
        }
    }

    fn writable(&self, file: File, path: FilePath) -> WritableFile {
        WritableFile {
            file,
            path,
            dir: self.clone(),
        }
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_own()?;
        let folder = &self.0.folder;
        self.0.operations.sync_dir(folder).map_err(|error| {
            self.poison(folder, "fsync", &error);
            Error::io(folder)(error)
        })
    }

    /// Links a file of a segment into another store's folder. Copies it where that is on another file
    /// system, and where the name is a symbolic link, which may lead elsewhere from there.
    pub(crate) fn link_segment_file(&self, id: u32, kind: FileKind, target: &Self) -> Result<()> {
        let from = self.segment_path(id, kind);
        let to = target.segment_path(id, kind);
        let is_link = from.own_status().map_err(Error::io(&from))?.is_link;
        if !is_link && uninterrupted(|| self.0.operations.hard_link(&from, &to)).is_ok() {
            return Ok(());
        }
        let (bytes, _) = open_regular_file(&from)?;
        let copy = target.create_segment_file(id, kind)?;
        copy.copy_from(&bytes, &from)?;
        copy.sync()
    }

    /// Links a run of the set index into another store's folder, where that can be. It is derived, so
    /// nothing is lost where it cannot.
    pub(crate) fn link_set_index(&self, number: u32, target: &Self) {
        let (from, to) = (self.set_index_path(number), target.set_index_path(number));
        let _ = uninterrupted(|| self.0.operations.hard_link(&from, &to));
    }

    /// Removes all files of a retired segment.
    pub(crate) fn remove_segment(&self, id: u32) -> Result<()> {
        // The data goes first: what is left of an interrupted removal is then derived from it and
        // says nothing by itself.
        for kind in [FileKind::Data, FileKind::Sidecar, FileKind::Journal] {
            self.remove_segment_file(id, kind)?;
        }
        Ok(())
    }

    pub(crate) fn remove_segment_file(&self, id: u32, kind: FileKind) -> Result<()> {
        self.remove_if_present(&self.segment_path(id, kind))
    }

    /// Length of the data file of a segment, or `None` if it is not there.
    pub(crate) fn data_bytes(&self, id: u32) -> Result<Option<u64>> {
        match regular_file_bytes(&self.segment_path(id, FileKind::Data)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether any file of a retired segment is left.
    pub(crate) fn holds_segment(&self, id: u32) -> bool {
        [FileKind::Data, FileKind::Sidecar, FileKind::Journal]
            .into_iter()
            .any(|kind| match self.segment_path(id, kind).own_status() {
                Err(error) => error.kind() != io::ErrorKind::NotFound,
                Ok(_) => true,
            })
    }

    pub(crate) fn remove_if_present(&self, path: &FilePath) -> Result<()> {
        self.check_own()?;
        match uninterrupted(|| self.0.operations.remove(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
            _ => Ok(()),
        }
    }

    /// From here on nothing is changed any more.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Whether this process is one that was forked from the one that opened the folder.
    pub(crate) fn is_inherited(&self) -> bool {
        self.0.process != std::process::id()
    }

    /// Fails where nothing may be changed: as [`check_writable`](Self::check_writable), and in a
    /// process that was forked, which has the files of its parent and would write over what that
    /// writes.
    fn check_own(&self) -> Result<()> {
        self.check_writable()?;
        if self.is_inherited() {
            return Err(Error::Forked);
        }
        Ok(())
    }

    /// Fails once something happened after which writes are refused.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Poisoned {
                reason: "the store was closed".to_owned(),
            });
        }
        match self.0.poison.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
        }
    }

    fn poison(&self, path: &Path, operation: &str, error: &io::Error) {
        // The first failure is the one to report.
        let _ = self
            .0
            .poison
            .set(format!("{operation} of {}: {error}", path.display()));
    }
}

/// Fails if the system takes the paths of some of our files and not of the longest: a store would be
/// created, and accept what it can then not seal.
fn require_names_fit(folder: &Path) -> Result<()> {
    let mut name = segment_file_name(u32::MAX, FileKind::Torn);
    name.push_str(TEMPORARY);
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
            Err(Error::io(&path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a folder does not exist or holds nothing but what a new file system has of its own.
pub(crate) fn is_vacant(folder: &Path) -> Result<bool> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        if entry.map_err(Error::io(folder))?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Creates the folder and those above it that are missing, and makes their names durable; those of the
/// root and of the folder itself also where they exist already, since whoever created them may have been
/// cut off before it could.
fn create_all(folder: &Path, operations: &dyn Operations) -> Result<()> {
    let mut named: Vec<&Path> = Vec::new();
    for path in folder
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
    {
        if path.exists() && named.len() >= 2 {
            break;
        }
        named.push(path);
    }
    for path in named.into_iter().rev() {
        let created = match uninterrupted(|| operations.create_dir(path)) {
            Ok(()) => true,
            Err(_) if path.is_dir() => false,
            Err(error) => return Err(Error::io(path)(error)),
        };
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match Folder::open(parent) {
            Ok(parent) => operations.sync_dir(&parent).map_err(Error::io(&parent))?,
            // The folder existed, and whoever may not open its parent has not created it.
            Err(error) if !created && error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(Error::io(parent)(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
