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

/// The reason why bytes are not a valid file of their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file begins with another magic number.
    #[error("the magic number is wrong")]
    Magic,
    /// The file is shorter or longer than its own header says.
    #[error("the length is wrong")]
    Length,
    /// The checksum does not hold.
    #[error("the checksum does not hold")]
    Checksum,
    /// A number in the header is out of the range that the format allows.
    #[error("the count is out of range")]
    Count,
    /// A line of the manifest, counted from 1, has no meaning or contradicts another line.
    #[error("line {0} is not understood")]
    Line(usize),
    /// The manifest names a hash function that is not compiled in.
    #[error("the hash function is not compiled in; build with the feature `{feature}`")]
    HashFunction {
        /// The cargo feature that brings the function.
        feature: &'static str,
    },
    /// A newer version of this crate wrote the manifest.
    #[error("the version is not supported")]
    Version,
}

/// Returns the `N` bytes that begin at `at`, or `None` if the bytes end before them.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Returns the first eight bytes of a digest as a number that sorts as the digest does.
#[inline]
fn leading_bits(digest: &[u8]) -> u64 {
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// Returns the least digest with these leading bits.
fn least_digest(leading: u64) -> Digest {
    let mut bytes = [0; DIGEST_BYTES];
    bytes[..8].copy_from_slice(&leading.to_be_bytes());
    Digest::from(bytes)
}
