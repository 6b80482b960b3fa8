//! A buffer that is read while it grows.

use std::cell::UnsafeCell;

use super::watched::Watched;
use crate::sync::CountedArc;
use crate::sync::atomic::{AtomicUsize, Ordering};

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
    /// Makes a buffer and returns the only handle that can append to it.
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

#[cfg(test)]
mod tests {
    use super::*;

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
