//! Batches of files or objects, which are read and hashed in parallel.

use rayon::prelude::*;
use sealstone::{HashFunction, Hashed};

use crate::exit::Failure;

/// The size of a batch. It is large enough to keep every core busy, and small enough to stay in
/// memory. A larger file is read in pieces, and belongs to no batch.
const BYTES_MAX: u64 = 32 << 20;
/// The most files of a batch. It is small enough for the lines of small files to appear while the work
/// goes on, and large enough for few syncs.
const FILES_MAX: usize = 1024;
/// The number of files that one thread hashes together.
const HASHED_FILES: usize = 32;

/// Files or objects that wait for being read or stored.
pub struct Batch<T> {
    files: Vec<T>,
    bytes: u64,
    count_max: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self::with_count_max(FILES_MAX)
    }
}

impl<T> Batch<T> {
    /// Makes an empty batch that takes at most this many.
    pub fn with_count_max(count_max: usize) -> Self {
        Self {
            files: Vec::new(),
            bytes: 0,
            count_max,
        }
    }

    /// Returns whether a file of this size belongs to the next batch.
    pub fn is_full_for(&self, bytes_expected: u64) -> bool {
        let bytes = self.bytes.saturating_add(bytes_expected);
        bytes > BYTES_MAX || self.files.len() == self.count_max
    }

    pub fn push(&mut self, file: T, bytes_expected: u64) {
        self.bytes = self.bytes.saturating_add(bytes_expected);
        self.files.push(file);
    }

    /// Returns the files and begins the next batch.
    pub fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.files)
    }
}

/// Returns whether content of this length is too long for a batch.
pub const fn is_long(bytes: u64) -> bool {
    bytes > BYTES_MAX
}

/// Starts the threads. If this were left to the first use of `rayon`, a failure to start them would
/// panic.
pub fn start_threads() -> Result<(), Failure> {
    let threads = rayon::ThreadPoolBuilder::new();
    threads.build_global().map_err(|error| {
        Failure::Io(format!(
            "no thread can be started: {error}; raise the limit on processes and try again"
        ))
    })
}

/// Hashes contents, several at a time where that is faster.
pub fn hash_all<C>(function: HashFunction, contents: &[C]) -> Vec<Hashed<'_>>
where
    C: AsRef<[u8]> + Sync,
{
    let parts = contents.par_chunks(HASHED_FILES);
    let hashed = parts.flat_map_iter(|part| {
        let part: Vec<&[u8]> = part.iter().map(AsRef::as_ref).collect();
        Hashed::of_many(function, &part)
    });
    hashed.collect()
}

/// Hashes the contents that were read, several at a time where that is faster, and keeps the errors in their places.
pub fn hash<C, E>(function: HashFunction, contents: &[Result<C, E>]) -> Vec<Result<Hashed<'_>, &E>>
where
    C: AsRef<[u8]> + Sync,
    E: Sync,
{
    let parts = contents.par_chunks(HASHED_FILES);
    let hashed = parts.flat_map_iter(|part| {
        let read: Vec<&[u8]> = part.iter().flatten().map(AsRef::as_ref).collect();
        let mut hashed = Hashed::of_many(function, &read).into_iter();
        let in_place = part.iter().filter_map(move |content| match content {
            Ok(_) => hashed.next().map(Ok),
            Err(error) => Some(Err(error)),
        });
        in_place.collect::<Vec<_>>()
    });
    hashed.collect()
}
