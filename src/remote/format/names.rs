//! The names of objects in a bucket.

use std::fmt;
use std::str::FromStr;

use super::Nonce;
use crate::digest::Digest;
use crate::error::{Error, RemoteError, Result};

/// The folder of the manifests, with a folder for each ref.
pub(in crate::remote) const REFS: &str = "refs";
/// The folder of the files of segments, with a folder for each ref.
pub(in crate::remote) const SEGMENTS: &str = "segments";
/// The folder of the markers from which collections read the bucket's clock.
pub(in crate::remote) const CLOCKS: &str = "gc";
/// The folder of the objects with which a push finds out whether creating is exclusive.
pub(in crate::remote) const PROBES: &str = "probe";

/// Longest name of a ref, in bytes.
const REF_NAME_BYTES_MAX: usize = 64;
/// Digits of the number in the name of a manifest: as many as `u64::MAX` has.
const NUMBER_DIGITS: usize = 20;

/// The highest number of a manifest. There is always a name above it that no manifest has, where a search
/// for the newest one ends.
pub(in crate::remote) const NUMBER_MAX: u64 = u64::MAX - 1;

/// The name of a ref: 1 to 64 lowercase letters, digits, `.`, `_` and `-`, of which the first is a
/// letter or a digit. So no two names are the same on a file system that ignores case, and none
/// leads out of its folder.
///
/// ```
/// use sealstone::remote::format::RefName;
///
/// assert_eq!("laptop-1".parse::<RefName>()?.as_str(), "laptop-1");
/// assert!("../other".parse::<RefName>().is_err());
/// # Ok::<(), sealstone::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

impl RefName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RefName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_allowed = |byte: u8| is_word(byte) || b"._-".contains(&byte);
        let begins_well = name.bytes().next().is_some_and(is_word);
        if begins_well && name.len() <= REF_NAME_BYTES_MAX && name.bytes().all(is_allowed) {
            Ok(Self(name.to_owned()))
        } else {
            let name = name.to_owned();
            Err(RemoteError::BadRefName { name }.into())
        }
    }
}

/// Returns the last part of the name of manifest `number`. Higher numbers come first in a listing.
pub(in crate::remote) fn manifest_name(number: u64) -> String {
    format!("{:0NUMBER_DIGITS$}", u64::MAX - number)
}

/// Returns the number of the manifest with this name, if it is spelled as we spell it.
pub(in crate::remote) fn manifest_number(name: &str) -> Option<u64> {
    let number = u64::MAX - name.parse::<u64>().ok()?;
    (number <= NUMBER_MAX && manifest_name(number) == name).then_some(number)
}

/// The kinds of files that a ref has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::remote) enum RefFileKind {
    /// The data file of a segment.
    Data,
    /// The sidecar of a segment.
    Sidecar,
    /// A run of the set index.
    Run,
}

impl RefFileKind {
    const ALL: [Self; 3] = [Self::Data, Self::Sidecar, Self::Run];

    const fn extension(self) -> &'static str {
        match self {
            Self::Data => "dat",
            Self::Sidecar => "idx",
            Self::Run => "run",
        }
    }
}

/// A file of a ref, by its place below the folder of the ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::remote) struct FolderFile {
    /// The folder into which the push that uploaded the file put it.
    pub(in crate::remote) folder: Nonce,
    /// The checksum at the end of the segment's sidecar, or the digest of the run.
    pub(in crate::remote) digest: Digest,
    pub(in crate::remote) kind: RefFileKind,
}

impl FolderFile {
    /// Returns the last part of the name.
    pub(in crate::remote) fn name(&self) -> String {
        format!("{}.{}", self.digest, self.kind.extension())
    }

    /// Reads the last two parts of a name. `None` if it is not spelled as we spell it.
    pub(in crate::remote) fn parse(folder: &str, name: &str) -> Option<Self> {
        let (digest, extension) = name.split_once('.')?;
        let is_its = |kind: &RefFileKind| kind.extension() == extension;
        let file = Self {
            folder: folder.parse().ok()?,
            digest: digest.parse().ok()?,
            kind: RefFileKind::ALL.into_iter().find(is_its)?,
        };
        (file.name() == name).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_refs_lead_nowhere_else() {
        for name in ["a", "0", "main", "a.b_c-d", &"x".repeat(64)] {
            assert!(name.parse::<RefName>().is_ok(), "{name}");
        }
        for name in [
            "", ".", "..", "-a", "_", "a/b", "A", "a b", "ä", "a%2f", "a\0",
        ] {
            assert!(name.parse::<RefName>().is_err(), "{name}");
        }
        assert!("x".repeat(65).parse::<RefName>().is_err());
    }

    #[test]
    fn a_newer_manifest_is_listed_before_an_older_one() {
        assert_eq!(manifest_name(1), "18446744073709551614");
        assert_eq!(manifest_name(u64::MAX), "00000000000000000000");
        let numbers = [1, 2, 9, 10, 11, 1 << 40, NUMBER_MAX];
        for pair in numbers.windows(2) {
            assert!(manifest_name(pair[1]) < manifest_name(pair[0]));
        }
        for number in numbers {
            assert_eq!(manifest_number(&manifest_name(number)), Some(number));
        }
        for other in [
            "",
            "1",
            "+8446744073709551614",
            "18446744073709551616",
            "00000000000000000000",
            "x",
        ] {
            assert_eq!(manifest_number(other), None, "{other}");
        }
    }

    #[test]
    fn only_our_own_spelling_is_a_file_of_a_ref() {
        let folder = Nonce::from([7; 16]);
        let digest = Digest::of("sidecar");
        for kind in RefFileKind::ALL {
            let file = FolderFile {
                folder,
                digest,
                kind,
            };
            let name = file.name();
            assert_eq!(FolderFile::parse(&folder.to_string(), &name), Some(file));
            assert_eq!(FolderFile::parse("folder", &name), None);
        }
        let upper = format!("{}.dat", digest.to_string().to_uppercase());
        for name in [&upper, &format!("{digest}.jnl"), &digest.to_string()] {
            assert_eq!(FolderFile::parse(&folder.to_string(), name), None, "{name}");
        }
    }
}
