//! The bytes of a record, before and after they are verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Data;
use crate::digest::{Digest, HashFunction, Hasher};
use crate::memory::{
    LONG_CONTENT_BYTES, Map, PAGE_BYTES, REQUEST_BYTES, SharedAppendBuffer, prefetch,
};

/// How far ahead of hashing a long content is asked for, in bytes: some requests, so that the disk is
/// never idle. Asking takes time too, so not all is asked for before hashing begins.
pub(crate) const HASH_AHEAD_BYTES: u64 = 4 * REQUEST_BYTES as u64;

/// The bytes of a record, not verified yet, with the map or buffer that holds them.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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

    /// Hashes the bytes. Returns `None` if they are not the content of this object. What of a long
    /// content is on the disk is read while hashing goes on.
    #[inline]
    pub(crate) fn verify(self, function: HashFunction, digest: &Digest) -> Option<Verified<'a>> {
        let computed = match self.mapped_long() {
            Some((map, offset, bytes)) if map.is_wait_likely(bytes) => {
                digest_while_reading(function, map, offset, bytes)
            }
            _ => {
                if let Self::Sealed { bytes, .. } = &self {
                    prefetch(bytes);
                }
                function.digest(self.bytes())
            }
        };
        (computed == *digest).then(|| self.known_right())
    }

    /// Asks for a long content that is on the disk, for a caller who reads all of it.
    #[inline]
    pub(crate) fn fetch(&self) {
        if let Some((map, offset, bytes)) = self.mapped_long() {
            map.fetch_long(offset, bytes);
        }
    }

    /// Asks for a very long content that is on the disk, for a caller who does not hash it. A lookup has
    /// asked for the first [`REQUEST_BYTES`] itself where a wait was likely, and to find out whether one
    /// is takes as long as the rest of the lookup.
    #[inline]
    pub(crate) fn fetch_unhashed(&self) {
        if self.bytes().len() > REQUEST_BYTES {
            self.fetch();
        }
    }

    /// Map, offset and bytes of a mapped content that is [long](LONG_CONTENT_BYTES).
    #[inline]
    fn mapped_long(&self) -> Option<(&'a Map, u64, &'a [u8])> {
        let (map, offset, bytes) = match self {
            Self::Sealed {
                data,
                offset,
                bytes,
            } if bytes.len() > LONG_CONTENT_BYTES => (data.map()?, offset, bytes),
            Self::Unsealed { map, offset, bytes } if bytes.len() > LONG_CONTENT_BYTES => {
                (&***map, offset, bytes)
            }
            _ => return None,
        };
        Some((map, *offset, bytes))
    }

    /// Takes the caller's word that the digest of these bytes was compared, now or before.
    ///
    /// Copies bytes out of the buffer: a small object would keep the whole buffer, 2 MiB and more,
    /// alive, and the next block would need another. Where the bytes were hashed just now, that took
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

/// Computes the digest of a content at an offset of a map, and asks for what comes next.
#[cold]
fn digest_while_reading(function: HashFunction, map: &Map, offset: u64, content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(function);
    let mut asking = Duration::ZERO;
    let end = offset + content.len() as u64;
    let mut asked = offset - offset % PAGE_BYTES as u64;
    let mut ahead = asked + HASH_AHEAD_BYTES;
    for piece in content.chunks(REQUEST_BYTES) {
        let begun = Instant::now();
        map.will_need(asked..ahead.min(end));
        asking += begun.elapsed();
        hasher.update(piece);
        asked = ahead;
        ahead += REQUEST_BYTES as u64;
    }
    map.note_asked(content, asking);
    hasher.finish()
}
