//! The facade: opening, reading, and what does not belong to writing, sealing or compacting.

mod compact;
#[cfg(test)]
mod growth;
mod phase;
mod pinned;
mod put_many;
#[cfg(all(test, shuttle))]
mod schedules;
mod seal;
mod set_index;
mod stats;
mod write;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

pub use compact::Compaction;
pub use pinned::{PinnedObject, PinnedReader};
pub use stats::{SegmentState, SegmentStats, StoreStats};

use crate::digest::{DIGEST_BYTES, Digest};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::memory::ForkMark;
use crate::object::Object;
use crate::options::Options;
use crate::recovery::reader::Reader;
use crate::recovery::{self, RecoveryReport, UNSEALED_OBJECTS_MAX};
use crate::scan::{Digests, Objects};
use crate::segment_set::{Found, SegmentSet};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{ArcSwap, Mutex, mpsc};
use crate::threads::{alone, in_own_threads, not_started};
use crate::verify::{self, Problem, VerifyProgress, VerifyReport};
use seal::{Job, Ledger};
use set_index::Effort;
use write::{Background, Writer};

/// A content-addressed object store in a folder.
///
/// Clones are handles to the same open store. It is `Send` and `Sync`: any number of threads may
/// read and write at once, and no reader ever waits for a writer. The last handle to be dropped
/// flushes, syncs and unlocks; [`close`](Self::close) does so too and reports errors.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use sealstone::Store;
///
/// let store = Store::open(folder.path())?;
/// let digest = store.put(b"content")?;
/// store.sync()?;
/// assert_eq!(store.get(&digest)?.as_deref(), Some(&b"content"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Dropped with the last clone of a [`Store`].
struct Handle {
    inner: Arc<Inner>,
    /// The threads that seal and index; a reader has none.
    background: Vec<JoinHandle<()>>,
}

/// What the store and its background thread share.
struct Inner {
    root: PathBuf,
    dir: Dir,
    options: Options,
    set: ArcSwap<SegmentSet>,
    access: Access,
    report: RecoveryReport,
    /// Of the process that opened it.
    origin: ForkMark,
}

enum Access {
    Writer(Box<Writer>),
    Reader(Mutex<Reader>),
}

impl Store {
    /// Opens the store in the folder `root` for reading and writing, and creates it if there is
    /// none. [`Options`] has other ways.
    ///
    /// # Errors
    ///
    /// Those of [`Options::open`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(root)
    }

    /// The default [`Options`].
    #[must_use]
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn open_with(root: &Path, options: &Options) -> Result<Self> {
        let dir = match options.open_dir(root)? {
            None if options.read_only || !options.create => {
                return Err(Error::NoStore {
                    path: root.to_owned(),
                });
            }
            None => options.create_dir(root)?,
            // Whoever created the folder may have been cut off before its name was durable.
            Some(dir) if !options.read_only && dir.read_manifest()?.is_none() => {
                options.create_dir(root)?
            }
            Some(dir) => dir,
        };
        let open = if options.read_only {
            Self::open_reader
        } else {
            Self::open_writer
        };
        open(root, dir, options.clone())
    }

    fn open_reader(root: &Path, dir: Dir, options: Options) -> Result<Self> {
        let mut reader = Reader::default();
        let (set, report) = reader.load(&dir, &options, &SegmentSet::default())?;
        Ok(Self {
            handle: Arc::new(Handle {
                inner: Arc::new(Inner {
                    root: root.to_owned(),
                    dir,
                    options,
                    set: ArcSwap::from_pointee(set),
                    access: Access::Reader(Mutex::new(reader)),
                    report,
                    origin: ForkMark::new(),
                }),
                background: Vec::new(),
            }),
        })
    }

    fn open_writer(root: &Path, dir: Dir, options: Options) -> Result<Self> {
        let lock = dir.lock()?;
        let opened = recovery::open_writer(&dir, &options)?;
        lock.make_known(&dir);
        let ledger = Ledger::new(opened.manifest);
        let (sealing, jobs) = mpsc::channel();
        let (indexing, asked) = mpsc::channel();
        let background = Background { sealing, indexing };
        let next_run_number = opened
            .run_numbers
            .last()
            .map_or(1, |last| last.wrapping_add(1));
        let writer = Writer::new(opened.appender, ledger, background, lock, next_run_number);
        // Recovery may have left segments to be sealed.
        writer.in_background(Job::Seal);
        writer.ask_for_index();
        let inner = Arc::new(Inner {
            root: root.to_owned(),
            dir,
            options,
            set: ArcSwap::from_pointee(opened.set),
            access: Access::Writer(Box::new(writer)),
            report: opened.report,
            origin: ForkMark::new(),
        });
        inner.remove_unused_runs(opened.run_numbers);
        // Dropping it stops those of the threads that have started.
        let mut handle = Handle {
            inner: Arc::clone(&inner),
            background: Vec::new(),
        };
        let working = Arc::clone(&inner);
        let seal = move || working.seal_in_background_until_closed(&jobs);
        let index = move || inner.index_in_background(&asked);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.to_owned());
            let started = thread.spawn(work).map_err(|error| not_started(&error));
            started.map_err(Error::io(root))
        };
        handle
            .background
            .push(spawn("sealstone-seal", Box::new(seal))?);
        handle
            .background
            .push(spawn("sealstone-index", Box::new(index))?);
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// The folder that was opened.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner().root
    }

    /// Reads an object and checks it against its digest. `None` if the store does not hold it.
    ///
    /// Never waits for a writer. Costs one probe of the set index however many segments there are,
    /// then one pass over the content. [`PinnedReader`] is for hot loops, [`get_many`](Self::get_many)
    /// for many objects at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if every copy is damaged, [`Error::CorruptIndex`] if damage leaves it
    /// unknown whether there is one, [`Error::Io`].
    pub fn get(&self, digest: &Digest) -> Result<Option<Object>> {
        let inner = self.inner();
        let set = inner.set.load();
        let found = set.lookup(digest, inner.options.verify)?;
        inner.look_after(&set);
        Ok(found.map(|found| found.into_object(digest)))
    }

    /// A reader that holds the segments as they are now, for hot loops: what it finds borrows from
    /// it, and a hit costs no write to memory that threads share. See [`PinnedReader`].
    #[must_use]
    pub fn reader(&self) -> PinnedReader {
        PinnedReader::new(Arc::clone(&self.handle.inner))
    }

    /// Reads several objects; the results are in the order of `digests`. One that fails does not
    /// keep the others from being read.
    ///
    /// From a few on it takes a fraction of the time of as many calls of [`get`](Self::get): the
    /// lookups wait for memory together, contents are hashed side by side, and large batches are
    /// spread over the cores: in the pool of `rayon` to which the calling thread belongs, or else in
    /// one that the stores of the process share.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let digests = store.put_many(&["one", "two"])?;
    /// let contents: Vec<Vec<u8>> = store
    ///     .get_many(&digests)
    ///     .into_iter()
    ///     .filter_map(|result| result.transpose())
    ///     .map(|object| object.map(|object| object.to_vec()))
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(contents, [b"one", b"two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_many(&self, digests: &[Digest]) -> Vec<Result<Option<Object>>> {
        let inner = self.inner();
        let set = inner.set.load();
        let found = inner.look_up_many(&set, digests);
        inner.look_after(&set);
        found
            .into_iter()
            .zip(digests)
            .map(|(found, digest)| Ok(found?.map(|found| found.into_object(digest))))
            .collect()
    }

    /// Whether the store holds an object. Asks the indexes only; the content is not read.
    ///
    /// A read-only handle reads the content of what was never synced, as far as it knows: a crash may
    /// have taken it, and then [`get`](Self::get) finds nothing. [`find`](Self::find) and
    /// [`digests`](Self::digests) do so too, and say the same.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptIndex`], [`Error::Io`].
    pub fn contains(&self, digest: &Digest) -> Result<bool> {
        self.inner().set.load().contains(digest)
    }

    /// The one object whose digest begins with these hexadecimal digits, if there is one.
    ///
    /// Logarithmic in sealed segments, linear in the objects that are not sealed yet.
    ///
    /// # Errors
    ///
    /// [`Error::AmbiguousPrefix`] with a few candidates if there are several;
    /// [`Error::BadPrefix`] unless `prefix` has 1 to 64 hexadecimal digits.
    pub fn find(&self, prefix: &str) -> Result<Option<Digest>> {
        let bound = |fill: &str| {
            let missing = (2 * DIGEST_BYTES).checked_sub(prefix.len())?;
            let text = format!("{prefix}{}", fill.repeat(missing));
            text.parse::<Digest>().ok().filter(|_| !prefix.is_empty())
        };
        let (Some(low), Some(high)) = (bound("0"), bound("f")) else {
            return Err(Error::BadPrefix {
                prefix: prefix.to_owned(),
            });
        };
        self.inner().set.load().find_between(&low, &high, prefix)
    }

    /// Number of objects, by the indexes alone. One that was put again to repair a damaged copy counts
    /// twice until a compaction, and a read-only handle counts what a crash has taken before it was synced
    /// until a writer has opened the store. Constant for each segment.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner().set.load().objects()
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects that are in the store now, in the order of the files, each once and verified.
    /// What is put or compacted later changes nothing for the iterator.
    ///
    /// Holds in the heap 4 bytes for each object of the sealed segment that it is in, up to 24 while it
    /// begins one, and 48 for each object that was not sealed when it was called, up to twice as many
    /// where several segments were not. It reads up to 64 objects or 256 KiB ahead, which is a copy with
    /// [`ReadMode::Pread`](crate::ReadMode::Pread). Where the set index does not cover all segments it
    /// also searches sidecars, which costs up to a byte for each of their objects once a process.
    #[must_use]
    pub fn iter(&self) -> Objects {
        Objects::new(self.inner().set.load_full())
    }

    /// As [`iter`](Self::iter), without reading any content, but for what [`contains`](Self::contains)
    /// reads.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests::new(self.inner().set.load_full())
    }

    /// What was repaired when this handle was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner().report
    }

    /// Reads and checks what this handle has open: each record against its digest, each sidecar against
    /// its data, each run of the set index that is in use against the sidecars, and whether the manifest
    /// can be read. Runs on all cores, in threads of its own, beside readers and writers; sees what was
    /// there when it began.
    ///
    /// It does not read what nothing depends on: the journals, what recovery has cut off and saved, runs
    /// that are of no use, padding, and files that are not the store's. What is still in the buffer is
    /// checked there, and not on disk. A manifest that is whole and not the newest, as from a backup, it
    /// cannot tell from the right one.
    ///
    /// `progress` is called often, from several threads; returning [`ControlFlow::Break`] ends the
    /// check early. A writer writes a damaged sidecar anew where its data proves what it was.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use std::ops::ControlFlow;
    ///
    /// let report = store.verify(|progress| {
    ///     eprintln!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also where the system does not start the threads. Damage is not an error but in the
    /// report.
    pub fn verify(
        &self,
        progress: impl Fn(&VerifyProgress) -> ControlFlow<()> + Sync,
    ) -> Result<VerifyReport> {
        let inner = self.inner();
        let set = inner.set.load_full();
        let reading = inner.options.reading();
        let verify = || verify::verify(&set, &inner.dir, reading, &inner.report, &progress);
        let (mut report, damaged_sidecars) =
            in_own_threads(verify).map_err(Error::io(&inner.root))??;
        inner.look_after(&set);
        if let Ok(writer) = inner.writer() {
            for sealed in damaged_sidecars {
                if let Err(error) = inner.rewrite_sidecar(writer, &sealed) {
                    report.problems.push(Problem {
                        segment: Some(sealed.id()),
                        run: None,
                        what: format!("the sidecar could not be written again: {error}"),
                    });
                }
            }
        }
        Ok(report)
    }

    /// Number of objects and size of files, for each segment and over all. Lists the folder once.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = self.inner();
        let mut stats = stats::stats(&inner.set.load());
        stats.count_torn_files(&inner.dir);
        stats
    }

    /// Removes the files with bytes that openings cut off the ends of segments, `seg-N.torn`, and gives how
    /// many there were. The store never reads them. They are evidence of what a crash or damage left, so
    /// look first whether [`verify`](Self::verify) finds all that you expect.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Forked`], [`Error::Io`]. Some files may have been removed then.
    pub fn remove_torn_files(&self) -> Result<usize> {
        let inner = self.inner();
        inner.writer()?;
        let files = inner.dir.torn_files()?;
        for (path, _) in &files {
            inner.dir.remove_if_present(path)?;
        }
        Ok(files.len())
    }

    /// For a read-only handle: sees what the writer has flushed, sealed and compacted since. True if
    /// something changed. A writer always sees everything, for it this does nothing.
    ///
    /// Of a store with more segments than can be mapped or held open, some files are opened for each
    /// read. A read of one that the writer has removed is an [`Error::Io`] until the next refresh.
    ///
    /// # Errors
    ///
    /// Those of [`Options::open`], and [`Error::Forked`]. After an error the handle sees what it saw
    /// before.
    pub fn refresh(&self) -> Result<bool> {
        let inner = self.inner();
        inner.require_own_process()?;
        let Access::Reader(reader) = &inner.access else {
            return Ok(false);
        };
        // What a panic could leave behind in the reader is at worst read again.
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let before = inner.set.load_full();
        let (set, _) = alone(|| reader.load(&inner.dir, &inner.options, &before))?;
        let changed = !set.is_same_as(&before);
        if changed {
            inner.set.store(Arc::new(set));
        }
        Ok(changed)
    }

    /// Writes another store into the folder `target`, which must not exist or be empty but for
    /// `lost+found`: all objects that were put before this was called, as hard links, so it costs no
    /// space and next to no time. On another file system it copies, with the permissions of the files.
    ///
    /// From then on the two are changed independently of each other, but for damage: a file that has
    /// two names is one file, and what rots or is overwritten from outside is lost in both.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], [`Error::Locked`] where somebody else begins a store there at the same time,
    /// [`Error::ReadOnly`], [`Error::Poisoned`], [`Error::Io`]. The last can leave a part of the store, which
    /// says that segments are missing; remove it before you try again.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<()> {
        self.inner().checkpoint(target.as_ref())
    }

    /// Syncs and drops this handle.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](Self::sync). A handle that was opened read-only has none.
    pub fn close(self) -> Result<()> {
        match self.inner().access {
            Access::Writer(_) => self.sync(),
            Access::Reader(_) => Ok(()),
        }
    }

    fn inner(&self) -> &Inner {
        &self.handle.inner
    }
}

impl IntoIterator for &Store {
    type Item = Result<Object>;
    type IntoIter = Objects;

    fn into_iter(self) -> Objects {
        self.iter()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root())
            .field("objects", &self.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Syncs, and seals what would take long to load at the next opening.
    fn finish_up(&self, writer: &Writer) -> Result<()> {
        self.sync()?;
        self.seal_rolled()?;
        let set = self.set.load_full();
        let newest = set.unsealed().last();
        if newest.is_some_and(|active| active.objects() > UNSEALED_OBJECTS_MAX) {
            self.seal_all()?;
        }
        self.forget_retired(writer)?;
        self.index_if_needed(writer, Effort::Closing)
    }

    /// Asks for a damaged run of the set index to be built anew.
    #[inline]
    fn look_after(&self, set: &SegmentSet) {
        if set.has_damaged_run() {
            self.ask_for_index();
        }
    }

    #[cold]
    fn ask_for_index(&self) {
        if let Ok(writer) = self.writer() {
            writer.ask_for_index();
        }
    }

    /// What only a writer has. Whoever changes something, or takes one of its locks, comes by here
    /// first.
    fn writer(&self) -> Result<&Writer> {
        match &self.access {
            Access::Writer(writer) => self.require_own_process().map(|()| &**writer),
            Access::Reader(_) => Err(Error::ReadOnly),
        }
    }

    /// Fails in a process that was forked from the one that opened the store. It has the parent's
    /// locks as they were at that moment, and those that a thread held are never given up there.
    fn require_own_process(&self) -> Result<()> {
        if self.origin.is_forked() {
            return Err(Error::Forked);
        }
        Ok(())
    }

    /// Reads several objects, with other threads where there are any.
    fn look_up_many<'a>(
        &self,
        set: &'a SegmentSet,
        digests: &[Digest],
    ) -> Vec<Result<Option<Found<'a>>>> {
        let look_up = || set.lookup_many(digests, self.options.verify);
        if self.origin.is_forked() {
            // The thread that was forked may be one of `rayon`'s, and the others of its pool are gone.
            alone(look_up)
        } else {
            look_up()
        }
    }
}

impl Drop for Handle {
    /// Flushes, syncs, and seals what would take long to load at the next opening. Whoever wants to
    /// know of errors calls [`Store::close`]; what is lost here was never synced.
    fn drop(&mut self) {
        let Access::Writer(writer) = &self.inner.access else {
            return;
        };
        if self.inner.dir.is_inherited() {
            // Nothing here is this process's own: neither the threads nor the lock.
            return;
        }
        writer.close_background();
        for thread in self.background.drain(..) {
            // It can only have panicked, and what it left is done below.
            let _ = thread.join();
        }
        // What fails here is repaired by the next opening.
        let _ = self.inner.finish_up(writer);
        // An object may outlive this; when the last reader of a retired segment goes, its files are
        // left to the next opening, for the folder may have another writer by then.
        self.inner.dir.close();
        writer.unlock();
    }
}
