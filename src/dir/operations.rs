//! The operations that change a directory, and what differs in them from system to system.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::folder::{FilePath, Folder};

/// The operations that change a directory. The defaults carry them out.
///
/// Whatever has a name is named by a [`FilePath`], relative to the folder that was opened. Both it and
/// [`Folder`] dereference to a path, by which a test tells what is meant.
#[doc(hidden)]
pub trait Operations: fmt::Debug + Send + Sync {
    /// Creates a folder, before the store in it is opened.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &FilePath) -> io::Result<File> {
        path.create()
    }

    /// May write less than all, as `pwrite` does.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let _ = path;
        positional::write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        let _ = path;
        file.set_len(len)
    }

    /// `fast`: see [`Options::fast_fsync`](crate::Options::fast_fsync).
    fn sync_file(&self, file: &File, path: &Path, fast: bool) -> io::Result<()> {
        let _ = path;
        positional::sync_file(file, fast)
    }

    fn sync_dir(&self, folder: &Folder) -> io::Result<()> {
        folder.sync()
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        from.rename(to)
    }

    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        from.hard_link(to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        path.remove()
    }

    /// How many bytes can still be written to the file system of a folder. Changes nothing; here
    /// because a test has to be able to say that the disk is full.
    fn available_bytes(&self, folder: &Folder) -> Option<u64> {
        folder.available_bytes()
    }
}

/// The operations as the system carries them out.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Operations for System {}

/// Tries again where a signal came before anything was done, which file systems in user space and
/// over a network say of any operation. The standard library does this itself where it opens, cuts,
/// syncs and reads whole files.
pub(super) fn uninterrupted<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What differs from system to system.
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
