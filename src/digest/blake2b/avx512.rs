//! Eight BLAKE2b side by side in registers of 512 bits.
//!
//! Word `i` of all eight states is one register, so each step of the function is one instruction for
//! all of them; AVX-512 has the rotation of 64-bit words that BLAKE2b is made of. No crate has this.
//! The structure is that of `blake2b_simd`'s four lanes of AVX2. [RFC 7693], section 3.2, specifies
//! the function.
//!
//! [RFC 7693]: https://www.rfc-editor.org/rfc/rfc7693

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_ror_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::lanes::{Block, Kernel, LANES, States, Step};
use super::{BLOCK_BYTES, IV, SIGMA};

/// The proof that this processor has AVX-512F.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// Returns `None` if the processor or the system lacks the instructions.
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

impl Kernel for Avx512 {
    fn compress(self, states: &mut States, step: &Step<'_>) {
        // SAFETY: `self` exists, so the processor has AVX-512F, the one thing that the function asks
        // for beyond the types of its arguments.
        unsafe { compress(states, step) }
    }
}

/// The words of a row: one of each lane.
type Row = [u64; LANES];

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &Row) -> __m512i {
    // SAFETY: reads the 64 bytes of `row`; the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(row: &mut Row, register: __m512i) {
    // SAFETY: writes the 64 bytes of `row`; the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), register) }
}

/// Loads the first or the second half of a block.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_half(block: &Block, half: usize) -> __m512i {
    let (halves, _) = block.as_chunks::<{ BLOCK_BYTES / 2 }>();
    // SAFETY: reads the 64 bytes of this half; the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(halves[half].as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn compress(states: &mut States, step: &Step<'_>) {
    let mut state = [_mm512_setzero_si512(); 8];
    for (register, row) in state.iter_mut().zip(&states.words) {
        *register = load(row);
    }
    let mut counter = load(&step.counters);
    let last = load(&step.last);
    let block_bytes = load(&[BLOCK_BYTES as u64; LANES]);
    let count = step.blocks.iter().map(|blocks| blocks.len()).min();
    for at in 0..count.unwrap_or(0) {
        let message = transpose(step.blocks.map(|blocks| &blocks[at]));
        compress_block(&mut state, &message, counter, last);
        counter = _mm512_add_epi64(counter, block_bytes);
    }
    for (register, row) in state.iter().zip(&mut states.words) {
        store(row, *register);
    }
}

/// Word `i` of each block, as register `i`. The words are in little-endian order, as on this
/// architecture.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(blocks: [&Block; LANES]) -> [__m512i; 16] {
    let mut words = [_mm512_setzero_si512(); 16];
    for half in 0..2 {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, block) in rows.iter_mut().zip(blocks) {
            *row = load_half(block, half);
        }
        let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
        // Pairs of lanes: the even words, and the odd ones.
        let even = [
            _mm512_unpacklo_epi64(r0, r1),
            _mm512_unpacklo_epi64(r2, r3),
            _mm512_unpacklo_epi64(r4, r5),
            _mm512_unpacklo_epi64(r6, r7),
        ];
        let odd = [
            _mm512_unpackhi_epi64(r0, r1),
            _mm512_unpackhi_epi64(r2, r3),
            _mm512_unpackhi_epi64(r4, r5),
            _mm512_unpackhi_epi64(r6, r7),
        ];
        for (first, [p0, p1, p2, p3]) in [(0, even), (1, odd)] {
            // `s0` and `s2` take the quarters 0 and 2 of each pair, `s1` and `s3` the quarters 1 and 3.
            let s0 = _mm512_shuffle_i64x2::<0x88>(p0, p1);
            let s1 = _mm512_shuffle_i64x2::<0xdd>(p0, p1);
            let s2 = _mm512_shuffle_i64x2::<0x88>(p2, p3);
            let s3 = _mm512_shuffle_i64x2::<0xdd>(p2, p3);
            let at = 8 * half + first;
            words[at] = _mm512_shuffle_i64x2::<0x88>(s0, s2);
            words[at + 2] = _mm512_shuffle_i64x2::<0x88>(s1, s3);
            words[at + 4] = _mm512_shuffle_i64x2::<0xdd>(s0, s2);
            words[at + 6] = _mm512_shuffle_i64x2::<0xdd>(s1, s3);
        }
    }
    words
}

#[inline]
#[target_feature(enable = "avx512f")]
fn compress_block(h: &mut [__m512i; 8], m: &[__m512i; 16], counter: __m512i, last: __m512i) {
    let mut v = [_mm512_setzero_si512(); 16];
    v[..8].copy_from_slice(h);
    for (v, word) in v[8..].iter_mut().zip(IV) {
        *v = _mm512_set1_epi64(word.cast_signed());
    }
    v[12] = _mm512_xor_si512(v[12], counter);
    v[14] = _mm512_xor_si512(v[14], last);

    // A macro, since a loop over the rounds would read their schedule from memory.
    macro_rules! mix {
        ($a:literal, $b:literal, $c:literal, $d:literal, $x:expr, $y:expr) => {
            v[$a] = _mm512_add_epi64(_mm512_add_epi64(v[$a], m[$x]), v[$b]);
            v[$d] = _mm512_ror_epi64::<32>(_mm512_xor_si512(v[$d], v[$a]));
            v[$c] = _mm512_add_epi64(v[$c], v[$d]);
            v[$b] = _mm512_ror_epi64::<24>(_mm512_xor_si512(v[$b], v[$c]));
            v[$a] = _mm512_add_epi64(_mm512_add_epi64(v[$a], m[$y]), v[$b]);
            v[$d] = _mm512_ror_epi64::<16>(_mm512_xor_si512(v[$d], v[$a]));
            v[$c] = _mm512_add_epi64(v[$c], v[$d]);
            v[$b] = _mm512_ror_epi64::<63>(_mm512_xor_si512(v[$b], v[$c]));
        };
    }
    macro_rules! round {
        ($round:literal) => {
            const S: [usize; 16] = SIGMA[$round % 10];
            mix!(0, 4, 8, 12, S[0], S[1]);
            mix!(1, 5, 9, 13, S[2], S[3]);
            mix!(2, 6, 10, 14, S[4], S[5]);
            mix!(3, 7, 11, 15, S[6], S[7]);
            mix!(0, 5, 10, 15, S[8], S[9]);
            mix!(1, 6, 11, 12, S[10], S[11]);
            mix!(2, 7, 8, 13, S[12], S[13]);
            mix!(3, 4, 9, 14, S[14], S[15]);
        };
    }
    macro_rules! rounds {
        ($($round:literal)*) => { $({ round!($round); })* };
    }
    rounds!(0 1 2 3 4 5 6 7 8 9 10 11);

    for at in 0..8 {
        h[at] = _mm512_xor_si512(h[at], _mm512_xor_si512(v[at], v[at + 8]));
    }
}
