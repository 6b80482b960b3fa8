//! Creating the folder of a store.

use std::fs;
use std::io;
use std::path::Path;

use super::names::{FileKind, LOCK, SEGMENTS, TEMPORARY, segment_file_name};
use super::operations::uninterrupted;
use super::{Dir, Folder, Operations, Writing};
use crate::error::{Error, Result};

impl Dir {
    /// Creates the folder and opens it, as [`open`](Self::open) does. Its name is made durable even
    /// if the folder exists already.
    pub(crate) fn create(root: &Path, writing: Writing) -> Result<Self> {
        let path = root.join(SEGMENTS);
        require_names_fit(&path)?;
        create_all(&path, &*writing.operations)?;
        let dir = Self::open(root, writing)?;
        dir.ok_or_else(|| Error::io(&path)(io::ErrorKind::NotFound.into()))
    }

    /// Creates the folder in a `root` that holds nothing, and opens it. `None` if the root holds
    /// something or another caller creates the folder first: of several at once, one succeeds.
    pub(crate) fn create_new(root: &Path, writing: Writing) -> Result<Option<Self>> {
        let path = root.join(SEGMENTS);
        let operations = &*writing.operations;
        require_names_fit(&path)?;
        create_all(root, operations)?;
        if !is_vacant(root)? {
            return Ok(None);
        }
        match uninterrupted(|| operations.create_dir(&path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created.map_err(Error::io(&path))?,
        }
        let named = Folder::open(root).and_then(|root| operations.sync_dir(&root));
        named.map_err(Error::io(root))?;
        Self::open(root, writing)
    }

    /// Whether the folder holds the lock file and nothing else.
    pub(crate) fn is_new(&self) -> Result<bool> {
        let names = self.0.folder.names().map_err(Error::io(self.path()))?;
        Ok(names.iter().all(|name| name == LOCK))
    }
}

/// Whether a folder does not exist or holds nothing but `lost+found`, which a new file system has.
pub(crate) fn is_vacant(folder: &Path) -> Result<bool> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        if entry.map_err(Error::io(folder))?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fails if the system accepts the paths of some of our files but not the longest one. Otherwise a
/// store would be created, and accept objects that it can then not seal.
fn require_names_fit(folder: &Path) -> Result<()> {
    let mut name = segment_file_name(u32::MAX, FileKind::Torn);
    name.push_str(TEMPORARY);
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
            Err(Error::io(&path)(error))
        }
        _ => Ok(()),
    }
}

/// Creates the folder and the missing ones above it, and makes their names durable. The names of
/// the folder and of its parent are made durable even if they exist already, since the process that
/// created them may have been cut off before it could.
fn create_all(folder: &Path, operations: &dyn Operations) -> Result<()> {
    let mut named: Vec<&Path> = Vec::new();
    for path in folder
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
    {
        if path.exists() && named.len() >= 2 {
            break;
        }
        named.push(path);
    }
    for path in named.into_iter().rev() {
        let created = match uninterrupted(|| operations.create_dir(path)) {
            Ok(()) => true,
            Err(_) if path.is_dir() => false,
            Err(error) => return Err(Error::io(path)(error)),
        };
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match Folder::open(parent) {
            Ok(parent) => operations.sync_dir(&parent).map_err(Error::io(&parent))?,
            // If the parent cannot be listed, we did not create the folder, so its fsync is
            // skipped.
            Err(error) if !created && error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(Error::io(parent)(error)),
        }
    }
    Ok(())
}
