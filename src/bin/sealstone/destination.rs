//! Where `get` writes to: a file that is either as it was or complete, or something that is open
//! already and is written to as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::exit::Failure;
use crate::output::Output;

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;

#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    StandardOutput,
    StandardError,
    /// A device, a pipe, or what a process has open: a file of that kind keeps what it holds.
    Existing(PathBuf),
    /// A regular file, reached through no link, or a name that is free.
    File(PathBuf),
}

impl Destination {
    /// What this name stands for. Links are followed as a shell does for `>`, so that they stay; one
    /// that leads nowhere is refused as by `cp`.
    pub fn named(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        resolve(path).map_err(|error| not_written(path, &error))
    }

    /// Whether this is a file in a folder, or would be.
    pub fn is_in(&self, folder: &Path) -> bool {
        let Self::File(target) = self else {
            return false;
        };
        let of_target = fs::canonicalize(folder_of(target));
        of_target.is_ok_and(|of_target| fs::canonicalize(folder).is_ok_and(|own| own == of_target))
    }

    /// `path` is how the user wrote it.
    pub fn write(&self, content: &[u8], path: &Path, output: &mut Output) -> anyhow::Result<()> {
        let written = match self {
            Self::StandardOutput => return Ok(output.write_all(content)?),
            Self::StandardError => io::stderr().write_all(content),
            Self::Existing(target) => append(target, content),
            Self::File(target) => replace(target, content),
        };
        Ok(written.map_err(|error| not_written(path, &error))?)
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Io(format!(
        "{path}: not written: {error}; choose a file in a folder that is writable and has room"
    ))
}

fn resolve(path: &Path) -> io::Result<Destination> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Some(opened) = open_in_a_process(&target) {
            return Ok(opened);
        }
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&target)?;
                // An absolute link replaces the folder.
                target = folder_of(&target).join(link);
            }
            Ok(metadata) if metadata.is_file() => return Ok(Destination::File(target)),
            Ok(_) => return Ok(Destination::Existing(target)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) if target == path => return Ok(Destination::File(target)),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "this is a link to {}, which does not exist",
                        target.display()
                    ),
                ));
            }
        }
    }
    Err(io::Error::other("more links than a file name may have"))
}

/// Recognizes the names under which a system shows what a process has open: `/dev/fd/1`,
/// `/proc/self/fd/1`, and with them the links `/dev/stdout` and `/dev/stderr`. What they lead to may
/// look like a regular file, which must not be replaced under whoever writes to it.
fn open_in_a_process(path: &Path) -> Option<Destination> {
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    let is_of_proc = folder.starts_with("/proc") && folder.ends_with("fd");
    if !is_of_proc && folder != Path::new("/dev/fd") {
        return None;
    }
    let own = fs::canonicalize("/dev/fd").is_ok_and(|own| own == folder);
    let descriptor = path.file_name()?;
    // These are shared, not opened anew, so that what comes after them does not overwrite them.
    Some(match descriptor.to_str() {
        Some("1") if own => Destination::StandardOutput,
        Some("2") if own => Destination::StandardError,
        _ => Destination::Existing(path.to_owned()),
    })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.components().next().is_some() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Behind what a file that somebody has open holds already.
fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(content)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if !matches!(path.components().next_back(), Some(Component::Normal(_))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let permissions = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut temporary = temporary_beside(path)?;
    temporary.write_all(content)?;
    let file: &File = temporary.as_file();
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    // Before the rename: otherwise a power failure can leave an empty file under the final name.
    file.sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".sealstone-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As for any new file; the system takes off what the user does not want.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder_of(path))
}
