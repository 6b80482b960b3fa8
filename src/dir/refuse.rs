//! Refusing changes: after a failure, after the store was closed, and in a forked process.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Dir;
use crate::error::{Error, Result};

impl Dir {
    /// Refuses every change from here on.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Whether this process was forked from the one that opened the folder.
    pub(crate) fn is_inherited(&self) -> bool {
        self.0.process != std::process::id()
    }

    /// Fails where nothing may be changed: where [`check_writable`](Self::check_writable) fails,
    /// and in a forked process, which has the files of its parent and would write over its records.
    pub(super) fn check_own(&self) -> Result<()> {
        self.check_writable()?;
        if self.is_inherited() {
            return Err(Error::Forked);
        }
        Ok(())
    }

    /// Fails after a failure that left unknown what is on disk, and after the store was closed.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match self.0.poison.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
        }
    }

    /// Refuses every change from here on because of a failure. The first failure is the one that is
    /// reported.
    pub(super) fn poison(&self, path: &Path, operation: &str, error: &io::Error) {
        let reason = format!("{operation} of {}: {error}", path.display());
        let _ = self.0.poison.set(reason);
    }
}
