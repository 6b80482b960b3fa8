//! Shared by several test programs: contents, directory listings, and a seam below the store.

// Each test program uses a part of this file.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, thread};

use super::hash::digest_of;
use super::layout::{data_name, file};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use sealstone::format::{Manifest, Records};
use sealstone::test_seam::{FilePath, Folder, Operations, System};
use sealstone::{Digest, Repair, SegmentState, Store};

/// How long a test waits for a call that must not wait. Only a hang takes this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the content of a number: the same for the same number and length, and from 8 bytes on
/// different for different numbers.
pub fn content(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(number).fill_bytes(&mut bytes);
    for (byte, of_number) in bytes.iter_mut().zip(number.to_le_bytes()) {
        *byte = of_number;
    }
    bytes
}

/// The objects that a store should hold, by digest.
pub type Contents = BTreeMap<Digest, Vec<u8>>;

/// Returns `count` contents of `len` bytes, numbered from `first`.
pub fn contents(first: u64, count: u64, len: usize) -> Contents {
    (first..first + count)
        .map(|number| content(number, len))
        .map(|content| (digest_of(&content), content))
        .collect()
}

pub fn put_all(store: &Store, contents: &Contents) {
    for content in contents.values() {
        store.put(content).unwrap();
    }
}

#[track_caller]
pub fn assert_holds(store: &Store, contents: &Contents) {
    for (digest, content) in contents {
        let object = store.get(digest).unwrap();
        assert_eq!(object.as_deref(), Some(&content[..]), "{digest:?}");
        assert!(store.contains(digest).unwrap());
    }
}

#[track_caller]
pub fn assert_lacks<'a>(store: &Store, digests: impl IntoIterator<Item = &'a Digest>) {
    for digest in digests {
        assert!(store.get(digest).unwrap().is_none(), "{digest:?}");
        assert!(!store.contains(digest).unwrap());
    }
}

/// Compares as `assert_eq` does, without printing megabytes.
#[track_caller]
pub fn assert_same(actual: &Contents, expected: &Contents) {
    let digests = |contents: &Contents| contents.keys().copied().collect::<Vec<_>>();
    assert_eq!(digests(actual), digests(expected));
    assert!(actual == expected, "wrong bytes");
}

/// Returns all objects that a walk gives, and fails if one comes twice.
#[track_caller]
pub fn walk(store: &Store) -> Contents {
    let mut walked = Contents::new();
    for object in store {
        let object = object.unwrap();
        let before = walked.insert(*object.digest(), object.to_vec());
        assert!(
            before.is_none(),
            "{:?} was given out twice",
            object.digest()
        );
    }
    walked
}

/// Returns whether a crash cannot have left what was repaired.
pub fn is_damage(repair: &Repair) -> bool {
    matches!(
        repair,
        Repair::IgnoredManifest { .. }
            | Repair::ShortData { .. }
            | Repair::DamagedSegment { .. }
            | Repair::MissingSegment { .. }
    )
}

/// Fails if opening found damage. Traces of a crash are no damage.
#[track_caller]
pub fn assert_undamaged(store: &Store) {
    for repair in &store.recovery().repairs {
        assert!(!is_damage(repair), "{repair}");
    }
}

#[track_caller]
pub fn assert_verifies(store: &Store) {
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// Waits until another thread has done its work in its own time.
#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited too long: {what}");
        thread::yield_now();
    }
}

/// Waits until the writer's background thread has sealed and removed all that it can; by then there
/// is a manifest.
#[track_caller]
pub fn settle(root: &Path) {
    eventually("the background thread is done", || {
        let manifest = fs::read(root.join("segments/MANIFEST")).unwrap_or_default();
        let sealed = Manifest::parse(&manifest).map_or(0, |manifest| manifest.sealed.len());
        let count = |ending| names(root, &[ending]).len();
        let counts = [".tmp", ".jnl", ".idx", ".dat"].map(count);
        sealed > 0 && counts == [0, 1, sealed, sealed + 1]
    });
}

/// A file or folder at the time of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: Option<Vec<u8>>,
    pub modified: SystemTime,
}

/// Returns a folder and everything below it, without following links.
pub fn snapshot(path: &Path) -> BTreeMap<PathBuf, Seen> {
    let metadata = fs::symlink_metadata(path).unwrap();
    let bytes = metadata.is_file().then(|| fs::read(path).unwrap());
    let modified = metadata.modified().unwrap();
    let mut seen = BTreeMap::from([(path.to_owned(), Seen { bytes, modified })]);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            seen.extend(snapshot(&entry.unwrap().path()));
        }
    }
    seen
}

/// Fails if a file or folder was created, removed or written to.
#[track_caller]
pub fn assert_unchanged(root: &Path, before: &BTreeMap<PathBuf, Seen>) {
    let after = snapshot(root);
    let paths = |seen: &BTreeMap<PathBuf, Seen>| seen.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&after), paths(before));
    for (path, seen) in &after {
        assert!(before[path] == *seen, "{} has changed", path.display());
    }
}

/// Runs the closure in a thread, and fails if that hangs.
#[track_caller]
pub fn completes<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    let result = receiver.recv_timeout(PATIENCE);
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Returns the names in the store's folder that end in one of these.
pub fn names(root: &Path, endings: &[&str]) -> Vec<String> {
    let entries = fs::read_dir(root.join("segments")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    names
}

/// Returns the total size of all files in the store's folder whose names end in one of these.
pub fn disk_bytes(root: &Path, endings: &[&str]) -> u64 {
    let segments = root.join("segments");
    let len = |name: String| fs::metadata(segments.join(name)).map_or(0, |file| file.len());
    names(root, endings).into_iter().map(len).sum()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    CreateDir,
    Create,
    Write,
    Cut,
    SyncFile,
    SyncDir,
    Rename,
    Link,
    Remove,
}

/// One operation that the store asks the system for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: Kind,
    pub path: PathBuf,
    /// The target of a rename or a link.
    pub to: Option<PathBuf>,
    /// The number of bytes of a write.
    pub len: usize,
}

impl Step {
    pub fn name(&self) -> &str {
        let name = self.path.file_name().unwrap_or_default();
        name.to_str().unwrap_or_default()
    }

    pub fn is(&self, kind: Kind, ending: &str) -> bool {
        self.kind == kind && self.name().ends_with(ending)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name())
    }
}

/// The fate of a step.
pub enum Verdict {
    /// The system carries the step out.
    Go,
    /// The step is reported as done and is not done.
    Pretend,
    /// The step is reported as failed and is not done.
    Fail(io::Error),
    /// A write does and reports this many bytes.
    Short(usize),
}

/// Returns the failure with the raw error that the system would give.
pub fn system_error(code: i32) -> Verdict {
    Verdict::Fail(io::Error::from_raw_os_error(code))
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
pub const EMFILE: i32 = 24;

type Judge = Box<dyn Fn(&Step) -> Verdict + Send + Sync>;

/// Operations that ask a closure first. The closure may also record, wait or panic.
pub struct Seam {
    judge: Judge,
    /// No operation is under way while this is held for writing.
    stillness: Arc<RwLock<()>>,
}

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seam")
    }
}

/// Returns operations for [`sealstone::Options::operations`] that ask `judge` about each step.
pub fn seam(judge: impl Fn(&Step) -> Verdict + Send + Sync + 'static) -> Arc<dyn Operations> {
    seam_with_stillness(Arc::default(), judge)
}

/// Works as [`seam`]; no operation is under way while `stillness` is held for writing.
pub fn seam_with_stillness(
    stillness: Arc<RwLock<()>>,
    judge: impl Fn(&Step) -> Verdict + Send + Sync + 'static,
) -> Arc<dyn Operations> {
    let judge = Box::new(judge);
    Arc::new(Seam { judge, stillness })
}

/// Returns the objects that a trim of this store drops, from its data files alone. The caller has
/// flushed the store, so that the files hold all objects, and puts nothing meanwhile.
pub fn trimmed(root: &Path, store: &Store, bytes_max: u64) -> BTreeSet<Digest> {
    let stats = store.stats();
    let mut left = stats.data_file_bytes;
    let (mut dropped, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for segment in stats.segments {
        let data = fs::read(file(root, &data_name(segment.id))).unwrap();
        let records = Records::new(&data);
        let digests = records.map(|record| store.hash_function().digest(record.content));
        if left > bytes_max && segment.state != SegmentState::Active {
            left -= segment.data_bytes;
            dropped.extend(digests);
        } else {
            kept.extend(digests);
        }
    }
    dropped.difference(&kept).copied().collect()
}

/// Copies the files of a store as a crash would leave them now, if nothing changes meanwhile.
pub fn copy_store(root: &Path, target: &Path) {
    let (from, to) = (root.join("segments"), target.join("segments"));
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match fs::copy(entry.path(), to.join(entry.file_name())) {
            // The background thread has removed the file since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => drop(result.unwrap()),
        }
    }
}

/// Lets every step happen but syncs, for tests that do not cut the power.
pub fn pretend_to_sync(step: &Step) -> Verdict {
    match step.kind {
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        _ => Verdict::Go,
    }
}

/// Returns operations that sync nothing, for tests that do not cut the power.
pub fn without_syncing() -> Arc<dyn Operations> {
    seam(pretend_to_sync)
}

impl Seam {
    fn judge(&self, step: &Step, go: impl FnOnce(usize) -> io::Result<usize>) -> io::Result<usize> {
        let verdict = (self.judge)(step);
        let _under_way = self.stillness.read().unwrap();
        match verdict {
            Verdict::Go => go(step.len),
            Verdict::Pretend => Ok(step.len),
            Verdict::Fail(error) => Err(error),
            Verdict::Short(len) => go(len.min(step.len)),
        }
    }

    /// Judges an operation that returns nothing.
    fn judge_unit(&self, step: &Step, go: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.judge(step, |_| go().map(|()| 0)).map(drop)
    }
}

impl Step {
    fn new(kind: Kind, path: &Path) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            to: None,
            len: 0,
        }
    }

    fn to(self, to: &Path) -> Self {
        let to = Some(to.to_owned());
        Self { to, ..self }
    }
}

impl Operations for Seam {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::CreateDir, path), || {
            System.create_dir(path)
        })
    }

    fn create(&self, path: &FilePath) -> io::Result<File> {
        let mut file = None;
        self.judge_unit(&Step::new(Kind::Create, path), || {
            file = Some(System.create(path)?);
            Ok(())
        })?;
        Ok(file.expect("a file cannot be pretended"))
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let step = Step {
            len: bytes.len(),
            ..Step::new(Kind::Write, path)
        };
        self.judge(&step, |len| {
            System.write_at(file, path, &bytes[..len], offset)
        })
    }

    fn set_len(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::Cut, path), || {
            System.set_len(file, path, len)
        })
    }

    fn sync_file(&self, file: &File, path: &Path, fast: bool) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::SyncFile, path), || {
            System.sync_file(file, path, fast)
        })
    }

    fn sync_dir(&self, path: &Folder) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::SyncDir, path), || System.sync_dir(path))
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::Rename, from).to(to), || {
            System.rename(from, to)
        })
    }

    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::Link, from).to(to), || {
            System.hard_link(from, to)
        })
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.judge_unit(&Step::new(Kind::Remove, path), || System.remove(path))
    }
}
