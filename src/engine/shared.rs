//! The state that readers and the writer of an open store share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "remote")]
use std::sync::atomic::AtomicBool;

use super::background::IndexRequests;
use crate::digest::{Digest, HashFunction};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::memory::ForkMark;
use crate::options::Options;
use crate::recovery::RecoveryReport;
use crate::segment::content::Verified;
use crate::segment_set::SegmentSet;
use crate::sync::{ArcSwap, ArcSwapGuard};
use crate::threads::alone;

/// The part of an open store that reading needs.
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) dir: Dir,
    pub(crate) options: Options,
    /// The segments that readers see.
    pub(crate) set: ArcSwap<SegmentSet>,
    /// The repairs that were made when the store was opened.
    pub(crate) report: RecoveryReport,
    pub(super) index_requests: IndexRequests,
    /// Whether a push to an object store is under way.
    #[cfg(feature = "remote")]
    pub(crate) is_pushing: AtomicBool,
    /// Marks the process that opened the store.
    origin: ForkMark,
}

pub(super) type SetGuard = ArcSwapGuard<SegmentSet>;

impl Shared {
    pub(crate) fn new(
        root: &Path,
        dir: Dir,
        options: Options,
        (set, report): (SegmentSet, RecoveryReport),
    ) -> Self {
        Self {
            root: root.to_owned(),
            dir,
            options,
            set: ArcSwap::from_pointee(set),
            report,
            index_requests: IndexRequests::default(),
            #[cfg(feature = "remote")]
            is_pushing: AtomicBool::new(false),
            origin: ForkMark::new(),
        }
    }

    /// The function that names the objects.
    pub(crate) fn hash_function(&self) -> HashFunction {
        // A reader learns it with each set: a store without objects may not have chosen yet.
        let known = self.options.hash_function;
        known.unwrap_or_else(|| self.set.load().hash_function())
    }

    /// Fails in a process that was forked from the process that opened the store. It has copies of
    /// the parent's locks, and nobody releases a lock that another thread held at the fork.
    pub(crate) fn require_own_process(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        Ok(())
    }

    /// Whether this process was forked from the process that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        self.origin.is_forked()
    }

    /// Asks for a damaged run of the set index to be built anew.
    #[inline]
    pub(crate) fn look_after(&self, set: &SegmentSet) {
        if set.has_damaged_run() {
            self.ask_for_index();
        }
    }

    #[cold]
    fn ask_for_index(&self) {
        if !self.is_forked() {
            self.index_requests.ask();
        }
    }

    /// Looks several objects up, with other threads where this process has them.
    pub(crate) fn look_up_many<'a>(
        &self,
        set: &'a SegmentSet,
        digests: &[Digest],
    ) -> Vec<Result<Option<Verified<'a>>>> {
        let look_up = || set.lookup_many(digests, self.options.verify_reads);
        if self.is_forked() {
            // The forked thread may belong to a pool of `rayon` whose other threads are missing
            // here.
            alone(look_up)
        } else {
            look_up()
        }
    }

    /// Removes the files of the runs that no longer cover a segment: their segments are gone, or
    /// another run covers them.
    pub(super) fn remove_unused_runs(&self, numbers: impl IntoIterator<Item = u32>) {
        let used = self.set.load().run_numbers();
        for number in numbers {
            if !used.contains(&number) {
                // The next opening removes a file that stays.
                let path = self.dir.set_index_path(number);
                let _ = self.dir.remove_if_present(&path);
            }
        }
    }

    /// Replaces the set that readers see, and returns the old set.
    pub(super) fn replace_set(
        &self,
        change: impl Fn(&SegmentSet) -> SegmentSet,
    ) -> Arc<SegmentSet> {
        self.set.rcu(|set| change(set))
    }
}
