//! The entry of an object, which sidecars and journals consist of.

use crate::digest::{DIGEST_BYTES, Digest};

/// Length of an entry in bytes.
pub const ENTRY_BYTES: usize = DIGEST_BYTES + 8 + 4;

const _: () = assert!(ENTRY_BYTES == 44);

/// Where one object lies in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Digest of the content.
    pub digest: Digest,
    /// Where the content begins in the data file, in bytes. Its record begins 4 bytes before.
    pub offset: u64,
    /// Length of the content in bytes.
    pub len: u32,
}

impl Entry {
    /// The 44 bytes of an entry.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// Reads the 44 bytes of an entry.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (digest, rest) = bytes.split_at(32);
        let (offset, len) = rest.split_at(8);
        Self {
            digest: Digest::from(fixed(digest)),
            offset: u64::from_le_bytes(fixed(offset)),
            len: u32::from_le_bytes(fixed(len)),
        }
    }

    /// Where the content ends, or `None` where that is beyond `u64`.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }
}

/// A part of a fixed-size array whose length is known from the array's type.
fn fixed<const N: usize>(part: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(part);
    bytes
}
