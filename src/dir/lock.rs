//! The lock that makes a process the one writer.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::Dir;
use super::names::LOCK;
use crate::error::{Error, Result};

/// How often the lock file is opened again when somebody replaces it meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// Held by the one writer.
///
/// It is two locks: of the lock file, which every version and every system has, and of the folder
/// itself where the system locks folders. Whoever removes the lock file, thinking that it was left
/// behind by a crash, does not let another writer in where the second is there.
#[derive(Debug)]
pub(crate) struct WriterLock {
    file: File,
    folder: Option<File>,
    /// That took it. One that was forked from it has copies of the files, and must not unlock them.
    process: u32,
}

impl Dir {
    /// Takes the lock that makes this the one writer.
    pub(crate) fn lock(&self) -> Result<WriterLock> {
        let path = self.path().join(LOCK);
        for _ in 0..ATTEMPTS_MAX {
            let lock = WriterLock {
                file: self.open_lock_file(&path)?,
                folder: None,
                process: std::process::id(),
            };
            match lock.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { path }),
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Somebody else may have removed it after it was opened, and locked another.
            if is_file_at(&lock.file, &path)? {
                return lock.with_folder(self.path(), &path);
            }
        }
        Err(Error::Locked { path })
    }

    fn open_lock_file(&self, path: &Path) -> Result<File> {
        let opened = match self.0.operations.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                File::options().read(true).write(true).open(path)
            }
            result => result,
        };
        opened.map_err(Error::io(path))
    }
}

impl WriterLock {
    /// Best effort: some file systems lock no folders, and some systems do not open them.
    fn with_folder(mut self, folder: &Path, path: &Path) -> Result<Self> {
        if let Ok(folder) = File::open(folder) {
            match folder.try_lock() {
                Ok(()) => self.folder = Some(folder),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked {
                        path: path.to_owned(),
                    });
                }
                Err(TryLockError::Error(_)) => {}
            }
        }
        Ok(self)
    }

    /// Gives up the lock. Closing the files would do that as well, but not while a process that is
    /// just being started from this one has copies of them.
    pub(crate) fn unlock(&self) {
        if self.process == std::process::id() {
            // The other way round than they were taken, so that who gets the first gets the second.
            if let Some(folder) = &self.folder {
                let _ = folder.unlock();
            }
            let _ = self.file.unlock();
        }
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        self.unlock();
    }
}

#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata().map_err(Error::io(path))?;
    match fs::metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// A file that is open keeps its name there.
#[cfg(not(unix))]
fn is_file_at(_file: &File, path: &Path) -> Result<bool> {
    fs::exists(path).map_err(Error::io(path))
}
