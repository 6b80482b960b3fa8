//! Digests and prefixes as arguments. They are checked when the command line is read, before a store
//! is opened.

use std::fmt;
use std::str::FromStr;

use sealstone::{Digest, Error, Store};

use crate::exit::Failure;

/// Number of hexadecimal digits of a whole digest.
const DIGITS: usize = 64;
/// Fewest digits of a prefix: a shorter one is more likely a slip than a digest.
const PREFIX_DIGITS_MIN: usize = 6;

/// The digest of an object, or its first digits.
#[derive(Clone, Debug)]
pub enum WantedDigest {
    Whole(Digest),
    Prefix(String),
}

impl FromStr for WantedDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.to_ascii_lowercase();
        if !is_hex(&digits) || !(PREFIX_DIGITS_MIN..=DIGITS).contains(&digits.len()) {
            return Err(format!(
                "give {PREFIX_DIGITS_MIN} to {DIGITS} hexadecimal digits"
            ));
        }
        if digits.len() == DIGITS {
            let digest = digits.parse::<Digest>();
            digest.map(Self::Whole).map_err(|error| error.to_string())
        } else {
            Ok(Self::Prefix(digits))
        }
    }
}

impl fmt::Display for WantedDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(digest) => digest.fmt(formatter),
            Self::Prefix(digits) => digits.fmt(formatter),
        }
    }
}

impl WantedDigest {
    /// Returns the whole digest, or `None` if no digest in the store begins with the prefix. A whole
    /// digest is returned without a look-up.
    pub fn resolve(&self, store: &Store) -> anyhow::Result<Option<Digest>> {
        match self {
            Self::Whole(digest) => Ok(Some(*digest)),
            Self::Prefix(digits) => match store.find(digits) {
                Err(Error::AmbiguousPrefix { prefix, candidates }) => {
                    Err(Failure::Usage(ambiguous(&prefix, &candidates)).into())
                }
                found => Ok(found?),
            },
        }
    }
}

fn ambiguous(prefix: &str, candidates: &[Digest]) -> String {
    let mut lines = vec![format!("{prefix}: more than one digest begins with this:")];
    // The store returns only the first few.
    lines.extend(candidates.iter().map(|candidate| format!("  {candidate}")));
    lines.push("give more digits".to_owned());
    lines.join("\n")
}

/// An argument, or `-` for the digests on standard input.
#[derive(Clone, Debug)]
pub enum OrInput<T> {
    Argument(T),
    Input,
}

impl<T: FromStr> FromStr for OrInput<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "-" {
            Ok(Self::Input)
        } else {
            text.parse().map(Self::Argument)
        }
    }
}

/// The digits with which a listed digest must begin.
#[derive(Clone, Debug)]
pub struct ListPrefix(String);

impl FromStr for ListPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.to_ascii_lowercase();
        if is_hex(&digits) && digits.len() <= DIGITS {
            Ok(Self(digits))
        } else {
            Err(format!("give up to {DIGITS} hexadecimal digits"))
        }
    }
}

impl fmt::Display for ListPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl ListPrefix {
    pub fn matches(&self, digest: &Digest) -> bool {
        digest.to_string().starts_with(&self.0)
    }
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}
