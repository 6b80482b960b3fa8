//! Content digests: the names of objects, and the hash functions that give them.
//!
//! Only this module computes digests. The checksums of our own files are BLAKE2b-512 truncated to 32
//! bytes ([`Digest::of`]) whatever function names the objects of a store. BLAKE2 is specified in
//! [RFC 7693].
//!
//! [RFC 7693]: https://www.rfc-editor.org/rfc/rfc7693

mod blake2b;
mod hash_function;
mod hashed;
#[cfg(test)]
pub(crate) mod work;

use std::fmt;
use std::str::FromStr;

pub use hash_function::{HashFunction, Hasher, ParseHashFunctionError};
pub use hashed::{DigestMismatch, Hashed};

/// Length of a [`Digest`] in bytes.
pub const DIGEST_BYTES: usize = 32;

/// The name of an object: 32 bytes that the store's [`HashFunction`] computes from its content.
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

    /// Computes the digest of `content` by the default function, [`HashFunction::Blake2b`], at about a
    /// gigabyte a second. In a process, the first call takes some tens of microseconds longer: it
    /// measures which of several implementations is the fastest.
    #[must_use]
    pub fn of(content: impl AsRef<[u8]>) -> Self {
        HashFunction::Blake2b.digest_bytes(content.as_ref())
    }

    /// Computes the digests of many contents by the default function, as
    /// [`HashFunction::digest_many`] does.
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
        HashFunction::Blake2b.digest_many(contents)
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

impl fmt::LowerHex for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if f.alternate() { "0x" } else { "" };
        f.pad_integral(true, prefix, &hex::encode(self.0))
    }
}

impl fmt::UpperHex for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if f.alternate() { "0x" } else { "" };
        f.pad_integral(true, prefix, &hex::encode_upper(self.0))
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

/// Calls that look an object up take a digest by value or by reference.
impl AsRef<Self> for Digest {
    fn as_ref(&self) -> &Self {
        self
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

#[cfg(test)]
mod tests {
    use super::*;

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
                let expected: Vec<Digest> = contents.iter().map(Digest::of).collect();
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
        let expected: Vec<Digest> = contents.iter().map(Digest::of).collect();
        assert_eq!(Digest::of_many(&contents), expected);
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
