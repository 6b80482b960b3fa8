//! Opens a writer and starts its background threads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::background::{Job, SealRequests};
use super::ledger::Ledger;
use super::shared::Shared;
use super::writer::Writer;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::recovery;
use crate::sync::mpsc;
use crate::sync::thread::{Builder, JoinHandle};
use crate::threads::not_started;

/// A writer and its two background threads. Dropping it closes the writer and ends the threads.
pub(crate) struct OpenWriter {
    writer: Arc<Writer>,
    threads: Vec<JoinHandle<()>>,
}

impl OpenWriter {
    /// Takes the lock of the folder, recovers the store in it, and starts the threads.
    pub(crate) fn open(root: &Path, dir: Dir, mut options: Options) -> Result<Self> {
        let lock = dir.lock()?;
        let opened = recovery::open_writer(&dir, &options)?;
        options.hash_function = Some(opened.manifest.hash_function);
        lock.make_known(&dir);
        let shared = Shared::new(root, dir, options, (opened.set, opened.report));
        let (sealing, jobs) = mpsc::channel();
        let (indexing, requests) = mpsc::channel();
        shared.index_requests.connect(indexing);
        let newest_run = opened.run_numbers.last();
        let writer = Arc::new(Writer::new(
            Arc::new(shared),
            (opened.appender, Ledger::new(opened.manifest)),
            SealRequests::new(sealing),
            lock,
            newest_run.map_or(1, |newest| newest.wrapping_add(1)),
        ));
        // Recovery may have left segments that have to be sealed.
        writer.seal_requests.send(Job::Seal);
        writer.shared.index_requests.ask();
        writer.shared.remove_unused_runs(opened.run_numbers);
        // If a thread cannot be started, dropping `open` ends the other.
        let mut open = Self {
            writer: Arc::clone(&writer),
            threads: Vec::new(),
        };
        let sealer = Arc::clone(&writer);
        open.spawn("sealstone-seal", move || sealer.seal_until_closed(&jobs))?;
        open.spawn("sealstone-index", move || {
            writer.index_until_closed(&requests);
        })?;
        Ok(open)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = Builder::new().name(name.to_owned());
        let started = thread.spawn(work).map_err(|error| not_started(&error));
        let root = &self.writer.shared.root;
        self.threads.push(started.map_err(Error::io(root))?);
        Ok(())
    }

    pub(crate) const fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    pub(super) fn take_threads(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

impl Drop for OpenWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writer {
    /// The part of the store that readers need.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a number for a run of the set index. Reuse is harmless: a run records its own sources.
    pub(super) fn take_run_number(&self) -> u32 {
        self.next_run_number.fetch_add(1, Ordering::Relaxed)
    }
}
