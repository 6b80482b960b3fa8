//! Kills of Sealstone without a process of its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use sealstone::Options;
use tempfile::TempDir;

use super::ledger::Ledger;
use crate::common::layout::scratch;
use crate::common::workload::{Verdict, copy_store, seam_with_stillness};

/// A kill at an operation: the folder is copied between two operations, together with the promises
/// made until then, and the history goes on with the copy.
pub struct Kill {
    root: PathBuf,
    at: Option<u64>,
    operations: AtomicU64,
    stillness: Arc<RwLock<()>>,
    ledger: Mutex<Ledger>,
    pub copy: Mutex<Option<(TempDir, Ledger)>>,
}

impl Kill {
    pub fn new(root: &Path, ledger: &Ledger, at: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            at,
            operations: AtomicU64::new(0),
            stillness: Arc::default(),
            ledger: Mutex::new(ledger.clone()),
            copy: Mutex::default(),
        })
    }

    pub fn watch(self: &Arc<Self>, options: Options) -> Options {
        let kill = Arc::clone(self);
        options.operations(seam_with_stillness(
            Arc::clone(&self.stillness),
            move |_| {
                if Some(kill.operations.fetch_add(1, Ordering::SeqCst)) == kill.at {
                    let _nothing_else_goes_on = kill.stillness.write().unwrap();
                    let folder = scratch();
                    copy_store(&kill.root, folder.path());
                    let ledger = kill.ledger.lock().unwrap().clone();
                    *kill.copy.lock().unwrap() = Some((folder, ledger));
                }
                Verdict::Go
            },
        ))
    }

    /// Records the promises that hold from now on.
    pub fn tell(&self, ledger: &Ledger) {
        *self.ledger.lock().unwrap() = ledger.clone();
    }
}
