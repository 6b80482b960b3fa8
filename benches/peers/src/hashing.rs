//! Hashing for the stores that do not hash by themselves: by what Sealstone uses, which measures
//! `blake2b_simd` against `blake2` and takes the faster. So stores are compared and not hashing.

use rayon::prelude::*;
use sealstone::Digest;

/// Contents that are hashed together: a multiple of every number of lanes that CPUs have, and few
/// enough for the first cache.
pub const LANES_GROUP: usize = 32;

/// Hashes in a single stream, the least that a checked get of one object costs.
#[inline]
pub fn digest(content: &[u8]) -> Digest {
    Digest::of(content)
}

/// Hashes contents side by side in the lanes of the vector registers, on one thread.
pub fn in_lanes<'a>(
    contents: impl IntoIterator<Item = &'a [u8]>,
    each: impl FnMut((usize, Digest)),
) {
    let contents: Vec<&[u8]> = contents.into_iter().collect();
    let digests = Digest::of_many(&contents);
    digests.into_iter().enumerate().for_each(each);
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
    in_lanes(contents, |(position, digest)| {
        assert_eq!(digest, digests[position], "wrong bytes");
        checked += 1;
    });
    assert_eq!(checked, digests.len(), "an object is missing");
    bytes
}

/// Hashes in lanes and on all cores. Bulk puts of every store use it, or the store does the same by
/// itself.
pub fn on_all_cores(contents: &[&[u8]]) -> Vec<Digest> {
    let groups = contents.par_chunks(LANES_GROUP);
    groups.flat_map_iter(Digest::of_many).collect()
}
