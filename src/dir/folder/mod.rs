//! The folder that was opened, and files named in it.
//!
//! A [`Folder`] is held open, and every file is opened, created, renamed and removed relative to
//! it. So the folder may be moved, something else may get its path, and the process may change its
//! working directory: each operation works in the folder that was opened, or fails. Where the
//! system has no such calls, paths are absolute, and before each change the path is compared with
//! the folder.

#[cfg(any(not(unix), miri))]
mod other;
#[cfg(all(unix, not(miri)))]
mod unix;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(any(not(unix), miri))]
use other::Handle;
#[cfg(any(not(unix), miri))]
pub(crate) use other::identity_of;
#[cfg(all(unix, not(miri)))]
use unix::Handle;
#[cfg(all(unix, not(miri)))]
pub(crate) use unix::identity_of;

/// A folder that is held open. Dereferences to the path by which it was opened, which is for
/// messages: by now something else may have that path.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    handle: Handle,
}

/// A file of a [`Folder`], by name. Dereferences to its path, which is for messages.
#[derive(Clone, Debug)]
pub struct FilePath {
    folder: Folder,
    path: PathBuf,
}

/// Why a file cannot be opened for writing if its name is a symbolic link.
const LINK_IS_NOT_FOLLOWED: &str = "this is a symbolic link, and a file is never written through \
                                    one; put the file itself in its place";

/// The identity of a file: two names with the same identity are names of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    number: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.device, self.number)
    }
}

/// The metadata of a file that is not opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) is_file: bool,
    pub(crate) is_link: bool,
    pub(crate) len: u64,
}

impl Folder {
    /// Opens an existing folder.
    ///
    /// # Errors
    ///
    /// Fails with the system's error if there is no such folder or it may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let handle = Handle::open(path)?;
        let path = path.to_owned();
        Ok(Self(Arc::new(Held { path, handle })))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Names a file in the folder. The file need not exist.
    #[must_use]
    pub fn file(&self, name: impl AsRef<OsStr>) -> FilePath {
        FilePath {
            folder: self.clone(),
            path: self.0.path.join(name.as_ref()),
        }
    }

    /// Returns the names of everything in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        self.0.handle.names()
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.handle.sync()
    }

    /// Returns how many bytes can still be written to its file system. `None` where the system or
    /// the file system does not say: some file systems in user space report no blocks at all.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        self.0.handle.available_bytes()
    }

    /// Opens a second handle to the folder, which can have a lock of its own. `None` where folders
    /// cannot be locked.
    pub(super) fn handle_to_lock(&self) -> Option<File> {
        self.0.handle.to_lock()
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.path()
    }
}

impl FilePath {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn handle(&self) -> &Handle {
        &self.folder.0.handle
    }

    /// Names the file whose name is this one with `suffix` added.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let mut name = self.name().to_owned();
        name.push(suffix);
        self.folder.file(name)
    }

    /// Names the file whose name is this one without its last extension.
    pub(super) fn without_extension(&self) -> Self {
        self.folder.file(self.path.file_stem().unwrap_or_default())
    }

    /// Opens a regular file for reading. A link to one is followed.
    pub(super) fn open_to_read(&self) -> io::Result<File> {
        require_regular(self.handle().open_to_read(self.name())?)
    }

    /// Opens a regular file for reading and writing. A link is not followed: somebody who can write
    /// into the folder could otherwise have this process change a file that is out of their reach.
    pub(super) fn open_to_write(&self) -> io::Result<File> {
        require_regular(self.handle().open_to_write(self.name())?)
    }

    /// Creates a file that must not exist yet, for reading and writing.
    pub(super) fn create(&self) -> io::Result<File> {
        self.handle().create(self.name())
    }

    /// Gives this file the name of another one of the same folder, which it replaces.
    pub(super) fn rename(&self, to: &Self) -> io::Result<()> {
        self.handle().rename(self.name(), to.name())
    }

    /// Gives this file a second name, which may be in another folder. A link is linked itself.
    pub(super) fn hard_link(&self, to: &Self) -> io::Result<()> {
        self.handle().hard_link(self.name(), to.handle(), to.name())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        self.handle().remove(self.name())
    }

    /// Returns the status of the file that the name leads to.
    pub(crate) fn status(&self) -> io::Result<Status> {
        self.handle().status(self.name())
    }

    /// Returns the status of the file that has the name, which may be a link.
    pub(crate) fn own_status(&self) -> io::Result<Status> {
        self.handle().own_status(self.name())
    }

    /// Returns the identity of the file that has the name, which may be a link.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        self.handle().identity(self.name())
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

fn require_regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let message = "this is not a regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}
