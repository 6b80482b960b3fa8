//! The operations that change a directory, and what differs in them from system to system.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The operations that change a directory. The defaults carry them out.
#[doc(hidden)]
pub trait Operations: fmt::Debug + Send + Sync {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
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

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        positional::sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// How many bytes can still be written to the file system of a folder. Changes nothing; here
    /// because a test has to be able to say that the disk is full.
    fn available_bytes(&self, path: &Path) -> Option<u64> {
        positional::available_bytes(path)
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
    use std::path::Path;

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

    /// `None` where the system or the file system does not say: some in user space report no blocks
    /// at all.
    #[cfg(unix)]
    pub(in crate::dir) fn available_bytes(path: &Path) -> Option<u64> {
        let statistics = rustix::fs::statvfs(path).ok()?;
        // What is set aside for the superuser is there for nobody else.
        let blocks = if rustix::process::geteuid().is_root() {
            statistics.f_bfree
        } else {
            statistics.f_bavail
        };
        (statistics.f_blocks > 0).then(|| blocks.saturating_mul(statistics.f_frsize))
    }

    #[cfg(not(unix))]
    pub(in crate::dir) fn available_bytes(_path: &Path) -> Option<u64> {
        None
    }

    #[cfg(unix)]
    pub(in crate::dir) fn sync_dir(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// A directory cannot be synced on Windows; NTFS journals its names.
    #[cfg(not(unix))]
    pub(in crate::dir) fn sync_dir(_path: &Path) -> io::Result<()> {
        Ok(())
    }
}
