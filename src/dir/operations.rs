//! The operations that change a folder, and how they differ from system to system.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::folder::{FilePath, Folder};

/// The operations that change a folder. The default methods carry them out.
///
/// A file that has a name is given as a [`FilePath`], relative to the folder that was opened. Both
/// [`FilePath`] and [`Folder`] dereference to a path, by which a test tells which file is meant.
#[cfg_attr(
    feature = "test-seam",
    expect(
        clippy::missing_errors_doc,
        reason = "each fails with what the system reports"
    )
)]
pub trait Operations: fmt::Debug + Send + Sync {
    /// Creates a folder, before the store in it is opened.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &FilePath) -> io::Result<File> {
        path.create()
    }

    /// Writes at an offset and returns how many bytes it wrote, which can be fewer than given, as
    /// with `pwrite`.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let _ = path;
        positional::write_at(file, bytes, offset)
    }

    /// Cuts a file to `len` bytes.
    fn set_len(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        let _ = path;
        file.set_len(len)
    }

    /// Makes the content and the length of a file durable.
    ///
    /// `fast`: see [`Options::fast_fsync`](crate::Options::fast_fsync).
    fn sync_file(&self, file: &File, path: &Path, fast: bool) -> io::Result<()> {
        let _ = path;
        positional::sync_file(file, fast)
    }

    /// Makes the names in a folder durable.
    fn sync_dir(&self, folder: &Folder) -> io::Result<()> {
        folder.sync()
    }

    /// Gives a file another name in its folder; a file that has that name already is replaced.
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        from.rename(to)
    }

    /// Gives a file a second name, which may be in another folder.
    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        from.hard_link(to)
    }

    /// Removes a file.
    fn remove(&self, path: &FilePath) -> io::Result<()> {
        path.remove()
    }

    /// Returns how many bytes can still be written to the file system of a folder, or `None` where
    /// the system does not say. This changes nothing; it is here so that a test can say that the
    /// disk is full.
    fn available_bytes(&self, folder: &Folder) -> Option<u64> {
        folder.available_bytes()
    }
}

/// The operations as the system carries them out.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Operations for System {}

/// Tries an operation again where a signal came before anything was done. File systems in user
/// space and over a network say so of any operation. The standard library retries by itself where
/// it opens, cuts and syncs files and where it reads whole ones.
pub(super) fn uninterrupted<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reading and writing at an offset, and fsync, which differ from system to system.
pub(super) mod positional {
    use std::fs::File;
    use std::io;

    #[cfg(unix)]
    pub(in crate::dir) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(file, bytes, offset)
    }

    #[cfg(windows)]
    pub(in crate::dir) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
    }

    #[cfg(unix)]
    pub(in crate::dir) fn read_at(
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(file, buffer, offset)
    }

    #[cfg(windows)]
    pub(in crate::dir) fn read_at(
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
    }

    #[cfg(target_vendor = "apple")]
    pub(in crate::dir) fn sync_file(file: &File, fast: bool) -> io::Result<()> {
        if fast {
            Ok(rustix::fs::fsync(file)?)
        } else {
            file.sync_all()
        }
    }

    #[cfg(not(target_vendor = "apple"))]
    pub(in crate::dir) fn sync_file(file: &File, _fast: bool) -> io::Result<()> {
        file.sync_all()
    }
}
