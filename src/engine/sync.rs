//! Making durable what was put.

use std::sync::Arc;

use super::writer::Writer;
use crate::error::Result;

impl Writer {
    /// Makes everything durable that was put before. Puts go on meanwhile.
    pub(crate) fn sync(&self) -> Result<()> {
        self.dir().check_writable()?;
        let (active, end) = {
            let mut appender = self.lock_appender();
            appender.flush()?;
            (Arc::clone(appender.active()), appender.end())
        };
        // Loaded after the flush: a segment that was full before is in it, or sealed and durable.
        let set = self.shared.set.load_full();
        let older = || {
            let unsealed = set.unsealed().iter();
            unsealed.filter(|unsealed| unsealed.id() < active.id())
        };
        for unsealed in older() {
            // Its name was there when the active segment was created. The name of that one is durable
            // now, or is made so below with all names of the folder.
            unsealed.make_data_durable(unsealed.flushed_bytes())?;
        }
        active.make_durable(self.dir(), end)?;
        older().for_each(|unsealed| unsealed.note_name_is_durable());
        let mut appender = self.lock_appender();
        if appender.active().id() == active.id() {
            appender.mark_synced(end);
        }
        drop(appender);
        // A sync in the background may have failed.
        self.dir().check_writable()
    }
}
