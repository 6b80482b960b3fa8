//! Advice to the operating system about mappings.

use crate::memory::Map;

/// The order of reads of a mapping that the operating system is told to expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessPattern {
    /// Gives no advice: a read of a page that is not in memory brings in the pages around it too.
    #[default]
    Normal,
    /// Advises `MADV_RANDOM`: a page that is not in memory is read alone.
    Random,
}

/// Advice to the operating system about the mappings of sealed segments and their indexes. A
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
/// Advice changes speed only. If the system does not know or refuses it, that is no error, and
/// reads give the same answers. It has no effect with [`ReadMode::Pread`](crate::ReadMode::Pread),
/// and none on a segment before it is sealed. It is given again for each file that is mapped later,
/// by a seal, a compaction or [`Store::refresh`](crate::Store::refresh).
///
/// The default is no advice. These figures decided it: 1 M objects, 2 cores shared with other work,
/// medians of alternating handles as ratios to no advice; 2026-11-24, Linux 6.18, ext4 (readahead
/// 8 MiB, which favours no advice once a few reads have brought everything in).
///
/// | | warm get, 256 B | first 10,000 gets in a warm cache, 256 B | open, cold, 1 KiB | first 300 gets, cold, 1 KiB: mean / median |
/// |---|---|---|---|---|
/// | data `Random` | 1.00 | 1.02 | 1.2 | 0.20 / 4.6 |
/// | data and index `Random` | 0.96 | 0.97 | 1.0 | 1.09 / 4.2 |
/// | huge pages (none were granted) | 0.95 | 1.01 | 1.0 | 0.65 / 96 |
/// | populate index | 1.02 | 0.97 | 89 (39 ms) | 0.94 / 1.0 |
/// | populate both | 0.98 | 0.77 | 1267 (0.55 s) | 0.14 / 1.0 |
///
/// Differences of warm gets below a tenth are noise. Opening a warm store of 256 B objects took
/// 0.2 ms, 11 ms with the index populated, and 51 ms with both.
///
/// Scans of 256 B objects were measured with the page cache of the files dropped (medians of four):
/// with data `Random`, [`Store::verify`](crate::Store::verify) took 9.9 times as long and
/// [`Store::iter`](crate::Store::iter) 3.6 times; with huge pages 1.3 and 0.7 times, which is
/// within the noise here. Prefetching each batch (`MADV_WILLNEED`) doubled the time of a verify
/// without `Random`, so the store does not do it. Cold means cold to this system: below a virtual
/// disk there may be another cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    data_pattern: AccessPattern,
    index_pattern: AccessPattern,
    populate_data: bool,
    populate_index: bool,
    huge_pages: bool,
}

impl Advice {
    /// Makes a value that gives no advice.
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

    /// Sets the access pattern of data files. Default: [`AccessPattern::Normal`]. `Random` is for
    /// stores much larger than memory whose objects are read at random: a read brings in its own
    /// pages and drives out no others. It slows down sequential reads: scans,
    /// [`Store::verify`](crate::Store::verify), compactions, large objects.
    #[must_use]
    pub const fn data_pattern(mut self, pattern: AccessPattern) -> Self {
        self.data_pattern = pattern;
        self
    }

    /// Sets the access pattern of the set index and the sidecars. Default:
    /// [`AccessPattern::Normal`]. An index is small beside its data and is soon in memory as a
    /// whole, which `Random` delays: when measured, that undid the gain of `Random` for the data.
    #[must_use]
    pub const fn index_pattern(mut self, pattern: AccessPattern) -> Self {
        self.index_pattern = pattern;
        self
    }

    /// Sets whether data files are read and entered into the page table when they are mapped
    /// (`MADV_POPULATE_READ`, Linux 5.14). Default: false. Opening then takes as long as reading
    /// the store. It is for stores that fit into memory and whose first reads must be as fast as
    /// later reads.
    #[must_use]
    pub const fn populate_data(mut self, populate: bool) -> Self {
        self.populate_data = populate;
        self
    }

    /// Sets the same as [`populate_data`](Self::populate_data) for the set index and the sidecars,
    /// which have about 56 bytes an object. Default: false.
    #[must_use]
    pub const fn populate_index(mut self, populate: bool) -> Self {
        self.populate_index = populate;
        self
    }

    /// Sets whether to ask for huge pages (`MADV_HUGEPAGE`), for data and indexes. Default: false.
    /// Measure before use: they are granted only if kernel and file system have them for mapped
    /// files, and if they are not granted, a read of a page that is not in memory may still wait
    /// for 2 MiB.
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
        // This comes before the pattern: after `Random` it would read page by page.
        if populate {
            map.populate();
        }
        if pattern == AccessPattern::Random {
            map.advise_random();
        }
    }
}
