//! Content digests: BLAKE2b-512 truncated to its first 32 bytes.
//!
//! Only this module computes digests. The function is *not* BLAKE2b-256, whose output length is
//! part of its parameters and which gives other bytes. On the command line,
//! `b2sum FILE | cut -c1-64` prints the same digest. BLAKE2 is specified in [RFC 7693].
//!
//! [RFC 7693]: https://www.rfc-editor.org/rfc/rfc7693

#[cfg(feature = "simd")]
mod lanes;

use std::fmt;
use std::str::FromStr;

/// Length of a [`Digest`] in bytes.
pub const DIGEST_BYTES: usize = 32;

/// The name of an object: BLAKE2b-512 of its content, truncated to the first 32 bytes.
///
/// Digests are ordered like their bytes, are printed as 64 lowercase hexadecimal digits, and are
/// parsed from either case.
///
/// ```
/// use sealstone::Digest;
///
/// let digest = Digest::of(b"abc");
/// let text = "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1";
/// assert_eq!(digest.to_string(), text);
/// assert_eq!(text.parse::<Digest>()?, digest);
/// # Ok::<(), sealstone::ParseDigestError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// A placeholder in arrays of digests. No known content has this digest.
    pub(crate) const ZERO: Self = Self([0; DIGEST_BYTES]);

    /// Computes the digest of `content`, at about a gigabyte a second with the default feature
    /// `simd`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        #[cfg(test)]
        work::count(content);
        whole(content)
    }

    /// Computes the digests of many contents, in their order. With the default feature `simd` and a
    /// processor that has AVX2, this takes about a third of the time of hashing them one by one,
    /// whatever their lengths. Uses the calling thread only.
    ///
    /// ```
    /// use sealstone::Digest;
    ///
    /// let contents = ["one", "two", "three", "four"];
    /// let digests = Digest::of_many(&contents);
    /// assert_eq!(digests[2], Digest::of(b"three"));
    /// ```
    #[must_use]
    pub fn of_many(contents: &[impl AsRef<[u8]>]) -> Vec<Self> {
        let mut digests = vec![Self::ZERO; contents.len()];
        digest_many(contents, &mut digests);
        digests
    }

    /// Returns the 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 2 * DIGEST_BYTES];
        hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}..)", hex::encode(&self.0[..6]))
    }
}

impl From<[u8; DIGEST_BYTES]> for Digest {
    fn from(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }
}

impl From<Digest> for [u8; DIGEST_BYTES] {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = ParseDigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| ParseDigestError)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; DIGEST_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError)?;
        Ok(Self(bytes))
    }
}

/// The error for a text or a slice that is not a [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a digest; give 32 bytes, or 64 hexadecimal digits as `b2sum FILE | cut -c1-64` prints"
)]
pub struct ParseDigestError;

#[cfg(feature = "serde")]
impl serde::Serialize for Digest {
    /// Writes hexadecimal text in human-readable formats, and 32 bytes in others.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            <[u8; DIGEST_BYTES]>::deserialize(deserializer).map(Self)
        }
    }
}

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
    digest: Digest,
    content: &'a [u8],
}

impl<'a> Hashed<'a> {
    /// Computes the digest of `content`.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self {
            digest: Digest::of(content),
            content,
        }
    }

    /// Hashes `content` and compares it to a digest that came from elsewhere.
    ///
    /// # Errors
    ///
    /// Returns [`DigestMismatch`] if `content` has another digest.
    pub fn check(digest: Digest, content: &'a [u8]) -> Result<Self, DigestMismatch> {
        let hashed = Self::new(content);
        if hashed.digest == digest {
            Ok(hashed)
        } else {
            Err(DigestMismatch {
                expected: digest,
                actual: hashed.digest,
            })
        }
    }

    /// Hashes each of `contents`, as [`Digest::of_many`] does.
    pub(crate) fn of_each(contents: &[&'a [u8]]) -> Vec<Self> {
        let digests = Digest::of_many(contents);
        let hashed = digests.into_iter().zip(contents);
        hashed
            .map(|(digest, &content)| Self { digest, content })
            .collect()
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

/// Counts the bytes that are hashed, for tests that bound the work of a read.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        static HASHED_BYTES: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count(content: &[u8]) {
        HASHED_BYTES.set(HASHED_BYTES.get() + content.len() as u64);
    }

    /// Returns the number of bytes that this thread hashes while it runs `work`.
    pub(crate) fn hashed_bytes(work: impl FnOnce()) -> u64 {
        let before = HASHED_BYTES.get();
        work();
        HASHED_BYTES.get() - before
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
fn whole(content: &[u8]) -> Digest {
    truncate(blake2b_simd::blake2b(content).as_bytes())
}

#[cfg(not(feature = "simd"))]
fn whole(content: &[u8]) -> Digest {
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

fn truncate(blake2b_512: &[u8]) -> Digest {
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(&blake2b_512[..DIGEST_BYTES]);
    Digest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_equal_the_test_vectors_of_the_format() {
        for (content, text) in [
            (
                &b""[..],
                "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419",
            ),
            (
                b"abc",
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1",
            ),
        ] {
            assert_eq!(Digest::of(content).to_string(), text);
        }
    }

    #[test]
    fn simd_and_portable_agree_at_every_length() {
        let content: Vec<u8> = (0..1030_u32).map(|i| (i * 31 % 251) as u8).collect();
        for len in 0..content.len() {
            let portable = <blake2::Blake2b512 as blake2::Digest>::digest(&content[..len]);
            assert_eq!(Digest::of(&content[..len]), truncate(&portable), "{len}");
        }
    }

    #[test]
    fn many_contents_have_the_digests_of_each_alone() {
        let buffer: Vec<u8> = (0..=1_u32 << 20).map(|i| (i * 31 % 251) as u8).collect();
        let lengths = [128, 0, 127, 1000, 129, 1, 256, 64_000, 255, 4096, 1 << 20];
        for count in (0..=40).chain([255, 256, 257, 300]) {
            for (first, step) in [(0, 0), (2, 0), (0, 1), (3, 7)] {
                // The longest content is hashed in a few cases only, since it takes a while.
                let choices = if count < 8 {
                    lengths.len()
                } else {
                    lengths.len() - 1
                };
                let contents: Vec<&[u8]> = (0..count)
                    .map(|i| &buffer[i % 2..][..lengths[(first + i * step) % choices]])
                    .collect();
                let expected: Vec<Digest> = contents.iter().map(|c| Digest::of(c)).collect();
                assert_eq!(
                    Digest::of_many(&contents),
                    expected,
                    "{count} {first} {step}"
                );
            }
        }
    }

    #[test]
    fn many_contents_of_any_length_have_the_digests_of_each_alone() {
        let buffer: Vec<u8> = (0..3000_u32).map(|i| (i * 31 % 251) as u8).collect();
        let contents: Vec<&[u8]> = (0..3000).map(|i| &buffer[..i * 1231 % 3000]).collect();
        let expected: Vec<Digest> = contents.iter().map(|c| Digest::of(c)).collect();
        assert_eq!(Digest::of_many(&contents), expected);
    }

    #[test]
    fn content_in_parts_has_the_digest_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn text_that_is_not_a_digest_is_refused() {
        for text in [
            "",
            "00",
            "zz",
            &"0".repeat(63),
            &"0".repeat(65),
            &"é".repeat(32),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(ParseDigestError), "{text}");
        }
    }
}
