//! Folders where the system has calls that are relative to one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libc::{
    O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR,
    c_int,
};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::{Identity, LINK_IS_NOT_FOLLOWED, Status};

#[derive(Debug)]
pub(super) struct Handle(File);

impl Handle {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = open_flags(O_RDONLY | O_DIRECTORY);
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
        // Only the superuser can use the blocks that are set aside for it. But ext4 counts among them 2 %,
        // and no more than 4,096, that it keeps for itself.
        let kept = (statistics.f_blocks / 50).min(4096);
        let blocks = if rustix::process::geteuid().is_root() {
            let free = statistics.f_bfree.saturating_sub(kept);
            free.max(statistics.f_bavail)
        } else {
            statistics.f_bavail
        };
        (statistics.f_blocks > 0).then(|| blocks.saturating_mul(statistics.f_frsize))
    }

    pub(super) fn to_lock(&self) -> Option<File> {
        // Not a duplicate, which would share its lock with the handle that is held.
        self.open_at(OsStr::new("."), O_RDONLY | O_DIRECTORY).ok()
    }

    fn open_at(&self, name: &OsStr, flags: c_int) -> io::Result<File> {
        let flags = open_flags(flags);
        let open = || rustix::fs::openat(&self.0, name, flags, Mode::from_bits_retain(0o666));
        Ok(retry_on_intr(open)?.into())
    }

    pub(super) fn open_to_read(&self, name: &OsStr) -> io::Result<File> {
        // Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        self.open_at(name, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    }

    pub(super) fn open_to_write(&self, name: &OsStr) -> io::Result<File> {
        let flags = O_RDWR | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;
        self.open_at(name, flags).map_err(|error| {
            // Systems differ here: Linux says ELOOP, FreeBSD EMLINK and NetBSD EFTYPE.
            if self.own_status(name).is_ok_and(|status| status.is_link) {
                io::Error::new(io::ErrorKind::InvalidInput, LINK_IS_NOT_FOLLOWED)
            } else {
                error
            }
        })
    }

    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        self.open_at(name, O_RDWR | O_CREAT | O_EXCL)
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
        // The types of these fields differ from system to system.
        Ok(Identity {
            device: identity_part(stat.st_dev),
            number: identity_part(stat.st_ino),
        })
    }

    fn stat(&self, name: &OsStr, flags: AtFlags) -> Result<Stat, Errno> {
        retry_on_intr(|| rustix::fs::statat(&self.0, name, flags))
    }
}

/// Flags of `open` with the one that every file of ours has: no program that this process starts
/// inherits it.
fn open_flags(flags: c_int) -> OFlags {
    OFlags::from_bits_retain((flags | O_CLOEXEC).cast_unsigned())
}

fn status_of(stat: &Stat) -> Status {
    let kind = FileType::from_raw_mode(stat.st_mode);
    Status {
        is_file: kind == FileType::RegularFile,
        is_link: kind == FileType::Symlink,
        len: u64::try_from(stat.st_size).unwrap_or(0),
    }
}

/// Returns the low 64 bits of a device or file number, as `MetadataExt` does.
fn identity_part<T: TryInto<i128>>(number: T) -> u64 {
    let wide = number.try_into().unwrap_or(-1);
    // Device numbers can be negative on macOS; both sides of a comparison are cut in the same way.
    u64::try_from(wide & i128::from(u64::MAX)).unwrap_or(u64::MAX)
}

/// Returns the identity of an open file.
pub(crate) fn identity_of(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok(Identity {
        device: metadata.dev(),
        number: metadata.ino(),
    })
}
