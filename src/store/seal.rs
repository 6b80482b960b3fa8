//! Sealing: from the segment that was appended to, to one that is mapped.

use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Inner;
use super::write::Writer;
use crate::dir::{Dir, FileKind, is_vacant};
use crate::error::{Error, Result};
use crate::format::{Manifest, Sidecar};
use crate::segment::appender::Begun;
use crate::segment::sealed::rebuild_index;
use crate::segment::{Active, Sealed, hash_records};
use crate::segment_set::SegmentSet;
use crate::sync::MutexGuard;
use crate::sync::mpsc::Receiver;

/// What the background thread is told.
pub(super) enum Job {
    /// There is a full segment.
    Seal,
    /// Readers may still use this set.
    DropWhenUnused(Arc<SegmentSet>),
}

/// How often sets are looked at that readers were using when they were replaced.
const OUTDATED_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The manifest as it is on disk.
pub(super) struct Ledger {
    manifest: Manifest,
}

impl Ledger {
    pub(super) const fn new(manifest: Manifest) -> Self {
        Self { manifest }
    }

    pub(super) const fn next_id(&self) -> u64 {
        self.manifest.next_id
    }

    /// Length of the manifest if so many segments are added to it.
    pub(super) fn bytes_with(&self, segments: usize) -> u64 {
        const SEGMENT_LINE_BYTES_MAX: usize = 160;
        let lines = segments.saturating_mul(SEGMENT_LINE_BYTES_MAX);
        (self.manifest.encode().len() + lines) as u64
    }

    /// Replaces the manifest by a changed one. Its rename is the commit.
    pub(super) fn commit(
        &mut self,
        inner: &Inner,
        writer: &Writer,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let dir = &inner.dir;
        let mut manifest = self.manifest.clone();
        forget_removed(dir, &mut manifest)?;
        let set = inner.set.load();
        manifest.active = set.unsealed().last().map(|active| active.id());
        manifest.unsealed = set
            .unsealed()
            .iter()
            .map(|active| (active.id(), active.durable_named_bytes()))
            .filter(|&(_, durable_bytes)| durable_bytes > 0)
            .collect();
        drop(set);
        change(&mut manifest);
        let Manifest {
            sealed, unsealed, ..
        } = &mut manifest;
        unsealed.retain(|id, _| !sealed.contains_key(id));
        // An id is taken before its segment is published, so this is beyond all that are named.
        manifest.next_id = writer.next_id();
        dir.replace_manifest(&manifest.encode())?;
        self.manifest = manifest;
        Ok(())
    }
}

/// Takes retired segments whose files are gone out of the manifest.
fn forget_removed(dir: &Dir, manifest: &mut Manifest) -> Result<()> {
    let retired_before = manifest.retired.len();
    manifest.retired.retain(|id, _| dir.holds_segment(*id));
    if manifest.retired.len() < retired_before {
        // A file that came back in a crash would be taken for data, so they are gone for good first.
        dir.sync()?;
    }
    Ok(())
}

impl Writer {
    pub(super) fn lock_ledger(&self) -> MutexGuard<'_, Ledger> {
        // It changes as a whole, after the file did.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The thread that seals.
    pub(super) fn seal_in_background_until_closed(&self, jobs: &Receiver<Job>) {
        let mut outdated: Vec<Arc<SegmentSet>> = Vec::new();
        loop {
            let job = if outdated.is_empty() {
                jobs.recv().map_err(RecvTimeoutError::from)
            } else {
                jobs.recv_timeout(OUTDATED_CHECK_INTERVAL)
            };
            match job {
                Ok(Job::Seal) => self.seal_in_background(),
                Ok(Job::DropWhenUnused(set)) => outdated.push(set),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Nobody can get hold of it any more once this is the only one that has it.
            outdated.retain(|set| Arc::strong_count(set) > 1);
        }
    }

    fn seal_in_background(&self) {
        if let Err(error) = self.seal_rolled() {
            // It stays as it is, readable; the next roll, compaction or close tries again and
            // reports what then fails. A failed fsync makes the directory refuse writes.
            #[cfg(feature = "tracing")]
            tracing::error!(%error, "sealing in the background");
            let _ = error;
        }
    }

    /// Replaces the set that readers see.
    ///
    /// Whoever drops the last handle to an old set frees the index and the maps of segments that are
    /// in it alone, and removes their files. That must not be a reader in the middle of a `get`.
    pub(super) fn publish(&self, writer: &Writer, change: impl Fn(&SegmentSet) -> SegmentSet) {
        let old = self.set.rcu(|set| change(set));
        if Arc::strong_count(&old) > 1 {
            writer.in_background(Job::DropWhenUnused(old));
        }
    }

    /// Seals all full segments, those too that become full meanwhile.
    pub(super) fn seal_rolled(&self) -> Result<()> {
        while self.seal_oldest()? {}
        Ok(())
    }

    /// Seals full segments, the oldest first, as long as they are among those. What puts fill meanwhile
    /// is left: where they outrun the disk, there would be no end of it.
    pub(super) fn seal_those(&self, are_among: impl Fn(u32) -> bool) -> Result<()> {
        let is_left = || {
            let set = self.set.load();
            set.unsealed().first().is_some_and(|a| are_among(a.id()))
        };
        while is_left() && self.seal_oldest()? {}
        Ok(())
    }

    /// Seals the oldest full segment, if there is one. Waits for one that is being sealed.
    pub(super) fn seal_oldest(&self) -> Result<bool> {
        let writer = self.writer()?;
        let sealing = writer.sealing.lock();
        let _sealing = sealing.unwrap_or_else(PoisonError::into_inner);
        let set = self.set.load_full();
        let [oldest, _, ..] = set.unsealed() else {
            return Ok(false);
        };
        self.seal(writer, oldest)?;
        Ok(true)
    }

    /// Seals one segment that is not appended to any more: data, then sidecar, then manifest, each
    /// durable before the next, then the set.
    pub(super) fn seal(&self, writer: &Writer, active: &Active) -> Result<()> {
        let (dir, id) = (&self.dir, active.id());
        let data_bytes = active.flushed_bytes();
        // Its name is made durable with that of the sidecar.
        active.make_data_durable(data_bytes)?;
        let index = Sidecar::build(&mut active.entries());
        dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
        let sealed = Sealed::with_index(dir, id, self.options.reading(), data_bytes, &index)?;
        let mut ledger = writer.lock_ledger();
        ledger.commit(self, writer, |manifest| {
            manifest.sealed.insert(id, *sealed.binding());
        })?;
        let sealed = Arc::new(sealed);
        self.publish(writer, |set| set.with_sealed(Arc::clone(&sealed)));
        drop(ledger);
        writer.ask_for_index();
        // The manifest says that it is not needed any more. If this fails, the next opening does it.
        let _ = dir.remove_segment_file(id, FileKind::Journal);
        #[cfg(feature = "tracing")]
        tracing::debug!(segment = id, objects = sealed.binding().objects, "sealed");
        Ok(())
    }

    /// Takes segments whose files are gone out of the list of retired ones. Otherwise a program that
    /// knows no manifest could use such an id meanwhile, and its segment would have to be told from ours.
    pub(super) fn forget_retired(&self, writer: &Writer) -> Result<()> {
        let mut ledger = writer.lock_ledger();
        let mut retired = ledger.manifest.retired.keys();
        if retired.any(|id| !self.dir.holds_segment(*id)) {
            ledger.commit(self, writer, |_| ())?;
        }
        Ok(())
    }

    /// Seals everything that was put so far, goes on with a new segment, and gives its id.
    pub(super) fn seal_all(&self) -> Result<u32> {
        let writer = self.writer()?;
        let active = {
            let mut appender = writer.lock_appender();
            if appender.end() > 0 {
                self.roll(writer, &mut appender, 0)?;
            }
            appender.active().id()
        };
        self.seal_those(|id| id < active)?;
        Ok(active)
    }

    /// Writes a damaged sidecar again, if the data proves what it was.
    pub(super) fn rewrite_sidecar(&self, writer: &Writer, sealed: &Sealed) -> Result<()> {
        let (id, binding) = (sealed.id(), sealed.binding());
        let is_listed = |ledger: &Ledger| ledger.manifest.sealed.contains_key(&id);
        if !is_listed(&writer.lock_ledger()) {
            return Ok(());
        }
        let rebuilt = rebuild_index(sealed.data(), Some(binding), hash_records)?;
        // A compaction that replaces the segment holds this lock while it commits.
        let ledger = writer.lock_ledger();
        if rebuilt.doubt.is_none() && is_listed(&ledger) {
            let bytes = rebuilt.index.as_bytes();
            self.dir
                .replace_segment_file(id, FileKind::Sidecar, bytes)?;
        }
        Ok(())
    }

    pub(super) fn checkpoint(&self, target: &Path) -> Result<()> {
        self.writer()?;
        // The empty path names nothing, and what is joined to it is in the working directory.
        let here = target.as_os_str().is_empty();
        let target = if here { Path::new(".") } else { target };
        let taken = || Error::NotEmpty {
            path: target.to_owned(),
        };
        if !is_vacant(target)? {
            return Err(taken());
        }
        let active = self.seal_all()?;
        // As long as this set is held, no file of it is removed.
        let set = self.set.load_full();
        let copy = self.options.create_new_dir(target)?.ok_or_else(taken)?;
        // From here on no other checkpoint and no writer begins there; one may have begun before.
        let lock = copy.lock()?;
        if !copy.is_new()? {
            return Err(taken());
        }
        let ids = set.sealed().iter().map(|sealed| sealed.id());
        let above_sealed = ids.max().map_or(0, |highest| u64::from(highest) + 1);
        // A program that knows no manifest appends to the segment with the highest id, so there is an empty
        // one above those that both stores have.
        let above = u32::try_from(above_sealed.max(u64::from(active)));
        let sealed = set.sealed().iter();
        let manifest = Manifest {
            next_id: above.map_or(1 << 32, |above| u64::from(above) + 1),
            sealed: sealed
                .map(|sealed| (sealed.id(), *sealed.binding()))
                .collect(),
            ..Manifest::default()
        };
        // First, so that what is left of an interrupted checkpoint lacks segments and says so.
        copy.replace_manifest(&manifest.encode())?;
        for sealed in set.sealed() {
            for kind in [FileKind::Data, FileKind::Sidecar] {
                self.dir.link_segment_file(sealed.id(), kind, &copy)?;
            }
        }
        for bound in set.runs() {
            self.dir.link_set_index(bound.run().number(), &copy);
        }
        if let Ok(id) = above {
            // A segment without a journal above segments that are missing is the mark of a store that another
            // program has compacted. A crash must not leave it of an interrupted checkpoint.
            copy.sync()?;
            let begun = Begun::create(&copy, id)?;
            begun.create_journal(&copy)?;
        }
        copy.sync()?;
        lock.make_known(&copy);
        Ok(())
    }
}
