//! The null device, to which bytes are sent that nobody needs.

use std::fs::File;
use std::path::Path;

/// Opens the null device. `None` if the system has none, or something else has its name, a file or a
/// pipe for instance, which nothing must be written to.
pub(crate) fn null_device() -> Option<File> {
    open(Path::new("/dev/null"))
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> Option<File> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

    let mut options = File::options();
    // A pipe that nobody reads would be waited for.
    options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = options.open(path).ok()?;
    let metadata = opened.metadata().ok()?;
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3);
    is_null.then_some(opened)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> Option<File> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// In a folder that looks like a root, anything can have the name of the null device.
    #[test]
    fn nothing_but_the_null_device_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| folder.path().join(name));
        fs::write(&file, "precious").unwrap();
        symlink(&file, &link).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let others: [&Path; 5] = [&file, &link, &pipe, folder.path(), Path::new("/dev/zero")];
        assert!(others.into_iter().all(|other| open(other).is_none()));
        // Nobody waits for a reader of the pipe above. One that has a reader is not written to.
        let _reader = File::options().read(true).write(true).open(&pipe).unwrap();
        assert!(open(&pipe).is_none());
        assert!(null_device().is_some());
    }
}
