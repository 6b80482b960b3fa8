//! The lock of the one writer.

use std::fs::{File, TryLockError};
use std::io;

use super::folder::{FilePath, identity_of};
use super::names::LOCK;
use super::operations::positional;
use super::{Dir, read_exact_at};
use crate::error::{Error, Result};

/// How often the lock file is opened again because somebody has replaced it meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// The lock that the one writer holds.
///
/// It consists of two locks: of the lock file, which every version and every system has, and of the
/// folder itself where the system locks folders. The second still holds when somebody removes or
/// replaces the lock file because they think that a crash left it behind. Everybody who may read a
/// folder can lock it, so the second lock refuses a writer only if the lock file may have been
/// replaced. To tell, a writer notes the identity of the lock file in the file itself: if the note
/// fits the file, every writer since has locked this file.
#[derive(Debug)]
pub(crate) struct WriterLock {
    file: File,
    folder: Option<File>,
    /// The process that took the lock. A process that was forked from it has copies of the open
    /// files, and must not unlock them.
    process: u32,
}

impl Dir {
    /// Takes the lock of the one writer.
    pub(crate) fn lock(&self) -> Result<WriterLock> {
        let path = self.0.folder.file(LOCK);
        for _ in 0..ATTEMPTS_MAX {
            let lock = WriterLock {
                file: self.open_lock_file(&path)?,
                folder: None,
                process: std::process::id(),
            };
            match lock.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(locked(&path)),
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Somebody may have removed the file after it was opened here, and locked another one.
            if has_name(&lock.file, &path)? {
                return lock.with_folder(self, &path);
            }
        }
        Err(locked(&path))
    }

    fn open_lock_file(&self, path: &FilePath) -> Result<File> {
        let opened = match self.operations().create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => path.open_to_write(),
            result => result,
        };
        let file = opened.map_err(Error::io(path))?;
        hide_from_readers(&file);
        Ok(file)
    }
}

impl WriterLock {
    /// Locks the folder as well. Best effort: some file systems lock no folders, and some systems
    /// do not open them.
    fn with_folder(mut self, dir: &Dir, path: &FilePath) -> Result<Self> {
        let is_known = says(
            &self.file,
            &identity_text(&self.file).map_err(Error::io(path))?,
        );
        if let Some(folder) = dir.0.folder.handle_to_lock() {
            match folder.try_lock() {
                Ok(()) => self.folder = Some(folder),
                Err(TryLockError::WouldBlock) if !is_known => return Err(locked(path)),
                Err(_) => {}
            }
        }
        Ok(self)
    }

    /// Notes the identity of the lock file in it, once the store is open. Best effort: without the
    /// note, the folder's lock decides the next time as well.
    pub(crate) fn make_known(&self, dir: &Dir) {
        let Ok(identity) = identity_text(&self.file) else {
            return;
        };
        if !says(&self.file, &identity) {
            let (path, operations) = (dir.0.folder.file(LOCK), dir.operations());
            let _ = operations.write_at(&self.file, &path, identity.as_bytes(), 0);
            let _ = operations.set_len(&self.file, &path, identity.len() as u64);
        }
    }

    /// Gives up the lock. Closing the files would do so as well, but not while a process that is
    /// just being started from this one has copies of them.
    pub(crate) fn unlock(&self) {
        if self.process == std::process::id() {
            // In the reverse order of taking them, so that a writer that gets the first lock gets
            // the second one too.
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

fn locked(path: &FilePath) -> Error {
    Error::Locked {
        path: path.to_path_buf(),
    }
}

fn has_name(file: &File, path: &FilePath) -> Result<bool> {
    let held = identity_of(file).map_err(Error::io(path))?;
    match path.identity() {
        Ok(named) => Ok(held == named),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Returns the note that belongs in a lock file. In a copy of the file, or in another file that got
/// its name, the note does not fit.
fn identity_text(file: &File) -> io::Result<String> {
    Ok(format!("{}\n", identity_of(file)?))
}

fn says(file: &File, text: &str) -> bool {
    let mut bytes = vec![0; text.len()];
    read_exact_at(file, &mut bytes, 0).is_ok()
        && bytes == text.as_bytes()
        && positional::read_at(file, &mut [0], text.len() as u64).is_ok_and(|read| read == 0)
}

/// Lets only those open the lock file who may write to it: everybody who can open a file can lock
/// it, and so keep every writer out. Best effort, since the permissions of a file that another user
/// made stay as they are.
#[cfg(unix)]
fn hide_from_readers(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = file.metadata() else {
        return;
    };
    let mode = metadata.permissions().mode();
    let of_writers = (mode & 0o222) << 1;
    let hidden = mode & (!0o444 | of_writers);
    if hidden != mode {
        let _ = file.set_permissions(PermissionsExt::from_mode(hidden));
    }
}

#[cfg(not(unix))]
fn hide_from_readers(_file: &File) {}
