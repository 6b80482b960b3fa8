//! All unsafe code: memory maps, a buffer that is read while it grows, prefetching.
//!
//! The rest of the crate is built with `unsafe_code` denied and reaches memory only through the
//! bounds checks of this file.
#![allow(unsafe_code)]

mod bits;
#[cfg(all(test, loom))]
mod interleavings;
pub(crate) mod quota;

pub(crate) use bits::AtomicBits;

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::memory::quota::{MAPS, MapUse, Taken, maps_max};
use crate::sync::CountedArc;
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
        // what `make_readable` was told (segment/active.rs). Another process that writes to or cuts
        // our files breaks this; that is the documented condition of `ReadMode::Mmap`.
        Some(unsafe { std::slice::from_raw_parts(raw.as_ptr().add(offset), len) })
    }
}

/// A buffer of fixed capacity that one thread appends to while others read the appended bytes.
#[derive(Debug)]
pub(crate) struct AppendBuffer {
    bytes: Box<[UnsafeCell<u8>]>,
    len: AtomicUsize,
    watched: Watched,
}

// SAFETY: bytes below `len` are not written again while anybody but the writer has the buffer (see
// `AppendBufferWriter::clear`), bytes from `len` on are touched only by the one
// `AppendBufferWriter`, and `len` grows with release ordering after they were written.
unsafe impl Sync for AppendBuffer {}

impl AppendBuffer {
    /// A buffer and the only handle that can append to it.
    pub(crate) fn with_capacity(capacity: usize) -> AppendBufferWriter {
        let zeros = Box::into_raw(vec![0_u8; capacity].into_boxed_slice());
        // SAFETY: the box was just given up, and `UnsafeCell<u8>` has the layout of `u8`.
        let bytes = unsafe { Box::from_raw(zeros as *mut [UnsafeCell<u8>]) };
        AppendBufferWriter(CountedArc::new(Self {
            bytes,
            len: AtomicUsize::new(0),
            watched: Watched::new(capacity),
        }))
    }

    /// `len` bytes at `offset`, if all of them have been appended.
    #[inline]
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len)? > self.len.load(Ordering::Acquire) {
            return None;
        }
        let cells = self.bytes.get(offset..offset + len)?;
        self.watched.read(offset..offset + len);
        // SAFETY: the cells lie below `len`, so nobody writes to them any more (see `Sync` above),
        // and `UnsafeCell<u8>` has the layout of `u8`.
        Some(unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), len) })
    }
}

/// The only handle that can append to an [`AppendBuffer`]; it cannot be cloned.
#[derive(Debug)]
pub(crate) struct AppendBufferWriter(SharedAppendBuffer);

/// A handle whose count loom sees, since only the last handle lets the buffer be used again.
pub(crate) type SharedAppendBuffer = CountedArc<AppendBuffer>;

impl AppendBufferWriter {
    /// The handle that readers clone.
    pub(crate) fn shared(&self) -> &SharedAppendBuffer {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.bytes.len()
    }

    /// Empties the buffer, unless a reader has it. Returns whether it did.
    pub(crate) fn clear(&mut self) -> bool {
        // `get_mut` proves that no reader holds the buffer, and none can get it meanwhile.
        let buffer = CountedArc::get_mut(&mut self.0);
        let cleared = buffer.map(|buffer| buffer.len.store(0, Ordering::Relaxed));
        cleared.is_some()
    }

    /// Appends both parts, or nothing if they do not fit.
    pub(crate) fn append(&mut self, parts: [&[u8]; 2]) -> bool {
        let len = self.len();
        let new_len = len + parts[0].len() + parts[1].len();
        let Some(cells) = self.0.bytes.get(len..new_len) else {
            return false;
        };
        self.0.watched.write(len..new_len);
        let target = UnsafeCell::raw_get(cells.as_ptr()).cast::<u8>();
        // SAFETY: the cells lie within the buffer and from `len` on, where only this handle writes
        // (`&mut self`, not cloneable) and no reader looks before the store below. The pointer
        // comes from a slice over all of them, and the parts are other memory, since a reader's
        // slice ends at `len`.
        unsafe {
            std::ptr::copy_nonoverlapping(parts[0].as_ptr(), target, parts[0].len());
            std::ptr::copy_nonoverlapping(
                parts[1].as_ptr(),
                target.add(parts[0].len()),
                parts[1].len(),
            );
        }
        self.0.len.store(new_len, Ordering::Release);
        true
    }
}

/// Tells loom which bytes are written and which are read, so that it finds an order of events in
/// which both happen at once. Does nothing in other builds.
#[cfg(not(all(test, loom)))]
#[derive(Debug)]
struct Watched;

#[cfg(not(all(test, loom)))]
impl Watched {
    #[inline]
    fn new(_bytes: usize) -> Self {
        Self
    }

    #[inline]
    #[expect(clippy::unused_self)]
    fn write(&self, _range: Range<usize>) {}

    #[inline]
    #[expect(clippy::unused_self)]
    fn read(&self, _range: Range<usize>) {}
}

#[cfg(all(test, loom))]
#[derive(Debug)]
struct Watched(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: the cells are empty, and loom stops at an access that would be a race.
#[cfg(all(test, loom))]
unsafe impl Sync for Watched {}

#[cfg(all(test, loom))]
impl Watched {
    fn new(bytes: usize) -> Self {
        Self(
            (0..bytes)
                .map(|_| loom::cell::UnsafeCell::new(()))
                .collect(),
        )
    }

    fn write(&self, range: Range<usize>) {
        for cell in self.0.get(range).unwrap_or_default() {
            cell.with_mut(|_| ());
        }
    }

    fn read(&self, range: Range<usize>) {
        for cell in self.0.get(range).unwrap_or_default() {
            cell.with(|_| ());
        }
    }
}

/// A mark that tells whether this process was forked since it was made, without a system call on
/// Linux, which empties the page in a forked process.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: Option<MmapRaw>,
    process: u32,
}

impl ForkMark {
    pub(crate) fn new() -> Self {
        Self {
            page: Self::page(),
            process: std::process::id(),
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn page() -> Option<MmapRaw> {
        let mut page = MmapMut::map_anon(1).ok()?;
        // SAFETY: the page is private memory of ours, as the call requires. It is emptied in a
        // forked process only, before any code there can read it.
        let advised = unsafe { libc::madvise(page.as_mut_ptr().cast(), 1, libc::MADV_WIPEONFORK) };
        page[0] = 1;
        (advised == 0).then(|| page.into())
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn page() -> Option<MmapRaw> {
        None
    }

    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        match &self.page {
            // SAFETY: the mapping has a byte, lives as long as `self`, and nobody writes to it: it
            // is empty from the start of a forked process.
            Some(page) => unsafe { page.as_ptr().read_volatile() == 0 },
            None => self.process != std::process::id(),
        }
    }
}

/// Bytes of an object that are prefetched before it is hashed. The first lines hide the latency;
/// by the end of them the processor's own prefetcher has caught up.
const PREFETCH_BYTES_MAX: usize = 4096;
const CACHE_LINE_BYTES: usize = 64;

/// Prefetches the first cache lines of `bytes`.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(PREFETCH_BYTES_MAX)];
    for line in bytes.chunks(CACHE_LINE_BYTES) {
        prefetch_line(line.as_ptr());
    }
}

/// Prefetches the cache line in which `value` begins.
#[inline]
pub(crate) fn prefetch_value<T>(value: &T) {
    prefetch_line(std::ptr::from_ref(value).cast());
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(pointer: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint that cannot fault, whatever the address; SSE is part of x86_64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_pointer: *const u8) {}

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
    fn a_buffer_takes_only_parts_that_fit_and_hands_them_out() {
        let mut writer = AppendBuffer::with_capacity(4);
        let reader = CountedArc::clone(writer.shared());
        assert_eq!(reader.slice(0, 1), None);
        assert!(writer.append([b"a", b"bc"]));
        assert!(!writer.append([b"d", b"e"]));
        assert_eq!(reader.slice(0, 3), Some(&b"abc"[..]));
        assert!(writer.append([b"", b"d"]));
        assert!(!writer.append([b"e", b""]));
        assert_eq!(reader.slice(3, 1), Some(&b"d"[..]));
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_else_has_it() {
        let mut writer = AppendBuffer::with_capacity(4);
        assert!(writer.append([b"abcd", b""]));
        let reader = CountedArc::clone(writer.shared());
        assert!(!writer.clear());
        assert_eq!(reader.slice(0, 4), Some(&b"abcd"[..]));
        drop(reader);
        assert!(writer.clear());
        assert_eq!((writer.len(), writer.capacity()), (0, 4));
        assert_eq!(writer.shared().slice(0, 1), None);
        assert!(writer.append([b"e", b"f"]));
        assert_eq!(writer.shared().slice(0, 2), Some(&b"ef"[..]));
    }

    #[test]
    fn a_buffer_can_be_read_while_it_grows() {
        let mut writer = AppendBuffer::with_capacity(256);
        let reader = CountedArc::clone(writer.shared());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for byte in 0..=255 {
                    assert!(writer.append([&[byte], &[]]));
                }
            });
            for (at, byte) in (0..=255_u8).enumerate() {
                while reader.slice(at, 1).is_none() {
                    std::thread::yield_now();
                }
                assert_eq!(reader.slice(at, 1), Some(&[byte][..]));
            }
        });
    }
}
