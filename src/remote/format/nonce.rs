//! Random numbers that name one thing for good.

use std::fmt;
use std::io;
use std::str::FromStr;

/// Length of a [`Nonce`] in bytes.
const NONCE_BYTES: usize = 16;

/// A random number of 128 bits: the name of a writer, a push, a manifest or a folder of files. It is
/// printed as 32 lowercase hexadecimal digits.
///
/// ```
/// use sealstone::remote::format::Nonce;
///
/// let text = "000102030405060708090a0b0c0d0e0f";
/// assert_eq!(text.parse::<Nonce>()?.to_string(), text);
/// # Ok::<(), sealstone::remote::format::ParseNonceError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// Takes a new number from the system's source of random numbers.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; NONCE_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({}..)", hex::encode(&self.0[..4]))
    }
}

impl From<[u8; NONCE_BYTES]> for Nonce {
    fn from(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Nonce {
    type Err = ParseNonceError;

    /// Reads 32 hexadecimal digits, the letters in lower case: one number has one name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; NONCE_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseNonceError)?;
        let nonce = Self(bytes);
        if nonce.to_string() == text {
            Ok(nonce)
        } else {
            Err(ParseNonceError)
        }
    }
}

/// The error for a text that is not a [`Nonce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a random number of ours; give 32 hexadecimal digits, the letters in lower case")]
pub struct ParseNonceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_one_spelling() {
        let text = "00ff02030405060708090a0b0c0d0e0f";
        assert_eq!(text.parse::<Nonce>().unwrap().to_string(), text);
        for other in [
            "",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}0"),
            &"é".repeat(16),
        ] {
            assert_eq!(other.parse::<Nonce>(), Err(ParseNonceError), "{other}");
        }
    }

    #[test]
    fn random_nonces_differ() {
        assert_ne!(Nonce::random().unwrap(), Nonce::random().unwrap());
    }
}
