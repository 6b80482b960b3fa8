//! The folder that was opened, and files named in it.
//!
//! A [`Folder`] is held open, and every file is opened, created, renamed and removed relative to it.
//! So the folder may be moved, something else may get its path, and the process may change its working
//! directory: what is done here is done in the folder that was opened, or fails. Where the system has no
//! such calls, paths are absolute, and before each change the path is compared with the folder.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use system::Handle;
pub(crate) use system::identity_of;

/// A folder that is held open. Dereferences to the path by which it was opened, which is for messages:
/// by now something else may have that path.
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

/// Which file something is: two names with the same identity are names of one file.
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

/// What there is to know of a file without opening it.
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
    /// What the system reports, if there is no folder or it may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let handle = Handle::open(path)?;
        let path = path.to_owned();
        Ok(Self(Arc::new(Held { path, handle })))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The file of this name in the folder, which need not exist.
    #[must_use]
    pub fn file(&self, name: impl AsRef<OsStr>) -> FilePath {
        FilePath {
            folder: self.clone(),
            path: self.0.path.join(name.as_ref()),
        }
    }

    /// The names of all that is in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        self.0.handle.names()
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.handle.sync()
    }

    /// How many bytes can still be written to its file system. `None` where the system or the file
    /// system does not say: some in user space report no blocks at all.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        self.0.handle.available_bytes()
    }

    /// A second handle to the folder, for a lock of its own. `None` where folders cannot be locked.
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

    /// The file whose name has `suffix` in addition.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let mut name = self.name().to_owned();
        name.push(suffix);
        self.folder.file(name)
    }

    /// The file whose name is this one without its last extension.
    pub(super) fn without_extension(&self) -> Self {
        self.folder.file(self.path.file_stem().unwrap_or_default())
    }

    /// Opens a regular file for reading. A link to one is followed.
    pub(super) fn open_to_read(&self) -> io::Result<File> {
        require_regular(self.handle().open_to_read(self.name())?)
    }

    /// Opens a regular file for reading and writing. A link is not followed: whoever can write into
    /// the folder could otherwise have this process change a file that is out of their own reach.
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

    /// What the name leads to.
    pub(crate) fn status(&self) -> io::Result<Status> {
        self.handle().status(self.name())
    }

    /// What has the name, which may be a link.
    pub(crate) fn own_status(&self) -> io::Result<Status> {
        self.handle().own_status(self.name())
    }

    /// The identity of what has the name, which may be a link.
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

#[cfg(unix)]
mod system {
    use std::ffi::{OsStr, OsString};
    use std::fs::File;
    use std::io;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
    use rustix::io::{Errno, retry_on_intr};

    use super::{Identity, Status};

    #[derive(Debug)]
    pub(super) struct Handle(File);

    impl Handle {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
            Ok(Self(folder.into()))
        }

        pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.0)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            Ok(names)
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            self.0.sync_all()
        }

        pub(super) fn available_bytes(&self) -> Option<u64> {
            let statistics = rustix::fs::fstatvfs(&self.0).ok()?;
            // What is set aside for the superuser is there for nobody else.
            let blocks = if rustix::process::geteuid().is_root() {
                statistics.f_bfree
            } else {
                statistics.f_bavail
            };
            (statistics.f_blocks > 0).then(|| blocks.saturating_mul(statistics.f_frsize))
        }

        pub(super) fn to_lock(&self) -> Option<File> {
            // Not a duplicate, which would share its lock with the handle that is held.
            self.open_at(OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY)
                .ok()
        }

        fn open_at(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
            let flags = flags | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(&self.0, name, flags, Mode::from_bits_retain(0o666));
            Ok(retry_on_intr(open)?.into())
        }

        pub(super) fn open_to_read(&self, name: &OsStr) -> io::Result<File> {
            // Without it, opening a pipe waits until somebody writes to it.
            self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
        }

        pub(super) fn open_to_write(&self, name: &OsStr) -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
            self.open_at(name, flags).map_err(|error| {
                // FreeBSD says EMLINK and NetBSD EFTYPE, which `own_status` tells apart as well.
                if self.own_status(name).is_ok_and(|status| status.is_link) {
                    let message = "this is a symbolic link, and what is written is not written through \
                                   links; put the file itself in its place";
                    io::Error::new(io::ErrorKind::InvalidInput, message)
                } else {
                    error
                }
            })
        }

        pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
            self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
        }

        pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
        }

        pub(super) fn hard_link(&self, from: &OsStr, folder: &Self, to: &OsStr) -> io::Result<()> {
            let flags = AtFlags::empty();
            Ok(rustix::fs::linkat(&self.0, from, &folder.0, to, flags)?)
        }

        pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }

        pub(super) fn status(&self, name: &OsStr) -> io::Result<Status> {
            Ok(status_of(&self.stat(name, AtFlags::empty())?))
        }

        pub(super) fn own_status(&self, name: &OsStr) -> io::Result<Status> {
            Ok(status_of(&self.stat(name, AtFlags::SYMLINK_NOFOLLOW)?))
        }

        pub(super) fn identity(&self, name: &OsStr) -> io::Result<Identity> {
            let stat = self.stat(name, AtFlags::SYMLINK_NOFOLLOW)?;
            // The types of the fields differ from system to system; what is compared comes from here.
            Ok(Identity {
                device: identity_part(stat.st_dev),
                number: identity_part(stat.st_ino),
            })
        }

        fn stat(&self, name: &OsStr, flags: AtFlags) -> Result<Stat, Errno> {
            retry_on_intr(|| rustix::fs::statat(&self.0, name, flags))
        }
    }

    fn status_of(stat: &Stat) -> Status {
        let kind = FileType::from_raw_mode(stat.st_mode);
        Status {
            is_file: kind == FileType::RegularFile,
            is_link: kind == FileType::Symlink,
            len: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }

    /// The low 64 bits of a device or file number, as `MetadataExt` gives them.
    fn identity_part<T: TryInto<i128>>(number: T) -> u64 {
        let wide = number.try_into().unwrap_or(-1);
        // Negative device numbers are possible on macOS; both sides are cut in the same way.
        u64::try_from(wide & i128::from(u64::MAX)).unwrap_or(u64::MAX)
    }

    /// The identity of an open file.
    pub(crate) fn identity_of(file: &File) -> io::Result<Identity> {
        let metadata = file.metadata()?;
        Ok(Identity {
            device: metadata.dev(),
            number: metadata.ino(),
        })
    }
}

#[cfg(not(unix))]
mod system {
    use std::ffi::{OsStr, OsString};
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    use super::{Identity, Status};

    #[derive(Debug)]
    pub(super) struct Handle {
        path: PathBuf,
        folder: same_file::Handle,
    }

    impl Handle {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            // Absolute, since the working directory may change.
            let path = std::path::absolute(path)?;
            if !fs::metadata(&path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let folder = same_file::Handle::from_path(&path)?;
            Ok(Self { path, folder })
        }

        /// Fails if the path leads to another folder by now.
        fn check(&self) -> io::Result<&Path> {
            if same_file::Handle::from_path(&self.path)? == self.folder {
                return Ok(&self.path);
            }
            let message = "another folder has the path of the store by now; open the store again";
            Err(io::Error::other(message))
        }

        fn at(&self, name: &OsStr) -> io::Result<PathBuf> {
            Ok(self.check()?.join(name))
        }

        pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
            let entries = fs::read_dir(self.check()?)?;
            entries.map(|entry| Ok(entry?.file_name())).collect()
        }

        /// A directory cannot be synced on Windows; NTFS journals its names.
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
                let message = "this is a symbolic link, and what is written is not written through \
                               links; put the file itself in its place";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
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

        /// A file that is open keeps its name there, so being there is enough.
        pub(super) fn identity(&self, name: &OsStr) -> io::Result<Identity> {
            fs::symlink_metadata(self.at(name)?)?;
            Ok(NAMED)
        }
    }

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

    /// The identity of an open file.
    pub(crate) fn identity_of(_file: &File) -> io::Result<Identity> {
        Ok(NAMED)
    }
}
