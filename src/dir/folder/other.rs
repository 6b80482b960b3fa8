//! Folders where the system has no calls that are relative to one: each call compares the path with
//! the folder that was opened.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Identity, LINK_IS_NOT_FOLLOWED, Status};

#[derive(Debug)]
pub(super) struct Handle {
    path: PathBuf,
    folder: same_file::Handle,
}

impl Handle {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // The path is made absolute, since the working directory may change.
        let path = std::path::absolute(path)?;
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let folder = same_file::Handle::from_path(&path)?;
        Ok(Self { path, folder })
    }

    /// Returns the path, or fails if it leads to another folder by now.
    fn check(&self) -> io::Result<&Path> {
        if same_file::Handle::from_path(&self.path)? == self.folder {
            return Ok(&self.path);
        }
        let message = "the path of the store leads to another folder by now; open the store again";
        Err(io::Error::other(message))
    }

    fn at(&self, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.check()?.join(name))
    }

    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(self.check()?)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Only checks the path: a folder cannot be synced on Windows, and NTFS journals its names.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.check().map(drop)
    }

    pub(super) fn available_bytes(&self) -> Option<u64> {
        None
    }

    pub(super) fn to_lock(&self) -> Option<File> {
        None
    }

    pub(super) fn open_to_read(&self, name: &OsStr) -> io::Result<File> {
        File::open(self.at(name)?)
    }

    pub(super) fn open_to_write(&self, name: &OsStr) -> io::Result<File> {
        if self.own_status(name)?.is_link {
            let kind = io::ErrorKind::InvalidInput;
            return Err(io::Error::new(kind, LINK_IS_NOT_FOLLOWED));
        }
        File::options().read(true).write(true).open(self.at(name)?)
    }

    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        options.open(self.at(name)?)
    }

    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.at(from)?, self.path.join(to))
    }

    pub(super) fn hard_link(&self, from: &OsStr, folder: &Self, to: &OsStr) -> io::Result<()> {
        fs::hard_link(self.at(from)?, folder.at(to)?)
    }

    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.at(name)?)
    }

    pub(super) fn status(&self, name: &OsStr) -> io::Result<Status> {
        fs::metadata(self.at(name)?).map(|metadata| status_of(&metadata))
    }

    pub(super) fn own_status(&self, name: &OsStr) -> io::Result<Status> {
        fs::symlink_metadata(self.at(name)?).map(|metadata| status_of(&metadata))
    }

    /// Gives all files one identity: a file that is open keeps its name here, so it is enough that
    /// the name exists.
    pub(super) fn identity(&self, name: &OsStr) -> io::Result<Identity> {
        fs::symlink_metadata(self.at(name)?)?;
        Ok(NAMED)
    }
}

/// The identity of every file that has a name.
const NAMED: Identity = Identity {
    device: 0,
    number: 0,
};

fn status_of(metadata: &fs::Metadata) -> Status {
    Status {
        is_file: metadata.is_file(),
        is_link: metadata.is_symlink(),
        len: metadata.len(),
    }
}

/// Returns the identity of an open file.
pub(crate) fn identity_of(_file: &File) -> io::Result<Identity> {
    Ok(NAMED)
}
