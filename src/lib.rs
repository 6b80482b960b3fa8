//! Sealstone is a content-addressed object store to embed. It appends objects to segment files and
//! seals a segment when it is full. Sealed segments and their indexes are memory-mapped, and a read is
//! a slice of the page cache that was checked against its digest.
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
//! 1. After [`sync`](Store::sync) returned `Ok`, every put that returned `Ok` before it survives power
//!    loss at any instant, also a put of content that was held already, until a compaction drops it
//!    because the caller said it is dead.
//! 2. A read gives the exact bytes, or `None`, or a typed [`Error`]. It never gives wrong bytes and
//!    never panics.
//! 3. A put that was not synced yet may vanish in a crash; it never comes back corrupted. After
//!    [`Store::flush`] returned `Ok`, it survives the end of the process, but not power loss.
//! 4. Readers never wait: not for a writer, not for a seal, not for a compaction.
//! 5. A compaction is all or nothing: after a crash the store is the old set or the new set.
//! 6. Nothing is deleted or overwritten that is not proven dead and proven ours: a file is removed only
//!    if a manifest that fits the files says that it is retired, if its name says that it is a
//!    temporary of ours, or if it is derived from other files, as a run of the set index is. An opening
//!    that fails has removed nothing.
//! 7. Opening costs time for each segment, not for each sealed object, and a sealed object costs no
//!    heap. A segment that is not sealed yet costs time and heap for each of its objects: if it has more
//!    than 32,768, closing the store seals it. Whatever a file claims, opening it takes memory and time
//!    in proportion to what is really stored.
//! 8. The store is the folder that was opened, not whatever has its path later. If the folder is moved,
//!    if another one takes its place, or if the process changes its working directory, writes go on in
//!    the same folder. If the folder is removed, they fail, at the latest in [`sync`](Store::sync).
//!
//! [The format](mod@format#what-is-assumed-of-the-medium) lists what these promises rest on.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | object | content with its [`Digest`]; two objects with one digest are one object |
//! | record | the length of a content and the content itself, in a data file |
//! | copy | one record of an object; a store has several after an object was put again to repair it |
//! | segment | a data file with what belongs to it: first *active*, which is appended to; then full, waiting to be sealed; then *sealed*, which never changes |
//! | entry | the digest of a record, its offset and its length |
//! | journal | the entries of a segment that is not sealed, with marks that say what was synced |
//! | sidecar | the entries of a sealed segment, sorted by digest |
//! | set index | tables that say in which segment an object lies; derived from the sidecars |
//! | run | one file of the set index; it *covers* the segments from whose sidecars it was built |
//! | location | what a run says of an object: a segment, and where the content begins in it |
//! | manifest | the list of the sealed segments; replacing it commits a seal or a compaction |
//! | to seal | to write the sidecar of a full segment and list it in the manifest |
//! | retired | of a segment: replaced by a compaction, and removed when its last reader is gone |
//!
//! # Reading
//!
//! [`Store::get`] asks the set index, one probe however many segments there are, and verifies the
//! record that it leads to. The [`Object`] that it gives dereferences to bytes and holds its segment: it
//! outlives compactions, the store, and the file. [`Store::contains`] asks the indexes only.
//! [`Store::iter`] walks over all objects in file order, [`Store::find`] completes a prefix of a digest.
//!
//! Three things make reading faster still:
//!
//! - [`Store::get_many`] reads a batch in about a third of the time: the lookups wait for memory
//!   together, and the contents are hashed side by side.
//! - [`Store::reader`] gives a [`PinnedReader`]. The objects that it finds borrow from it, so threads
//!   that read the same segments do not count in the same memory.
//! - [`VerifyReads::FirstRead`] checks each record at its first read only.
//!
//! The set index is kept up to date in the background; [`StoreStats`] counts the segments that it does
//! not cover yet. Only speed depends on it.
//!
//! One process writes, any number of processes read. A reader opens with [`Options::read_only`], takes
//! no lock and changes nothing. Each [`Store::refresh`] shows it what the writer did since.
//!
//! # Larger than memory
//!
//! A store that does not fit into memory needs no setting. A get reads from the disk the pages of its
//! own record and no others, a long record with few requests; [`Store::get_many`] asks for all records of
//! a batch before it waits for the first; and walks, [`Store::verify`] and compactions read ahead. None
//! of this costs a get from memory anything: it is done while reads turn out to wait for the disk.
//!
//! The set index should stay in memory, 12 bytes an object in mapped files; the system keeps it there if
//! it can. With it a get is one read of the disk, without it two. A record that crosses a page takes no
//! further read. [`Store::contains`], a put of content that is held, and the first read of an object with
//! [`VerifyReads::FirstRead`] look into a sidecar too (44 bytes an object): one read more where it is not
//! in memory, and the first use of a sidecar reads it as a whole to check it. [`Advice`] reads everything
//! into memory at opening instead.
//!
//! # Writing
//!
//! [`Store::put`] hashes the content, looks whether the store holds it, and appends it if not. The
//! object can be read at once, and survives power loss after the next [`Store::sync`]. A thread in the
//! background seals full segments; `sync` covers them too. To hash elsewhere, put [`Hashed`]. Content
//! that need not fit into memory is put from a reader: [`Store::put_reader`].
//!
//! Objects are named by BLAKE2b-512 truncated to 32 bytes, unless the store is created with
//! [`Options::hash_function`]: BLAKE2b-256, SHA-256 and BLAKE3 are there for stores that others address
//! by those. A store keeps its function.
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
//! A compaction also merges small segments. A cache that may forget old objects needs none:
//! [`Store::trim`] drops the oldest segments until the data files are within a bound.
//!
//! # Beyond one machine
//!
//! With the feature `remote`, a store is pushed to an object store: S3, Google Cloud Storage, Azure, or a
//! folder. A push uploads the sealed segments that are not there yet, and then makes a *ref* list them, at
//! once. A pull makes a store of what a ref lists. Everything is checked on both ways. The module `remote`
//! says more.
//!
//! # When something is wrong
//!
//! Opening repairs what it can repair without losing anything, and [`Store::recovery`] says what that
//! was. If manifest and files are of different moments, as in a backup that was restored file by file,
//! nothing that is in a file is lost: nothing is removed, and objects that were dropped can come back.
//! NEDB v3 may write between two openings. What it appends is found, and what it compacts away is
//! reported; see [Moving from NEDB v3](guide::moving_from_nedb_v3).
//!
//! A read of a damaged object is [`Error::Corrupt`], never "not found"; putting its content again
//! repairs it. [`Store::verify`] finds all damage. After a failed fsync, writes are refused
//! ([`Error::Poisoned`]) and reads go on.
//!
//! # Limits
//!
//! - An object has at most `u32::MAX` bytes. A read hashes all of it.
//! - A store uses at most 2^32 segment ids in its life.
//! - Each segment is mapped twice, data and sidecar, while all stores of the process have no more maps
//!   than half of what Linux allows (`vm.max_map_count`, 65,530 by default). So about 12,000 segments
//!   are mapped twice; beyond that, data comes first. System calls read what is not mapped, and a
//!   sidecar that is not mapped costs 44 bytes of heap an object from the first time it is asked.
//! - Files that are not mapped are held open, up to half of the file descriptors that the process may
//!   have (`RLIMIT_NOFILE`); further files are opened for each read. If another process has compacted
//!   such a file away, the read is an [`Error::Io`] that says so, until [`Store::refresh`].
//! - Objects are verified at each read, or at the first read with [`VerifyReads::FirstRead`].
//! - The sidecar of a segment is checked as a whole, about a gigabyte a second, when it is first needed:
//!   by [`Store::contains`] and [`Store::find`], by a put of content that is held already, by a walk, by
//!   a compaction, and by reads with [`VerifyReads::FirstRead`] or of segments that the set index does
//!   not cover yet. From its first search on it costs up to one byte of heap an object.
//! - Memory-mapping means that a failing medium, or somebody who cuts a file below a mapping, ends
//!   the process with SIGBUS. [`ReadMode::Pread`] gives an error instead, for a copy a read. Nor may
//!   anybody overwrite a mapped file: content would change after it was verified.
//! - One writer. The lock is advisory, and as good as the locks of the file system. Use a local file
//!   system: not all network file systems have good locks, and their mappings are not coherent.
//! - A process that was forked from the one that opened a store, and starts no other program, can read
//!   with what it inherits, and does not wait for what its parent was doing. Calls that would change a
//!   file, and [`Store::refresh`], are [`Error::Forked`] there; to make them, it opens the store anew.
//!   A writer starts threads, and so does a large recovery: if another thread of the parent was just
//!   starting or ending at the fork, a thread that is started in the forked process can hang in Rust's
//!   standard library, and then so does closing the store. Start a program instead, or fork while no
//!   threads come and go.
//! - Large batches and recoveries are spread over a pool of threads that the stores of a process share,
//!   with as many threads as there are cores or as `RAYON_NUM_THREADS` says. If the calling thread
//!   belongs to a pool of `rayon`, they are spread over that pool. Where the system starts no threads,
//!   and in a forked process, the calling thread does all the work. Elsewhere [`Store::verify`],
//!   compactions and the set index have threads of their own while they work.
//! - Linux is the system on which it is measured. It is written for macOS and Windows as well.
//!
//! # Features
//!
//! Without features the crate has 32 dependencies on Linux, those of its dependencies included. The last
//! column says what a feature adds to them; crates that two features add count once.
//!
//! | feature | adds | dependencies |
//! |---|---|---|
//! | `simd` (default) | hashing with vector instructions where they are faster; without it, the portable `blake2` hashes alone | 3: `blake2b_simd` and two of its own |
//! | `sha2` | [`HashFunction`]`::Sha256` | 3: `sha2` and two of its own |
//! | `blake3` | [`HashFunction`]`::Blake3` | 5: `blake3` and four of its own; `cc` while it is built |
//! | `bytes` | `bytes::Bytes::from(object)` without a copy | 1: `bytes` |
//! | `serde` | `Serialize` and `Deserialize` for digests, statistics and reports | 3: `serde` and two of its own |
//! | `tracing` | events for repairs, seals and compactions | 3: `tracing` and two of its own |
//! | `cli` | the command line, `sealstone`, with `sha2`, `blake3` and `serde` | 43, for `clap`, `indicatif` and others |
//! | `remote` | segments in an object store, `remote` | 118, for `object_store`, `tokio` and others |
//! | `test-seam` | for tests: replaces the operations that change a folder, `test_seam` | none |
#![deny(unsafe_code)]

mod compaction;
mod digest;
mod dir;
mod engine;
mod error;
mod file_order;
pub mod format;
mod indexing;
mod memory;
mod object;
mod options;
mod recovery;
#[cfg(feature = "remote")]
pub mod remote;
mod run;
mod scan;
mod segment;
mod segment_set;
mod store;
mod sync;
mod threads;
mod verify;
#[cfg(test)]
mod visits;

pub use compaction::{CompactionStats, TrimStats};
pub use digest::{
    DIGEST_BYTES, Digest, DigestMismatch, HashFunction, Hashed, Hasher, ParseDigestError,
    ParseHashFunctionError,
};
pub use engine::{EventCounts, Stored};
#[cfg(feature = "remote")]
pub use error::RemoteError;
pub use error::{Error, Result};
pub use object::Object;
pub use options::{Advice, Options, ReadMode, SEGMENT_BYTES_MAX_DEFAULT, VerifyReads};
pub use recovery::{RecoveryReport, Repair};
pub use scan::{Digests, Lengths, Objects};
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

/// Pages for those who come from another store, and examples of what the store is made for.
pub mod guide {
    /// A build cache: finds the outputs of an action by a digest of all that went into it.
    ///
    /// Contents are flushed before the index names them; a compaction begins before the index is read.
    ///
    /// ```
    #[doc = include_str!("guide/build_cache.rs")]
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// let cache = BuildCache::new(Store::open(folder.path())?);
    /// let action = Digest::of("cc -c a.c");
    /// cache.record(action, &[b"object file", b"no warnings"])?;
    /// assert_eq!(cache.outputs(&action)?.unwrap()[1], "no warnings");
    /// # Ok(())
    /// # }
    /// ```
    pub mod build_cache {}

    /// A store for the blocks of a DAG, as a chain or a version control system has one.
    ///
    /// Blocks are synced before a root names them; garbage is what no root leads to.
    ///
    /// ```
    #[doc = include_str!("guide/block_store.rs")]
    /// # fn main() -> io::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// let blocks = BlockStore(Store::open(folder.path())?);
    /// let block = Block { links: Vec::new(), data: b"leaf".to_vec() };
    /// let digest = blocks.put(&[block.clone()])?[0];
    /// assert_eq!(blocks.get(&digest)?, Some(block));
    /// # Ok(())
    /// # }
    /// ```
    pub mod block_store {}

    /// A backup tool with a catalogue in `SQLite`.
    ///
    /// Contents are synced before the catalogue commits what names them; a compaction begins before the
    /// catalogue is read.
    ///
    /// ```
    #[doc = include_str!("guide/backup.rs")]
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # std::fs::write(folder.path().join("file"), "content")?;
    /// let mut backups = Backups::open(&folder.path().join("backups"))?;
    /// backups.back_up("monday", folder.path(), &["file"])?;
    /// let mut content = Vec::new();
    /// assert!(backups.restore("monday", "file", &mut content)?);
    /// assert_eq!(content, b"content");
    /// backups.forget("monday")?;
    /// # Ok(())
    /// # }
    /// ```
    pub mod backup {}

    #[doc = include_str!("guide/moving_from_nedb_v3.md")]
    ///
    /// ```
    #[doc = include_str!("guide/nedb_adapter.rs")]
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// let store = SegmentStore::open(folder.path().join("objects"))?;
    /// let hash = Digest::of("content").to_string();
    /// store.put(&hash, b"content")?;
    /// store.sync()?; // before the hash goes into an index
    /// assert_eq!(store.get(&hash)?.as_deref(), Some(&b"content"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub mod moving_from_nedb_v3 {}
}

/// The examples of the README are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
