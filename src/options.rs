//! How a store is opened.

use std::path::Path;
use std::sync::Arc;

use crate::Store;
use crate::dir::{Operations, System};
use crate::error::Result;

/// Segment size of a store that was opened without saying otherwise: 256 MiB.
pub const SEGMENT_BYTES_MAX_DEFAULT: u64 = 256 << 20;

/// How the content of sealed segments is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Memory-mapped: a read is a slice of the page cache, nothing is copied. When a medium fails
    /// below a mapping, or somebody cuts a mapped file, the operating system ends the process with
    /// SIGBUS.
    #[default]
    Mmap,
    /// Positional reads into a buffer of their own: a failing medium is an
    /// [`Error::Io`](crate::Error::Io). Costs a system call and a copy a read, one file descriptor a
    /// segment, and about 44 bytes of heap an object for the indexes.
    Pread,
}

/// When the content that a read gives is checked against its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// At each read.
    #[default]
    EveryRead,
    /// At the first read of each record in this process; later reads of it are the digest's full
    /// comparison with the index and no more. Costs one bit of heap for each record, and up to a byte
    /// for the index's lookup table, from the first read on.
    ///
    /// It does not see what changes between the first read and a later one: a page that the kernel
    /// dropped and read again from a medium that has rotted meanwhile, memory that flipped a bit, or
    /// somebody who wrote to the file. What is not sealed yet, and what is read with
    /// [`ReadMode::Pread`], is checked at each read all the same.
    FirstRead,
}

/// Options for opening a [`Store`]. A builder by value:
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
    pub(crate) segment_bytes_max: u64,
    pub(crate) read_mode: ReadMode,
    pub(crate) verify: Verify,
    pub(crate) set_index_minimum: SetIndexMinimum,
    pub(crate) fast_fsync: bool,
    pub(crate) allow_missing_segments: bool,
    pub(crate) operations: Arc<dyn Operations>,
}

/// How much is left uncovered: a few small sidecars are searched as fast as a run, and it costs less
/// than a millisecond to check them when the store was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetIndexMinimum {
    pub(crate) segments: usize,
    pub(crate) objects: u64,
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
    /// A writer, memory-mapped, 256 MiB a segment; creates the store when there is none.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read_only: false,
            create: true,
            segment_bytes_max: SEGMENT_BYTES_MAX_DEFAULT,
            read_mode: ReadMode::Mmap,
            verify: Verify::EveryRead,
            set_index_minimum: SetIndexMinimum::default(),
            fast_fsync: false,
            allow_missing_segments: false,
            operations: Arc::new(System),
        }
    }

    /// As [`new`](Self::new), with what the environment asks for: `NEDB_FAST_FSYNC` set to anything
    /// but the empty string or `0` is [`fast_fsync(true)`](Self::fast_fsync).
    #[must_use]
    pub fn from_env() -> Self {
        let fast = std::env::var_os("NEDB_FAST_FSYNC");
        Self::new().fast_fsync(fast.is_some_and(|value| !value.is_empty() && value != "0"))
    }

    /// Opens without taking the lock and without changing a byte: beside a live writer, on a
    /// read-only mount, without write permission. What the writer adds is seen after
    /// [`Store::refresh`]. Default: false.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether a writer creates the store when the folder holds none; otherwise that is
    /// [`Error::NoStore`](crate::Error::NoStore). Default: true. A reader never creates.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Size at which a segment is sealed, in bytes. An object that is larger gets a segment of its
    /// own. Default: 256 MiB. Small segments cost a mapping each (`vm.max_map_count` is 65,530 by
    /// default), large ones make a compaction coarser. It may differ from one opening to the next.
    #[must_use]
    pub fn segment_bytes_max(mut self, segment_bytes_max: u64) -> Self {
        self.segment_bytes_max = segment_bytes_max;
        self
    }

    /// How sealed segments are read. Default: [`ReadMode::Mmap`].
    #[must_use]
    pub fn read_mode(mut self, read_mode: ReadMode) -> Self {
        self.read_mode = read_mode;
        self
    }

    /// When content is checked. Default: [`Verify::EveryRead`].
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// How much no run of the set index may cover before one is built: so many segments, or segments
    /// with so many objects. For tests of small stores.
    #[doc(hidden)]
    #[must_use]
    pub fn set_index_minimum(mut self, segments: usize, objects: u64) -> Self {
        self.set_index_minimum = SetIndexMinimum { segments, objects };
        self
    }

    /// On Apple systems, `fsync` instead of `F_FULLFSYNC`: the data is handed to the drive, but the
    /// drive is not told to empty its cache, so [`Store::sync`] no longer covers power loss. No
    /// difference elsewhere. Default: false.
    #[must_use]
    pub fn fast_fsync(mut self, fast_fsync: bool) -> Self {
        self.fast_fsync = fast_fsync;
        self
    }

    /// Opens although the data file of a sealed segment is missing. Its objects are then not found;
    /// the manifest goes on to list the segment, so that the file can be brought back. Default:
    /// false, which makes that [`Error::MissingSegment`](crate::Error::MissingSegment).
    #[must_use]
    pub fn allow_missing_segments(mut self, allow: bool) -> Self {
        self.allow_missing_segments = allow;
        self
    }

    /// Replaces what changes the directory, so that a test can record every operation or make one
    /// fail.
    #[doc(hidden)]
    #[must_use]
    pub fn operations(mut self, operations: Arc<dyn Operations>) -> Self {
        self.operations = operations;
        self
    }

    /// Opens the store in the folder `root`; its files are in `root/segments`. Takes time in
    /// proportion to the number of segments, not of objects.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) beside another writer,
    /// [`Error::NoStore`](crate::Error::NoStore),
    /// [`Error::MissingSegment`](crate::Error::MissingSegment), and
    /// [`Error::Io`](crate::Error::Io). Damage is repaired where that loses nothing, reported by
    /// [`Store::recovery`], and otherwise an error of the read that it hits.
    pub fn open(&self, root: impl AsRef<Path>) -> Result<Store> {
        Store::open_with(root.as_ref(), self)
    }
}
