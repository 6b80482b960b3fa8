//! The locks of a writer and their order.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::background::{Job, SealRequests};
use super::events::{EventCounts, Events};
use super::ids::SegmentIds;
use super::ledger::Ledger;
use super::phase::Phase;
use super::shared::{SetGuard, Shared};
use crate::dir::{Dir, WriterLock};
use crate::error::{Error, Result};
use crate::segment::Appender;
use crate::segment_set::SegmentSet;
use crate::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, lock, read, write};

/// The writer of an open store.
///
/// Its locks are taken in this order: `indexing`, `phase`, `sealing`, `ledger`, `appender`. No lock that a put
/// takes is held while a file is synced. A public function that changes something checks first that
/// it runs in the process that opened the store (see [`Shared::require_own_process`]).
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// Each put holds a read lock on the phase, so changing the phase waits for puts of the old
    /// one. The phase is replaced as a whole, so a panic cannot leave half of it.
    phase: RwLock<Phase>,
    /// Held while a segment is sealed, so that each is sealed once. Guards no value.
    pub(super) sealing: Mutex<()>,
    pub(super) ledger: Mutex<Ledger>,
    /// Held while the set index is brought up to date, so that no run is built twice. Guards no value.
    pub(super) indexing: Mutex<()>,
    /// A panic leaves the appender whole, since each field changes only after the event that it
    /// records. So the puts of other threads go on.
    appender: Mutex<Appender>,
    /// Replaced sets that readers still used. No other lock is taken while this one is held.
    outdated: Mutex<Vec<Arc<SegmentSet>>>,
    pub(super) ids: SegmentIds,
    pub(super) seal_requests: SealRequests,
    pub(super) next_run_number: AtomicU32,
    pub(super) lock: WriterLock,
    pub(super) events: Events,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        (appender, ledger): (Appender, Ledger),
        seal_requests: SealRequests,
        lock: WriterLock,
        next_run_number: u32,
    ) -> Self {
        Self {
            shared,
            phase: RwLock::new(Phase::default()),
            sealing: Mutex::new(()),
            appender: Mutex::new(appender),
            outdated: Mutex::new(Vec::new()),
            ids: SegmentIds::new(ledger.next_id()),
            ledger: Mutex::new(ledger),
            indexing: Mutex::new(()),
            seal_requests,
            next_run_number: AtomicU32::new(next_run_number),
            lock,
            events: Events::default(),
        }
    }

    pub(super) fn dir(&self) -> &Dir {
        &self.shared.dir
    }

    /// What this writer has done, without the repairs of the opening.
    pub(crate) fn event_counts(&self) -> EventCounts {
        self.events.counts(self.dir().traffic())
    }

    /// The present segments.
    pub(super) fn set(&self) -> SetGuard {
        self.shared.set.load()
    }

    pub(super) fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        lock(&self.appender)
    }

    pub(super) fn read_phase(&self) -> RwLockReadGuard<'_, Phase> {
        read(&self.phase)
    }

    /// Changes the idle phase to the one that `next` returns, at a moment when no put is under way.
    /// Fails while a compaction or a trim runs.
    pub(super) fn begin_phase<T>(&self, next: impl FnOnce() -> Result<(Phase, T)>) -> Result<T> {
        let mut phase = write(&self.phase);
        if !matches!(*phase, Phase::Idle) {
            return Err(Error::CompactionRunning);
        }
        let (begun, result) = next()?;
        *phase = begun;
        Ok(result)
    }

    /// Changes the phase after the puts that are under way have ended.
    pub(super) fn set_phase(&self, phase: Phase) {
        *write(&self.phase) = phase;
    }

    /// Fails if writes are refused or content of this length is too large.
    pub(crate) fn require_acceptable(&self, content_bytes: usize) -> Result<()> {
        self.dir().check_writable()?;
        let bytes = content_bytes as u64;
        if bytes > u64::from(u32::MAX) {
            return Err(Error::TooLarge { bytes });
        }
        Ok(())
    }

    /// Replaces the set that readers see.
    ///
    /// Dropping the last handle to an old set frees the index and the maps of segments that only
    /// this set has, and removes their files. If a reader still uses the old set, the thread that
    /// seals or the next trim drops it, so that no reader has to in the middle of a `get`.
    pub(super) fn publish(&self, change: impl Fn(&SegmentSet) -> SegmentSet) {
        let old = self.shared.replace_set(change);
        if Arc::strong_count(&old) > 1 {
            lock(&self.outdated).push(old);
            self.seal_requests.send(Job::DropUnusedSets);
        }
    }

    /// Drops the outdated sets that no reader uses, with the files that only they have. Returns whether
    /// others are left.
    pub(super) fn drop_unused_sets(&self) -> bool {
        let mut outdated = lock(&self.outdated);
        // A reader can no longer reach a set of which this is the only handle.
        let is_used = |set: &Arc<SegmentSet>| Arc::strong_count(set) > 1;
        let (used, unused): (Vec<_>, Vec<_>) = outdated.drain(..).partition(is_used);
        outdated.extend(used);
        let is_any_left = !outdated.is_empty();
        // Removing files takes long, and whoever publishes a set waits for this lock.
        drop(outdated);
        drop(unused);
        is_any_left
    }

    /// Gives up the outdated sets, also those that readers use.
    pub(super) fn give_up_outdated_sets(&self) {
        let outdated = std::mem::take(&mut *lock(&self.outdated));
        drop(outdated);
    }
}
