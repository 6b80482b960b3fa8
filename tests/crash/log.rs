//! The requests of a store to the system and its acknowledgements, in one order.

use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use sealstone::test_seam::{FilePath, Folder, Operations, System};
use sealstone::{Digest, Object};

/// A change in what an application knows of the store.
#[derive(Clone, Debug)]
pub enum Mark {
    /// The application is about to put this object.
    Putting(Digest),
    /// The put returned `Ok`.
    Put(Digest),
    /// A sync returned `Ok`: all objects put before are durable.
    Synced,
    /// A sync returned `Ok` that began after this object was put, while other threads put and sync.
    SyncedOne(Digest),
    /// A compaction or a trim is about to drop exactly these objects.
    Dropping(BTreeSet<Digest>),
    /// The compaction or trim returned `Ok`, or was given up before it dropped anything.
    Dropped,
    /// A compaction begins. Objects put again from here on may have two copies until the next one.
    Compacting,
    /// A checkpoint into this folder is about to be made.
    Checkpointing(PathBuf),
    /// The checkpoint returned `Ok`: it holds all objects that were put.
    Checkpoint,
    /// The first opening returned `Ok`. Files from before may not have been synced by anybody.
    Opened,
}

/// One entry of the log. Paths are relative to the folder in which everything happens.
#[derive(Clone, Debug)]
pub enum Event {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Arc<[u8]>),
    Cut(PathBuf, u64),
    /// The site is the place in the engine that asked for the sync, if that is recorded.
    SyncFile(PathBuf, Site),
    SyncDir(PathBuf, Site),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    Mark(Mark),
}

/// The functions of the engine that led to a sync, the innermost first.
pub type Site = Option<Arc<str>>;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(path, offset, bytes) => {
                write!(
                    f,
                    "write {} at {offset}: {} bytes",
                    path.display(),
                    bytes.len()
                )
            }
            Self::Mark(Mark::Dropping(digests)) => write!(f, "-- dropping {}", digests.len()),
            Self::Mark(mark) => write!(f, "-- {mark:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Records events below `root`. It carries out everything but syncs.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    with_sites: bool,
    /// Whether links fail, as if every folder lay on another file system.
    refuses_links: bool,
    events: Mutex<Vec<Event>>,
    /// Objects that are dropped at a bad moment: the last names are durable, and the manifest that
    /// is about to be written may forget the segment that goes with its last object.
    kept: Mutex<Vec<Object>>,
}

impl Recorder {
    pub fn new(root: &Path, with_sites: bool, refuses_links: bool) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            with_sites,
            refuses_links,
            events: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    pub fn mark(&self, mark: Mark) {
        self.events.lock().unwrap().push(Event::Mark(mark));
    }

    /// Holds an object until a folder is synced in which a sidecar got its name.
    pub fn keep(&self, object: Object) {
        self.kept.lock().unwrap().push(object);
    }

    /// Drops all kept objects.
    pub fn let_go(&self) {
        // Dropping an object may remove files, which is recorded and so comes after the lock.
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        drop(kept);
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    fn relative(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix(&self.root);
        // Folders above `root` were there before and are not the store's.
        relative.unwrap_or(Path::new("..")).to_owned()
    }

    /// Carries out and records an event as one step, so that the order of events is that of their
    /// effects.
    fn record<T>(&self, event: Event, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut events = self.events.lock().unwrap();
        let result = run()?;
        events.push(event);
        Ok(result)
    }

    fn site(&self, kind: &str) -> Site {
        let backtrace = self.with_sites.then(Backtrace::force_capture)?;
        let frames = site_of(&backtrace.to_string())?;
        Some(format!("{kind}{frames}").into())
    }

    fn has_just_named_a_sidecar(&self) -> bool {
        let events = self.events.lock().unwrap();
        let is_sidecar = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "idx");
        matches!(events.last(), Some(Event::Rename(_, to)) if is_sidecar(to))
    }
}

/// Returns the two innermost functions of the engine outside of `dir`, with lines, because only
/// lines tell apart two syncs in one function. Returns `None` if the engine did not ask.
fn site_of(backtrace: &str) -> Option<String> {
    let mut frames = Vec::new();
    let mut replaces = "";
    let mut lines = backtrace.lines().peekable();
    while frames.len() < 2
        && let Some(line) = lines.next()
    {
        let Some((_, name)) = line.trim().split_once(": ") else {
            continue;
        };
        let Some(at) = lines.next_if(|line| line.trim().starts_with("at ")) else {
            continue;
        };
        match engine_frame(name, at) {
            Some((name, at)) if !at.starts_with("dir/") => frames.push(format!("{name} ({at})")),
            Some((name, _)) if name == "replace" => replaces = " in replace",
            _ => {}
        }
    }
    (!frames.is_empty()).then(|| format!("{replaces}: {}", frames.join(" < ")))
}

/// Returns a frame of the engine: the function's name, and its place in the source. How much of a
/// path a name has depends on the build, so only the last part is used.
fn engine_frame(name: &str, at: &str) -> Option<(String, String)> {
    let at = at.trim().strip_prefix("at ")?;
    let at = at.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(at);
    let at = at.trim_start_matches("./").trim_start_matches('/');
    let (place, _column) = at.strip_prefix("src/")?.rsplit_once(':')?;
    let name = name.split('<').find(|part| !part.is_empty())?;
    let parts = name.split("::").filter(|part| !part.starts_with('{'));
    let name = parts.last().unwrap_or("closure");
    Some((name.to_owned(), place.to_owned()))
}

impl Operations for Recorder {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let event = Event::CreateDir(self.relative(path));
        self.record(event, || System.create_dir(path))
    }

    fn create(&self, path: &FilePath) -> io::Result<File> {
        let event = Event::Create(self.relative(path));
        self.record(event, || System.create(path))
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let event = Event::Write(self.relative(path), offset, bytes.into());
        self.record(event, || {
            let written = System.write_at(file, path, bytes, offset)?;
            assert_eq!(written, bytes.len(), "a short write in memory");
            Ok(written)
        })
    }

    fn set_len(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        let event = Event::Cut(self.relative(path), len);
        self.record(event, || System.set_len(file, path, len))
    }

    fn sync_file(&self, _file: &File, path: &Path, _fast: bool) -> io::Result<()> {
        let event = Event::SyncFile(self.relative(path), self.site("file"));
        self.record(event, || Ok(()))?;
        // What other threads write until the sync returns is not part of it.
        thread::yield_now();
        Ok(())
    }

    fn sync_dir(&self, path: &Folder) -> io::Result<()> {
        let event = Event::SyncDir(self.relative(path), self.site("folder"));
        let is_bad_moment = self.has_just_named_a_sidecar();
        self.record(event, || Ok(()))?;
        if is_bad_moment {
            self.let_go();
        }
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let event = Event::Rename(self.relative(from), self.relative(to));
        self.record(event, || System.rename(from, to))
    }

    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        if self.refuses_links {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let event = Event::Link(self.relative(from), self.relative(to));
        self.record(event, || System.hard_link(from, to))
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        let event = Event::Remove(self.relative(path));
        self.record(event, || System.remove(path))
    }
}

/// Carries out everything but syncs, and notes what is changed below `root`.
#[derive(Debug)]
pub struct Unsynced {
    root: PathBuf,
    changed: Mutex<BTreeSet<PathBuf>>,
}

impl Unsynced {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            changed: Mutex::default(),
        }
    }

    pub fn take_changed(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.changed.lock().unwrap())
    }

    fn note(&self, path: &Path) {
        let below = path.strip_prefix(&self.root);
        let below = below.expect("the engine changes nothing outside of its folder");
        self.changed.lock().unwrap().insert(below.to_owned());
    }
}

impl Operations for Unsynced {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        System.create_dir(path)?;
        self.note(path);
        Ok(())
    }

    fn create(&self, path: &FilePath) -> io::Result<File> {
        let file = System.create(path)?;
        self.note(path);
        Ok(file)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.note(path);
        System.write_at(file, path, bytes, offset)
    }

    fn set_len(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.note(path);
        System.set_len(file, path, len)
    }

    fn sync_file(&self, _file: &File, _path: &Path, _fast: bool) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Folder) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.note(from);
        self.note(to);
        System.rename(from, to)
    }

    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.note(to);
        System.hard_link(from, to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.note(path);
        System.remove(path)
    }
}
