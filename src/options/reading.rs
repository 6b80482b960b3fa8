//! The options that govern how files are opened for reading.

use std::fs::File;

use super::{Advice, ReadMode};
use crate::digest::HashFunction;
use crate::memory::Map;
use crate::memory::quota::{self, MapUse};

/// The options with which a file of a sealed segment is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) mode: ReadMode,
    /// The function that names the objects in the file.
    pub(crate) hash_function: HashFunction,
    pub(crate) advice: Advice,
    /// Most maps that the stores of the process may have.
    pub(super) maps_max: usize,
}

impl Reading {
    /// Maps a file. Returns `None` with positional reads, and if the process may have no further
    /// map.
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
            hash_function: HashFunction::default(),
            advice: Advice::new(),
            maps_max: quota::maps_max(),
        }
    }
}
