//! The fastest hashing for the stores that do not hash by themselves.

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, hash_many};
use rayon::prelude::*;
use sealstone::{DIGEST_BYTES, Digest};

/// Contents that are hashed together: a multiple of every number of lanes that CPUs have, and few
/// enough for the first cache.
pub const LANES_GROUP: usize = 32;

fn truncate(hash: &blake2b_simd::Hash) -> Digest {
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(&hash.as_bytes()[..DIGEST_BYTES]);
    Digest::from(digest)
}

/// Hashes in a single stream, the least that a checked get of one object costs.
#[inline]
pub fn digest(content: &[u8]) -> Digest {
    truncate(&blake2b_simd::blake2b(content))
}

/// Hashes contents side by side in the lanes of the vector registers, on one thread.
pub fn in_lanes<'a>(
    contents: impl IntoIterator<Item = &'a [u8]>,
    mut each: impl FnMut(usize, Digest),
) {
    let params = Params::new();
    let mut jobs: Vec<_> = contents
        .into_iter()
        .map(|content| HashManyJob::new(&params, content))
        .collect();
    hash_many(&mut jobs);
    for (position, job) in jobs.iter().enumerate() {
        each(position, truncate(&job.to_hash()));
    }
}

/// Checks contents against their digests, in lanes; returns their length.
///
/// # Panics
///
/// Panics if one does not match: then the measurement means nothing.
pub fn check_in_lanes<'a>(
    digests: &[Digest],
    contents: impl IntoIterator<Item = &'a [u8]>,
) -> usize {
    let mut bytes = 0;
    let mut checked = 0;
    let contents = contents
        .into_iter()
        .inspect(|content| bytes += content.len());
    in_lanes(contents, |position, digest| {
        assert_eq!(digest, digests[position], "wrong bytes");
        checked += 1;
    });
    assert_eq!(checked, digests.len(), "an object is missing");
    bytes
}

/// Hashes in lanes and on all cores. Bulk puts of every store use it, or the store does the same by
/// itself, so that stores are compared and not hashing.
pub fn on_all_cores(contents: &[&[u8]]) -> Vec<Digest> {
    contents
        .par_chunks(LANES_GROUP)
        .flat_map_iter(|group| {
            let mut digests = Vec::with_capacity(group.len());
            in_lanes(group.iter().copied(), |_, digest| digests.push(digest));
            digests
        })
        .collect()
}
