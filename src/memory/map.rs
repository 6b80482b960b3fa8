//! Memory maps of files.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};

use super::quota::{MAPS, MapUse, Taken, maps_max};
use super::watched::Watched;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes that are asked for with one system call. Linux reads no more for one call than the larger
/// of the device's read-ahead and its largest request, and 128 KiB is its usual read-ahead.
pub(crate) const REQUEST_BYTES: usize = 128 << 10;

/// A longer content is worth a look at whether it is in memory, before all of its pages are read. The
/// look takes a tenth of a microsecond, hashing so much takes ten.
pub(crate) const LONG_CONTENT_BYTES: usize = 4 * PAGE_BYTES;

/// A read from memory takes less, even if the system has to enter the page into the page table; a
/// read from the fastest disks takes more.
pub(crate) const DISK_READ_MIN: Duration = Duration::from_micros(12);

/// Whether a read that took so long has waited for the disk.
pub(crate) fn is_disk_read(took: Duration) -> bool {
    #[cfg(test)]
    if requests::are_all_reads_quick() {
        return false;
    }
    took >= DISK_READ_MIN
}

/// The smallest page. A system with larger pages rounds to its own.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A read-only map of a file from its beginning. It may reach beyond the end of the file; only
/// [readable](Self::make_readable) bytes are ever handed out.
#[derive(Debug)]
pub(crate) struct Map {
    /// `None` for a map of no bytes, which the system calls refuse.
    raw: Option<MmapRaw>,
    readable: AtomicUsize,
    /// Whether the last long content that was read was on the disk. Relaxed: a wrong answer costs time
    /// only.
    waits: AtomicBool,
    watched: Watched,
    /// Given back to the quota after the map is removed.
    _counted: Option<Taken>,
}

impl Map {
    /// Maps `reserved` bytes of `file`, none of them readable yet. Fails if the stores of the
    /// process have as many maps as they may; the caller then reads without a map.
    pub(crate) fn reserve(file: &File, reserved: u64) -> io::Result<Self> {
        Self::reserve_within(file, reserved, MapUse::Data.limit(maps_max()))
    }

    fn reserve_within(file: &File, reserved: u64, maps_max: usize) -> io::Result<Self> {
        let reserved = usize::try_from(reserved).map_err(io::Error::other)?;
        let (raw, counted) = if reserved == 0 {
            (None, None)
        } else {
            let counted = MAPS.take(maps_max).ok_or(io::ErrorKind::QuotaExceeded)?;
            let raw = MmapOptions::new().len(reserved).map_raw_read_only(file)?;
            (Some(raw), Some(counted))
        };
        Ok(Self {
            raw,
            _counted: counted,
            readable: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            watched: Watched::new(reserved),
        })
    }

    /// Maps the first `len` bytes of `file`, which the caller has seen to exist.
    pub(crate) fn of_file(file: &File, len: u64) -> io::Result<Self> {
        Self::of_file_within(file, len, MapUse::Data.limit(maps_max()))
    }

    /// Does [`of_file`](Self::of_file), but fails if the stores of the process have `maps_max`
    /// maps.
    pub(crate) fn of_file_within(file: &File, len: u64, maps_max: usize) -> io::Result<Self> {
        let map = Self::reserve_within(file, len, maps_max)?;
        map.make_readable(len);
        Ok(map)
    }

    /// Declares that the first `len` bytes of the file exist and will not change any more. A
    /// smaller `len` than before has no effect.
    pub(crate) fn make_readable(&self, len: u64) {
        let reserved = self.raw.as_ref().map_or(0, MmapRaw::len);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(reserved);
        self.watched
            .write(self.readable.load(Ordering::Relaxed)..len);
        self.readable.fetch_max(len, Ordering::Release);
    }

    /// Tells the system that reads are random, so that it reads no pages around them. What is read
    /// in order is asked for by [`will_need`](Self::will_need).
    pub(crate) fn advise_random(&self) {
        #[cfg(unix)]
        self.advise(memmap2::Advice::Random);
    }

    /// Maps a file for a walk that reads it in order, once. The system then reads ahead of
    /// [`touch`](Self::touch) in growing requests, in large pages, and gives up first what it has read.
    pub(crate) fn of_walked_file(file: &File, len: u64) -> io::Result<Self> {
        let map = Self::of_file_within(file, len, MapUse::Walk.limit(maps_max()))?;
        #[cfg(target_os = "linux")]
        {
            // Doubles how far the system reads ahead: without it a walk took 1.7 times as long on a
            // device with Linux's usual read-ahead of 128 KiB. If it is refused, only speed is lost.
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
        }
        #[cfg(unix)]
        map.advise(memmap2::Advice::Sequential);
        Ok(map)
    }

    /// Reads a byte of each page of a range, and so waits for all of its bytes. The system does not
    /// take pages that are read so for used often, unlike those that it is told to
    /// [`populate`](Self::populate) or that are read by their descriptor.
    pub(crate) fn touch(&self, range: Range<u64>) {
        if let Some((begin, end)) = self.pages_of(range)
            && let Some(bytes) = self.slice(begin as u64, end - begin)
        {
            for byte in bytes.iter().step_by(PAGE_BYTES) {
                black_box(*byte);
            }
        }
    }

    /// Reads all pages and enters them into the page table before it returns.
    pub(crate) fn populate(&self) {
        self.will_need(0..self.readable.load(Ordering::Acquire) as u64);
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead);
    }

    /// Asks the system to read these bytes from the disk if they are not in memory, and does not
    /// wait for them. Costs a system call for each [`REQUEST_BYTES`]. Bytes that are not
    /// [readable](Self::make_readable) are left out.
    pub(crate) fn will_need(&self, range: Range<u64>) {
        let Some((mut begin, end)) = self.pages_of(range) else {
            return;
        };
        while begin < end {
            let len = REQUEST_BYTES.min(end - begin);
            #[cfg(test)]
            requests::count();
            #[cfg(unix)]
            if let Some(raw) = &self.raw {
                // If the system does not know or refuses it, only speed is lost.
                let _ = raw.advise_range(memmap2::Advice::WillNeed, begin, len);
            }
            begin += len;
        }
    }

    /// Returns the readable bytes of a range, from the beginning of their first page. `None` if there
    /// are none.
    pub(super) fn pages_of(&self, range: Range<u64>) -> Option<(usize, usize)> {
        let readable = self.readable.load(Ordering::Acquire);
        let in_memory = |at: u64| usize::try_from(at).map_or(readable, |at| at.min(readable));
        let (begin, end) = (in_memory(range.start), in_memory(range.end));
        (begin < end).then_some((begin - begin % PAGE_BYTES, end))
    }

    /// Returns where in the file a `part` of its bytes is.
    pub(crate) fn range_of(&self, part: &[u8]) -> Range<u64> {
        let base = self.raw.as_ref().map_or(0, |raw| raw.as_ptr().addr());
        let begin = part.as_ptr().addr().saturating_sub(base);
        begin as u64..(begin + part.len()) as u64
    }

    #[cfg(target_os = "linux")]
    pub(super) const fn raw(&self) -> Option<&MmapRaw> {
        self.raw.as_ref()
    }

    /// Gives advice to the system. If the system does not know or refuses it, only speed is lost.
    #[cfg(unix)]
    fn advise(&self, advice: memmap2::Advice) {
        if let Some(raw) = &self.raw {
            let _ = raw.advise(advice);
        }
    }

    /// All readable bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.slice(0, self.readable.load(Ordering::Acquire))
            .unwrap_or_default()
    }

    /// Does [`slice`](Self::slice) for a content that the caller reads as a whole.
    #[inline]
    pub(crate) fn content(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let bytes = self.slice(offset, len)?;
        if len > LONG_CONTENT_BYTES {
            self.fetch_long(offset, bytes);
        }
        Some(bytes)
    }

    /// Asks for a long content, which is at `offset`, if it [is likely to wait](Self::is_wait_likely).
    #[cold]
    pub(crate) fn fetch_long(&self, offset: u64, content: &[u8]) {
        if self.is_wait_likely(content) {
            let begun = Instant::now();
            self.will_need(offset..offset + content.len() as u64);
            self.note_asked(content, begun.elapsed());
        }
    }

    /// Whether a long content is likely to wait for the disk. Where the last one did not, reads two
    /// pages to find out. Each page that nobody asks for would wait.
    #[cold]
    pub(crate) fn is_wait_likely(&self, content: &[u8]) -> bool {
        if self.waits.load(Ordering::Relaxed) {
            return true;
        }
        // The last page may be in memory for the sake of the next record, the first pages because
        // somebody took the record to be shorter.
        let pages = [
            content.len() / 2,
            content.len().saturating_sub(2 * PAGE_BYTES),
        ];
        let begun = Instant::now();
        black_box(pages.map(|page| content.get(page).copied()));
        let has_waited = is_disk_read(begun.elapsed());
        if has_waited {
            self.expect_waits();
        }
        has_waited
    }

    /// Notes that long contents are on the disk.
    pub(crate) fn expect_waits(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Notes how long it took to ask for a long content. What is in memory takes the system less time
    /// than making room for what is not.
    pub(crate) fn note_asked(&self, content: &[u8], took: Duration) {
        let requests = content.len().div_ceil(REQUEST_BYTES).max(1);
        if !is_disk_read(took / u32::try_from(requests).unwrap_or(u32::MAX)) {
            self.waits.store(false, Ordering::Relaxed);
        }
    }

    /// `len` bytes at `offset`, if all of them are readable.
    #[inline]
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(len)? > self.readable.load(Ordering::Acquire) {
            return None;
        }
        let Some(raw) = &self.raw else {
            return Some(&[]);
        };
        self.watched.read(offset..offset + len);
        // SAFETY: `offset + len` is within `readable`, which `make_readable` keeps within the
        // mapping, and the mapping lives as long as `self`. The bytes do not change while the slice
        // lives: sealed files are never written to, and the active file is only appended to beyond
        // the length that `make_readable` was given (segment/active.rs). Another process that writes
        // to or cuts our files breaks this; that is the documented condition of `ReadMode::Mmap`.
        Some(unsafe { std::slice::from_raw_parts(raw.as_ptr().add(offset), len) })
    }
}

/// Counts what this thread asks for, so that tests can show what reads from memory ask for.
#[cfg(test)]
pub(crate) mod requests {
    use std::cell::Cell;

    thread_local! {
        static REQUESTS: Cell<u64> = const { Cell::new(0) };
        static ARE_ALL_READS_QUICK: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn are_all_reads_quick() -> bool {
        ARE_ALL_READS_QUICK.get()
    }

    /// Takes no read of this thread during `work` for one of the disk, however long it takes: a machine
    /// that is busy interrupts reads from memory, too.
    pub(crate) fn with_quick_reads(work: impl FnOnce()) {
        ARE_ALL_READS_QUICK.set(true);
        work();
        ARE_ALL_READS_QUICK.set(false);
    }

    pub(super) fn count() {
        REQUESTS.set(REQUESTS.get() + 1);
    }

    /// The requests of this thread during `work`.
    pub(crate) fn of(work: impl FnOnce()) -> u64 {
        let before = REQUESTS.get();
        work();
        REQUESTS.get() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_hands_out_readable_bytes_only() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"abc").unwrap();
        let map = Map::reserve(&file, 1 << 20).unwrap();
        assert_eq!(map.slice(0, 1), None);
        map.make_readable(2);
        map.make_readable(1);
        assert_eq!(map.bytes(), b"ab");
        assert_eq!(map.slice(1, 1), Some(&b"b"[..]));
        assert_eq!(map.slice(1, 2), None);
        assert_eq!(map.slice(u64::MAX, 1), None);
        assert_eq!(map.slice(1, usize::MAX), None);
    }

    #[test]
    fn the_map_of_a_walk_is_touched_up_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[1; 3 * PAGE_BYTES]).unwrap();
        let map = Map::of_walked_file(&file, 2 * PAGE_BYTES as u64 + 1).unwrap();
        for range in [0..0, 0..1, 1..u64::MAX, u64::MAX - 1..u64::MAX] {
            map.touch(range);
        }
        let empty = Map::of_walked_file(&file, 0).unwrap();
        empty.touch(0..u64::MAX);
    }
}
