//! Contents of any lengths, hashed alone, in parts and side by side, by each function. All digests
//! equal those of the crates that other people use.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sealstone::{Digest, HashFunction, Hasher};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    bytes: &'a [u8],
    /// Where each content begins in `bytes`, and how long it is.
    contents: Vec<(u16, u16)>,
    split: u16,
}

/// More contents than are put in order at a time.
const CONTENTS_MAX: usize = 300;

fuzz_target!(|input: Input<'_>| {
    let part = |&(begin, length): &(u16, u16)| {
        let begin = usize::from(begin).min(input.bytes.len());
        let rest = &input.bytes[begin..];
        &rest[..usize::from(length).min(rest.len())]
    };
    let contents: Vec<&[u8]> = input.contents.iter().take(CONTENTS_MAX).map(part).collect();
    for &function in HashFunction::ALL {
        let together = function.digest_many(&contents);
        for (content, digest) in contents.iter().zip(together) {
            let (first, second) = content.split_at(usize::from(input.split).min(content.len()));
            let mut hasher = Hasher::new(function);
            hasher.update(first);
            hasher.update(second);
            assert_eq!(hasher.finish(), digest);
            assert_eq!(function.digest(content), digest);
            for expected in of_other_crates(function, content) {
                assert_eq!(expected, digest);
            }
        }
    }
});

fn of_other_crates(function: HashFunction, content: &[u8]) -> Vec<Digest> {
    use blake2::Digest as _;
    let first_32 = |bytes: &[u8]| Digest::try_from(&bytes[..32]).expect("32 bytes");
    let mut parameters = blake2b_simd::Params::new();
    match function {
        HashFunction::Blake2b => vec![
            first_32(&blake2::Blake2b512::digest(content)),
            first_32(parameters.hash(content).as_bytes()),
        ],
        HashFunction::Blake2b256 => vec![
            first_32(&blake2::Blake2b256::digest(content)),
            first_32(parameters.hash_length(32).hash(content).as_bytes()),
        ],
        HashFunction::Sha256 => vec![first_32(&sha2::Sha256::digest(content))],
        HashFunction::Blake3 => vec![first_32(blake3::hash(content).as_bytes())],
        _ => Vec::new(),
    }
}
