//! What `put` has to store: files, standard input, and with `-r` what a walk finds.

use std::fmt::Display;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealstone::Error;

use crate::exit::Failure;

/// The longest content that a record can hold.
const CONTENT_BYTES_MAX: u64 = u32::MAX as u64;

/// Something to store.
pub struct Source {
    pub path: PathBuf,
    /// 0 for what is not a regular file. A hint, for the file may change before it is read.
    pub bytes_expected: u64,
}

pub enum Found {
    Source(Source),
    Skipped { path: PathBuf, reason: &'static str },
    Unreadable { path: PathBuf, error: io::Error },
}

impl Found {
    fn source(path: PathBuf, bytes_expected: u64) -> Self {
        Self::Source(Source {
            path,
            bytes_expected,
        })
    }
}

impl Source {
    pub fn is_stdin(path: &Path) -> bool {
        path == Path::new("-")
    }

    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        if Self::is_stdin(&self.path) {
            return read_to_end(io::stdin().lock(), 0, &self.path);
        }
        // Before it is opened: nothing of it could be kept.
        check_size(self.bytes_expected, &self.path)?;
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        read_to_end(file, self.bytes_expected, &self.path)
    }
}

/// A file or folder that cannot be read, and what to do.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Io(format!(
        "{path}: {error}; check the path and its permissions"
    ))
}

fn read_to_end(reader: impl Read, bytes_expected: u64, path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = |error: &dyn Display| {
        let path = path.display();
        Failure::Io(format!("{path}: not read to its end: {error}; try again"))
    };
    let mut content = Vec::new();
    content
        .try_reserve_exact(usize::try_from(bytes_expected)?)
        .map_err(|error| failed(&error))?;
    // One byte more than can be stored is enough to know that it is too much.
    reader
        .take(CONTENT_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|error| failed(&error))?;
    check_size(content.len() as u64, path)?;
    Ok(content)
}

fn check_size(bytes: u64, path: &Path) -> anyhow::Result<()> {
    if bytes > CONTENT_BYTES_MAX {
        return Err(Error::TooLarge { bytes }).with_context(|| path.display().to_string());
    }
    Ok(())
}

/// Everything that the given paths stand for, in order; folders are walked depth first, their
/// entries by name.
pub struct Sources {
    /// The store's own files: they are no user data, and they grow while they are read.
    own_folder: Option<PathBuf>,
    /// The same, spelled as the present walk would come upon it.
    own_folder_in_walk: Option<PathBuf>,
    /// What comes next is at the end.
    pending: Vec<Pending>,
}

enum Pending {
    Argument(PathBuf),
    Entry(PathBuf, FileType),
}

impl Sources {
    pub fn new(paths: &[PathBuf], store_root: &Path) -> Self {
        Self {
            own_folder: fs::canonicalize(store_root.join("segments")).ok(),
            own_folder_in_walk: None,
            pending: paths.iter().rev().cloned().map(Pending::Argument).collect(),
        }
    }

    /// Here links are followed and pipes are read, because the user has named them.
    fn argument(&mut self, path: PathBuf) -> Option<Found> {
        if Source::is_stdin(&path) {
            return Some(Found::source(path, 0));
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                self.own_folder_in_walk = self.own_folder_below(&path);
                self.enter(path)
            }
            Ok(metadata) if metadata.is_file() => Some(Found::source(path, metadata.len())),
            Ok(_) => Some(Found::source(path, 0)),
            Err(error) => Some(Found::Unreadable { path, error }),
        }
    }

    fn entry(&mut self, path: PathBuf, file_type: FileType) -> Option<Found> {
        let reason = if file_type.is_dir() {
            return self.enter(path);
        } else if file_type.is_symlink() {
            "a symbolic link; name it on the command line to follow it"
        } else if !file_type.is_file() {
            "not a regular file; name it on the command line to read it"
        } else {
            return Some(match fs::symlink_metadata(&path) {
                Ok(metadata) => Found::source(path, metadata.len()),
                Err(error) => Found::Unreadable { path, error },
            });
        };
        Some(Found::Skipped { path, reason })
    }

    fn enter(&mut self, folder: PathBuf) -> Option<Found> {
        if self.own_folder_in_walk.as_ref() == Some(&folder) {
            let reason = "the store's own files";
            let path = folder;
            return Some(Found::Skipped { path, reason });
        }
        match entries_by_name(&folder) {
            Ok(entries) => {
                let entries = entries.into_iter().rev();
                self.pending
                    .extend(entries.map(|(path, file_type)| Pending::Entry(path, file_type)));
                None
            }
            Err(error) => {
                let path = folder;
                Some(Found::Unreadable { path, error })
            }
        }
    }

    /// A walk follows no links, so a folder below `root` has just one spelling there.
    fn own_folder_below(&self, root: &Path) -> Option<PathBuf> {
        let own_folder = self.own_folder.as_ref()?;
        let canonical_root = fs::canonicalize(root).ok()?;
        if canonical_root.starts_with(own_folder) {
            return Some(root.to_owned());
        }
        let below = own_folder.strip_prefix(canonical_root).ok()?;
        Some(root.join(below))
    }
}

impl Iterator for Sources {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let found = match self.pending.pop()? {
                Pending::Argument(path) => self.argument(path),
                Pending::Entry(path, file_type) => self.entry(path, file_type),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

fn entries_by_name(folder: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut entries = fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.file_type()?))
        })
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|(one, _), (other, _)| one.file_name().cmp(&other.file_name()));
    Ok(entries)
}
