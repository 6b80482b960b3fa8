//! What is read into memory when a file is mapped.

use crate::memory::Map;

/// What to read into memory when a sealed segment or its index is mapped. A builder by value:
///
/// ```no_run
/// use sealstone::{Advice, Options};
///
/// let advice = Advice::new().populate_index(true);
/// let store = Options::new().advice(advice).open("objects")?;
/// # Ok::<(), sealstone::Error>(())
/// ```
///
/// The default, nothing, suits stores of every size: a get reads from the disk the pages of its own
/// record, a batch asks for all of its records at once, and what reads in order reads ahead. See
/// [*Larger than memory*](crate#larger-than-memory).
///
/// It changes speed only. If the system does not know or refuses it, that is no error. It has no
/// effect with [`ReadMode::Pread`](crate::ReadMode::Pread), and none on a segment before it is
/// sealed. It is done again for each file that is mapped later, by a seal, a compaction or
/// [`Store::refresh`](crate::Store::refresh).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    populate_data: bool,
    populate_index: bool,
}

impl Advice {
    /// Makes a value that reads nothing into memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            populate_data: false,
            populate_index: false,
        }
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

    /// Prepares the map of a data file for reads.
    pub(crate) fn advise_data(self, map: &Map) {
        advise(map, self.populate_data);
    }

    /// Prepares the map of a sidecar or a run for reads.
    pub(crate) fn advise_index(self, map: &Map) {
        advise(map, self.populate_index);
    }
}

fn advise(map: &Map, populate: bool) {
    map.advise_random();
    if populate {
        map.populate();
    }
}
