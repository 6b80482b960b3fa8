//! What a disk may hold after a power failure: an adversary that respects fsync and no more.
//!
//! Each file keeps its state at its last fsync and any part of what was written since, sector by
//! sector, with any length in between. Each folder keeps its state at its last fsync and any of the
//! changes since; a rename is one change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::image::{Contents, Image};
use crate::log::Event;

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, Node),
}

#[derive(Clone, Debug)]
enum FileChange {
    Write(usize, Arc<[u8]>),
    Cut(usize),
}

/// A file, independent of its names.
#[derive(Clone, Debug)]
struct Inode {
    durable: Contents,
    /// The changes since the last fsync.
    changes: Vec<FileChange>,
    /// The contents with all changes.
    now: Contents,
}

/// The files below a folder, whose own path is the empty one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    name_changes: Vec<NameChange>,
}

/// Which of the changes that were not synced survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Everything,
    Nothing,
    NamesOnly,
    ContentsOnly,
    /// Only the manifest's change of name survives, and no contents.
    ManifestFirst,
    /// All changes survive but the manifest's.
    ManifestLast,
    /// Only the newest change of a name survives.
    NewestName,
    Random(u64),
}

impl Policy {
    const EXTREMES: [Self; 7] = [
        Self::Everything,
        Self::Nothing,
        Self::NamesOnly,
        Self::ContentsOnly,
        Self::ManifestFirst,
        Self::ManifestLast,
        Self::NewestName,
    ];
}

impl Disk {
    /// Returns a disk on which the whole image is durable.
    pub fn of(image: &Image) -> Self {
        let mut disk = Self::default();
        for (path, bytes) in &image.files {
            let node = match bytes {
                None => Node::Folder,
                Some(bytes) => disk.new_file(bytes.clone()),
            };
            disk.names.insert(path.clone(), node);
        }
        disk.durable_names.clone_from(&disk.names);
        disk
    }

    fn new_file(&mut self, contents: Contents) -> Node {
        self.files.push(Inode {
            durable: contents.clone(),
            now: contents,
            changes: Vec::new(),
        });
        Node::File(self.files.len() - 1)
    }

    /// Applies an event to the disk. A sync whose site is `unsynced` does nothing.
    pub fn apply(&mut self, event: &Event, unsynced: Option<&str>) {
        match event {
            Event::CreateDir(path) => self.add(path, Node::Folder),
            Event::Create(path) => {
                let file = self.new_file(Contents::default());
                self.add(path, file);
            }
            Event::Write(path, offset, bytes) => {
                let offset = usize::try_from(*offset).unwrap();
                self.change_file(path, FileChange::Write(offset, Arc::clone(bytes)));
            }
            Event::Cut(path, len) => {
                self.change_file(path, FileChange::Cut(usize::try_from(*len).unwrap()));
            }
            Event::SyncFile(_, site) | Event::SyncDir(_, site)
                if site.is_some() && site.as_deref() == unsynced => {}
            Event::SyncFile(path, _) => {
                if let Some(Node::File(file)) = self.names.get(path) {
                    self.files[*file].sync();
                }
            }
            Event::SyncDir(path, _) => self.sync_names(path),
            Event::Rename(from, to) => {
                let node = self.names.remove(from).expect("a rename of nothing");
                self.names.insert(to.clone(), node);
                let change = NameChange::Move(from.clone(), to.clone(), node);
                self.name_changes.push(change);
            }
            Event::Link(from, to) => self.add(to, self.names[from]),
            Event::Remove(path) => {
                self.names.remove(path);
                self.name_changes.push(NameChange::Remove(path.clone()));
            }
            Event::Mark(_) => {}
        }
    }

    fn add(&mut self, path: &Path, node: Node) {
        self.names.insert(path.to_owned(), node);
        self.name_changes
            .push(NameChange::Add(path.to_owned(), node));
    }

    fn change_file(&mut self, path: &Path, change: FileChange) {
        let Some(Node::File(file)) = self.names.get(path) else {
            panic!("{} is written to and has no name", path.display());
        };
        self.files[*file].change(change);
    }

    fn sync_names(&mut self, folder: &Path) {
        let is_in = |change: &NameChange| change.path().parent() == Some(folder);
        let (synced, left) = std::mem::take(&mut self.name_changes)
            .into_iter()
            .partition(is_in);
        self.name_changes = left;
        for change in synced as Vec<NameChange> {
            change.apply(&mut self.durable_names);
        }
    }

    pub fn image(&self, policy: Policy) -> Image {
        let seed = match policy {
            Policy::Random(seed) => seed,
            _ => 0,
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        let names = self.names_left(policy, &mut rng);
        let mut image = Image::default();
        let contents = contents_left(policy, &mut rng);
        for (path, node) in names {
            let parent = path.parent().unwrap_or(Path::new(""));
            // A file is lost with the name of its folder.
            if parent != Path::new("") && !image.files.contains_key(parent) {
                continue;
            }
            let bytes = match node {
                Node::Folder => None,
                Node::File(file) => {
                    // The contents are the same under every name.
                    let seed = seed ^ (file as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let bytes = self.files[file].left(contents, seed);
                    let is_data = path.extension().is_some_and(|ending| ending == "dat");
                    image.has_garbage |= is_data && self.files[file].is_garbage(&bytes);
                    Some(bytes)
                }
            };
            image.files.insert(path, bytes);
        }
        image
    }

    /// Returns the policies that give different images now.
    pub fn policies(&self, random: impl Iterator<Item = u64>) -> Vec<Policy> {
        let has_names = !self.name_changes.is_empty();
        let has_contents = self.files.iter().any(|file| !file.changes.is_empty());
        let differs = |policy: &Policy| match policy {
            Policy::Everything => true,
            Policy::Nothing | Policy::Random(_) => has_names || has_contents,
            Policy::NamesOnly | Policy::ContentsOnly => has_names && has_contents,
            Policy::ManifestFirst | Policy::ManifestLast | Policy::NewestName => has_names,
        };
        let all = Policy::EXTREMES
            .into_iter()
            .chain(random.map(Policy::Random));
        all.filter(differs).collect()
    }

    /// Returns the current contents of a file, as a reader sees them.
    pub fn read(&self, path: &Path) -> Option<Contents> {
        match self.names.get(path)? {
            Node::File(file) => Some(self.files[*file].now.clone()),
            Node::Folder => None,
        }
    }

    /// Returns whether a manifest was renamed and its folder was not synced since.
    pub fn has_unsynced_manifest(&self) -> bool {
        let mut changes = self.name_changes.iter();
        changes.any(|change| change.path().ends_with("MANIFEST"))
    }

    fn names_left(&self, policy: Policy, rng: &mut SmallRng) -> BTreeMap<PathBuf, Node> {
        let is_manifest = |change: &NameChange| change.path().ends_with("MANIFEST");
        let newest = self.name_changes.len().saturating_sub(1);
        let share = [0.1, 0.5, 0.9][rng.random_range(0..3)];
        let until = rng.random_range(0..=self.name_changes.len());
        let in_order = rng.random_ratio(1, 4);
        let mut names = self.durable_names.clone();
        for (number, change) in self.name_changes.iter().enumerate() {
            let is_left = match policy {
                Policy::Everything | Policy::NamesOnly => true,
                Policy::Nothing | Policy::ContentsOnly => false,
                Policy::ManifestFirst => is_manifest(change),
                Policy::ManifestLast => !is_manifest(change),
                Policy::NewestName => number == newest,
                Policy::Random(_) if in_order => number < until,
                Policy::Random(_) => rng.random_bool(share),
            };
            if is_left {
                change.apply(&mut names);
            }
        }
        names
    }
}

impl NameChange {
    /// Returns the name that the change adds or removes.
    fn path(&self) -> &Path {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Move(_, path, _) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => _ = names.insert(path.clone(), *node),
            Self::Remove(path) => _ = names.remove(path),
            Self::Move(from, to, node) => {
                // Another file may have got the name since, and its change may survive alone.
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// Which contents of all files survive.
#[derive(Clone, Copy)]
enum ContentsLeft {
    Durable,
    All,
    Mixed,
}

fn contents_left(policy: Policy, rng: &mut SmallRng) -> ContentsLeft {
    match policy {
        Policy::Everything | Policy::ContentsOnly => ContentsLeft::All,
        Policy::Random(_) => match rng.random_range(0..8) {
            0 => ContentsLeft::All,
            1 => ContentsLeft::Durable,
            _ => ContentsLeft::Mixed,
        },
        _ => ContentsLeft::Durable,
    }
}

impl Inode {
    fn change(&mut self, change: FileChange) {
        let mut bytes = (*self.now).clone();
        change.apply(&mut bytes);
        self.now = Contents::new(bytes);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.now.clone();
        self.changes.clear();
    }

    /// Returns whether the bytes are neither a beginning of what was written nor the state at the
    /// last sync.
    fn is_garbage(&self, left: &Contents) -> bool {
        *left != self.durable && !self.now.starts_with(left)
    }

    fn left(&self, contents: ContentsLeft, seed: u64) -> Contents {
        match contents {
            _ if self.changes.is_empty() => self.durable.clone(),
            ContentsLeft::Durable => self.durable.clone(),
            ContentsLeft::All => self.now.clone(),
            ContentsLeft::Mixed => self.mixed(&mut SmallRng::seed_from_u64(seed)),
        }
    }

    fn mixed(&self, rng: &mut SmallRng) -> Contents {
        let count = self.changes.len();
        // The first changes survive as they are, the next one is torn, and some or none of the
        // others survive.
        let (until, share) = match rng.random_range(0..6) {
            0 => return self.now.clone(),
            1 => return self.durable.clone(),
            2 => (rng.random_range(0..count), 0.0),
            3 => (0, 0.5),
            4 => (rng.random_range(0..count), 0.5),
            _ => (0, 0.9),
        };
        let mut bytes = (*self.durable).clone();
        let mut lens = vec![bytes.len()];
        let mut len = bytes.len();
        for (number, change) in self.changes.iter().enumerate() {
            len = change.len_after(len);
            lens.push(len);
            if number < until || rng.random_bool(share) && rng.random() {
                change.apply(&mut bytes);
            } else if number == until || rng.random_bool(share) {
                change.tear(&mut bytes, rng);
            }
        }
        self.set_len_left(&mut bytes, &lens, rng);
        Contents::new(bytes)
    }

    /// Sets the surviving length: it may have reached the disk without the bytes, or the bytes
    /// without it. Bytes that were durable and not cut off survive.
    fn set_len_left(&self, bytes: &mut Vec<u8>, lens: &[usize], rng: &mut SmallRng) {
        let was_cut = self
            .changes
            .iter()
            .any(|change| matches!(change, FileChange::Cut(_)));
        let len = match rng.random_range(0..6) {
            0 | 1 => lens[lens.len() - 1],
            2 => lens[rng.random_range(0..lens.len())],
            3 => bytes.len() / SECTOR_BYTES * SECTOR_BYTES,
            4 if bytes.len() > self.durable.len() => {
                rng.random_range(self.durable.len()..=bytes.len())
            }
            _ => bytes.len(),
        };
        if was_cut {
            // A file that was cut has only a length that it had at some time.
            if lens.contains(&len) {
                bytes.resize(len, 0);
            }
        } else {
            bytes.resize(len.max(self.durable.len()), 0);
        }
    }
}

impl FileChange {
    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Write(offset, bytes) => len.max(offset + bytes.len()),
            Self::Cut(len) => *len,
        }
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut(len) => file.resize(*len, 0),
        }
    }

    /// Applies some sectors of a write; a cut happens or not.
    fn tear(&self, file: &mut Vec<u8>, rng: &mut SmallRng) {
        let Self::Write(offset, bytes) = self else {
            if rng.random() {
                self.apply(file);
            }
            return;
        };
        let end = offset + bytes.len();
        let mut begin = *offset;
        while begin < end {
            let sector_end = ((begin / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if rng.random() {
                file.resize(file.len().max(sector_end), 0);
                file[begin..sector_end]
                    .copy_from_slice(&bytes[begin - offset..sector_end - offset]);
            }
            begin = sector_end;
        }
    }
}
