//! The progress of long work: how its bytes are counted, and how the caller hears of them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{RemoteError, Result};

/// How far a push, a pull, a check of a ref or the opening of a reader is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TransferProgress {
    /// Bytes that are done: they were read and checked and are about to be uploaded, or they were downloaded
    /// and checked.
    pub bytes_done: u64,
    /// Bytes that are to be uploaded or downloaded, as far as it is known yet. Pulls and checks count those
    /// of data files.
    pub bytes_total: u64,
}

/// The progress of a collection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GcProgress {
    /// Files of the present ref that were listed.
    pub files: u64,
}

/// Tells the caller how far the work is, and ends it if the caller asks for that.
pub(super) struct Progress<'a, P>(pub(super) &'a (dyn Fn(&P) -> ControlFlow<()> + Sync));

impl<P> Progress<'_, P> {
    pub(super) fn report(&self, progress: &P) -> Result<()> {
        match (self.0)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(RemoteError::Cancelled.into()),
        }
    }
}

/// Counts the bytes of a transfer, and reports each step.
pub(super) struct Transfer<'a> {
    progress: &'a Progress<'a, TransferProgress>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

impl<'a> Transfer<'a> {
    /// Begins a transfer of `bytes_total`, as far as it is known, and reports that.
    pub(super) fn begin(
        progress: &'a Progress<'a, TransferProgress>,
        bytes_total: u64,
    ) -> Result<Self> {
        let transfer = Self {
            progress,
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(bytes_total),
        };
        transfer.done(0)?;
        Ok(transfer)
    }

    /// Adds to the bytes that are to be transferred.
    pub(super) fn expect(&self, bytes: u64) {
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds to the bytes that are done. Fails if the caller ends the work.
    pub(super) fn done(&self, bytes: u64) -> Result<()> {
        let bytes_done = self.bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.report(&TransferProgress {
            bytes_done,
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
        })
    }
}
