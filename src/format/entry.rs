//! An entry: what a sidecar and a journal say about one object.

use super::layout::entry as layout;
use crate::digest::Digest;

/// Length of an entry in bytes.
pub const ENTRY_BYTES: usize = layout::BYTES;

/// The place of one object in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Digest of the content.
    pub digest: Digest,
    /// Where the content begins in the data file, in bytes. Its record begins 4 bytes earlier.
    pub offset: u64,
    /// Length of the content in bytes.
    pub len: u32,
}

impl Entry {
    /// Encodes the entry.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        layout::DIGEST.write(&mut bytes, *self.digest.as_bytes());
        layout::OFFSET.write(&mut bytes, self.offset.to_le_bytes());
        layout::LEN.write(&mut bytes, self.len.to_le_bytes());
        bytes
    }

    /// Reads an entry.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            digest: Digest::from(layout::DIGEST.read(bytes)),
            offset: layout::OFFSET.number(bytes),
            len: layout::LEN.number(bytes),
        }
    }

    /// Returns where the content ends, or `None` if that exceeds `u64`.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }
}
