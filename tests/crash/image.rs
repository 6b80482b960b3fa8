//! The state of a disk after a crash, and a folder that shows it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use sealstone::format::Manifest;
use sealstone::test_seam::Operations;

use crate::log::Unsynced;
use crate::workload::STORE;

/// The contents of a file, which many images share, with their hash.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    bytes: Arc<Vec<u8>>,
    hash: u64,
}

impl Contents {
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self {
            bytes: Arc::new(bytes),
            hash: hasher.finish(),
        }
    }
}

impl Deref for Contents {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

pub type Files = BTreeMap<PathBuf, Option<Contents>>;

/// Files with their contents, and folders with `None`.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub files: Files,
    /// Whether a data file holds anything but a beginning of what was written to it: sectors that
    /// never came, or a length without the bytes.
    pub has_garbage: bool,
}

impl Image {
    /// Returns a hash of the image and of `known`, which tells apart equal images.
    pub fn hash_with(&self, known: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        known.hash(&mut hasher);
        for (path, contents) in &self.files {
            path.as_os_str().hash(&mut hasher);
            contents
                .as_ref()
                .map(|contents| contents.hash)
                .hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Returns the contents of a file of the store.
    pub fn bytes_of(&self, path: &Path) -> Option<&[u8]> {
        let bytes = self.files.get(path)?.as_ref()?;
        Some(bytes)
    }

    /// Returns whether the manifest lists retired segments.
    pub fn has_retired(&self) -> bool {
        let path = Path::new(STORE).join("segments/MANIFEST");
        let manifest = self.bytes_of(&path).map(Manifest::parse);
        matches!(manifest, Some(Ok(manifest)) if !manifest.retired.is_empty())
    }

    /// Makes `target` hold exactly this image.
    pub fn write(&self, target: &Path) -> io::Result<()> {
        match fs::remove_dir_all(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(target)?,
        }
        // A folder comes before the files in it.
        for (path, bytes) in &self.files {
            write(&target.join(path), bytes.as_ref())?;
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: Option<&Contents>) -> io::Result<()> {
    match bytes {
        Some(bytes) => fs::write(path, &**bytes),
        None => fs::create_dir(path),
    }
}

/// A folder that holds one image after the other. Most files are the same in the next image; a file
/// is written again only if it differs or was changed meanwhile.
pub struct Shown {
    root: PathBuf,
    files: Files,
    operations: Arc<Unsynced>,
}

impl Shown {
    pub fn new(root: &Path) -> io::Result<Self> {
        Image::default().write(root)?;
        Ok(Self {
            root: root.to_owned(),
            files: Files::new(),
            operations: Arc::new(Unsynced::new(root)),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the operations through which every change in the folder must go.
    pub fn operations(&self) -> Arc<dyn Operations> {
        Arc::clone(&self.operations) as _
    }

    pub fn show(&mut self, image: &Image) -> io::Result<()> {
        for path in self.operations.take_changed() {
            self.forget(&path)?;
        }
        let gone = self.files.iter().filter(|(path, bytes)| {
            let new = image.files.get(*path);
            // A file can be overwritten, a folder cannot.
            new.is_none_or(|new| new.is_none() != bytes.is_none())
        });
        let gone: Vec<PathBuf> = gone.map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.forget(&path)?;
        }
        for (path, bytes) in &image.files {
            if self.files.get(path) != Some(bytes) {
                write(&self.root.join(path), bytes.as_ref())?;
                self.files.insert(path.clone(), bytes.clone());
            }
        }
        Ok(())
    }

    /// Removes the file or folder with this name, and all below it.
    fn forget(&mut self, path: &Path) -> io::Result<()> {
        let target = self.root.join(path);
        let removed = match fs::remove_file(&target) {
            Err(_) if target.is_dir() => fs::remove_dir_all(&target),
            result => result,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.files.retain(|held, _| !held.starts_with(path)),
        }
        Ok(())
    }
}
