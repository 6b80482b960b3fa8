//! The options with which a store is opened.

mod advice;
mod reading;

use std::path::Path;
use std::sync::Arc;

use crate::digest::HashFunction;
use crate::dir::{Dir, HUGE_PAGE_BYTES, Operations, SMALL_BLOCK_BYTES, System, Writing};
use crate::error::Result;
use crate::memory::quota;

pub use advice::Advice;
pub(crate) use reading::Reading;

/// The default size of a segment: 256 MiB.
pub const SEGMENT_BYTES_MAX_DEFAULT: u64 = 256 << 20;

/// The way in which the content of sealed segments is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Reads from memory maps: a read is a slice of the page cache, and nothing is copied. If a
    /// medium fails below a map, or somebody cuts a mapped file, the operating system ends the
    /// process with SIGBUS.
    #[default]
    Mmap,
    /// Reads with positional reads into a buffer of its own: a failing medium is an
    /// [`Error::Io`](crate::Error::Io). Costs two system calls and a copy a read, one file
    /// descriptor a segment (beyond half of the descriptors that the process may have, files are
    /// opened for each read), and 12 to 13 bytes of heap an object for the set index, plus 44 bytes
    /// for each object of a segment whose sidecar is asked, by a walk for instance.
    Pread,
}

/// When the content of a read is checked against its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyReads {
    /// Checks content at each read.
    #[default]
    EveryRead,
    /// Checks content at the first read of each record in this process; later reads of the record
    /// only compare the whole digest with the index. Content that is not sealed yet and that this
    /// process has put counts as read. Costs one bit of heap for each sealed record, and up to a byte
    /// for the lookup table of the index, from the first read on.
    ///
    /// Changes between the first read and a later read go unseen: a page that the kernel dropped
    /// and read again from a medium that has rotted meanwhile, memory that flipped a bit, or a
    /// write to the file by somebody else. Content that is read with [`ReadMode::Pread`] is still
    /// checked at each read.
    FirstRead,
}

/// Options for opening a [`Store`](crate::Store). A builder by value:
///
/// ```no_run
/// use sealstone::Options;
///
/// let store = Options::new().read_only(true).open("objects")?;
/// # Ok::<(), sealstone::Error>(())
/// ```
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct Options {
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    /// The wish of the caller, and in an open store the function that the store has.
    pub(crate) hash_function: Option<HashFunction>,
    pub(crate) segment_bytes_max: u64,
    pub(crate) read_mode: ReadMode,
    pub(crate) advice: Advice,
    pub(crate) verify_reads: VerifyReads,
    pub(crate) set_index_minimum: SetIndexMinimum,
    maps_max: Option<usize>,
    fast_fsync: bool,
    write_block_bytes: usize,
    pub(crate) allow_missing_segments: bool,
    pub(crate) operations: Arc<dyn Operations>,
}

/// Fewest uncovered segments or objects for which a run is built. A few small sidecars are searched
/// as fast as a run, and checking them after an opening takes less than a millisecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetIndexMinimum {
    pub(crate) segments: usize,
    pub(crate) objects: u64,
}

/// Whether a variable of the environment turns something on.
fn is_on(value: &str) -> bool {
    let value = value.trim();
    let words = ["1", "true", "on", "yes"];
    words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

impl Default for SetIndexMinimum {
    fn default() -> Self {
        Self {
            segments: 16,
            objects: 32_768,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Makes the default options: a writer that maps files, with segments of 256 MiB, and that
    /// creates the store if there is none.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read_only: false,
            create: true,
            hash_function: None,
            segment_bytes_max: SEGMENT_BYTES_MAX_DEFAULT,
            read_mode: ReadMode::Mmap,
            advice: Advice::new(),
            verify_reads: VerifyReads::EveryRead,
            set_index_minimum: SetIndexMinimum::default(),
            maps_max: None,
            fast_fsync: false,
            write_block_bytes: HUGE_PAGE_BYTES,
            allow_missing_segments: false,
            operations: Arc::new(System),
        }
    }

    /// Makes [`new`](Self::new) options and applies the environment: if `NEDB_FAST_FSYNC` is `1`,
    /// `true`, `on` or `yes`, in either case, sets [`fast_fsync(true)`](Self::fast_fsync).
    #[must_use]
    pub fn from_env() -> Self {
        let fast = std::env::var("NEDB_FAST_FSYNC");
        Self::new().fast_fsync(fast.is_ok_and(|value| is_on(&value)))
    }

    /// Sets whether to open without taking the lock and without changing a byte: beside a live
    /// writer, on a read-only mount, without write permission. The handle sees changes by the
    /// writer after [`Store::refresh`](crate::Store::refresh). Default: false.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether a writer creates the store if the folder holds none; otherwise the opening
    /// fails with [`Error::NoStore`](crate::Error::NoStore). Default: true. A reader never creates
    /// a store.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the hash function of a store that is created. An existing store has its function for
    /// good: its opening fails with [`Error::HashFunction`](crate::Error::HashFunction) if that is
    /// not this one. Default: the function that the store has, and [`HashFunction::Blake2b`] for a
    /// new store.
    ///
    /// The manifest names the function. If the manifest is lost or damaged, the function is found
    /// again by hashing an object whose digest an index names. If there is no such object either, a
    /// folder without a manifest has the default function; over a damaged manifest the opening fails
    /// with [`Error::HashFunctionUnknown`](crate::Error::HashFunctionUnknown) unless this says it.
    #[must_use]
    pub fn hash_function(mut self, hash_function: HashFunction) -> Self {
        self.hash_function = Some(hash_function);
        self
    }

    /// Sets the size at which a segment is sealed, in bytes. A larger object gets a segment of its
    /// own. Default: 256 MiB. Each small segment costs a map (`vm.max_map_count` is 65,530 by
    /// default), and large segments make a compaction coarser. The size may differ from one opening
    /// to the next. Every number is valid: with 0 each object gets a segment of its own, and with
    /// `u64::MAX` a segment grows until a compaction or a checkpoint seals it.
    #[must_use]
    pub fn segment_bytes_max(mut self, segment_bytes_max: u64) -> Self {
        self.segment_bytes_max = segment_bytes_max;
        self
    }

    /// Sets how sealed segments are read. Default: [`ReadMode::Mmap`].
    #[must_use]
    pub fn read_mode(mut self, read_mode: ReadMode) -> Self {
        self.read_mode = read_mode;
        self
    }

    /// Sets what is read into memory when a file is mapped. Default: nothing.
    #[must_use]
    pub fn advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            mode: self.read_mode,
            hash_function: self.hash_function.unwrap_or_default(),
            advice: self.advice,
            maps_max: self.maps_max.unwrap_or_else(quota::maps_max),
        }
    }

    /// Sets when content is checked. Default: [`VerifyReads::EveryRead`].
    #[must_use]
    pub fn verify_reads(mut self, verify: VerifyReads) -> Self {
        self.verify_reads = verify;
        self
    }

    /// Sets the fewest uncovered segments or objects for which a run of the set index is built. For
    /// tests of small stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn set_index_minimum(mut self, segments: usize, objects: u64) -> Self {
        self.set_index_minimum = SetIndexMinimum { segments, objects };
        self
    }

    /// Sets the number of maps of all stores of the process from which on no further file of a
    /// sealed segment is mapped, instead of half of what the system allows. For tests of small
    /// stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn maps_max(mut self, maps_max: usize) -> Self {
        self.maps_max = Some(maps_max);
        self
    }

    /// Sets whether data is written in blocks of 2 MiB at multiples of 2 MiB, instead of 256 KiB.
    /// Default: true. A sync writes the buffered bytes, whatever their length.
    ///
    /// If it can (ext4 since 6.16, xfs), Linux keeps the bytes of one such write in one huge page
    /// of the page cache, until it is dropped from there. Random reads then walk no page table:
    /// when measured, a checked get of 256 bytes took 13 % less time, an unchecked get 18 % less.
    /// The set index and the sidecars are always written in this way.
    ///
    /// If puts must be fast and the host of a virtual machine takes memory back (free page
    /// reporting), false can be better: the host takes memory that is free in pieces of 2 MiB, and
    /// getting it back took 2.4 us a KiB, as long as two puts of that size.
    ///
    /// A process that dies loses at most one block and 256 KiB of content that was not synced.
    #[must_use]
    pub fn huge_page_writes(mut self, huge_page_writes: bool) -> Self {
        self.write_block_bytes = if huge_page_writes {
            HUGE_PAGE_BYTES
        } else {
            SMALL_BLOCK_BYTES
        };
        self
    }

    /// Sets the length of the blocks in which data is written, from 1 byte to the default of 2 MiB;
    /// a length outside that range is replaced by the nearest in it. For tests of small stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn write_block_bytes(mut self, write_block_bytes: usize) -> Self {
        // Each appender and each output of a compaction holds a block in memory.
        self.write_block_bytes = write_block_bytes.clamp(1, HUGE_PAGE_BYTES);
        self
    }

    /// Sets whether to use `fsync` on Apple systems instead of `F_FULLFSYNC`: the data is handed to
    /// the drive, but the drive is not told to empty its cache, so
    /// [`Store::sync`](crate::Store::sync) no longer covers power loss. It makes no difference on
    /// other systems. Default: false.
    #[must_use]
    pub fn fast_fsync(mut self, fast_fsync: bool) -> Self {
        self.fast_fsync = fast_fsync;
        self
    }

    /// Sets whether to open a store of which the data file of a sealed segment is missing. Its
    /// objects are then not found; the manifest goes on to list the segment, so that the file can
    /// be brought back. Default: false, which makes the opening fail with
    /// [`Error::MissingSegment`](crate::Error::MissingSegment).
    #[must_use]
    pub fn allow_missing_segments(mut self, allow: bool) -> Self {
        self.allow_missing_segments = allow;
        self
    }

    /// Replaces the operations that change the folder, so that a test can record every operation or
    /// make one fail.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn operations(mut self, operations: Arc<dyn Operations>) -> Self {
        self.operations = operations;
        self
    }

    /// Opens the folder of a store in `root`; it is written to as these options say. Returns `None`
    /// if there is none.
    pub(crate) fn open_dir(&self, root: &Path) -> Result<Option<Dir>> {
        Dir::open(root, self.writing())
    }

    /// Does [`open_dir`](Self::open_dir), and creates the folder if it is missing.
    pub(crate) fn create_dir(&self, root: &Path) -> Result<Dir> {
        Dir::create(root, self.writing())
    }

    /// Creates the folder of a store in an empty `root`. Returns `None` if `root` holds anything.
    pub(crate) fn create_new_dir(&self, root: &Path) -> Result<Option<Dir>> {
        Dir::create_new(root, self.writing())
    }

    fn writing(&self) -> Writing {
        Writing {
            operations: Arc::clone(&self.operations),
            fast_fsync: self.fast_fsync,
            write_block_bytes: self.write_block_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_turns_on_what_nedb_turns_on() {
        for value in ["1", "true", "on", "yes", "YES", " 1\n"] {
            assert!(is_on(value), "{value}");
        }
        for value in ["", "0", "no", "off", "false", "2", "11", "truely"] {
            assert!(!is_on(value), "{value}");
        }
    }

    /// An appender keeps two buffers of a block, and a compaction keeps one for each new segment.
    #[test]
    fn h50_no_block_is_empty_or_larger_than_the_default() {
        let written = |bytes| Options::new().write_block_bytes(bytes).write_block_bytes;
        assert_eq!((written(0), written(1), written(100)), (1, 1, 100));
        for bytes in [HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, usize::MAX] {
            assert_eq!(written(bytes), HUGE_PAGE_BYTES);
        }
    }
}
