//! The operations that each store implements.
//!
//! The traits are dispatched statically: a get takes less than a microsecond, so the figures would
//! show a virtual call and the optimizations that it prevents.

use std::path::Path;
use std::time::{Duration, Instant};

use sealstone::Digest;

use crate::hashing;
use crate::operations::Operation;

/// A store, or a way of reading one.
pub trait Peer: Sized + Sync + 'static {
    const NAME: &'static str;

    /// The subfolder with its files. Two ways of reading one store share it.
    const FOLDER: &'static str;

    /// Whether it only reads; then another peer with the same folder writes.
    const IS_VIEW: bool = false;

    /// Whether there is a call that returns when everything put before it survives power loss.
    /// Without such a call, closing the store takes its place.
    const HAS_SYNC: bool = true;

    /// The handle that a thread reads with, for any time.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens the store, and creates it in an empty folder.
    fn open(folder: &Path) -> Self;

    /// Opens the store to be read where it does not fit into memory. A store that has a cache of its
    /// own gives it `cache_bytes`.
    fn open_larger_than_memory(folder: &Path, _cache_bytes: u64) -> Self {
        Self::open(folder)
    }

    /// Opens the store for the puts that are measured: with the options that make a
    /// [`bulk_put`](Self::bulk_put) fastest, where reading is fastest with others.
    fn open_to_put(folder: &Path) -> Self {
        Self::open(folder)
    }

    /// Puts all batches in the fastest way that takes them as they come, hashes each on all cores,
    /// and syncs once at the end if the store can.
    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps);

    /// Loads an empty store with all objects in the order of their digests, as a bulk put could
    /// that knows all content beforehand, and syncs. Does nothing and returns false if this is no
    /// faster than [`bulk_put`](Self::bulk_put).
    fn load_sorted(&self, _objects: &[(Digest, &[u8])]) -> bool {
        false
    }

    /// Hashes objects one by one on this thread, puts them, and syncs.
    fn put_and_sync(&self, contents: &[&[u8]]);

    /// Prepares the store for many reads as its documentation recommends, and closes it.
    fn settle(self) {}

    fn reader(&self) -> Self::Reader<'_>;

    /// Returns whether an operation makes sense for this way of reading.
    fn measures(_operation: Operation) -> bool {
        true
    }
}

/// A handle that reads on one thread.
pub trait Reader {
    /// Shows the content to `see`, without a copy if the store can; `None` if it is not there.
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// Gets an object and checks its bytes, for a store that does not check by itself.
    #[inline]
    fn get_checked(&self, digest: &Digest) -> Option<usize> {
        self.get(digest, |content| {
            assert_eq!(hashing::digest(content), *digest, "wrong bytes");
            content.len()
        })
    }

    /// Gets and checks several objects in the fastest way that one call has; returns their bytes.
    fn get_batch_checked(&self, digests: &[Digest]) -> usize;

    /// Walks over all objects in the order of the files and checks them; returns their number.
    fn scan_checked(&self) -> usize;
}

/// Measures the longest batch.
#[derive(Default)]
pub struct Laps {
    pub longest: Duration,
}

impl Laps {
    pub fn lap<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.longest = self.longest.max(start.elapsed());
        result
    }
}

/// Hashes a batch on all cores and sorts it by digest: a tree is filled faster in the order of its
/// keys, even if only each batch is in order.
pub fn sorted<'a>(batch: &[&'a [u8]]) -> Vec<(Digest, &'a [u8])> {
    let digests = hashing::on_all_cores(batch);
    let mut objects: Vec<_> = digests.into_iter().zip(batch.iter().copied()).collect();
    objects.sort_unstable_by_key(|object| object.0);
    objects
}
