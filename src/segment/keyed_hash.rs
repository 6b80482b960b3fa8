//! A hash of digests that takes a few cycles and for which nobody can choose collisions.

use std::array;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::digest::DIGEST_BYTES;

/// Hashes digests with keys that are chosen at random for each map.
///
/// Digests are random already, so the hash has to mix little. The keys keep anybody from choosing
/// contents whose digests fall into one place of the map, or from forging a journal of such
/// digests: papaya grows a map until no place is crowded, however much memory that takes. For any
/// two digests the probability that they collide is 2^-64 over all keys ("pair-multiply-shift",
/// M. Thorup, High Speed Hashing for Integers and Strings, section 3.5). `SipHash` takes as long as
/// the rest of a lookup.
#[derive(Clone, Debug)]
pub(super) struct KeyedHash([u128; 5]);

/// Hashes one digest. See [`KeyedHash`].
#[derive(Debug)]
pub(super) struct DigestHasher {
    keys: [u128; 5],
    hash: u64,
}

impl KeyedHash {
    pub(super) fn random() -> Self {
        let word = |number: u64| u128::from(RandomState::new().hash_one(number));
        Self(array::from_fn(|_| word(0) << 64 | word(1)))
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = DigestHasher;

    #[inline]
    fn build_hasher(&self) -> DigestHasher {
        DigestHasher {
            keys: self.0,
            hash: 0,
        }
    }
}

impl Hasher for DigestHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        debug_assert_eq!(bytes.len(), DIGEST_BYTES, "only digests are hashed");
        let (words, _) = bytes.as_chunks();
        let word = |at: usize| {
            let word = words.get(at).copied().unwrap_or_default();
            u128::from(u64::from_le_bytes(word))
        };
        let pair = |at: usize| {
            let left = self.keys[at].wrapping_add(word(at + 1));
            left.wrapping_mul(self.keys[at + 1].wrapping_add(word(at)))
        };
        let sum = pair(0).wrapping_add(pair(2)).wrapping_add(self.keys[4]);
        self.hash = (sum >> 64) as u64;
    }

    /// Ignores the length that the standard library writes before an array: it never varies.
    #[inline]
    fn write_usize(&mut self, _length: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn hashes_depend_on_every_byte_and_on_the_keys() {
        let digest = |(at, value): (usize, u8)| {
            let mut bytes = [0; DIGEST_BYTES];
            bytes[at] = value;
            Digest::from(bytes)
        };
        let changes = (0..DIGEST_BYTES).flat_map(|at| (1..=255).map(move |value| (at, value)));
        let digests: Vec<Digest> = changes.map(digest).collect();
        let (keys, other_keys) = (KeyedHash::random(), KeyedHash::random());
        let hashes: Vec<u64> = digests.iter().map(|d| keys.hash_one(d)).collect();
        let distinct: HashSet<u64> = hashes.iter().copied().collect();
        assert_eq!(distinct.len(), digests.len());
        let same = digests.iter().zip(&hashes);
        assert_eq!(
            same.filter(|(d, hash)| other_keys.hash_one(d) == **hash)
                .count(),
            0
        );
    }
}
