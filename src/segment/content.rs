//! The bytes of a record, before and after they are verified.

use std::sync::Arc;

use super::Data;
use crate::digest::{Digest, HashFunction};
use crate::memory::{Map, SharedAppendBuffer, prefetch};

/// The bytes of a record, not verified yet, with the map or buffer that holds them.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Bytes of a mapped sealed segment.
    Sealed {
        data: &'a Arc<Data>,
        offset: u64,
        bytes: &'a [u8],
    },
    /// Bytes of a mapped segment that is not sealed yet.
    Unsealed {
        map: &'a Arc<Map>,
        offset: u64,
        bytes: &'a [u8],
    },
    /// Bytes that are not in the file yet.
    Buffered {
        buffer: SharedAppendBuffer,
        at: usize,
        len: usize,
    },
    /// Bytes that a system call has copied.
    Heap(Vec<u8>),
}

/// [`Content`] that is known to have the digest that was asked for. It is never [`Buffered`].
///
/// [`Buffered`]: Content::Buffered
#[derive(Debug)]
pub(crate) struct Verified<'a>(Content<'a>);

impl<'a> Content<'a> {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Sealed { bytes, .. } | Self::Unsealed { bytes, .. } => bytes,
            Self::Buffered { buffer, at, len } => buffer.slice(*at, *len).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }

    /// Hashes the bytes. Returns `None` if they are not the content of this object.
    #[inline]
    pub(crate) fn verify(self, function: HashFunction, digest: &Digest) -> Option<Verified<'a>> {
        if let Self::Sealed { bytes, .. } = &self {
            prefetch(bytes);
        }
        let is_right = function.digest(self.bytes()) == *digest;
        is_right.then(|| self.known_right())
    }

    /// Takes the caller's word that the digest of these bytes was compared, now or before.
    ///
    /// Copies bytes out of the buffer: a small object would keep the whole buffer, 2 MiB and more,
    /// alive, and the next block would need another. The bytes were hashed just now, which takes
    /// twenty times as long as the copy.
    #[inline]
    pub(crate) fn known_right(self) -> Verified<'a> {
        Verified(match self {
            Self::Buffered { .. } => Self::Heap(self.bytes().to_vec()),
            other => other,
        })
    }
}

impl<'a> Verified<'a> {
    /// Bytes of a mapped sealed segment, whose digest the caller has compared, now or before.
    #[inline]
    pub(crate) const fn sealed(data: &'a Arc<Data>, offset: u64, bytes: &'a [u8]) -> Self {
        Self(Content::Sealed {
            data,
            offset,
            bytes,
        })
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    #[inline]
    pub(crate) fn into_content(self) -> Content<'a> {
        self.0
    }
}
