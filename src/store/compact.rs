//! Compacting: what surrounds the copying of `compaction.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};

use super::phase::{Closing, Phase, Pins};
use super::write::Writer;
use super::{Inner, Store};
use crate::compaction::{self, CompactionStats, Output, Prepared};
use crate::digest::{Digest, Hashed};
use crate::error::{Error, Result};
use crate::format::Sidecar;
use crate::segment::Sealed;
use crate::segment_set::SegmentSet;
use crate::threads::in_own_threads;

/// What a new segment takes by being there: its journal's header, and the folder that grows.
const NEW_FILES: [u64; 2] = [1, 1];

impl Store {
    /// Begins a compaction: everything that is put from here on stays, also what was put before and
    /// is put again.
    ///
    /// Compute the set of live objects after this, then [`finish`](Compaction::finish). Puts, reads
    /// and syncs go on all the time. Dropping the [`Compaction`] ends it and changes nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let live = store.put(b"live")?;
    /// let dead = store.put(b"dead")?;
    ///
    /// let compaction = store.begin_compaction()?;
    /// let new = store.put(b"put after the beginning")?;
    /// let stats = compaction.finish(|digest| *digest == live)?;
    ///
    /// assert_eq!((stats.live_objects, stats.dropped_objects), (1, 1));
    /// assert!(store.contains(&live)? && store.contains(&new)?);
    /// assert!(!store.contains(&dead)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] if there is no room to seal the segment that is appended to;
    /// [`Error::CompactionRunning`], [`Error::ReadOnly`], [`Error::Forked`], [`Error::Poisoned`],
    /// [`Error::Io`].
    pub fn begin_compaction(&self) -> Result<Compaction> {
        let inner = self.inner();
        let writer = inner.writer()?;
        inner.dir.check_writable()?;
        inner.require_space_to_begin(writer)?;
        let pins = inner.begin_pinning(writer)?;
        // From here on dropping it ends the phase.
        let mut compaction = Compaction {
            store: self.clone(),
            pins,
            inputs: Vec::new(),
        };
        let inputs = compaction.pins.inputs();
        inner.seal_those(|id| inputs.contains(&id))?;
        let set = inner.set.load_full();
        let inputs = set.sealed().iter();
        let inputs = inputs.filter(|sealed| compaction.pins.inputs().contains(&sealed.id()));
        compaction.inputs = inputs.cloned().collect();
        Ok(compaction)
    }

    /// Begins and finishes a compaction. For an application whose set of live objects cannot change
    /// while it is computed and handed over; others use
    /// [`begin_compaction`](Self::begin_compaction).
    ///
    /// # Errors
    ///
    /// Those of [`begin_compaction`](Self::begin_compaction) and [`Compaction::finish`].
    pub fn compact(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        self.begin_compaction()?.finish(keep)
    }
}

/// A compaction that has begun. See [`Store::begin_compaction`].
pub struct Compaction {
    store: Store,
    pins: Arc<Pins>,
    inputs: Vec<Arc<Sealed>>,
}

impl Compaction {
    /// What [`finish`](Self::finish) would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptIndex`]; [`Error::Forked`]; [`Error::Io`], also where the system does not start the
    /// threads that it works in.
    pub fn plan(&self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        Ok(self.prepare(&keep)?.stats())
    }

    /// As [`plan`](Self::plan), for a list of the live objects.
    ///
    /// # Errors
    ///
    /// Those of [`plan`](Self::plan).
    pub fn plan_list(&self, live: &[Digest]) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let mut stats = self.plan(|digest| live.contains(digest))?;
        stats.live_missing = live.missing(&self.store)?;
        Ok(stats)
    }

    /// Keeps the objects for which `keep` is true, and what was put since the compaction began, and
    /// drops the others. `keep` is asked once for each object, from several threads.
    ///
    /// Segments without a dead object stay as they are; the live objects of the others are copied
    /// in file order, in parallel, each verified. Everything is durable before the one rename that
    /// commits. Readers of the old segments keep them; their files go with the last reader.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] says how much room is needed if the file system has less; that is known
    /// before anything is written. What stays is copied before what is replaced can go, so it is about
    /// as much as the live objects of the segments that hold a dead one: a compaction that drops whole
    /// segments and copies nothing needs a few KiB. Where the system does not say how much room there
    /// is, as on Windows, or others take it meanwhile, it is [`Error::Io`].
    ///
    /// [`Error::Corrupt`] names a live object that does not verify in any copy; the store is then as
    /// it was. So it is after [`Error::NoSpace`], [`Error::CorruptIndex`],
    /// [`Error::SegmentIdsExhausted`] and [`Error::Io`]. After a failure in the
    /// commit itself every further write is [`Error::Poisoned`], and the next opening finds the old
    /// set or the new one.
    pub fn finish(self, keep: impl Fn(&Digest) -> bool + Sync) -> Result<CompactionStats> {
        let prepared = Arc::new(self.prepare(&keep)?);
        let mut stats = prepared.stats();
        if !prepared.plan.replaced.is_empty() {
            self.replace(&prepared, &mut stats)?;
        }
        #[cfg(feature = "tracing")]
        tracing::info!(?stats, "compacted");
        Ok(stats)
    }

    /// As [`finish`](Self::finish), for a list of the live objects. Those in the list that the store
    /// does not hold are counted in [`CompactionStats::live_missing`].
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Self::finish).
    pub fn finish_list(self, live: &[Digest]) -> Result<CompactionStats> {
        let live = LiveList::new(live);
        let missing = live.missing(&self.store)?;
        let mut stats = self.finish(|digest| live.contains(digest))?;
        stats.live_missing = missing;
        Ok(stats)
    }

    fn prepare(&self, keep: &(impl Fn(&Digest) -> bool + Sync)) -> Result<Prepared> {
        // Begun in the parent of a forked process, it has a lock for the pins that may be held there.
        self.store.inner().writer()?;
        let keep = |digest: &Digest| keep(digest) || self.pins.contains(digest);
        let segment_bytes_max = self.store.inner().options.segment_bytes_max;
        let prepare = || compaction::prepare(self.inputs.clone(), segment_bytes_max, &keep);
        in_own_threads(prepare).map_err(Error::io(self.store.root()))?
    }

    fn replace(&self, prepared: &Arc<Prepared>, stats: &mut CompactionStats) -> Result<()> {
        let inner = self.store.inner();
        let writer = inner.writer()?;
        inner.require_space_to_finish(writer, prepared)?;
        let taken = writer.take_ids(prepared.plan.outputs.len())?;
        // `take_ids` gives none beyond `u32`.
        let ids = taken.clone().map(u32::try_from);
        let ids: Vec<u32> = ids.collect::<Result<_, _>>().unwrap_or_default();
        let set = inner.set.load_full();
        let copied = in_own_threads(|| prepared.copy(&inner.dir, &ids, &set));
        let copied = copied.map_err(Error::io(&inner.root)).flatten();
        drop(set);
        // All that had these ids were temporaries, and they are gone.
        let outputs = copied.inspect_err(|_| writer.give_back_ids(taken))?;
        let committed = self.close_and_commit(inner, writer, prepared, &outputs, stats);
        if committed.is_err() {
            // If the commit may have happened, the directory refuses this.
            for output in &outputs {
                output.discard(&inner.dir);
            }
        }
        committed
    }

    fn close_and_commit(
        &self,
        inner: &Inner,
        writer: &Writer,
        prepared: &Arc<Prepared>,
        outputs: &[Output],
        stats: &mut CompactionStats,
    ) -> Result<()> {
        let emptied = match outputs.iter().map(|output| output.id).max() {
            Some(highest) => inner.go_on_above(writer, highest)?,
            None => None,
        };
        let closing = Arc::new(Closing::new(Arc::clone(prepared)));
        writer.set_phase(Phase::Closing(Arc::clone(&closing)));
        // No further pin can come, and no put is under way that relies on one.
        self.append_stragglers(inner, writer, &closing, stats)?;
        inner.sync()?;
        inner.commit_compaction(writer, &closing.replaced_ids(), outputs)?;
        if let Some(id) = emptied {
            // The next opening removes what stays.
            let _ = inner.dir.remove_segment(id);
        }
        for &input in &prepared.plan.replaced {
            prepared.inputs[input].data().retire(&inner.dir);
        }
        Ok(())
    }

    /// Appends what was pinned after the live objects had been marked, and corrects the stats, which
    /// count it as dropped.
    fn append_stragglers(
        &self,
        inner: &Inner,
        writer: &Writer,
        closing: &Arc<Closing>,
        stats: &mut CompactionStats,
    ) -> Result<()> {
        let phase = Phase::Closing(Arc::clone(closing));
        for digest in self.pins.to_vec() {
            let set = inner.set.load();
            let is_kept = |id: u32| closing.keeps_copy_in(id, &digest);
            let goes = |id: u32| closing.replaces(id);
            if set.is_held_in(&digest, is_kept)? || set.is_held_outside(&digest, goes)? {
                continue;
            }
            if let Some(object) = set.get(&digest)? {
                let hashed = Hashed::check(digest, &object)?;
                // Another thread may be putting it as well, and a segment holds the empty object once.
                let appender = &mut writer.lock_appender();
                if inner.append_absent(writer, appender, &phase, &hashed, &set)? {
                    stats.count_straggler(object.len() as u64);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        if let Ok(writer) = self.store.inner().writer() {
            writer.set_phase(Phase::Idle);
        }
    }
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compaction")
            .field("store", &self.store)
            .field("segments", &self.inputs.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Starts to pin, at a moment when no put is under way, and rolls, so that nothing is appended
    /// to an input any more.
    fn begin_pinning(&self, writer: &Writer) -> Result<Arc<Pins>> {
        let mut phase = writer.phase.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*phase, Phase::Idle) {
            return Err(Error::CompactionRunning);
        }
        let mut appender = writer.lock_appender();
        if appender.end() > 0 {
            self.roll(writer, &mut appender, 0)?;
        }
        let set = self.set.load();
        let sealed = set.sealed().iter().map(|sealed| sealed.id());
        let unsealed = set.unsealed().iter().map(|active| active.id());
        let mut inputs: BTreeSet<u32> = sealed.chain(unsealed).collect();
        inputs.remove(&appender.active().id());
        let pins = Arc::new(Pins::new(inputs));
        *phase = Phase::Pinning(Arc::clone(&pins));
        Ok(pins)
    }

    /// Fails if there is no room to seal what is not sealed yet.
    fn require_space_to_begin(&self, writer: &Writer) -> Result<()> {
        let ledger = writer.lock_ledger();
        let appender = writer.lock_appender();
        let (set, unwritten) = (self.set.load(), appender.unwritten_bytes());
        let is_all_sealed = appender.end() == 0 && set.unsealed().len() == 1;
        drop(appender);
        if is_all_sealed {
            return Ok(());
        }
        let sidecars = set.unsealed().iter();
        let sidecars = sidecars.filter_map(|a| Sidecar::<&[u8]>::encoded_bytes(a.records()));
        let manifest = ledger.bytes_with(set.unsealed().len());
        drop(ledger);
        let files = unwritten.into_iter().chain(sidecars).chain([manifest]);
        self.dir.require_space(files.chain(NEW_FILES))
    }

    /// Fails if there is no room for the new segments beside those that they are to replace.
    fn require_space_to_finish(&self, writer: &Writer, prepared: &Prepared) -> Result<()> {
        let segments = prepared.plan.outputs.len();
        let manifest = writer.lock_ledger().bytes_with(segments);
        // Syncing comes before the commit.
        let unwritten = writer.lock_appender().unwritten_bytes();
        let files = unwritten.into_iter().chain([manifest]);
        let new_names = NEW_FILES.into_iter().take(segments);
        let files = files.chain(new_names).chain(prepared.file_bytes());
        self.dir.require_space(files)
    }

    /// The commit. The manifest first lists the new segments as retired, so that a crash before the
    /// second manifest leaves nothing behind that could be taken for data.
    fn commit_compaction(
        &self,
        writer: &Writer,
        replaced: &BTreeSet<u32>,
        outputs: &[Output],
    ) -> Result<()> {
        let dir = &self.dir;
        let mut ledger = writer.lock_ledger();
        ledger.commit(self, writer, |manifest| {
            let outputs = outputs.iter();
            let bound = outputs.map(|output| (output.id, Some(output.binding)));
            manifest.retired.extend(bound);
        })?;
        for output in outputs {
            output.rename_into_place(dir)?;
        }
        dir.sync()?;
        let reading = self.options.reading();
        let opened: Vec<Arc<Sealed>> = outputs
            .iter()
            .map(|output| {
                let data_bytes = output.binding.data_bytes;
                Sealed::with_index(dir, output.id, reading, data_bytes, &output.index)
            })
            .map(|sealed| sealed.map(Arc::new))
            .collect::<Result<_>>()?;
        ledger.commit(self, writer, |manifest| {
            for id in replaced {
                let binding = manifest.sealed.remove(id);
                manifest.retired.insert(*id, binding);
            }
            for output in outputs {
                manifest.retired.remove(&output.id);
                manifest.sealed.insert(output.id, output.binding);
            }
        })?;
        let runs = |set: &SegmentSet| -> Vec<u32> {
            let runs = set.runs().iter();
            runs.map(|bound| bound.run().number()).collect()
        };
        let runs_before = runs(&self.set.load());
        self.publish(writer, |set| set.with_replaced(replaced, &opened));
        self.remove_unused_runs(runs_before);
        writer.ask_for_index();
        Ok(())
    }
}

/// A list of live objects as a set.
struct LiveList(Vec<Digest>);

impl LiveList {
    fn new(live: &[Digest]) -> Self {
        let mut live = live.to_vec();
        live.sort_unstable();
        live.dedup();
        Self(live)
    }

    fn contains(&self, digest: &Digest) -> bool {
        self.0.binary_search(digest).is_ok()
    }

    fn missing(&self, store: &Store) -> Result<u64> {
        self.0.iter().try_fold(0, |missing, digest| {
            Ok(missing + u64::from(!store.contains(digest)?))
        })
    }
}
