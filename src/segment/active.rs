//! The view that readers have of a segment that is not sealed yet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Extent;
use super::active_index::{ActiveIndex, Indexed};
use super::content::Content;
use crate::digest::{Digest, HashFunction};
use crate::dir::{Dir, WritableFile, read_exact_at};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::memory::{AppendBuffer, Map, SharedAppendBuffer};
use crate::sync::published::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{ArcSwap, Condvar, CountedArc, Mutex, lock, wait};

/// The segment that records are appended to, or a segment that waits to be sealed.
///
/// Readers find a record in `index`. Its content is in the map if it was flushed, else in `buffer`.
/// Nothing here makes a reader wait: the one [`Appender`](super::Appender) publishes content before
/// it publishes the entry that leads to it.
#[derive(Debug)]
pub(crate) struct Active {
    id: u32,
    hash_function: HashFunction,
    file: ActiveFile,
    /// Absent where the system or the options refuse a map; positional reads then take its place.
    map: Option<Arc<Map>>,
    index: Arc<ActiveIndex>,
    buffer: ArcSwap<Buffer>,
    /// Length of the data file up to which all records are in the file.
    flushed_bytes: AtomicU64,
    /// Length up to which the data file is durable. Changes only in the turn of a thread that syncs.
    durable_bytes: AtomicU64,
    /// Whether a thread syncs the data file. There is one at a time, so that a failing fsync is not
    /// hidden by another that succeeds at the same time. Readers never take this lock, and it is not
    /// held while the thread syncs.
    is_syncing: Mutex<bool>,
    /// Notified when a thread has synced.
    synced: Condvar,
    /// How often the file was cut. A cut has to be synced too, or a crash can leave the file longer than
    /// it is.
    cuts: AtomicU64,
    /// How many cuts are durable.
    durable_cuts: AtomicU64,
    name_is_durable: AtomicBool,
    /// Length that is durable under a durable name: `durable_bytes` when the name became durable.
    durable_named_bytes: AtomicU64,
    /// Whether the segment holds nothing and another segment took its place.
    is_discarded: AtomicBool,
}

/// The records behind the flushed records. `base` is the position of the buffer's first byte in the
/// data file.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) base: u64,
    pub(super) bytes: SharedAppendBuffer,
}

#[derive(Debug)]
enum ActiveFile {
    Writer(WritableFile),
    Reader(File, Box<Path>),
}

/// The part of an unsealed segment that recovery or a reader has read.
pub(crate) struct Contents {
    /// The function that names the objects.
    pub(crate) hash_function: HashFunction,
    pub(crate) index: Arc<ActiveIndex>,
    /// Length of the data file that the index covers.
    pub(crate) bytes: u64,
    pub(crate) durable_bytes: u64,
}

/// The turn of a thread to sync the file. Others get theirs when it is dropped, also if a panic drops
/// it.
struct SyncTurn<'a>(&'a Active);

impl Drop for SyncTurn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.is_syncing) = false;
        self.0.synced.notify_all();
    }
}

impl Active {
    /// Makes the writer's segment. The map may reach beyond the end of the file.
    pub(crate) fn for_writer(
        id: u32,
        file: WritableFile,
        map: Option<Map>,
        contents: Contents,
    ) -> Self {
        Self::new(id, ActiveFile::Writer(file), map, contents)
    }

    /// Makes the segment for a reader in another process.
    pub(crate) fn for_reader(
        id: u32,
        file: File,
        path: &Path,
        map: Option<Map>,
        contents: Contents,
    ) -> Self {
        Self::new(id, ActiveFile::Reader(file, path.into()), map, contents)
    }

    fn new(id: u32, file: ActiveFile, map: Option<Map>, contents: Contents) -> Self {
        if let Some(map) = &map {
            map.advise_random();
            map.make_readable(contents.bytes);
        }
        Self {
            id,
            hash_function: contents.hash_function,
            file,
            map: map.map(Arc::new),
            index: contents.index,
            buffer: ArcSwap::from_pointee(Buffer {
                base: contents.bytes,
                bytes: CountedArc::clone(AppendBuffer::with_capacity(0).shared()),
            }),
            flushed_bytes: AtomicU64::new(contents.bytes),
            durable_bytes: AtomicU64::new(contents.durable_bytes),
            is_syncing: Mutex::new(false),
            synced: Condvar::new(),
            // A writer that was killed may have cut the file.
            cuts: AtomicU64::new(1),
            durable_cuts: AtomicU64::new(0),
            name_is_durable: AtomicBool::new(false),
            durable_named_bytes: AtomicU64::new(0),
            is_discarded: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        #[cfg(test)]
        crate::visits::count();
        self.id
    }

    /// The function that names the objects.
    pub(crate) const fn hash_function(&self) -> HashFunction {
        self.hash_function
    }

    /// Whether this segment finds its records in that index.
    pub(crate) fn has_index(&self, index: &Arc<ActiveIndex>) -> bool {
        Arc::ptr_eq(&self.index, index)
    }

    /// Number of objects that can be found.
    pub(crate) fn objects(&self) -> u64 {
        self.index.objects()
    }

    /// Number of records, superseded records included. A later lookup finds all of them but the
    /// superseded.
    pub(crate) fn records(&self) -> u32 {
        self.index.len()
    }

    /// Content of all records, in bytes. Takes time linear in their number.
    pub(crate) fn content_bytes(&self) -> u64 {
        let lengths = self.entries().into_iter().map(|entry| u64::from(entry.len));
        lengths.sum()
    }

    /// Length of the data file that is flushed.
    pub(crate) fn flushed_bytes(&self) -> u64 {
        self.flushed_bytes.load(Ordering::Acquire)
    }

    /// Length of the data file that is known to be durable.
    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<&Indexed> {
        self.index.find(digest)
    }

    /// All records, in no order. A copy that is being superseded at this moment may be listed
    /// twice.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.index.entries()
    }

    /// All records, in file order.
    pub(crate) fn entries_in_file_order(&self) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.sort_unstable_by_key(|entry| entry.offset);
        entries.dedup_by_key(|entry| entry.offset);
        entries
    }

    /// The records that a lookup finds now, in no order.
    pub(crate) fn current_entries(&self) -> Vec<Entry> {
        self.index.current_entries()
    }

    /// The content at `extent`, or `None` if the file has become too short to hold it.
    pub(crate) fn read(&self, extent: Extent) -> Result<Option<Content<'_>>> {
        let len = extent.len as usize;
        if let Some(mapped) = self.mapped(extent.offset, len) {
            return Ok(Some(mapped));
        }
        let buffer = self.buffer.load();
        if let Some(at) = extent.offset.checked_sub(buffer.base) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if buffer.bytes.slice(at, len).is_some() {
                let buffer = CountedArc::clone(&buffer.bytes);
                return Ok(Some(Content::Buffered { buffer, at, len }));
            }
        }
        // The record was flushed since the first look, or there is no map.
        if let Some(mapped) = self.mapped(extent.offset, len) {
            return Ok(Some(mapped));
        }
        let (file, path) = self.file();
        let mut bytes = vec![0; len];
        match read_exact_at(file, &mut bytes, extent.offset) {
            Ok(()) => Ok(Some(Content::Heap(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    /// Whether this record was never known to be durable and was not checked since. A reader meets
    /// such records where a writer crashed and no writer was opened after it.
    pub(crate) fn may_be_torn(&self, entry: &Entry) -> bool {
        let end = entry.end().unwrap_or(u64::MAX);
        matches!(self.file, ActiveFile::Reader(..)) && end > self.durable_bytes()
    }

    /// The map of the file, if it is mapped.
    pub(crate) fn map(&self) -> Option<&Map> {
        self.map.as_deref()
    }

    /// Borrows flushed bytes from the map.
    #[inline]
    fn mapped(&self, offset: u64, len: usize) -> Option<Content<'_>> {
        let map = self.map.as_ref()?;
        let bytes = map.slice(offset, len)?;
        Some(Content::Unsealed { map, offset, bytes })
    }

    /// Makes the data file durable up to `bytes`, which have been flushed, and its name too, and so
    /// the names of all older segments.
    pub(crate) fn make_durable(&self, dir: &Dir, bytes: u64) -> Result<()> {
        self.make_data_durable(bytes)?;
        if !self.name_is_durable.load(Ordering::Acquire) {
            dir.sync()?;
        }
        self.note_name_is_durable();
        Ok(())
    }

    /// Notes that the folder was synced since the file was created.
    pub(crate) fn note_name_is_durable(&self) {
        self.name_is_durable.store(true, Ordering::Release);
        let durable_bytes = self.durable_bytes();
        self.durable_named_bytes
            .fetch_max(durable_bytes, Ordering::AcqRel);
    }

    /// Length of the data file that is known to survive a power failure, its name included. Does
    /// not wait for a sync that is under way.
    pub(crate) fn durable_named_bytes(&self) -> u64 {
        self.durable_named_bytes.load(Ordering::Acquire)
    }

    /// Notes that another segment has taken the place of this empty one, whose file may be removed
    /// while another thread syncs it.
    pub(crate) fn discard(&self) {
        self.is_discarded.store(true, Ordering::Release);
    }

    /// Makes the data file durable up to `bytes`, which have been flushed; the caller does so with
    /// the name. Fails if the file has lost its name, since its records would not be found again.
    ///
    /// Threads that call this while another thread syncs the file wait for it. Then one of them syncs for
    /// all of them.
    pub(crate) fn make_data_durable(&self, bytes: u64) -> Result<()> {
        let file = self.writable()?;
        let Some(_turn) = self.turn_to_sync(bytes) else {
            return self.require_name(file);
        };
        // Both before the sync: what is flushed or cut during it may not be part of it.
        let cuts = self.cuts.load(Ordering::Acquire);
        let flushed_bytes = self.flushed_bytes();
        file.sync()?;
        self.require_name(file)?;
        self.durable_cuts.fetch_max(cuts, Ordering::AcqRel);
        self.durable_bytes
            .fetch_max(flushed_bytes, Ordering::AcqRel);
        Ok(())
    }

    /// Waits until no other thread syncs, and returns the turn to do so. Returns `None` as soon as the
    /// file is durable up to `bytes`.
    fn turn_to_sync(&self, bytes: u64) -> Option<SyncTurn<'_>> {
        let mut is_syncing = lock(&self.is_syncing);
        loop {
            let cuts = self.cuts.load(Ordering::Acquire);
            if self.durable_bytes() >= bytes && self.durable_cuts.load(Ordering::Acquire) == cuts {
                return None;
            }
            if !*is_syncing {
                *is_syncing = true;
                return Some(SyncTurn(self));
            }
            is_syncing = wait(&self.synced, is_syncing);
        }
    }

    fn require_name(&self, file: &WritableFile) -> Result<()> {
        let named = file.require_name();
        named.or_else(|error| {
            let is_discarded = self.is_discarded.load(Ordering::Acquire);
            if is_discarded { Ok(()) } else { Err(error) }
        })
    }

    pub(super) fn writable(&self) -> Result<&WritableFile> {
        match &self.file {
            ActiveFile::Writer(file) => Ok(file),
            ActiveFile::Reader(..) => Err(Error::ReadOnly),
        }
    }

    fn file(&self) -> (&File, &Path) {
        match &self.file {
            ActiveFile::Writer(file) => (file.file(), file.path()),
            ActiveFile::Reader(file, path) => (file, path),
        }
    }

    /// For the appender: cuts off the bytes behind the flushed records.
    pub(super) fn cut_unflushed(&self) -> Result<()> {
        let cut = self.writable()?.cut(self.flushed_bytes());
        self.cuts.fetch_add(1, Ordering::AcqRel);
        cut
    }

    /// For the appender: the file now holds all records up to `bytes`.
    pub(super) fn set_flushed(&self, bytes: u64) {
        if let Some(map) = &self.map {
            map.make_readable(bytes);
        }
        self.flushed_bytes.store(bytes, Ordering::Release);
    }

    /// For the appender: unflushed records are in this buffer now. All records before it are
    /// flushed.
    pub(super) fn set_buffer(&self, base: u64, bytes: SharedAppendBuffer) {
        self.buffer.store(Arc::new(Buffer { base, bytes }));
    }
}
