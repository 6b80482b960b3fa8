//! Compacts: marks and copies through `compaction/`, and commits the result.
//!
//! A compaction is atomic because one rename commits it: that of the second manifest that
//! [`Writer::commit_compaction`] writes, which lists the new segments instead of the old ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::phase::{Closing, Phase, Pins};
use super::writer::Writer;
use crate::compaction::{self, CompactionStats, Prepared};
use crate::digest::{Digest, Hashed};
use crate::error::{Error, Result};
use crate::format::Sidecar;
use crate::segment::{Output, Sealed};
use crate::segment_set::SegmentSet;
use crate::threads::in_own_threads;

/// Bytes that a new segment takes when it is empty: the header of its journal, and the growth of
/// the folder. Each takes a block.
const NEW_FILES: [u64; 2] = [1, 1];

/// A compaction that has begun.
pub(crate) struct RunningCompaction {
    pins: Arc<Pins>,
    inputs: Vec<Arc<Sealed>>,
}

impl RunningCompaction {
    /// Number of segments that the compaction reads.
    pub(crate) fn segments(&self) -> usize {
        self.inputs.len()
    }
}

impl Writer {
    /// Begins to pin. The caller must call [`end_compaction`](Self::end_compaction) in the end.
    pub(crate) fn begin_compaction(&self) -> Result<RunningCompaction> {
        self.dir().check_writable()?;
        self.require_space_to_begin()?;
        Ok(RunningCompaction {
            pins: self.begin_pinning()?,
            inputs: Vec::new(),
        })
    }

    /// Seals the segments that existed when the compaction began.
    pub(crate) fn seal_inputs(&self, running: &mut RunningCompaction) -> Result<()> {
        let inputs = running.pins.inputs();
        self.seal_while(|id| inputs.contains(&id))?;
        let set = self.shared.set.load_full();
        let sealed = set.sealed().iter();
        let sealed = sealed.filter(|sealed| inputs.contains(&sealed.id()));
        running.inputs = sealed.cloned().collect();
        Ok(())
    }

    /// Ends the phase of a compaction, finished or not.
    pub(crate) fn end_compaction(&self) {
        self.set_phase(Phase::Idle);
    }

    /// Marks the live records and plans. Changes nothing.
    pub(crate) fn prepare_compaction(
        &self,
        running: &RunningCompaction,
        keep: &(impl Fn(&Digest) -> bool + Sync),
    ) -> Result<Prepared> {
        let keep = |digest: &Digest| keep(digest) || running.pins.contains(digest);
        let segment_bytes_max = self.shared.options.segment_bytes_max;
        let prepare = || compaction::prepare(running.inputs.clone(), segment_bytes_max, &keep);
        in_own_threads(prepare).map_err(Error::io(&self.shared.root))?
    }

    /// Copies the live objects and commits.
    pub(crate) fn finish_compaction(
        &self,
        running: &RunningCompaction,
        prepared: Prepared,
    ) -> Result<CompactionStats> {
        if prepared.plan.replaced.is_empty() {
            return Ok(prepared.stats());
        }
        let (prepared, outputs) = self.copy_and_merge(prepared)?;
        let mut stats = prepared.stats();
        if prepared.plan.replaced.is_empty() {
            return Ok(stats);
        }
        let prepared = Arc::new(prepared);
        let committed = self.close_and_commit(&running.pins, &prepared, &outputs, &mut stats);
        if committed.is_err() {
            // The directory refuses to remove files if the commit may have happened.
            for output in &outputs {
                output.discard(self.dir());
            }
        }
        committed.map(|()| {
            self.events.compactions.add(1);
            stats
        })
    }

    /// Copies the live objects. If that fails and segments were to be merged, which nobody asked
    /// for, plans and copies again without them: the disk may be too full for the merged segments,
    /// or one of their records may have rotted.
    fn copy_and_merge(&self, prepared: Prepared) -> Result<(Prepared, Vec<Output>)> {
        match self.copy_live(&prepared) {
            Ok(outputs) => Ok((prepared, outputs)),
            Err(error) if !prepared.merges() || self.dir().check_writable().is_err() => Err(error),
            Err(_) => {
                let prepare = || prepared.without_merging();
                let prepared = in_own_threads(prepare).map_err(Error::io(&self.shared.root))??;
                let outputs = self.copy_live(&prepared)?;
                Ok((prepared, outputs))
            }
        }
    }

    /// Copies the live objects into files with temporary names.
    fn copy_live(&self, prepared: &Prepared) -> Result<Vec<Output>> {
        self.require_space_to_finish(prepared)?;
        let taken = self.ids.take(prepared.plan.outputs.len())?;
        // All ids fit into a `u32`.
        let ids = taken.clone().map(u32::try_from);
        let ids: Vec<u32> = ids.collect::<Result<_, _>>().unwrap_or_default();
        let set = self.shared.set.load_full();
        let copied = in_own_threads(|| prepared.copy(self.dir(), &ids, &set));
        let copied = copied.map_err(Error::io(&self.shared.root)).flatten();
        // Only temporaries had these ids, and they were removed after the error.
        copied.inspect_err(|_| self.ids.give_back(taken))
    }

    fn close_and_commit(
        &self,
        pins: &Pins,
        prepared: &Arc<Prepared>,
        outputs: &[Output],
        stats: &mut CompactionStats,
    ) -> Result<()> {
        let emptied = match outputs.iter().map(|output| output.id).max() {
            Some(highest) => self.go_on_above(highest)?,
            None => None,
        };
        let closing = Arc::new(Closing::new(Arc::clone(prepared)));
        self.set_phase(Phase::Closing(Arc::clone(&closing)));
        // No object is pinned from here on, and no put is under way that relies on a pin.
        self.append_stragglers(pins, &closing, stats)?;
        self.sync()?;
        self.commit_compaction(&closing.replaced_ids(), outputs)?;
        if let Some(id) = emptied {
            // The next opening removes files that stay.
            let _ = self.dir().remove_segment(id);
        }
        for &input in &prepared.plan.replaced {
            prepared.inputs[input].data().retire(self.dir());
        }
        Ok(())
    }

    /// Appends objects that were pinned after the live objects had been marked, and corrects the
    /// stats, which count them as dropped.
    fn append_stragglers(
        &self,
        pins: &Pins,
        closing: &Arc<Closing>,
        stats: &mut CompactionStats,
    ) -> Result<()> {
        let phase = Phase::Closing(Arc::clone(closing));
        for digest in pins.to_vec() {
            let set = self.set();
            let is_carried_over = |id: u32| closing.carries_over(id, &digest);
            let goes = |id: u32| closing.replaces(id);
            if set.is_held_in(&digest, is_carried_over)? || set.is_held_outside(&digest, goes)? {
                continue;
            }
            if let Some(object) = set.get(&digest)? {
                let hashed = Hashed::check_with(set.hash_function(), digest, &object)?;
                // Another thread may be putting the object too, and a segment can hold the empty
                // object only once.
                let appender = &mut self.lock_appender();
                if self.append_absent(appender, &phase, &hashed, &set)? {
                    stats.count_straggler(object.len() as u64);
                }
            }
        }
        Ok(())
    }

    /// Begins to pin, at a moment when no put is under way, and rolls, so that no further record is
    /// appended to an input.
    fn begin_pinning(&self) -> Result<Arc<Pins>> {
        self.begin_phase(|| {
            let mut appender = self.lock_appender();
            if appender.end() > 0 {
                self.roll(&mut appender, 0)?;
            }
            let set = self.set();
            let sealed = set.sealed().iter().map(|sealed| sealed.id());
            let unsealed = set.unsealed().iter().map(|active| active.id());
            let mut inputs: BTreeSet<u32> = sealed.chain(unsealed).collect();
            inputs.remove(&appender.active().id());
            let pins = Arc::new(Pins::new(inputs));
            Ok((Phase::Pinning(Arc::clone(&pins)), pins))
        })
    }

    /// Fails if there is no room to seal the unsealed segments.
    fn require_space_to_begin(&self) -> Result<()> {
        let ledger = self.lock_ledger();
        let appender = self.lock_appender();
        let (set, unwritten) = (self.set(), appender.unwritten_bytes());
        let is_all_sealed = appender.end() == 0 && set.unsealed().len() == 1;
        drop(appender);
        if is_all_sealed {
            return Ok(());
        }
        let sidecars = set.unsealed().iter();
        let sidecars = sidecars.map(|a| Sidecar::<&[u8]>::encoded_bytes(a.records()));
        let manifest = ledger.bytes_with(set.unsealed().len());
        drop(ledger);
        let files = unwritten.into_iter().chain(sidecars).chain([manifest]);
        self.dir().require_space(files.chain(NEW_FILES))
    }

    /// Fails if there is no room for the new segments beside the old ones.
    fn require_space_to_finish(&self, prepared: &Prepared) -> Result<()> {
        let segments = prepared.plan.outputs.len();
        let manifest = self.lock_ledger().bytes_with(segments);
        // The sync before the commit writes these.
        let unwritten = self.lock_appender().unwritten_bytes();
        let files = unwritten.into_iter().chain([manifest]);
        let new_names = NEW_FILES.into_iter().take(segments);
        let files = files.chain(new_names).chain(prepared.file_bytes());
        self.dir().require_space(files)
    }

    /// Commits. A first manifest lists the new segments, if any, as retired, so that a crash before
    /// the second manifest leaves no file that could be taken for data.
    pub(super) fn commit_compaction(
        &self,
        replaced: &BTreeSet<u32>,
        outputs: &[Output],
    ) -> Result<()> {
        let dir = self.dir();
        let mut ledger = self.lock_ledger();
        if !outputs.is_empty() {
            self.commit(&mut ledger, |manifest| {
                let outputs = outputs.iter();
                let bindings = outputs.map(|output| (output.id, Some(output.binding)));
                manifest.retired.extend(bindings);
            })?;
            for output in outputs {
                output.rename_into_place(dir)?;
            }
            dir.sync()?;
        }
        let opened = self.open_outputs(outputs)?;
        // The rename of this manifest is the commit proper.
        self.commit(&mut ledger, |manifest| {
            for id in replaced {
                let binding = manifest.sealed.remove(id);
                manifest.retired.insert(*id, binding);
            }
            for output in outputs {
                manifest.retired.remove(&output.id);
                manifest.sealed.insert(output.id, output.binding);
            }
        })?;
        let runs_before = self.set().run_numbers();
        self.publish(|set: &SegmentSet| set.with_replaced(replaced, &opened));
        self.shared.remove_unused_runs(runs_before);
        self.shared.index_requests.ask();
        Ok(())
    }

    fn open_outputs(&self, outputs: &[Output]) -> Result<Vec<Arc<Sealed>>> {
        let reading = self.shared.options.reading();
        let open = |output: &Output| {
            let data_bytes = output.binding.data_bytes;
            let sidecar = &output.sidecar;
            Sealed::with_sidecar(self.dir(), output.id, reading, data_bytes, sidecar).map(Arc::new)
        };
        outputs.iter().map(open).collect()
    }
}
