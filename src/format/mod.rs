#![doc = include_str!("FORMAT.md")]

mod entry;
pub mod journal;
mod layout;
pub mod manifest;
pub mod record;
pub mod set_index;
pub mod sidecar;

pub use entry::Entry;
pub use journal::Journal;
pub use manifest::{Manifest, SealedSegment};
pub use record::{Record, Records};
pub use set_index::SetIndex;
pub use sidecar::Sidecar;

use crate::digest::{DIGEST_BYTES, Digest};

/// Bytes that are not in the format they should be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first bytes are not those of this kind of file.
    #[error("the magic number is wrong")]
    Magic,
    /// The file is shorter or longer than its own header says.
    #[error("the length is wrong")]
    Length,
    /// The checksum does not hold.
    #[error("the checksum does not hold")]
    Checksum,
    /// The number of entries is larger than the format allows.
    #[error("the count is out of range")]
    Count,
    /// A line of the manifest is not understood.
    #[error("line {0} is not understood")]
    Line(usize),
    /// The manifest was written by a newer version.
    #[error("the version is not supported")]
    Version,
}

/// The first `N` bytes at `at`, or `None` beyond the end.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The first eight bytes of a digest as a number that sorts as the digest does.
#[inline]
fn leading_bits(digest: &[u8]) -> u64 {
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// The least digest with these leading bits.
fn least_digest(leading: u64) -> Digest {
    let mut bytes = [0; DIGEST_BYTES];
    bytes[..8].copy_from_slice(&leading.to_be_bytes());
    Digest::from(bytes)
}
