//! Writes a damaged sidecar anew.

use super::ledger::Ledger;
use super::writer::Writer;
use crate::dir::FileKind;
use crate::error::Result;
use crate::segment::Sealed;
use crate::segment::sidecar::rebuild_sidecar;

impl Writer {
    /// Writes the sidecar of a segment anew, if the data gives back what it was.
    pub(crate) fn rewrite_sidecar(&self, sealed: &Sealed) -> Result<()> {
        let (id, binding) = (sealed.id(), sealed.binding());
        let is_listed = |ledger: &Ledger| ledger.manifest().sealed.contains_key(&id);
        if !is_listed(&self.lock_ledger()) {
            return Ok(());
        }
        let rebuilt = rebuild_sidecar(
            sealed.data(),
            Some(binding),
            sealed.data().hash_on_all_cores(),
        )?;
        // A compaction that replaces the segment holds this lock while it commits.
        let ledger = self.lock_ledger();
        if rebuilt.doubt.is_none() && is_listed(&ledger) {
            let bytes = rebuilt.sidecar.as_bytes();
            self.dir()
                .replace_segment_file(id, FileKind::Sidecar, bytes)?;
            self.events.repairs.add(1);
        }
        Ok(())
    }
}
