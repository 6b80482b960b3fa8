//! Putting and syncing.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::phase::Phase;
use super::seal::{Job, Ledger};
use super::{Inner, Store};
use crate::digest::{Digest, Hashed};
use crate::dir::{Dir, WriterLock};
use crate::error::{Error, Result};
use crate::format::record;
use crate::segment::Appender;
use crate::segment::appender::Begun;
use crate::segment_set::SegmentSet;
use crate::sync::mpsc::Sender;
use crate::sync::{ArcSwapGuard, Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// How many full segments may wait to be sealed before a put helps. Each holds its index in memory.
const SEALING_SEGMENTS_MAX: usize = 16;

/// How many segment ids there are.
const SEGMENT_IDS: u64 = 1 << u32::BITS;

pub(super) type SetGuard = ArcSwapGuard<SegmentSet>;

/// What only a writer has.
///
/// Locks are taken in this order: `phase`, `sealing`, `ledger`, `appender`. No lock that a put takes
/// is held while a file is synced.
pub(super) struct Writer {
    pub(super) phase: RwLock<Phase>,
    /// Held while a segment is sealed, so that each is sealed once.
    pub(super) sealing: Mutex<()>,
    pub(super) ledger: Mutex<Ledger>,
    appender: Mutex<Appender>,
    next_id: AtomicU64,
    background: Mutex<Option<Background>>,
    is_closing: AtomicBool,
    index_is_asked_for: AtomicBool,
    next_run_number: AtomicU32,
    lock: WriterLock,
}

/// What the threads in the background are told by. They end when these are dropped.
pub(super) struct Background {
    pub(super) sealing: Sender<Job>,
    pub(super) indexing: Sender<()>,
}

impl Writer {
    pub(super) fn new(
        appender: Appender,
        ledger: Ledger,
        background: Background,
        lock: WriterLock,
        next_run_number: u32,
    ) -> Self {
        Self {
            phase: RwLock::new(Phase::default()),
            sealing: Mutex::new(()),
            appender: Mutex::new(appender),
            next_id: AtomicU64::new(ledger.next_id()),
            ledger: Mutex::new(ledger),
            background: Mutex::new(Some(background)),
            is_closing: AtomicBool::new(false),
            index_is_asked_for: AtomicBool::new(false),
            next_run_number: AtomicU32::new(next_run_number),
            lock,
        }
    }

    /// Ids that were never used, one after the other.
    pub(super) fn take_ids(&self, count: usize) -> Result<Range<u64>> {
        let end_of = |begin: u64| {
            let end = begin.checked_add(count as u64)?;
            (end <= SEGMENT_IDS).then_some(end)
        };
        let begin = self
            .next_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end_of)
            .map_err(|_| Error::SegmentIdsExhausted)?;
        Ok(begin..begin + count as u64)
    }

    /// Gives back ids under which no file came to be, unless somebody has taken others since.
    pub(super) fn give_back_ids(&self, ids: Range<u64>) {
        let (next, before) = (ids.end, ids.start);
        let _ = self
            .next_id
            .compare_exchange(next, before, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Creates the data file of a new segment. Only then its id is used.
    fn begin_segment(&self, dir: &Dir) -> Result<Begun> {
        let ids = self.take_ids(1)?;
        // `take_ids` gives none beyond `u32`.
        let id = u32::try_from(ids.start).map_err(|_| Error::SegmentIdsExhausted)?;
        Begun::create(dir, id).inspect_err(|_| {
            if !dir.holds_segment(id) {
                self.give_back_ids(ids);
            }
        })
    }

    /// Whether no id was taken after this one.
    fn is_newest_id(&self, id: u32) -> bool {
        self.next_id() == u64::from(id) + 1
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// A put that panics leaves the appender as it was: every field changes after what it speaks of
    /// has happened. So the others go on.
    pub(super) fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_phase(&self) -> RwLockReadGuard<'_, Phase> {
        self.phase.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the puts that are under way.
    pub(super) fn set_phase(&self, phase: Phase) {
        *self.phase.write().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Leaves something to the background thread.
    pub(super) fn in_background(&self, job: Job) {
        let background = self.background.lock();
        if let Some(background) = &*background.unwrap_or_else(PoisonError::into_inner) {
            // The thread ends before the last handle does only if it panicked; then whoever waits
            // for a segment to be sealed seals it.
            let _ = background.sealing.send(job);
        }
    }

    /// Asks for the set index to be brought up to date in the background.
    pub(super) fn ask_for_index(&self) {
        if self.index_is_asked_for.swap(true, Ordering::Relaxed) {
            return;
        }
        let background = self.background.lock();
        if let Some(background) = &*background.unwrap_or_else(PoisonError::into_inner) {
            // Without that thread, lookups are slower and as right.
            let _ = background.indexing.send(());
        }
    }

    /// The index thread begins to look; what changes from here on is to be asked for again.
    pub(super) fn begin_indexing(&self) {
        self.index_is_asked_for.store(false, Ordering::Relaxed);
    }

    /// A number for a run of the set index. One that is used again harms nobody: a run says itself
    /// what it was built from.
    pub(super) fn take_run_number(&self) -> u32 {
        self.next_run_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether nobody waits any more for what is done in the background.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Gives up the lock.
    pub(super) fn unlock(&self) {
        self.lock.unlock();
    }

    /// Lets the threads in the background end: one seals what it was left, the other gives up.
    pub(super) fn close_background(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        let background = self.background.lock();
        background.unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Store {
    /// Stores content and gives its digest. Content that the store already holds, byte for byte, is
    /// not stored again; a damaged copy does not count, so putting again repairs.
    ///
    /// It can be read at once, by every thread. It survives power loss after the next
    /// [`sync`](Self::sync). It is hashed before any lock is taken; large content is written without
    /// being buffered.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond `u32::MAX` bytes; [`Error::ReadOnly`]; [`Error::Forked`];
    /// [`Error::Poisoned`]; [`Error::Io`], for instance when the disk is full. Then nothing was stored, what was stored
    /// before is unharmed, and the put can be tried again.
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        // Nothing is hashed that would then be refused.
        self.inner().writer_accepting(content.len())?;
        let hashed = Hashed::new(content);
        self.put_hashed(&hashed)?;
        Ok(*hashed.digest())
    }

    /// As [`put`](Self::put), for content that was hashed elsewhere. True if it was not held yet.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put).
    pub fn put_hashed(&self, hashed: &Hashed<'_>) -> Result<bool> {
        self.inner().put_one(hashed)
    }

    /// Makes everything durable that was put before: after this returns, it survives power loss.
    /// Puts and reads go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Forked`]; [`Error::Io`] if the system could not write, or not sync.
    /// After a failed sync of a file it is
    /// unknown what is on disk, and every further write is [`Error::Poisoned`].
    pub fn sync(&self) -> Result<()> {
        self.inner().sync()
    }
}

impl Inner {
    /// Appends content unless it is held already. True if it was not.
    fn put_one(&self, hashed: &Hashed<'_>) -> Result<bool> {
        let writer = self.writer_accepting(hashed.content().len())?;
        let (phase, set) = self.begin_put(writer)?;
        let view = View::of(&set);
        if is_held(hashed, &phase, &set) {
            return Ok(false);
        }
        let mut appender = writer.lock_appender();
        if view.is_current(&appender) {
            self.append(writer, &mut appender, hashed)?;
            Ok(true)
        } else {
            self.append_absent(writer, &mut appender, &phase, hashed, &set)
        }
    }

    /// The writer, if writes are accepted and content of this length is not too large.
    pub(super) fn writer_accepting(&self, content_bytes: usize) -> Result<&Writer> {
        let writer = self.writer()?;
        self.dir.check_writable()?;
        let bytes = content_bytes as u64;
        if bytes > u64::from(u32::MAX) {
            return Err(Error::TooLarge { bytes });
        }
        Ok(writer)
    }

    /// The phase, and the segments as they are in it. Seals in this thread first where the background
    /// does not keep up, so that memory stays bounded; no lock that others wait for is held then.
    pub(super) fn begin_put<'a>(
        &'a self,
        writer: &'a Writer,
    ) -> Result<(RwLockReadGuard<'a, Phase>, SetGuard)> {
        // A set that was loaded before the phase may hold segments that a compaction has replaced.
        let phase = writer.read_phase();
        let set = self.set.load();
        if set.unsealed().len() <= SEALING_SEGMENTS_MAX {
            return Ok((phase, set));
        }
        drop((phase, set));
        self.seal_oldest()?;
        let phase = writer.read_phase();
        Ok((phase, self.set.load()))
    }

    pub(super) fn append_absent(
        &self,
        writer: &Writer,
        appender: &mut Appender,
        phase: &Phase,
        hashed: &Hashed<'_>,
        looked_at: &Arc<SegmentSet>,
    ) -> Result<bool> {
        // Another thread may have put it since the first look, or it came before in this batch. If
        // no segment was sealed since, it can only be in one that is not.
        let set = self.set.load();
        let accept = |id| phase.accepts(id, hashed.digest());
        let segment = if Arc::ptr_eq(&set, looked_at) {
            set.unsealed_segment_holding(hashed, accept)
        } else {
            set.segment_holding(hashed, accept)
        };
        if let Some(segment) = segment {
            phase.pin(segment, hashed.digest());
            return Ok(false);
        }
        drop(set);
        self.append(writer, appender, hashed)?;
        Ok(true)
    }

    /// Appends, in a new segment if this one is full.
    pub(super) fn append(
        &self,
        writer: &Writer,
        appender: &mut Appender,
        hashed: &Hashed<'_>,
    ) -> Result<()> {
        let content_bytes = hashed.content().len() as u64;
        if !appender.has_room_for(content_bytes) {
            self.roll(writer, appender, content_bytes)?;
        }
        appender.append(hashed)
    }

    /// Goes on with a new segment and leaves the full one to the background thread.
    pub(super) fn roll(
        &self,
        writer: &Writer,
        appender: &mut Appender,
        content_bytes: u64,
    ) -> Result<()> {
        appender.flush()?;
        let next = self.begin_next(writer, appender, content_bytes + record::HEADER_BYTES)?;
        self.publish(writer, |set| set.with_active(Arc::clone(next.active())));
        *appender = next;
        writer.in_background(Job::Seal);
        Ok(())
    }

    /// Goes on with a segment whose id is higher than this. A program that knows no manifest, as NEDB
    /// v3, appends to the segment with the highest id, so that must never be a sealed or a retired one.
    ///
    /// Gives the id of the segment that was appended to before if nothing is in it. It is no part of the
    /// store any more, and its files can be removed.
    pub(super) fn go_on_above(&self, writer: &Writer, id: u32) -> Result<Option<u32>> {
        let mut appender = writer.lock_appender();
        if appender.active().id() > id {
            return Ok(None);
        }
        if !appender.is_vacant() {
            self.roll(writer, &mut appender, 0)?;
            return Ok(None);
        }
        let next = self.begin_next(writer, &mut appender, 0)?;
        let empty = Arc::clone(appender.active());
        let active = Arc::clone(next.active());
        empty.discard();
        self.publish(writer, |set| {
            set.with_active_instead(empty.id(), Arc::clone(&active))
        });
        *appender = next;
        Ok(Some(empty.id()))
    }

    /// Begins a segment with room for a first record of `first_bytes`.
    fn begin_next(
        &self,
        writer: &Writer,
        appender: &mut Appender,
        first_bytes: u64,
    ) -> Result<Appender> {
        let begun = match appender.take_begun() {
            Some(begun) if writer.is_newest_id(begun.id()) => begun,
            older => {
                if let Some(older) = older {
                    older.discard(&self.dir);
                }
                writer.begin_segment(&self.dir)?
            }
        };
        let journal = match begun.create_journal(&self.dir) {
            Ok(journal) => journal,
            Err(error) => {
                // The next attempt goes on with it, so that no attempt uses up an id.
                appender.keep_begun(begun);
                return Err(error);
            }
        };
        Ok(begun.finish(
            journal,
            self.options.read_mode,
            self.options.segment_bytes_max,
            first_bytes,
        ))
    }

    pub(super) fn sync(&self) -> Result<()> {
        let writer = self.writer()?;
        self.dir.check_writable()?;
        let (active, end) = {
            let mut appender = writer.lock_appender();
            appender.flush()?;
            (Arc::clone(appender.active()), appender.end())
        };
        // Loaded after the flush: a segment that was full before is in it, or sealed and durable.
        let set = self.set.load_full();
        for unsealed in set.unsealed() {
            if unsealed.id() < active.id() {
                // Its name was there when the active segment was created, whose name is durable now
                // or is made so below, with all that are in the folder.
                unsealed.make_data_durable(unsealed.flushed_bytes())?;
            }
        }
        active.make_durable(&self.dir, end)?;
        for unsealed in set.unsealed() {
            if unsealed.id() < active.id() {
                unsealed.note_name_is_durable();
            }
        }
        let mut appender = writer.lock_appender();
        if appender.active().id() == active.id() {
            appender.mark_synced(end);
        }
        drop(appender);
        // A sync in the background may have failed.
        self.dir.check_writable()
    }
}

/// How much of the newest segment a lookup has seen. All that is put goes there, so nothing was put
/// since if nothing was added to it.
#[derive(Clone, Copy)]
pub(super) struct View {
    newest: Option<u32>,
    records: u32,
}

impl View {
    /// Of a lookup that follows.
    pub(super) fn of(set: &SegmentSet) -> Self {
        let newest = set.unsealed().last();
        Self {
            newest: newest.map(|active| active.id()),
            records: newest.map_or(0, |active| active.records()),
        }
    }

    /// The caller has appended something that it knows of.
    pub(super) fn advance(&mut self) {
        self.records += 1;
    }

    /// Whether the lookup has seen everything that was put.
    pub(super) fn is_current(self, appender: &Appender) -> bool {
        let active = appender.active();
        self.newest == Some(active.id()) && self.records == active.records()
    }
}

/// Whether a copy makes storing this content superfluous; if so, a running compaction keeps it.
pub(super) fn is_held(hashed: &Hashed<'_>, phase: &Phase, set: &SegmentSet) -> bool {
    let accept = |id| phase.accepts(id, hashed.digest());
    let segment = set.segment_holding(hashed, accept);
    if let Some(segment) = segment {
        phase.pin(segment, hashed.digest());
    }
    segment.is_some()
}
