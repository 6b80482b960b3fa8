//! BLAKE2b, with an output of 64 bytes that is truncated to 32, or of 32 bytes.
//!
//! One content is hashed by the fastest implementation of several ([`single`]), many by the widest
//! vector registers that the processor has ([`many`]). The feature `simd` brings both; without it,
//! everything is done by the portable crate `blake2`.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
#[cfg(all(feature = "simd", any(target_arch = "x86_64", test)))]
mod lanes;
#[cfg(feature = "simd")]
mod many;
mod single;

#[cfg(feature = "simd")]
pub(super) use many::digest_many;
#[cfg(not(feature = "simd"))]
pub(super) use single::digest_many;
pub(super) use single::{Hasher, whole};

use super::{DIGEST_BYTES, Digest};

/// Length of a block in bytes.
#[cfg(feature = "simd")]
const BLOCK_BYTES: usize = 128;

/// The length of the output, which goes into the first state and so makes two functions of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// BLAKE2b-512, of which the first 32 bytes are taken.
    Long,
    /// BLAKE2b-256.
    Short,
}

#[cfg(feature = "simd")]
impl Output {
    /// Length of the output in bytes.
    const fn bytes(self) -> usize {
        match self {
            Self::Long => 64,
            Self::Short => 32,
        }
    }

    /// The parameters: no key, fanout and depth 1, and the length of the output.
    #[cfg(any(target_arch = "x86_64", test))]
    const fn parameters(self) -> u64 {
        0x0101_0000 | self.bytes() as u64
    }
}

/// RFC 7693, section 2.6: the state before anything is mixed into it.
#[cfg(all(feature = "simd", any(target_arch = "x86_64", test)))]
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// RFC 7693, section 2.7: the order in which a round takes the words of a block.
#[cfg(all(feature = "simd", any(target_arch = "x86_64", test)))]
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

fn truncate(output: &[u8]) -> Digest {
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(&output[..DIGEST_BYTES]);
    Digest::from(bytes)
}
