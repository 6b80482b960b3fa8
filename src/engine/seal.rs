//! Seals: turns a full segment into a sealed one, with a sidecar.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::background::Job;
use super::writer::Writer;
use crate::dir::FileKind;
use crate::error::Result;
use crate::format::Sidecar;
use crate::segment::{Active, Sealed};
use crate::sync::lock;
use crate::sync::mpsc::Receiver;

/// Interval at which the thread that seals looks at replaced sets that readers still used.
const OUTDATED_CHECK_INTERVAL: Duration = Duration::from_millis(20);

impl Writer {
    /// Runs the thread that seals.
    pub(super) fn seal_until_closed(&self, jobs: &Receiver<Job>) {
        let mut is_any_outdated = false;
        loop {
            let job = if is_any_outdated {
                jobs.recv_timeout(OUTDATED_CHECK_INTERVAL)
            } else {
                jobs.recv().map_err(RecvTimeoutError::from)
            };
            match job {
                Ok(Job::Seal) => self.seal_in_background(),
                Ok(Job::DropUnusedSets) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            is_any_outdated = self.drop_unused_sets();
        }
    }

    fn seal_in_background(&self) {
        if let Err(error) = self.seal_rolled() {
            // The segment stays unsealed and readable; the next roll, compaction or close tries
            // again and reports a failure. A failed fsync makes the directory refuse writes.
            #[cfg(feature = "tracing")]
            tracing::error!(error = error.as_reason(), "sealing in the background");
            let _ = error;
        }
    }

    /// Seals all full segments, including segments that become full meanwhile.
    pub(super) fn seal_rolled(&self) -> Result<()> {
        while self.seal_oldest()? {}
        Ok(())
    }

    /// Seals full segments, the oldest first, while `is_meant` is true of the oldest. The caller
    /// excludes segments that puts fill meanwhile: if puts outran the disk, this would never end.
    pub(super) fn seal_while(&self, is_meant: impl Fn(u32) -> bool) -> Result<()> {
        let is_left = || {
            let set = self.set();
            let oldest = set.unsealed().first();
            oldest.is_some_and(|oldest| is_meant(oldest.id()))
        };
        while is_left() && self.seal_oldest()? {}
        Ok(())
    }

    /// Seals the oldest full segment and returns whether there was one. Waits for a segment that is
    /// being sealed.
    pub(super) fn seal_oldest(&self) -> Result<bool> {
        let _sealing = lock(&self.sealing);
        let oldest = match self.set().unsealed() {
            [oldest, _, ..] => Arc::clone(oldest),
            _ => return Ok(false),
        };
        self.seal(&oldest)?;
        Ok(true)
    }

    /// Seals one full segment: writes data, then sidecar, then manifest, each durable before the
    /// next, and then publishes the set that readers see.
    fn seal(&self, active: &Active) -> Result<()> {
        let (dir, id) = (self.dir(), active.id());
        let data_bytes = active.flushed_bytes();
        // The name becomes durable together with the name of the sidecar.
        active.make_data_durable(data_bytes)?;
        let sidecar = Sidecar::build(&mut active.entries());
        dir.replace_segment_file(id, FileKind::Sidecar, sidecar.as_bytes())?;
        let reading = self.shared.options.reading();
        let sealed = Sealed::with_sidecar(dir, id, reading, data_bytes, &sidecar)?;
        let mut ledger = self.lock_ledger();
        self.commit(&mut ledger, |manifest| {
            manifest.sealed.insert(id, *sealed.binding());
        })?;
        self.events.seals.add(1);
        let sealed = Arc::new(sealed);
        self.publish(|set| set.with_sealed(Arc::clone(&sealed)));
        drop(ledger);
        self.shared.index_requests.ask();
        // The segment is listed as sealed, so its journal is superfluous. If this fails, the next
        // opening removes it.
        let _ = dir.remove_segment_file(id, FileKind::Journal);
        #[cfg(feature = "tracing")]
        tracing::debug!(segment = id, objects = sealed.binding().objects, "sealed");
        Ok(())
    }

    /// Seals every record that was put so far, and returns the id of the segment that is appended
    /// to.
    pub(super) fn seal_all(&self) -> Result<u32> {
        let active = {
            let mut appender = self.lock_appender();
            if appender.end() > 0 {
                self.roll(&mut appender, 0)?;
            }
            appender.active().id()
        };
        self.seal_while(|id| id < active)?;
        Ok(active)
    }
}
