//! Hands records to the operating system, and makes them durable.

use std::sync::Arc;

use super::writer::Writer;
use crate::error::Result;
use crate::segment::Active;

impl Writer {
    /// Hands every record to the operating system that was put before.
    pub(crate) fn flush(&self) -> Result<()> {
        self.dir().check_writable()?;
        self.lock_appender().flush()
    }

    /// Makes every record durable that was put before. Puts go on meanwhile.
    pub(crate) fn sync(&self) -> Result<()> {
        self.dir().check_writable()?;
        let (active, end) = {
            let mut appender = self.lock_appender();
            appender.flush()?;
            (Arc::clone(appender.active()), appender.end())
        };
        // The set is loaded after the flush: a segment that was full before is among its unsealed
        // segments, or sealed and durable.
        let set = self.shared.set.load_full();
        let older = || {
            let unsealed = set.unsealed().iter();
            unsealed.filter(|unsealed| unsealed.id() < active.id())
        };
        for unsealed in older() {
            // This segment had its name before the active segment was created. The name of the
            // active segment is durable, or becomes so below, and older names with it.
            let synced = unsealed.make_data_durable(unsealed.flushed_bytes());
            self.unless_sealed_since(unsealed, synced)?;
        }
        let synced = active.make_durable(self.dir(), end);
        self.unless_sealed_since(&active, synced)?;
        older().for_each(|unsealed| unsealed.note_name_is_durable());
        let mut appender = self.lock_appender();
        if appender.active().id() == active.id() {
            appender.mark_synced(end);
        }
        drop(appender);
        // A sync by the thread that seals may have failed.
        self.dir().check_writable()
    }

    /// Returns the result of a sync of this segment. A segment that was sealed meanwhile is durable,
    /// and a compaction may have removed its file since, which is no failure. After a failed sync of a
    /// file, all writes are refused in any case.
    fn unless_sealed_since(&self, segment: &Active, synced: Result<()>) -> Result<()> {
        match synced {
            Err(_) if self.set().unsealed_with_id(segment.id()).is_none() => Ok(()),
            synced => synced,
        }
    }
}
