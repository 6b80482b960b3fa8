//! The files that `put` stores: those named on the command line, standard input, and with `-r` those
//! that a walk finds.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::slice;

use anyhow::Context as _;
use sealstone::{Error, Store};
use walkdir::{DirEntry, WalkDir};

use crate::batch;
use crate::exit::Failure;
use crate::own_folder::OwnFolder;
use crate::standard_input;

/// The longest content that a record can hold.
const CONTENT_BYTES_MAX: u64 = u32::MAX as u64;

/// A file or standard input.
pub struct Source {
    pub path: PathBuf,
    /// The size of a regular file. It is a hint: the file may change before it is read.
    pub bytes_expected: Option<u64>,
}

/// The result of looking at an argument or an entry of a folder.
pub enum Found {
    Source(Source),
    /// A symbolic link that a walk met.
    Link(PathBuf),
    Skipped {
        path: PathBuf,
        reason: &'static str,
    },
    Unreadable {
        path: PathBuf,
        error: io::Error,
    },
}

impl Found {
    fn source(path: PathBuf, bytes_expected: Option<u64>) -> Self {
        Self::Source(Source {
            path,
            bytes_expected,
        })
    }

    fn own_folder(path: PathBuf) -> Self {
        let reason = "the store's own files";
        Self::Skipped { path, reason }
    }

    /// Keeps what the system said and leaves out the path, which `walkdir` writes before it.
    fn unreadable(path: PathBuf, error: walkdir::Error) -> Self {
        let text = error.to_string();
        let error = error.into_io_error();
        let error = error.unwrap_or_else(|| io::Error::other(text));
        Self::Unreadable { path, error }
    }
}

impl Source {
    pub fn is_stdin(path: &Path) -> bool {
        path == Path::new("-")
    }

    /// Returns whether the content may be too long to be collected in memory.
    pub fn is_long(&self) -> bool {
        self.bytes_expected.is_none_or(batch::is_long)
    }

    pub fn open(&self) -> anyhow::Result<Box<dyn Read>> {
        if Self::is_stdin(&self.path) {
            if standard_input::is_closed() {
                let text =
                    "standard input is closed; nothing was stored of it; redirect it from a file";
                return Err(Failure::Io(text.to_owned()).into());
            }
            return Ok(Box::new(io::stdin().lock()));
        }
        // A file that is too large is not even opened.
        check_size(self.bytes_expected.unwrap_or(0), &self.path)?;
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Box::new(file))
    }

    /// Opens content that need not fit into memory, and reads its beginning: a store is not created for
    /// what cannot be read.
    pub fn open_readable(&self) -> anyhow::Result<impl Read> {
        let mut content = BufReader::new(self.open()?);
        let begin = content.fill_buf().map(drop);
        begin.map_err(|error| cut_off(&self.path, &error))?;
        Ok(content)
    }

    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        let bytes_expected = self.bytes_expected.unwrap_or(0);
        read_to_end(self.open()?, bytes_expected, &self.path)
    }
}

/// Returns the failure for content that was not read to its end.
pub fn cut_off(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        // On Unix a folder can be opened like a file.
        io::ErrorKind::IsADirectory => unreadable(path, error),
        _ => not_read(path, error),
    }
}

fn not_read(path: &Path, error: &dyn Display) -> Failure {
    let path = path.display();
    Failure::Io(format!("{path}: not read to its end: {error}; try again"))
}

/// Returns the failure for a file or folder that cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Io(format!(
        "{path}: {error}; check the path and its permissions"
    ))
}

fn read_to_end(reader: impl Read, bytes_expected: u64, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    content
        .try_reserve_exact(usize::try_from(bytes_expected)?)
        .map_err(|error| not_read(path, &error))?;
    // One byte more than a record can hold is enough to see that the content is too large.
    reader
        .take(CONTENT_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|error| cut_off(path, &error))?;
    check_size(content.len() as u64, path)?;
    Ok(content)
}

fn check_size(bytes: u64, path: &Path) -> anyhow::Result<()> {
    if bytes > CONTENT_BYTES_MAX {
        return Err(Error::TooLarge { bytes }).with_context(|| path.display().to_string());
    }
    Ok(())
}

/// Yields everything that the given paths stand for, in their order. A folder is walked depth first,
/// and its entries are taken in the order of their names.
pub struct Sources<'a> {
    arguments: slice::Iter<'a, PathBuf>,
    follow_links: bool,
    walk: Option<Walk>,
    own_folder: Option<OwnFolder>,
}

impl<'a> Sources<'a> {
    pub fn new(paths: &'a [PathBuf]) -> Self {
        Self {
            arguments: paths.iter(),
            follow_links: false,
            walk: None,
            own_folder: None,
        }
    }

    /// Sets whether walks follow the links that they meet; by default they do not.
    pub fn follow_links(mut self, follow_links: bool) -> Self {
        self.follow_links = follow_links;
        self
    }

    /// Returns the next entry beside a store, which may not exist yet. Its own files are left out, also
    /// by a walk that began before the store was there.
    pub fn next_beside(&mut self, store: Option<&Store>) -> Option<Found> {
        if let (None, Some(store)) = (&self.own_folder, store) {
            self.own_folder = OwnFolder::of(store.root());
        }
        loop {
            let walk = self.walk.as_mut();
            if let Some(found) = walk.and_then(|walk| walk.next(self.own_folder.as_ref())) {
                return Some(found);
            }
            self.walk = None;
            let path = self.arguments.next()?.clone();
            if let Some(found) = self.argument(path) {
                return Some(found);
            }
        }
    }

    /// Follows links and reads pipes, because the user has named them. Returns `None` for a folder,
    /// whose walk begins.
    fn argument(&mut self, path: PathBuf) -> Option<Found> {
        if Source::is_stdin(&path) {
            return Some(Found::source(path, None));
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.begin_walk(path),
            Ok(metadata) if metadata.is_file() => Some(Found::source(path, Some(metadata.len()))),
            Ok(_) => Some(Found::source(path, None)),
            Err(error) => Some(Found::Unreadable { path, error }),
        }
    }

    fn begin_walk(&mut self, root: PathBuf) -> Option<Found> {
        let own_folder = self.own_folder.as_ref();
        if own_folder.is_some_and(|own_folder| own_folder.contains(&root)) {
            return Some(Found::own_folder(root));
        }
        self.walk = Some(Walk::new(root, self.follow_links));
        None
    }
}

/// The walk below one folder. It holds no folder open.
struct Walk {
    entries: walkdir::IntoIter,
    /// The folder that was entered last. `walkdir` reads and sorts a folder as a whole and yields its
    /// errors before its entries, so an error without a path belongs to this folder.
    entered: PathBuf,
}

impl Walk {
    fn new(root: PathBuf, follow_links: bool) -> Self {
        let entries = WalkDir::new(&root)
            .min_depth(1)
            .follow_links(follow_links)
            .sort_by_file_name();
        Self {
            entries: entries.into_iter(),
            entered: root,
        }
    }

    fn next(&mut self, own_folder: Option<&OwnFolder>) -> Option<Found> {
        loop {
            let found = match self.entries.next()? {
                Ok(entry) => self.entry(entry, own_folder),
                Err(error) => {
                    let path = error.path().unwrap_or(&self.entered).to_owned();
                    Some(match error.loop_ancestor() {
                        Some(_) => Found::Skipped {
                            path,
                            reason: "a link to a folder that contains it",
                        },
                        None => Found::unreadable(path, error),
                    })
                }
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Returns `None` for a folder, which is entered.
    fn entry(&mut self, entry: DirEntry, own_folder: Option<&OwnFolder>) -> Option<Found> {
        let file_type = entry.file_type();
        let is_own = own_folder.is_some_and(|own_folder| {
            if entry.path_is_symlink() && !file_type.is_symlink() {
                own_folder.contains(entry.path())
            } else {
                file_type.is_dir() && own_folder.is(entry.path())
            }
        });
        if is_own {
            if file_type.is_dir() {
                self.entries.skip_current_dir();
            }
            return Some(Found::own_folder(entry.into_path()));
        }
        if file_type.is_dir() {
            self.entered = entry.into_path();
            return None;
        }
        if file_type.is_file() {
            let bytes_expected = entry.metadata().map(|metadata| metadata.len());
            let path = entry.into_path();
            return Some(match bytes_expected {
                Ok(bytes_expected) => Found::source(path, Some(bytes_expected)),
                Err(error) => Found::unreadable(path, error),
            });
        }
        let path = entry.into_path();
        if file_type.is_symlink() {
            return Some(Found::Link(path));
        }
        let reason = "not a regular file; name it on the command line to read it";
        Some(Found::Skipped { path, reason })
    }
}
