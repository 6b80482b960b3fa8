//! Commits a change by replacing the manifest.

use super::ledger::Ledger;
use super::writer::Writer;
use crate::dir::Dir;
use crate::error::Result;
use crate::format::Manifest;
use crate::sync::{MutexGuard, lock};

impl Writer {
    pub(super) fn lock_ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Replaces the manifest by a changed one. The rename of the new file is the commit.
    pub(super) fn commit(
        &self,
        ledger: &mut Ledger,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let dir = self.dir();
        let mut manifest = ledger.manifest().clone();
        forget_removed(dir, &mut manifest)?;
        let set = self.set();
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
        // An id is taken before its segment is published, so this is beyond all ids in the
        // manifest.
        manifest.next_id = self.ids.next();
        dir.replace_manifest(&manifest.encode())?;
        ledger.note_written(manifest);
        Ok(())
    }

    /// Commits a manifest if the store has none yet, which is so until the first seal.
    pub(super) fn commit_first(&self) -> Result<()> {
        let mut ledger = self.lock_ledger();
        if self.dir().has_manifest()? {
            return Ok(());
        }
        self.commit(&mut ledger, |_| ())
    }

    /// Commits a manifest without the retired segments whose files are gone. Otherwise a program
    /// that knows no manifest could reuse such an id, and its segment would look like ours.
    pub(super) fn forget_retired(&self) -> Result<()> {
        let mut ledger = self.lock_ledger();
        let mut retired = ledger.manifest().retired.keys();
        if retired.any(|id| !self.dir().holds_segment(*id)) {
            self.commit(&mut ledger, |_| ())?;
        }
        Ok(())
    }
}

/// Removes retired segments whose files are gone from the manifest.
fn forget_removed(dir: &Dir, manifest: &mut Manifest) -> Result<()> {
    let retired_before = manifest.retired.len();
    manifest.retired.retain(|id, _| dir.holds_segment(*id));
    if manifest.retired.len() < retired_before {
        // A file that came back in a crash would be taken for data, so the removal of the files is
        // made durable first.
        dir.sync()?;
    }
    Ok(())
}
