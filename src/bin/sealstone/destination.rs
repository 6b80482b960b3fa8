//! Where `get` and `remote get` write to. A regular file is replaced as a whole, so that it is either as
//! it was or complete. A device, a pipe, or a file that a process has open is written to as it is.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use sealstone::Object;
use serde_json::json;
use tempfile::{Builder, NamedTempFile};

use crate::args::Global;
use crate::exit::Failure;
use crate::output::Output;
use crate::own_folder::OwnFolder;

/// The most symbolic links that are followed for one name, as on Linux.
const LINKS_MAX: usize = 40;

#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    StandardOutput,
    StandardError,
    /// A device, a pipe, or a file that a process has open. It is appended to.
    Existing(PathBuf),
    /// A regular file or a free name, with its links resolved.
    File(PathBuf),
}

impl Destination {
    /// Finds what a name stands for. A symbolic link is followed, as a shell follows it for `>`, so
    /// that the link stays. A link that leads nowhere is refused, as by `cp`.
    pub fn named(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        resolve(path).map_err(|error| not_written(path, &error))
    }

    /// Returns whether this is an existing or a new file in the folder of the store's own files.
    pub fn is_in(&self, own_folder: &OwnFolder) -> bool {
        matches!(self, Self::File(target) if own_folder.contains(folder_of(target)))
    }

    /// Writes the content of an object, and with `--json` says so. `path` is the name as the user wrote it.
    pub fn write(
        &self,
        object: &Object,
        path: &Path,
        global: &Global,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let written = match self {
            Self::StandardOutput => return Ok(output.write_all(object)?),
            Self::StandardError => io::stderr().write_all(object),
            Self::Existing(target) => append(target, object),
            Self::File(target) => replace(target, object),
        };
        written.map_err(|error| not_written(path, &error))?;
        if global.json {
            output.json(&json!({
                "digest": object.digest().to_string(),
                "bytes": object.len(),
                "file": path.to_string_lossy(),
            }))?;
        }
        Ok(())
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
                    format!("it is a link to {}, which does not exist", target.display()),
                ));
            }
        }
    }
    Err(io::Error::other(format!(
        "it leads through more than {LINKS_MAX} links"
    )))
}

/// Recognizes the names under which a system shows the files that a process has open: `/dev/fd/1` and
/// `/proc/self/fd/1`, to which `/dev/stdout` and `/dev/stderr` are links. Such a name may lead to a
/// regular file, which must not be replaced while the process writes to it.
fn open_in_a_process(path: &Path) -> Option<Destination> {
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    let is_in_proc = folder.starts_with("/proc") && folder.ends_with("fd");
    if !is_in_proc && folder != Path::new("/dev/fd") {
        return None;
    }
    let own = fs::canonicalize("/dev/fd").is_ok_and(|own| own == folder);
    let descriptor = path.file_name()?;
    // Our own descriptors are used as they are: a file that is opened a second time has an offset of
    // its own, and what the shell writes next would overwrite the content.
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

/// Writes behind the bytes that the file holds already.
fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(content)
}

/// Replaces a regular file, or creates it. After a failure nothing has changed and the temporary is
/// gone.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if !matches!(path.components().next_back(), Some(Component::Normal(_))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let replaced = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let temporary = temporary_beside(path, replaced.as_ref());
    let mut temporary = temporary.map_err(|error| in_folder(folder_of(path), &error))?;
    temporary.write_all(content)?;
    let file: &File = temporary.as_file();
    if let Some(replaced) = replaced {
        // The umask may have removed some bits, and a write removes the bits set-user-id and
        // set-group-id.
        file.set_permissions(permissions_after(&replaced, &file.metadata()?))?;
    }
    // Before the rename: otherwise a power failure can leave an empty file under the final name.
    file.sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

/// Returns an error that names the folder instead of the temporary, of which the user knows nothing.
fn in_folder(folder: &Path, error: &io::Error) -> io::Error {
    let folder = folder.display();
    let text = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no folder {folder}"),
        kind => format!("the folder {folder}: {}", io::Error::from(kind)),
    };
    io::Error::new(error.kind(), text)
}

/// Creates the temporary. From the first byte on, nobody may read it who may not read the target; the
/// mode of a new target is that of any new file, which the umask restricts.
#[cfg(unix)]
fn temporary_beside(path: &Path, replaced: Option<&Metadata>) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = replaced.map_or(0o666, |replaced| replaced.permissions().mode() & 0o777);
    temporary_name()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder_of(path))
}

#[cfg(not(unix))]
fn temporary_beside(path: &Path, _: Option<&Metadata>) -> io::Result<NamedTempFile> {
    temporary_name().tempfile_in(folder_of(path))
}

/// Returns the permissions of the file that takes the place of another. The bits set-user-id and
/// set-group-id are kept only if both have the same owner and group: they would let everybody run the
/// content with the rights of whoever calls this program.
#[cfg(unix)]
fn permissions_after(replaced: &Metadata, replacement: &Metadata) -> Permissions {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let owners = |metadata: &Metadata| (metadata.uid(), metadata.gid());
    if owners(replaced) == owners(replacement) {
        replaced.permissions()
    } else {
        Permissions::from_mode(replaced.permissions().mode() & 0o777)
    }
}

#[cfg(not(unix))]
fn permissions_after(replaced: &Metadata, _: &Metadata) -> Permissions {
    replaced.permissions()
}

fn temporary_name() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".sealstone-").suffix(".tmp");
    builder
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_temporary_is_no_more_readable_than_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        for mode in [0o600, 0o400, 0o000] {
            fs::write(&target, b"").unwrap();
            fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
            let replaced = fs::metadata(&target).unwrap();
            let temporary = temporary_beside(&target, Some(&replaced)).unwrap();
            let created = temporary.as_file().metadata().unwrap().permissions();
            assert_eq!(created.mode() & 0o7777, mode, "{mode:o}");
            fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn a_file_of_another_owner_hands_on_no_right_to_run_as_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::write(&own, b"").unwrap();
        fs::set_permissions(&own, Permissions::from_mode(0o6755)).unwrap();
        let own = fs::metadata(&own).unwrap();
        assert_eq!(permissions_after(&own, &own).mode() & 0o7777, 0o6755);
        let other = folder.path().join("other");
        fs::write(&other, b"").unwrap();
        // Only the superuser can give a file away.
        if std::os::unix::fs::chown(&other, Some(65_534), None).is_ok() {
            let other = fs::metadata(&other).unwrap();
            assert_eq!(permissions_after(&own, &other).mode() & 0o7777, 0o755);
        }
    }
}
