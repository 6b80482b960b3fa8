//! One opened run of the set index, which is checked page by page.

use std::ops::Range;
#[cfg(feature = "remote")]
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::Digest;
use crate::dir::{Dir, FilePath, is_mostly_holes, open_regular_file};
use crate::error::{Error, Result};
use crate::format::SetIndex;
use crate::format::set_index::{Location, Matches, PageCheck, Probe};
use crate::memory::prefetch_value;
use crate::memory::quota::MapUse;
use crate::memory::{AtomicBits, REQUEST_BYTES};
use crate::options::Reading;
use crate::segment::file_bytes::{FileBytes, file_bytes};
use crate::segment::read_ahead::ReadAhead;
use crate::threads::try_for_each_in_order;

/// A run: a table of the places of the objects of many segments.
///
/// Only its header is checked when it is opened; a page is checked when it is first read. A damaged
/// page makes the run useless, since the page may lack any object.
#[derive(Debug)]
pub(crate) struct Run {
    number: u32,
    path: FilePath,
    index: SetIndex<FileBytes>,
    checked_pages: AtomicBits,
    is_damaged: AtomicBool,
}

/// A longer run may not stay in memory, so no more of it is read than is needed. A run of this length
/// has some 90 million objects.
const IN_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Pages that a thread checks at a time.
const PAGES_AT_A_TIME: usize = 64;

/// The iterator of [`Run::find`].
pub(crate) type RunMatches<'a> = Matches<'a, FileBytes, &'a Run>;

impl PageCheck for &Run {
    #[inline]
    fn page_holds(&mut self, page: u64) -> bool {
        let bit = usize::try_from(page).unwrap_or(usize::MAX);
        self.checked_pages.get(bit) || self.check_page(page, bit)
    }
}

impl Run {
    /// Opens a run. Returns `None` if the file is not a valid run.
    pub(crate) fn open(dir: &Dir, number: u32, reading: Reading) -> Result<Option<Self>> {
        let path = dir.set_index_path(number);
        let (file, len) = open_regular_file(&path)?;
        if is_mostly_holes(&file, len).map_err(Error::io(&path))? {
            return Ok(None);
        }
        let bytes = file_bytes(&file, &path, len, reading, MapUse::SetIndex)?;
        Ok(SetIndex::parse(bytes).ok().map(|index| Self {
            number,
            path,
            checked_pages: AtomicBits::new(usize::try_from(index.pages()).unwrap_or(usize::MAX)),
            index,
            is_damaged: AtomicBool::new(false),
        }))
    }

    /// The number in its file's name.
    pub(crate) fn number(&self) -> u32 {
        #[cfg(test)]
        crate::visits::count();
        self.number
    }

    /// The path of the file.
    #[cfg(feature = "remote")]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn index(&self) -> &SetIndex<FileBytes> {
        &self.index
    }

    /// Length of the file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.index.as_bytes().len() as u64
    }

    /// Whether a damaged page was met, so that the run has to be built anew.
    #[inline]
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Notes that the run is damaged and has to be built anew.
    pub(crate) fn set_damaged(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn probe(&self, digest: &Digest) -> Probe {
        self.index.probe(digest)
    }

    /// Prefetches the bucket that [`find`](Self::find) reads first.
    #[inline]
    pub(crate) fn prefetch(&self, probe: &Probe) {
        if let Some(bucket) = self.index.bucket(probe.bucket) {
            prefetch_value(bucket);
        }
    }

    /// The part of the file to ask for before a [`find`](Self::find): the bucket that it reads first,
    /// and if the run will stay in memory the bytes around it too, so that it soon is there.
    pub(crate) fn part_of(&self, probe: &Probe) -> Range<u64> {
        let bucket = self.index.bucket(probe.bucket);
        let bucket = bucket.map_or(0..0, |bucket| self.index.get_ref().range_of(bucket));
        if !self.stays_in_memory() {
            return bucket;
        }
        let request = REQUEST_BYTES as u64;
        let begin = bucket.start / request * request;
        begin..begin + request
    }

    /// Asks the system for a part of the file, and does not wait.
    pub(crate) fn will_need(&self, part: Range<u64>) {
        self.index.get_ref().will_need(part);
    }

    /// Checks all pages, also those that were checked before, in the order of the file and on all
    /// cores, and reads ahead.
    pub(crate) fn all_pages_hold(&self) -> bool {
        let pages = self.index.pages();
        let parts = (0..pages).step_by(PAGES_AT_A_TIME);
        let mut ahead = ReadAhead::default();
        let parts = parts
            .map(|first| first..pages.min(first + PAGES_AT_A_TIME as u64))
            .inspect(|part| {
                let extent = self.index.extent_of_pages(part);
                ahead.step(self.index.get_ref().map(), extent);
            });
        let holds = |mut part: Range<u64>| part.all(|page| self.index.page_holds(page));
        let checked = try_for_each_in_order(parts, |part| holds(part).then_some(()).ok_or(()));
        checked.is_ok()
    }

    /// Has the system keep the run in memory if it fits there, for a walk that looks up every object.
    pub(crate) fn keep(&self) {
        if self.stays_in_memory() {
            self.index.get_ref().keep(&self.path);
        }
    }

    fn stays_in_memory(&self) -> bool {
        self.file_bytes() <= IN_MEMORY_BYTES_MAX
    }

    /// The locations at which a digest may be. An error means that it may be anywhere.
    #[inline]
    pub(crate) fn find(&self, probe: Probe) -> RunMatches<'_> {
        self.index.find_probed(probe, self)
    }

    /// Returns [`SetIndex::first_in_own_bucket`], if the page was checked before and holds.
    #[inline]
    pub(crate) fn first_in_own_bucket(&self, probe: &Probe) -> Option<Location> {
        let page = SetIndex::<FileBytes>::page_of_bucket(probe.bucket);
        let is_checked = self.checked_pages.get(usize::try_from(page).ok()?);
        is_checked.then(|| self.index.first_in_own_bucket(probe))?
    }

    #[cold]
    fn check_page(&self, page: u64, bit: usize) -> bool {
        let holds = self.index.page_holds(page);
        if holds {
            self.checked_pages.set(bit);
        } else {
            self.set_damaged();
        }
        holds
    }
}
