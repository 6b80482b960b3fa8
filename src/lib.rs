//! Sealstone is a content-addressed object store to embed. Objects are appended to segment files; a
//! full segment is sealed; sealed segments and their indexes are memory-mapped; and every read is a
//! slice of the page cache that was checked against its BLAKE2b digest.
//!
//! ```
//! use sealstone::{Digest, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path().join("objects"))?;
//!
//! let digest: Digest = store.put(b"some content")?;
//! store.sync()?; // from here on it survives power loss
//!
//! if let Some(object) = store.get(&digest)? {
//!     assert_eq!(&object[..], b"some content"); // no copy was made
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! 1. After [`sync`](Store::sync) returned `Ok`, every put that returned `Ok` before it, also of
//!    content that was held already, survives power loss at any instant, until a compaction drops it
//!    because the caller said it is dead.
//! 2. A read gives the exact bytes, or `None`, or a typed [`Error`]. Never wrong bytes, never a
//!    panic.
//! 3. A put that was not synced yet may vanish in a crash; it never comes back corrupted.
//! 4. Readers never wait: not for a writer, not for a seal, not for a compaction.
//! 5. A compaction is all or nothing: after a crash the store is the old set or the new set.
//! 6. Nothing is deleted or overwritten that is not proven dead and proven ours: a file is removed only
//!    if a manifest that fits the files says that it is retired, or if its name says that it is a
//!    temporary of ours, or made from others, as a run of the set index. An opening that fails has
//!    removed nothing.
//! 7. Opening costs time for each segment, not for each sealed object, and a sealed object costs no
//!    heap. The segment that is not sealed yet costs time and heap for each of its objects: with more than
//!    32,768 it is sealed when the store is closed. Whatever a file claims, opening it takes memory and
//!    time in proportion to what is really stored.
//! 8. The store is the folder that was opened, not whatever has its path later. Moving it, putting
//!    another one in its place, or changing the working directory makes writes go on in the same folder;
//!    removing it makes them fail, [`sync`](Store::sync) at the latest.
//!
//! What this rests on is listed in [`format`](mod@format#what-is-assumed-of-the-medium).
//!
//! # Reading
//!
//! [`Store::get`] asks the set index, one probe however many segments there are, and verifies what it
//! leads to. The [`Object`] it gives dereferences to bytes and holds its segment: it outlives
//! compactions, the store, and the file. [`Store::contains`] asks the indexes only. [`Store::iter`]
//! walks over everything in file order, [`Store::find`] completes a prefix of a digest.
//!
//! Where reading is all there is to do, three things make it faster still:
//!
//! - [`Store::get_many`] reads a batch in about a third of the time: the lookups wait for memory
//!   together, and the contents are hashed side by side.
//! - [`Store::reader`] gives a [`PinnedReader`]: what it finds borrows from it, so threads that read
//!   the same segments do not count in the same memory.
//! - [`VerifyReads::FirstRead`] checks each record at its first read only.
//!
//! [`Advice`] tells the operating system more about the mappings than it assumes; none is the default,
//! and its page says what was measured.
//!
//! The set index is derived and kept up to date in the background; [`StoreStats`] has how much it does
//! not cover yet. Nothing but speed depends on it.
//!
//! One process writes, any number read. A reader opens with [`Options::read_only`], takes no lock
//! and changes nothing, and sees what the writer did since at each [`Store::refresh`].
//!
//! # Writing
//!
//! [`Store::put`] hashes, looks whether the content is held, and appends it if it is not. It can be
//! read at once, and survives power loss after the next [`Store::sync`]. Full segments are sealed by
//! a thread in the background; `sync` covers them. To hash elsewhere, put [`Hashed`].
//!
//! # Forgetting
//!
//! The store does not know which objects an application still needs. A compaction asks:
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let store = sealstone::Store::open(folder.path())?;
//! # let walk_live_objects = || std::collections::HashSet::<sealstone::Digest>::new();
//! let compaction = store.begin_compaction()?; // what is put from here on is kept
//! let live = walk_live_objects();
//! let stats = compaction.finish(|digest| live.contains(digest))?;
//! println!("{} bytes reclaimed", stats.bytes_reclaimed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When something is wrong
//!
//! Opening repairs what can be repaired without losing anything and says so in
//! [`Store::recovery`]. A manifest and files of different moments, as of a backup that was restored file by
//! file, lose nothing that is in a file: where they do not fit, nothing is removed, and what was dropped can
//! come back. NEDB v3 may write between two openings; what it appends is found, and what it compacts away
//! is reported. Damage to an object is [`Error::Corrupt`] when it is read, never "not
//! found"; putting its content again repairs it. [`Store::verify`] finds all damage there is. After a
//! failed fsync, writes are refused ([`Error::Poisoned`]) and reads go on.
//!
//! # Limits
//!
//! - An object has at most `u32::MAX` bytes. It is read and hashed as a whole.
//! - There are at most 2^32 segments in the life of a store. Each is mapped twice, data and sidecar, while
//!   all stores of the process have no more maps than half of what Linux allows (`vm.max_map_count`,
//!   65,530 by default): about 12,000 segments have both, then data comes first. What is not mapped is
//!   read by system calls, and a sidecar that is asked for something costs 44 bytes of heap an object.
//!   Up to half of the file descriptors that the process may have (`RLIMIT_NOFILE`) hold such files open;
//!   further ones are opened for each read. If another process has compacted such a file away, that
//!   read is an [`Error::Io`] which says so, until [`Store::refresh`].
//! - Objects are verified at each read, or at the first read with [`VerifyReads::FirstRead`].
//! - The sidecar of a segment is checked as a whole, about a gigabyte a second, when it is first asked
//!   for something: by [`Store::contains`] and [`Store::find`], a put of what is held already, a walk,
//!   a compaction, and reads with [`VerifyReads::FirstRead`] or of segments that the set index does not
//!   cover yet. From then on it costs up to one byte of heap an object that is searched for.
//! - Memory-mapping means that a failing medium, or somebody who cuts a file below a mapping, ends
//!   the process with SIGBUS. [`ReadMode::Pread`] gives an error instead, for a copy a read. Nor may
//!   anybody overwrite a mapped file: what was verified when it was read would change.
//! - One writer. The lock is advisory, and as good as the file system's locks are: not all network
//!   file systems have good ones, and their mappings are not coherent either. Use a local one.
//! - A process that is forked from the one that opened a store, and starts no other program, can read
//!   with what it inherits, and waits for nothing that its parent was doing. Whatever would change a file,
//!   and [`Store::refresh`], is [`Error::Forked`] there; it opens the store anew for that.
//! - Large batches and recoveries are spread over a pool of threads that the stores of a process share,
//!   as many as there are cores or as `RAYON_NUM_THREADS` says, or over that of `rayon` to which the
//!   calling thread belongs. Where the system starts none, and in a forked process, the calling thread
//!   does all of it. [`Store::verify`], compactions and the set index have threads of their own while
//!   they work.
//! - Linux is what it is measured on. It is written for macOS and Windows as well.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `simd` (default) | hashes with `blake2b_simd`; without it, with the portable `blake2` |
//! | `bytes` | `bytes::Bytes::from(object)` without a copy |
//! | `serde` | serializes reports, and digests in both directions |
//! | `tracing` | events for repairs, seals and compactions |
//! | `cli` | the command line, `sealstone` |
//! | `test-seam` | for tests: replaces the operations that change a folder, `test_seam` |
#![deny(unsafe_code)]

mod compaction;
mod digest;
mod dir;
mod engine;
mod error;
pub mod format;
mod indexing;
#[cfg(test)]
mod looks;
mod memory;
mod object;
mod options;
mod recovery;
mod run;
mod scan;
mod segment;
mod segment_set;
mod store;
mod sync;
mod threads;
mod verify;

pub use compaction::CompactionStats;
pub use digest::{DIGEST_BYTES, Digest, DigestMismatch, Hashed, ParseDigestError};
pub use error::{Error, Result};
pub use object::Object;
pub use options::{
    AccessPattern, Advice, Options, ReadMode, SEGMENT_BYTES_MAX_DEFAULT, VerifyReads,
};
pub use recovery::{RecoveryReport, Repair};
pub use scan::{Digests, Objects};
pub use store::{
    Compaction, PinnedObject, PinnedReader, SegmentState, SegmentStats, Store, StoreStats,
};
pub use verify::{CorruptObject, Leftover, Problem, VerifyProgress, VerifyReport};

/// Replaces the system below the store, for tests.
///
/// Every change that a store makes on disk is one call of [`Operations`](test_seam::Operations). A test
/// gives a store operations of its own with [`Options::operations`]: they can record each call, make one
/// fail, or say that the disk is full. The other options of this feature make the store do on a few
/// objects what it otherwise does on millions.
///
/// Nothing behind this feature keeps the promises of a version number.
///
/// ```
/// use std::fs::File;
/// use std::io;
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use sealstone::test_seam::Operations;
/// use sealstone::{Error, Options};
///
/// #[derive(Debug)]
/// struct NothingIsDurable;
///
/// impl Operations for NothingIsDurable {
///     fn sync_file(&self, _: &File, _: &Path, _: bool) -> io::Result<()> {
///         Err(io::ErrorKind::TimedOut.into())
///     }
/// }
///
/// # let folder = tempfile::tempdir()?;
/// let store = Options::new()
///     .operations(Arc::new(NothingIsDurable))
///     .open(folder.path())?;
/// store.put(b"some content")?;
/// assert!(matches!(store.sync(), Err(Error::Io { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "test-seam")]
pub mod test_seam {
    pub use crate::dir::{FilePath, Folder, Operations, System};
}

/// The examples of the README are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
