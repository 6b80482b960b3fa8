//! Messages to the two background threads: one seals, the other builds the set index.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::mpsc::Sender;
use crate::sync::{Mutex, lock};

/// A message to the thread that seals.
pub(super) enum Job {
    /// Seals the full segments.
    Seal,
    /// Drops the outdated sets as soon as no reader uses them.
    DropUnusedSets,
}

/// The sending end to the thread that seals.
pub(super) struct SealRequests(Mutex<Option<Sender<Job>>>);

impl SealRequests {
    pub(super) fn new(sender: Sender<Job>) -> Self {
        Self(Mutex::new(Some(sender)))
    }

    /// Sends a job to the thread that seals. Has no effect once the thread has ended. Before the
    /// store is closed only a panic ends it, and then the caller that needs a segment sealed seals
    /// it.
    pub(super) fn send(&self, job: Job) {
        if let Some(sender) = &*lock(&self.0) {
            let _ = sender.send(job);
        }
    }

    /// Lets the thread that seals end after the jobs that it was sent.
    pub(super) fn close(&self) {
        lock(&self.0).take();
    }
}

/// The sending end to the thread that builds the set index. A store without a writer has no such
/// thread, and its requests have no effect.
#[derive(Default)]
pub(crate) struct IndexRequests {
    /// Whether a request is on its way. One is enough: the thread does all the work that it finds.
    is_asked: AtomicBool,
    is_closing: AtomicBool,
    sender: Mutex<Option<Sender<()>>>,
}

impl IndexRequests {
    /// Connects the thread that indexes: it receives the requests from now on.
    pub(super) fn connect(&self, sender: Sender<()>) {
        *lock(&self.sender) = Some(sender);
    }

    /// Asks for the set index to be brought up to date.
    pub(super) fn ask(&self) {
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(sender) = &*lock(&self.sender) {
            // If the thread has ended, lookups get slower but stay right.
            let _ = sender.send(());
        }
    }

    /// Notes that the thread begins to look for work. A later change needs another request.
    pub(super) fn begin(&self) {
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// Lets the thread that indexes end at once, since nothing depends on the run that it builds.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        lock(&self.sender).take();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }
}
