//! What every store has to do here.
//!
//! The traits are for static dispatch: a get takes less than a microsecond, and a virtual call with
//! what it keeps the compiler from doing would be seen.

use std::path::Path;
use std::time::{Duration, Instant};

use sealstone::Digest;

use crate::hashing;
use crate::operations::Operation;

/// A store, or a way of reading one.
pub trait Peer: Sized + Sync + 'static {
    const NAME: &'static str;

    /// Subfolder with its files. Two ways of reading one store share it.
    const FOLDER: &'static str;

    /// Whether it is only read through; then another one with the same folder writes.
    const IS_VIEW: bool = false;

    /// Whether there is a call that returns when everything put before it survives power loss.
    /// Where there is none, closing has to do.
    const HAS_SYNC: bool = true;

    /// What a thread reads with, for as long as it likes.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens, and creates where there is nothing.
    fn open(folder: &Path) -> Self;

    /// As [`open`](Self::open), with what makes a [`bulk_put`](Self::bulk_put) fastest where that is
    /// not what makes reading fastest. The time that is given for puts is that of this one.
    fn open_to_put(folder: &Path) -> Self {
        Self::open(folder)
    }

    /// Puts everything in the fastest way in which batches can be put as they come, each to be hashed
    /// with all cores, and syncs once at the end if it can.
    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps);

    /// Loads an empty store with everything in the order of the digests, which a bulk put that knows
    /// all content beforehand could do, and syncs. False if it is no faster than
    /// [`bulk_put`](Self::bulk_put), and nothing was done.
    fn load_sorted(&self, _objects: &[(Digest, &[u8])]) -> bool {
        false
    }

    /// Puts objects, hashed one by one on this thread, and syncs.
    fn put_and_sync(&self, contents: &[&[u8]]);

    /// Does what is recommended before much is read, and closes.
    fn settle(self) {}

    fn reader(&self) -> Self::Reader<'_>;

    /// Whether an operation makes sense for this way of reading.
    fn measures(_operation: Operation) -> bool {
        true
    }
}

/// Reads, on one thread.
pub trait Reader {
    /// `None` if it is not there. Content is not copied where the store can do without.
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// A get that cannot give wrong bytes, for a store that does not check by itself.
    #[inline]
    fn get_checked(&self, digest: &Digest) -> Option<usize> {
        self.get(digest, |content| {
            assert_eq!(hashing::digest(content), *digest, "wrong bytes");
            content.len()
        })
    }

    /// Several checked gets, as fast as can be done with one call for all of them; gives the bytes.
    fn get_batch_checked(&self, digests: &[Digest]) -> usize;

    /// Everything in the order of the files, checked; gives the number of objects.
    fn scan_checked(&self) -> usize;
}

/// Time of the longest batch.
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

/// A batch with digests, hashed on all cores and sorted: a tree is filled faster in the order of its
/// keys, also if it is only the order within a batch.
pub fn sorted<'a>(batch: &[&'a [u8]]) -> Vec<(Digest, &'a [u8])> {
    let digests = hashing::on_all_cores(batch);
    let mut objects: Vec<_> = digests.into_iter().zip(batch.iter().copied()).collect();
    objects.sort_unstable_by_key(|object| object.0);
    objects
}
