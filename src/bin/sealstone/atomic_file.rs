//! A file that is either as it was or complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::Failure;

pub fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    write_or_replace(path, content).map_err(|error| {
        let path = path.display();
        Failure::Io(format!(
            "{path}: not written: {error}; choose a file in a folder that is writable and has room"
        ))
    })
}

fn write_or_replace(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        // `-o /dev/null` must not replace the device by a file.
        Ok(metadata) if !metadata.is_file() => OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(content),
        Ok(metadata) => {
            // The file that a symbolic link points to, so that the link stays.
            let path = fs::canonicalize(path)?;
            replace(&path, content, Some(metadata.permissions()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(path, content, None),
        Err(error) => Err(error),
    }
}

fn replace(path: &Path, content: &[u8], permissions: Option<fs::Permissions>) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)?;
    let replaced = fill(&file, content, permissions).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // The error that counts is the one above.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

fn fill(mut file: &File, content: &[u8], permissions: Option<fs::Permissions>) -> io::Result<()> {
    file.write_all(content)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    // Before the rename: otherwise a power failure can leave an empty file under the final name.
    file.sync_all()
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}
