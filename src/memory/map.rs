//! Memory maps of files.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

use super::quota::{MAPS, MapUse, Taken, maps_max};
use super::watched::Watched;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A read-only map of a file from its beginning. It may reach beyond the end of the file; only
/// [readable](Self::make_readable) bytes are ever handed out.
#[derive(Debug)]
pub(crate) struct Map {
    /// `None` for a map of no bytes, which the system calls refuse.
    raw: Option<MmapRaw>,
    readable: AtomicUsize,
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

    /// Tells the system that reads are random, so that it reads no pages around them.
    pub(crate) fn advise_random(&self) {
        #[cfg(unix)]
        self.advise(memmap2::Advice::Random);
    }

    /// Asks for huge pages.
    pub(crate) fn advise_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::HugePage);
    }

    /// Reads all pages and enters them into the page table before it returns.
    pub(crate) fn populate(&self) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead);
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
}
