//! How a store is opened.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::dir::{Dir, HUGE_PAGE_BYTES, Operations, SMALL_BLOCK_BYTES, System, Writing};
use crate::error::Result;
use crate::memory::Map;
use crate::memory::quota::{self, MapUse};

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
    /// [`Error::Io`](crate::Error::Io). Costs two system calls and a copy a read, one file descriptor a
    /// segment (beyond half of those that the process may have, files are opened for each read), and 12 to 13 bytes of heap an object for the set index; 44 more for each segment whose
    /// sidecar is asked, by a walk for instance.
    Pread,
}

/// When the content that a read gives is checked against its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyReads {
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

/// In which order a mapping is said to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessPattern {
    /// Nothing is said: a page that is not in memory brings those around it along.
    #[default]
    Normal,
    /// `MADV_RANDOM`: a page that is not in memory is read alone.
    Random,
}

/// What the operating system is told about the mappings of sealed segments and their indexes. A
/// builder by value:
///
/// ```no_run
/// use sealstone::{Advice, Options};
///
/// let advice = Advice::new().populate_index(true);
/// let store = Options::new().advice(advice).open("objects")?;
/// # Ok::<(), sealstone::Error>(())
/// ```
///
/// All of it is best effort and about speed only: what the system does not know or refuses is no
/// error, and the answers are the same. It has no effect with [`ReadMode::Pread`], and none on a
/// segment before it is sealed. It is given again for each file that is mapped later, by a seal, a
/// compaction or [`Store::refresh`].
///
/// Why nothing is the default: 1 M objects, 2 cores shared with other work, medians of alternating
/// handles as ratios to no advice; 2026-11-24, Linux 6.18, ext4 (readahead 8 MiB, which favours no
/// advice once a few reads have brought everything in).
///
/// | | warm get, 256 B | first 10,000 gets in a warm cache, 256 B | open, cold, 1 KiB | first 300 gets, cold, 1 KiB: mean / median |
/// |---|---|---|---|---|
/// | data `Random` | 1.00 | 1.02 | 1.2 | 0.20 / 4.6 |
/// | data and index `Random` | 0.96 | 0.97 | 1.0 | 1.09 / 4.2 |
/// | huge pages (none were granted) | 0.95 | 1.01 | 1.0 | 0.65 / 96 |
/// | populate index | 1.02 | 0.97 | 89 (39 ms) | 0.94 / 1.0 |
/// | populate both | 0.98 | 0.77 | 1267 (0.55 s) | 0.14 / 1.0 |
///
/// Of the warm gets, differences below a tenth are noise. Opening a warm store of 256 B objects took
/// 0.2 ms, 11 ms with the index populated, and 51 ms with both.
///
/// Scans of 256 B objects with the page cache of the files dropped (medians of four): with data
/// `Random`, [`Store::verify`] took 9.9 times as long and [`Store::iter`] 3.6 times; with huge pages
/// 1.3 and 0.7 times, which is within the noise here. Asking for each batch ahead (`MADV_WILLNEED`) doubled the time of a verify
/// without `Random`, so nothing is asked for. Cold means cold to this system: what lies below a
/// virtual disk may have had it in a cache of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    data_pattern: AccessPattern,
    index_pattern: AccessPattern,
    populate_data: bool,
    populate_index: bool,
    huge_pages: bool,
}

impl Advice {
    /// Nothing is advised.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            data_pattern: AccessPattern::Normal,
            index_pattern: AccessPattern::Normal,
            populate_data: false,
            populate_index: false,
            huge_pages: false,
        }
    }

    /// Access pattern of data files. Default: [`AccessPattern::Normal`]. `Random` is for stores much
    /// larger than memory whose objects are read here and there: a read brings in its own pages and
    /// drives out no others. It hurts whatever reads on: scans, [`Store::verify`], compactions,
    /// large objects.
    #[must_use]
    pub const fn data_pattern(mut self, pattern: AccessPattern) -> Self {
        self.data_pattern = pattern;
        self
    }

    /// Access pattern of the set index and the sidecars. Default: [`AccessPattern::Normal`]. An
    /// index is small beside its data and comes into memory as a whole soon, which `Random` delays;
    /// measured, it undoes what `Random` gains for the data.
    #[must_use]
    pub const fn index_pattern(mut self, pattern: AccessPattern) -> Self {
        self.index_pattern = pattern;
        self
    }

    /// Whether data files are read and entered into the page table when they are mapped
    /// (`MADV_POPULATE_READ`, Linux 5.14). Default: false. Opening then takes as long as reading the
    /// store; for stores that fit into memory and whose first reads are to be as fast as later ones.
    #[must_use]
    pub const fn populate_data(mut self, populate: bool) -> Self {
        self.populate_data = populate;
        self
    }

    /// As [`populate_data`](Self::populate_data), for the set index and the sidecars: about 56 bytes
    /// an object. Default: false.
    #[must_use]
    pub const fn populate_index(mut self, populate: bool) -> Self {
        self.populate_index = populate;
        self
    }

    /// Whether to ask for huge pages (`MADV_HUGEPAGE`), for data and indexes. Default: false. Measure
    /// before use: they are granted only where kernel and file system have them for mapped files, and
    /// where they are not, a read of a page that is not in memory may still wait for 2 MiB.
    #[must_use]
    pub const fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    pub(crate) fn advise_data(self, map: &Map) {
        self.advise(map, self.data_pattern, self.populate_data);
    }

    pub(crate) fn advise_index(self, map: &Map) {
        self.advise(map, self.index_pattern, self.populate_index);
    }

    fn advise(self, map: &Map, pattern: AccessPattern, populate: bool) {
        if self.huge_pages {
            map.advise_huge_pages();
        }
        // Before the pattern: `Random` would make it read page by page.
        if populate {
            map.populate();
        }
        if pattern == AccessPattern::Random {
            map.advise_random();
        }
    }
}

/// How the files of sealed segments are read, as far as those who open them have to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) mode: ReadMode,
    pub(crate) advice: Advice,
    /// How many maps the stores of the process may have.
    maps_max: usize,
}

impl Reading {
    /// Maps a file, if it is to be mapped and the process may have another map.
    pub(crate) fn map(&self, file: &File, len: u64, map_use: MapUse) -> Option<Map> {
        match self.mode {
            ReadMode::Mmap => Map::of_file_within(file, len, map_use.limit(self.maps_max)).ok(),
            ReadMode::Pread => None,
        }
    }
}

impl From<ReadMode> for Reading {
    fn from(mode: ReadMode) -> Self {
        Self {
            mode,
            advice: Advice::new(),
            maps_max: quota::maps_max(),
        }
    }
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
    pub(crate) advice: Advice,
    pub(crate) verify_reads: VerifyReads,
    pub(crate) set_index_minimum: SetIndexMinimum,
    maps_max: Option<usize>,
    fast_fsync: bool,
    write_block_bytes: usize,
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
    /// default), large ones make a compaction coarser. It may differ from one opening to the next. Any
    /// number will do: with 0 each object gets a segment of its own, and with `u64::MAX` a segment grows
    /// until a compaction or a checkpoint seals it.
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

    /// What the operating system is told about the mappings. Default: nothing.
    #[must_use]
    pub fn advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            mode: self.read_mode,
            advice: self.advice,
            maps_max: self.maps_max.unwrap_or_else(quota::maps_max),
        }
    }

    /// When content is checked. Default: [`VerifyReads::EveryRead`].
    #[must_use]
    pub fn verify_reads(mut self, verify: VerifyReads) -> Self {
        self.verify_reads = verify;
        self
    }

    /// How much no run of the set index may cover before one is built: so many segments, or segments
    /// with so many objects. For tests of small stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn set_index_minimum(mut self, segments: usize, objects: u64) -> Self {
        self.set_index_minimum = SetIndexMinimum { segments, objects };
        self
    }

    /// How many maps the stores of the process may have for another file of a sealed segment to be
    /// mapped, instead of half of what the system allows. For tests of small stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn maps_max(mut self, maps_max: usize) -> Self {
        self.maps_max = Some(maps_max);
        self
    }

    /// Whether data is written in blocks of 2 MiB at multiples of 2 MiB, instead of 256 KiB. Default:
    /// true. A sync writes what there is, whatever its length.
    ///
    /// Linux keeps what one such write covers in one huge page of the page cache where it can (ext4
    /// since 6.16, xfs), until it is dropped from there. Reads at random then walk no page table:
    /// measured, 13 % less for a checked get of 256 bytes, 18 % less for an unchecked one. The set index
    /// and the sidecars are always written in this way.
    ///
    /// Where puts have to be fast and memory is taken back by the host of a virtual machine (free page
    /// reporting), false can be better: memory that is free in pieces of 2 MiB is what the host takes,
    /// and having it back took 2.4 us a KiB, as long as two puts of that size.
    ///
    /// A process that dies loses no more than one block and 256 KiB of what was not synced.
    #[must_use]
    pub fn huge_page_writes(mut self, huge_page_writes: bool) -> Self {
        self.write_block_bytes = if huge_page_writes {
            HUGE_PAGE_BYTES
        } else {
            SMALL_BLOCK_BYTES
        };
        self
    }

    /// Length of the blocks in which data is written, from 1 byte to the 2 MiB that are the default; what
    /// lies outside is taken for the nearest of these. For tests of small stores.
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn write_block_bytes(mut self, write_block_bytes: usize) -> Self {
        // Each appender and each output of a compaction holds a block in memory.
        self.write_block_bytes = write_block_bytes.clamp(1, HUGE_PAGE_BYTES);
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
    #[cfg(feature = "test-seam")]
    #[must_use]
    pub fn operations(mut self, operations: Arc<dyn Operations>) -> Self {
        self.operations = operations;
        self
    }

    /// Opens the folder of a store in `root`, to be changed in the way that these options say. `None` if
    /// there is none.
    pub(crate) fn open_dir(&self, root: &Path) -> Result<Option<Dir>> {
        Dir::open(root, self.writing())
    }

    /// As [`open_dir`](Self::open_dir), and creates the folder.
    pub(crate) fn create_dir(&self, root: &Path) -> Result<Dir> {
        Dir::create(root, self.writing())
    }

    /// As [`create_dir`](Self::create_dir), where there is nothing yet; otherwise `None`.
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

    /// An appender keeps two buffers of a block, and a compaction one for each new segment.
    #[test]
    fn h50_no_block_is_empty_or_takes_more_memory_than_the_default() {
        let written = |bytes| Options::new().write_block_bytes(bytes).write_block_bytes;
        assert_eq!((written(0), written(1), written(100)), (1, 1, 100));
        for bytes in [HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, usize::MAX] {
            assert_eq!(written(bytes), HUGE_PAGE_BYTES);
        }
    }
}
