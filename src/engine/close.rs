//! Closes a writer.

use std::sync::Arc;

use super::index::Effort;
use super::open::OpenWriter;
use super::writer::Writer;
use crate::error::Result;
use crate::recovery::UNSEALED_OBJECTS_MAX;

impl OpenWriter {
    /// Ends the background threads, syncs, seals segments that would take long to load at the next
    /// opening, and gives up the lock. A failure here loses only records that were never synced.
    pub(crate) fn close(&mut self) {
        let writer = Arc::clone(self.writer());
        if writer.dir().is_inherited() {
            // Neither the threads nor the lock belong to this forked process.
            return;
        }
        writer.shared.index_requests.close();
        writer.seal_requests.close();
        for thread in self.take_threads() {
            // An error means that the thread panicked; its work is done below.
            let _ = thread.join();
        }
        // The next opening makes up for a failure here.
        let _ = writer.finish_up();
        writer.give_up_outdated_sets();
        // An object may outlive the store and hold a retired segment. The next opening removes that
        // segment's files, since the folder may have another writer when the object is dropped.
        writer.dir().close();
        writer.lock.unlock();
    }
}

impl Writer {
    /// Syncs, and seals segments that would take long to load at the next opening.
    fn finish_up(&self) -> Result<()> {
        self.sync()?;
        self.seal_rolled()?;
        let set = self.shared.set.load_full();
        let newest = set.unsealed().last();
        if newest.is_some_and(|active| active.objects() > UNSEALED_OBJECTS_MAX) {
            self.seal_all()?;
        }
        self.forget_retired()?;
        self.index_if_needed(Effort::Closing)
    }
}
