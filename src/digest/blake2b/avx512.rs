//! Eight BLAKE2b side by side in registers of 512 bits, or four in registers of 256.
//!
//! Word `i` of all states is one register, so each step of the function is one instruction for all of
//! them; AVX-512 has the rotation of 64-bit words that BLAKE2b is made of, in both widths. No crate has
//! this. The structure is that of `blake2b_simd`'s four lanes of AVX2. [RFC 7693], section 3.2,
//! specifies the function.
//!
//! [RFC 7693]: https://www.rfc-editor.org/rfc/rfc7693

#![allow(unsafe_code)]

use super::lanes::{Block, HALF_LANES, Kernel, LANES, States, Step};
use super::{BLOCK_BYTES, IV, SIGMA};

/// The proof that this processor has AVX-512F, and AVX-512VL, which has the same instructions for
/// registers of 256 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// Returns `None` if the processor or the system lacks the instructions.
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        let has_both = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vl");
        has_both.then_some(Self(()))
    }
}

impl Kernel<LANES> for Avx512 {
    fn compress(self, states: &mut States<LANES>, step: &Step<'_, LANES>) {
        // SAFETY: `self` exists, so the processor has AVX-512F and AVX-512VL, the one thing that the
        // function asks for beyond the types of its arguments.
        unsafe { registers_of_512_bits::compress(states, step) }
    }
}

impl Kernel<HALF_LANES> for Avx512 {
    fn compress(self, states: &mut States<HALF_LANES>, step: &Step<'_, HALF_LANES>) {
        // SAFETY: `self` exists, so the processor has AVX-512F and AVX-512VL, the one thing that the
        // function asks for beyond the types of its arguments.
        unsafe { registers_of_256_bits::compress(states, step) }
    }
}

/// The order of 32-bit parts that rotates each 64-bit word by 32 bits. It is done by other units of the
/// processor than the instruction for rotations, which keeps its own busy with the other rotations.
const SWAP_HALVES_OF_WORDS: i32 = 0b10_11_00_01;

// The macros are what the two widths have in common. A generic function could not be, because it would
// not be compiled for the instructions of the functions that it calls.

/// The function G of the specification on four columns or diagonals at once, in steps, so that four
/// independent instructions stand side by side.
macro_rules! mix {
    ($v:ident, $m:ident, $(($a:literal, $b:literal, $c:literal, $d:literal, $x:expr, $y:expr))*) => {
        $($v[$a] = add($v[$a], $m[$x]);)*
        $($v[$a] = add($v[$a], $v[$b]);)*
        $($v[$d] = xor($v[$d], $v[$a]);)*
        $($v[$d] = rotate_right::<32>($v[$d]);)*
        $($v[$c] = add($v[$c], $v[$d]);)*
        $($v[$b] = xor($v[$b], $v[$c]);)*
        $($v[$b] = rotate_right::<24>($v[$b]);)*
        $($v[$a] = add($v[$a], $m[$y]);)*
        $($v[$a] = add($v[$a], $v[$b]);)*
        $($v[$d] = xor($v[$d], $v[$a]);)*
        $($v[$d] = rotate_right::<16>($v[$d]);)*
        $($v[$c] = add($v[$c], $v[$d]);)*
        $($v[$b] = xor($v[$b], $v[$c]);)*
        $($v[$b] = rotate_right::<63>($v[$b]);)*
    };
}

/// A round on the words `$v`. Each is written out, since a loop over them would read the schedule from
/// memory.
macro_rules! round {
    ($v:ident, $m:ident, $round:literal) => {{
        const S: [usize; 16] = SIGMA[$round % 10];
        mix! { $v, $m,
            (0, 4, 8, 12, S[0], S[1]) (1, 5, 9, 13, S[2], S[3])
            (2, 6, 10, 14, S[4], S[5]) (3, 7, 11, 15, S[6], S[7])
        }
        mix! { $v, $m,
            (0, 5, 10, 15, S[8], S[9]) (1, 6, 11, 12, S[10], S[11])
            (2, 7, 8, 13, S[12], S[13]) (3, 4, 9, 14, S[14], S[15])
        }
    }};
}

/// The instructions, and the compression of a step.
macro_rules! compression {
    (
        $lanes:ident lanes in $register:ident,
        $load:ident, $store:ident, $set1:ident, $blend:ident, $add:ident, $xor:ident,
        $rotate_right:ident, $shuffle:ident
    ) => {
        type Register = $register;

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn load(row: &[u64; $lanes]) -> Register {
            // SAFETY: reads as many bytes as a register has, and `row` has as many; the instruction asks
            // for no alignment.
            unsafe { $load(row.as_ptr().cast()) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn store(row: &mut [u64; $lanes], register: Register) {
            // SAFETY: writes as many bytes as a register has, and `row` has as many; the instruction
            // asks for no alignment.
            unsafe { $store(row.as_mut_ptr().cast(), register) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn set1(word: u64) -> Register {
            $set1(word.cast_signed())
        }

        /// The words of `b` where the bit of a lane is set, else those of `a`.
        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn blend(lanes: u8, a: Register, b: Register) -> Register {
            $blend(lanes, a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn add(a: Register, b: Register) -> Register {
            $add(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn xor(a: Register, b: Register) -> Register {
            $xor(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn rotate_right<const BITS: i32>(a: Register) -> Register {
            if BITS == 32 {
                $shuffle::<SWAP_HALVES_OF_WORDS>(a)
            } else {
                $rotate_right::<BITS>(a)
            }
        }

        #[target_feature(enable = "avx512f,avx512vl")]
        pub(super) fn compress(states: &mut States<$lanes>, step: &Step<'_, $lanes>) {
            let mut state = [set1(0); 8];
            for ((register, row), word) in state.iter_mut().zip(&states.words).zip(IV) {
                *register = blend(step.beginning, load(row), set1(word));
            }
            state[0] = blend(step.beginning, state[0], set1(IV[0] ^ step.parameters));
            let mut counter = blend(step.beginning, load(&states.hashed_bytes), set1(0));

            let count = step.blocks.iter().map(|blocks| blocks.len()).min();
            let count = count.unwrap_or(0);
            for at in 0..=count {
                let (blocks, ending) = if at < count {
                    (step.blocks.map(|blocks| &blocks[at]), 0)
                } else {
                    (step.then, step.ending)
                };
                counter = add(counter, set1(BLOCK_BYTES as u64));
                counter = blend(ending, counter, load(&states.content_bytes));
                let last = blend(ending, set1(0), set1(u64::MAX));
                compress_block(&mut state, &transpose(blocks), counter, last);
            }

            store(&mut states.hashed_bytes, counter);
            for (register, row) in state.iter().zip(&mut states.words) {
                store(row, *register);
            }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        fn compress_block(
            h: &mut [Register; 8],
            m: &[Register; 16],
            counter: Register,
            last: Register,
        ) {
            let mut v = [set1(0); 16];
            v[..8].copy_from_slice(h);
            for (v, word) in v[8..].iter_mut().zip(IV) {
                *v = set1(word);
            }
            v[12] = xor(v[12], counter);
            v[14] = xor(v[14], last);

            round!(v, m, 0);
            round!(v, m, 1);
            round!(v, m, 2);
            round!(v, m, 3);
            round!(v, m, 4);
            round!(v, m, 5);
            round!(v, m, 6);
            round!(v, m, 7);
            round!(v, m, 8);
            round!(v, m, 9);
            round!(v, m, 10);
            round!(v, m, 11);

            for at in 0..8 {
                h[at] = xor(h[at], xor(v[at], v[at + 8]));
            }
        }
    };
}

mod registers_of_512_bits {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_mask_blend_epi64, _mm512_ror_epi64,
        _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi32, _mm512_shuffle_i64x2,
        _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64, _mm512_xor_si512,
    };

    use super::{BLOCK_BYTES, Block, IV, LANES, SIGMA, SWAP_HALVES_OF_WORDS, States, Step};

    compression!(
        LANES lanes in __m512i,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_set1_epi64,
        _mm512_mask_blend_epi64,
        _mm512_add_epi64,
        _mm512_xor_si512,
        _mm512_ror_epi64,
        _mm512_shuffle_epi32
    );

    /// Word `i` of each block, as register `i`. The words are in little-endian order, as on this
    /// architecture.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn transpose(blocks: [&Block; LANES]) -> [Register; 16] {
        let mut words = [_mm512_setzero_si512(); 16];
        for half in 0..2 {
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (row, block) in rows.iter_mut().zip(blocks) {
                let (halves, _) = block.as_chunks::<{ BLOCK_BYTES / 2 }>();
                // SAFETY: reads the 64 bytes of this half; the instruction asks for no alignment.
                *row = unsafe { _mm512_loadu_si512(halves[half].as_ptr().cast()) };
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
                // `s0` and `s2` take the quarters 0 and 2 of each pair, `s1` and `s3` the quarters 1
                // and 3.
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
}

mod registers_of_256_bits {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mask_blend_epi64,
        _mm256_permute2x128_si256, _mm256_ror_epi64, _mm256_set1_epi64x, _mm256_setzero_si256,
        _mm256_shuffle_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
        _mm256_xor_si256,
    };

    use super::{BLOCK_BYTES, Block, HALF_LANES, IV, SIGMA, SWAP_HALVES_OF_WORDS, States, Step};

    compression!(
        HALF_LANES lanes in __m256i,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_set1_epi64x,
        _mm256_mask_blend_epi64,
        _mm256_add_epi64,
        _mm256_xor_si256,
        _mm256_ror_epi64,
        _mm256_shuffle_epi32
    );

    /// Word `i` of each block, as register `i`. The words are in little-endian order, as on this
    /// architecture.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn transpose(blocks: [&Block; HALF_LANES]) -> [Register; 16] {
        let mut words = [_mm256_setzero_si256(); 16];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut rows = [_mm256_setzero_si256(); HALF_LANES];
            for (row, block) in rows.iter_mut().zip(blocks) {
                let (quarters, _) = block.as_chunks::<{ BLOCK_BYTES / 4 }>();
                // SAFETY: reads the 32 bytes of this quarter; the instruction asks for no alignment.
                *row = unsafe { _mm256_loadu_si256(quarters[quarter].as_ptr().cast()) };
            }
            let [r0, r1, r2, r3] = rows;
            // Pairs of lanes: the even words, and the odd ones.
            let (even0, even1) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpacklo_epi64(r2, r3));
            let (odd0, odd1) = (_mm256_unpackhi_epi64(r0, r1), _mm256_unpackhi_epi64(r2, r3));
            *words = [
                _mm256_permute2x128_si256::<0x20>(even0, even1),
                _mm256_permute2x128_si256::<0x20>(odd0, odd1),
                _mm256_permute2x128_si256::<0x31>(even0, even1),
                _mm256_permute2x128_si256::<0x31>(odd0, odd1),
            ];
        }
        words
    }
}
