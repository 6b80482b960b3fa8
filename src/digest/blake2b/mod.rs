//! BLAKE2b-512, of which a digest is the first 32 bytes.
//!
//! The feature `simd` chooses between `blake2b_simd` and the portable `blake2`.

#[cfg(feature = "simd")]
mod lanes;

use super::{DIGEST_BYTES, Digest};

/// Hashes each of `contents` into its place in `digests`, which has the same length. Uses the
/// calling thread only and no heap.
pub(crate) fn digest_many<T: AsRef<[u8]>>(contents: &[T], digests: &mut [Digest]) {
    debug_assert_eq!(contents.len(), digests.len());
    #[cfg(feature = "simd")]
    lanes::digest_many(contents, digests);
    #[cfg(not(feature = "simd"))]
    for (content, digest) in contents.iter().zip(digests) {
        *digest = Digest::of(content.as_ref());
    }
}

/// BLAKE2b-512 over parts, for the checksums of our own files.
pub(crate) struct Hasher(Implementation);

#[cfg(feature = "simd")]
type Implementation = blake2b_simd::State;
#[cfg(not(feature = "simd"))]
type Implementation = blake2::Blake2b512;

/// Hashes content in one call, which saves the hasher's buffer.
#[cfg(feature = "simd")]
pub(super) fn whole(content: &[u8]) -> Digest {
    truncate(blake2b_simd::blake2b(content).as_bytes())
}

#[cfg(not(feature = "simd"))]
pub(super) fn whole(content: &[u8]) -> Digest {
    truncate(&<blake2::Blake2b512 as blake2::Digest>::digest(content))
}

#[cfg(feature = "simd")]
impl Hasher {
    pub(crate) fn new() -> Self {
        Self(blake2b_simd::State::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        truncate(self.0.finalize().as_bytes())
    }
}

#[cfg(not(feature = "simd"))]
impl Hasher {
    pub(crate) fn new() -> Self {
        Self(blake2::Digest::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        blake2::Digest::update(&mut self.0, bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        truncate(&blake2::Digest::finalize(self.0))
    }
}

pub(super) fn truncate(blake2b_512: &[u8]) -> Digest {
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(&blake2b_512[..DIGEST_BYTES]);
    Digest::from(bytes)
}
