//! Memory that is mapped or shared without a lock, and all unsafe code of the library.
//!
//! The rest of the library is built with `unsafe_code` denied and reaches memory only through the
//! bounds checks of these files.
//!
//! What one thread writes while others read it:
//!
//! | what | written by | published by |
//! |---|---|---|
//! | records that are not yet in the file | whoever appends ([`AppendBufferWriter`]) | `len` of [`AppendBuffer`] |
//! | the file that is appended to | whoever flushes | `readable` of [`Map`] |
//! | checks that were done once | whoever does them first | the slots of [`GrowOnlyMap`], [`AtomicBits`] |
#![allow(unsafe_code)]

mod append_buffer;
mod bits;
mod fork_mark;
mod grow_only_map;
#[cfg(all(test, loom))]
mod interleavings;
mod keep;
mod limit;
mod map;
mod prefetch;
pub(crate) mod quota;
mod residence;
mod watched;

pub(crate) use append_buffer::{AppendBuffer, AppendBufferWriter, SharedAppendBuffer};
pub(crate) use bits::AtomicBits;
pub(crate) use fork_mark::ForkMark;
pub(crate) use grow_only_map::{Computed, GrowOnlyMap};
pub(crate) use keep::keep_in_memory;
pub(crate) use limit::memory_bytes;
#[cfg(test)]
pub(crate) use map::DISK_READ_MIN;
#[cfg(test)]
pub(crate) use map::requests;
pub(crate) use map::{LONG_CONTENT_BYTES, Map, PAGE_BYTES, REQUEST_BYTES, is_disk_read};
#[cfg(test)]
pub(crate) use prefetch::prefetched;
pub(crate) use prefetch::{prefetch, prefetch_value};
pub(crate) use residence::give_up;
