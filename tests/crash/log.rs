//! What a store asks of the system and what it has acknowledged, in one order.

use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sealstone::Digest;
use sealstone::dir::{Operations, System};

/// What an application knows of the store.
#[derive(Clone, Debug)]
pub enum Mark {
    /// It is about to put this.
    Putting(Digest),
    /// The put returned `Ok`.
    Put(Digest),
    /// A sync returned `Ok`: all that was put is durable.
    Synced,
    /// A compaction is about to drop exactly these.
    Dropping(BTreeSet<Digest>),
    /// It returned `Ok`.
    Dropped,
    /// A checkpoint into this folder returned `Ok`: it holds all that was put.
    Checkpoint(PathBuf),
}

/// Paths are relative to the folder in which everything happens.
#[derive(Clone, Debug)]
pub enum Event {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Arc<[u8]>),
    Cut(PathBuf, u64),
    /// The last is where in the engine it was asked for, if that is recorded.
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

/// Records events below `root`. Everything is carried out but syncing.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    with_sites: bool,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub fn new(root: &Path, with_sites: bool) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            with_sites,
            events: Mutex::default(),
        })
    }

    pub fn mark(&self, mark: Mark) {
        self.events.lock().unwrap().push(Event::Mark(mark));
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    fn relative(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix(&self.root);
        // What lies above was there before and is not the store's.
        relative.unwrap_or(Path::new("..")).to_owned()
    }

    /// Carries out and records as one, so that the order of events is that of their effects.
    fn record<T>(&self, event: Event, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut events = self.events.lock().unwrap();
        let result = run()?;
        events.push(event);
        Ok(result)
    }

    fn site(&self) -> Site {
        self.with_sites
            .then(|| site_of(&Backtrace::force_capture().to_string()).into())
    }
}

/// From the first function of the engine to the second one outside of `dir`, with lines. Only the
/// lines say which of two syncs in one function it is.
fn site_of(backtrace: &str) -> String {
    let mut frames = Vec::new();
    let mut outside = 0;
    let mut lines = backtrace.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.trim().split_once(": ") else {
            continue;
        };
        let Some(at) = lines.next_if(|line| line.trim().starts_with("at ")) else {
            continue;
        };
        let Some(name) = name.trim_start_matches('<').strip_prefix("sealstone::") else {
            continue;
        };
        let Some((_, at)) = at.rsplit_once("src/") else {
            continue;
        };
        let name: Vec<&str> = name
            .split("::")
            .filter(|part| *part != "{{closure}}")
            .collect();
        let (place, _column) = at.rsplit_once(':').unwrap_or((at, ""));
        let name = name[name.len().saturating_sub(2)..].join("::");
        frames.push(format!("{name} ({place})"));
        if !at.starts_with("dir/") {
            outside += 1;
        }
        if outside == 2 {
            break;
        }
    }
    frames.join(" < ")
}

impl Operations for Recorder {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let event = Event::CreateDir(self.relative(path));
        self.record(event, || System.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
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
        let event = Event::SyncFile(self.relative(path), self.site());
        self.record(event, || Ok(()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let event = Event::SyncDir(self.relative(path), self.site());
        self.record(event, || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let event = Event::Rename(self.relative(from), self.relative(to));
        self.record(event, || System.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let event = Event::Link(self.relative(from), self.relative(to));
        self.record(event, || System.hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let event = Event::Remove(self.relative(path));
        self.record(event, || System.remove(path))
    }
}

/// Carries out everything but syncing and records nothing.
#[derive(Debug)]
pub struct Unsynced;

impl Operations for Unsynced {
    fn sync_file(&self, _file: &File, _path: &Path, _fast: bool) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}
