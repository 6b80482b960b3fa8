//! Content with its digest.

use super::{Digest, HashFunction};

/// Content together with the digest that was computed from it. The type is the proof: no value of
/// it can have a digest that is not that of its content, so nothing can be stored under a wrong
/// name.
///
/// Use it to hash outside of hot sections, in other threads, or once for several stores, and then
/// put with [`Store::put_hashed`](crate::Store::put_hashed).
///
/// ```
/// use sealstone::{Digest, Hashed};
///
/// let hashed = Hashed::new(b"abc");
/// assert_eq!(hashed.digest(), &Digest::of(b"abc"));
/// assert!(Hashed::check(Digest::of(b"abc"), b"abd").is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    function: HashFunction,
    digest: Digest,
    content: &'a [u8],
}

impl<'a> Hashed<'a> {
    /// Computes the digest of `content` by the default function.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self::with(HashFunction::default(), content)
    }

    /// Computes the digest of `content` by `function`, which has to be that of the
    /// [store](crate::Store::hash_function) that the content is put into.
    #[must_use]
    pub fn with(function: HashFunction, content: &'a [u8]) -> Self {
        Self {
            function,
            digest: function.digest(content),
            content,
        }
    }

    /// Hashes `content` by the default function and compares it to a digest that came from
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// Returns [`DigestMismatch`] if `content` has another digest.
    pub fn check(digest: Digest, content: &'a [u8]) -> Result<Self, DigestMismatch> {
        Self::check_with(HashFunction::default(), digest, content)
    }

    /// Does [`check`](Self::check) by `function`.
    ///
    /// # Errors
    ///
    /// Returns [`DigestMismatch`] if `content` has another digest.
    pub fn check_with(
        function: HashFunction,
        digest: Digest,
        content: &'a [u8],
    ) -> Result<Self, DigestMismatch> {
        let hashed = Self::with(function, content);
        if hashed.digest == digest {
            Ok(hashed)
        } else {
            Err(DigestMismatch {
                expected: digest,
                actual: hashed.digest,
            })
        }
    }

    /// Hashes each of `contents`, as [`HashFunction::digest_many`] does.
    #[must_use]
    pub fn of_many(function: HashFunction, contents: &[&'a [u8]]) -> Vec<Self> {
        let digests = function.digest_many(contents);
        let hashed = digests.into_iter().zip(contents);
        hashed
            .map(|(digest, &content)| Self {
                function,
                digest,
                content,
            })
            .collect()
    }

    /// Returns the function by which [`digest`](Self::digest) was computed.
    #[must_use]
    pub const fn function(&self) -> HashFunction {
        self.function
    }

    /// Returns the digest of [`content`](Self::content).
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the content that was hashed.
    #[must_use]
    pub const fn content(&self) -> &'a [u8] {
        self.content
    }
}

/// The error for content that does not have the digest that it was said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the content has digest {actual}, not {expected}; it was changed on its way, fetch it again"
)]
pub struct DigestMismatch {
    /// The digest that the content was said to have.
    pub expected: Digest,
    /// The digest that the content has.
    pub actual: Digest,
}
