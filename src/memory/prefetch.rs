//! Asking for memory ahead of its use.

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

/// Counts the records that are prefetched, for tests that bound the work of a lookup.
#[cfg(test)]
pub(crate) mod prefetched {
    use std::cell::Cell;

    thread_local! {
        static RECORDS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn count() {
        RECORDS.set(RECORDS.get() + 1);
    }

    /// Returns how many records this thread prefetches while it runs `work`.
    pub(crate) fn of(work: impl FnOnce()) -> u64 {
        let before = RECORDS.get();
        work();
        RECORDS.get() - before
    }
}
