//! The hash functions that can name the objects of a store.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::blake2b::{self, Output};
use super::{DIGEST_BYTES, Digest};

/// The hash function by which a store names its objects. A store has one, from its creation on.
///
/// | function | [name](Self::name) | prints the same digests | feature |
/// |---|---|---|---|
/// | [`Blake2b`](Self::Blake2b), the default | `blake2b` | `b2sum FILE \| cut -c1-64` | |
/// | [`Blake2b256`](Self::Blake2b256) | `blake2b-256` | `b2sum -l 256 FILE` | |
/// | `Sha256` | `sha256` | `sha256sum FILE` | `sha2` |
/// | `Blake3` | `blake3` | `b3sum FILE` | `blake3` |
///
/// A digest does not say by which function it was computed, so digests of different functions must
/// not be mixed up. [`Hashed`](crate::Hashed) knows its function.
///
/// ```
/// use sealstone::{Digest, HashFunction};
///
/// assert_eq!(HashFunction::Blake2b.digest(b"abc"), Digest::of(b"abc"));
/// assert_ne!(HashFunction::Blake2b256.digest(b"abc"), Digest::of(b"abc"));
/// assert_eq!("blake2b-256".parse(), Ok(HashFunction::Blake2b256));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashFunction {
    /// BLAKE2b-512 truncated to its first 32 bytes, the function of NEDB. A folder without a manifest
    /// has this function, unless an object shows that its manifest was lost.
    #[default]
    Blake2b,
    /// BLAKE2b with an output of 32 bytes, as Filecoin and Polkadot use it. It is not the beginning
    /// of BLAKE2b-512: the length of the output goes into what is hashed.
    Blake2b256,
    /// SHA-256 (FIPS 180-4), as IPFS, OCI, Nix and Bazel use it. Uses the processor's instructions
    /// for it where there are any.
    #[cfg(feature = "sha2")]
    Sha256,
    /// BLAKE3 with its usual output of 32 bytes. On objects of many kibibytes it is several times as
    /// fast as the others.
    #[cfg(feature = "blake3")]
    Blake3,
}

impl HashFunction {
    /// The functions that are compiled in.
    pub const ALL: &[Self] = &[
        Self::Blake2b,
        Self::Blake2b256,
        #[cfg(feature = "sha2")]
        Self::Sha256,
        #[cfg(feature = "blake3")]
        Self::Blake3,
    ];

    /// Whether this program knows every function that a store can have.
    pub(crate) const ALL_ARE_COMPILED_IN: bool = cfg!(all(feature = "sha2", feature = "blake3"));

    /// Returns the name that the manifest and the command line use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake2b => "blake2b",
            Self::Blake2b256 => "blake2b-256",
            #[cfg(feature = "sha2")]
            Self::Sha256 => "sha256",
            #[cfg(feature = "blake3")]
            Self::Blake3 => "blake3",
        }
    }

    /// Computes the digest of `content`. Linear in its length.
    #[must_use]
    pub fn digest(self, content: impl AsRef<[u8]>) -> Digest {
        self.digest_bytes(content.as_ref())
    }

    pub(crate) fn digest_bytes(self, content: &[u8]) -> Digest {
        #[cfg(test)]
        super::work::count(content);
        match self {
            Self::Blake2b => blake2b::whole(Output::Long, content),
            Self::Blake2b256 => blake2b::whole(Output::Short, content),
            #[cfg(feature = "sha2")]
            Self::Sha256 => sha256(content),
            #[cfg(feature = "blake3")]
            Self::Blake3 => Digest(blake3::hash(content).into()),
        }
    }

    /// Computes the digests of many contents, in their order. With the BLAKE2b functions, the default
    /// feature `simd` and a processor that has AVX2 this takes about a third of the time of hashing
    /// them one by one, with AVX-512 about a quarter, whatever their lengths; with the other functions
    /// it takes as long. Uses the calling thread only.
    #[must_use]
    pub fn digest_many(self, contents: &[impl AsRef<[u8]>]) -> Vec<Digest> {
        let mut digests = vec![Digest::ZERO; contents.len()];
        self.digest_many_into(contents, &mut digests);
        digests
    }

    /// Does [`digest_many`](Self::digest_many) without heap: each digest goes to its place in
    /// `digests`, which has the length of `contents`.
    pub(crate) fn digest_many_into<T: AsRef<[u8]>>(self, contents: &[T], digests: &mut [Digest]) {
        debug_assert_eq!(contents.len(), digests.len());
        let output = match self {
            Self::Blake2b => Output::Long,
            Self::Blake2b256 => Output::Short,
            #[cfg(any(feature = "sha2", feature = "blake3"))]
            _ => {
                for (digest, content) in digests.iter_mut().zip(contents) {
                    *digest = self.digest(content.as_ref());
                }
                return;
            }
        };
        #[cfg(test)]
        for content in contents {
            super::work::count(content.as_ref());
        }
        blake2b::digest_many(output, contents, digests);
    }
}

#[cfg(feature = "sha2")]
fn sha256(content: &[u8]) -> Digest {
    Digest(<sha2::Sha256 as sha2::Digest>::digest(content).into())
}

impl fmt::Display for HashFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HashFunction {
    type Err = ParseHashFunctionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if let Some(&function) = Self::ALL.iter().find(|function| function.name() == name) {
            return Ok(function);
        }
        Err(match name {
            "sha256" => ParseHashFunctionError::NotCompiledIn { feature: "sha2" },
            "blake3" => ParseHashFunctionError::NotCompiledIn { feature: "blake3" },
            _ => ParseHashFunctionError::Unknown,
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HashFunction {
    /// Writes the name.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for HashFunction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// The error for a name that is not the name of a [`HashFunction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseHashFunctionError {
    /// The function exists, but not in this build.
    #[error("this hash function is not compiled in; build with the feature `{feature}`")]
    NotCompiledIn {
        /// The cargo feature that brings the function.
        feature: &'static str,
    },
    /// There is no function with this name.
    #[error("no such hash function; there are blake2b, blake2b-256, sha256 and blake3")]
    Unknown,
}

/// Computes the digest of content that comes in parts.
///
/// ```
/// use std::io;
///
/// use sealstone::{HashFunction, Hasher};
///
/// let mut hasher = Hasher::new(HashFunction::Blake2b256);
/// io::copy(&mut &b"from any reader"[..], &mut hasher)?;
/// assert_eq!(hasher.finish(), HashFunction::Blake2b256.digest(b"from any reader"));
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Blake2b(blake2b::Hasher),
    #[cfg(feature = "sha2")]
    Sha256(sha2::Sha256),
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Makes a hasher that has seen no content yet.
    #[must_use]
    pub fn new(function: HashFunction) -> Self {
        Self(match function {
            HashFunction::Blake2b => State::Blake2b(blake2b::Hasher::new(Output::Long)),
            HashFunction::Blake2b256 => State::Blake2b(blake2b::Hasher::new(Output::Short)),
            #[cfg(feature = "sha2")]
            HashFunction::Sha256 => State::Sha256(sha2::Digest::new()),
            #[cfg(feature = "blake3")]
            HashFunction::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Hashes a further part of the content.
    pub fn update(&mut self, part: &[u8]) {
        match &mut self.0 {
            State::Blake2b(hasher) => hasher.update(part),
            #[cfg(feature = "sha2")]
            State::Sha256(hasher) => sha2::Digest::update(hasher, part),
            #[cfg(feature = "blake3")]
            State::Blake3(hasher) => _ = hasher.update(part),
        }
    }

    /// Returns the digest of all parts.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Blake2b(hasher) => hasher.finish(),
            #[cfg(feature = "sha2")]
            State::Sha256(hasher) => Digest(sha2::Digest::finalize(hasher).into()),
            #[cfg(feature = "blake3")]
            State::Blake3(hasher) => Digest(hasher.finalize().into()),
        }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.update(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const _: () = assert!(DIGEST_BYTES == 32, "each of the functions gives 32 bytes");

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 7693, FIPS 180-4 and the test vectors of BLAKE3.
    #[test]
    fn each_function_gives_the_published_digest() {
        for (name, empty, abc) in [
            (
                "blake2b",
                "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419",
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1",
            ),
            (
                "blake2b-256",
                "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
                "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
            ),
            (
                "sha256",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "blake3",
                "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
        ] {
            match name.parse::<HashFunction>() {
                Ok(function) => {
                    assert_eq!(function.to_string(), name);
                    assert_eq!(function.digest(b"").to_string(), empty);
                    assert_eq!(function.digest(b"abc").to_string(), abc);
                }
                Err(error) => assert!(matches!(
                    error,
                    ParseHashFunctionError::NotCompiledIn { .. }
                )),
            }
        }
        assert_eq!(
            "md5".parse::<HashFunction>(),
            Err(ParseHashFunctionError::Unknown)
        );
    }

    #[test]
    fn content_in_parts_and_among_others_has_the_digest_of_the_whole() {
        for &function in HashFunction::ALL {
            let mut hasher = Hasher::new(function);
            hasher.update(b"a");
            hasher.update(b"");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), function.digest(b"abc"));
            let contents = [&b"one"[..], b"", b"three"];
            let expected = contents.map(|content| function.digest(content));
            assert_eq!(function.digest_many(&contents), expected);
        }
    }
}
