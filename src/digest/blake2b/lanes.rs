//! Keeps eight lanes of a [`Kernel`] busy with contents of different lengths.

use std::slice;

use super::{BLOCK_BYTES, IV, Output};
use crate::digest::{DIGEST_BYTES, Digest};

/// Number of contents that a [`Kernel`] hashes side by side.
pub(super) const LANES: usize = 8;
/// The bytes that one compression takes.
pub(super) type Block = [u8; BLOCK_BYTES];

/// The states of all lanes. The state of a lane is a column.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct States {
    pub(super) words: [[u64; LANES]; 8],
}

/// The blocks that are compressed next, with what the function has to know of them.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// The blocks of each lane: as many in one as in the other.
    pub(super) blocks: [&'a [Block]; LANES],
    /// Number of bytes of each content up to the end of its first block here.
    pub(super) counters: [u64; LANES],
    /// Ones where the only block here is the last of its content, else zeros.
    pub(super) last: [u64; LANES],
}

/// Eight compression functions of BLAKE2b side by side.
pub(super) trait Kernel: Copy {
    /// Compresses the blocks of each lane into its state.
    fn compress(self, states: &mut States, step: &Step<'_>);
}

impl States {
    /// Gives a lane the state before the first block.
    fn begin(&mut self, lane: usize, output: Output) {
        for (row, word) in self.words.iter_mut().zip(IV) {
            row[lane] = word;
        }
        // The parameters: no key, fanout and depth 1, and the length of the output.
        self.words[0][lane] ^= 0x0101_0000 ^ output.bytes() as u64;
    }

    /// The first 32 bytes of a lane's state, which are the digest after the last block.
    fn digest(&self, lane: usize) -> Digest {
        let mut bytes = [0; DIGEST_BYTES];
        let (words, _) = bytes.as_chunks_mut();
        for (word, row) in words.iter_mut().zip(&self.words) {
            *word = row[lane].to_le_bytes();
        }
        Digest::from(bytes)
    }
}

/// A content on its way through a lane.
#[derive(Clone, Copy)]
struct Lane<'a> {
    /// Position of the content among all contents. `None` if the lane has nothing to do.
    position: Option<usize>,
    /// The blocks that are not yet compressed, without the last.
    blocks: &'a [Block],
    /// The last block, filled up with zeros.
    last: Block,
    /// Number of bytes before `blocks`.
    hashed_bytes: u64,
    content_bytes: u64,
}

impl<'a> Lane<'a> {
    const IDLE: Self = Self {
        position: None,
        blocks: &[],
        last: [0; BLOCK_BYTES],
        hashed_bytes: 0,
        content_bytes: 0,
    };

    fn new(position: usize, content: &'a [u8]) -> Self {
        // The last block has 1 to 128 bytes of the content, or none of an empty one.
        let before_last = content.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let (blocks, rest) = content.split_at(before_last);
        let mut last = [0; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        Self {
            position: Some(position),
            blocks: blocks.as_chunks().0,
            last,
            hashed_bytes: 0,
            content_bytes: content.len() as u64,
        }
    }

    /// The next blocks, `count` of them, or the last block if there is no other.
    fn next(&self, count: usize) -> &[Block] {
        self.blocks
            .get(..count)
            .unwrap_or(slice::from_ref(&self.last))
    }

    /// Whether the next block is the last.
    const fn is_at_last(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Number of bytes of the content up to the end of the next block.
    const fn next_counter(&self) -> u64 {
        if self.is_at_last() {
            self.content_bytes
        } else {
            self.hashed_bytes + BLOCK_BYTES as u64
        }
    }

    /// Goes on behind the next `count` blocks.
    fn advance(&mut self, count: usize) {
        self.blocks = self.blocks.get(count..).unwrap_or_default();
        self.hashed_bytes += (count * BLOCK_BYTES) as u64;
    }
}

/// Hashes contents, each given with its position, and passes each digest to `take` with the position
/// of its content. A lane begins with the next content as soon as it is done with one.
pub(super) fn hash_all<'a>(
    kernel: impl Kernel,
    output: Output,
    mut contents: impl Iterator<Item = (usize, &'a [u8])>,
    mut take: impl FnMut(usize, Digest),
) {
    let mut states = States::default();
    let mut lanes = [Lane::IDLE; LANES];
    let mut begin_next = |at: usize, lane: &mut Lane<'a>, states: &mut States| {
        *lane = contents.next().map_or(Lane::IDLE, |(position, content)| {
            states.begin(at, output);
            Lane::new(position, content)
        });
    };
    for (at, lane) in lanes.iter_mut().enumerate() {
        begin_next(at, lane, &mut states);
    }
    loop {
        let active = lanes.iter().filter(|lane| lane.position.is_some());
        let Some(shortest) = active.min_by_key(|lane| lane.blocks.len()) else {
            return;
        };
        // Up to the last block of the shortest content, and then one block of each.
        let shortest = shortest.blocks;
        if !shortest.is_empty() {
            let count = shortest.len();
            kernel.compress(
                &mut states,
                &Step {
                    // A lane that has nothing to do repeats what another does.
                    blocks: lanes
                        .each_ref()
                        .map(|lane| lane.blocks.get(..count).unwrap_or(shortest)),
                    counters: lanes.each_ref().map(Lane::next_counter),
                    last: [0; LANES],
                },
            );
            for lane in &mut lanes {
                lane.advance(count);
            }
        }
        kernel.compress(
            &mut states,
            &Step {
                blocks: lanes.each_ref().map(|lane| lane.next(1)),
                counters: lanes.each_ref().map(Lane::next_counter),
                last: lanes
                    .each_ref()
                    .map(|lane| if lane.is_at_last() { u64::MAX } else { 0 }),
            },
        );
        for (at, lane) in lanes.iter_mut().enumerate() {
            if !lane.is_at_last() {
                lane.advance(1);
            } else if let Some(position) = lane.position {
                take(position, states.digest(at));
                begin_next(at, lane, &mut states);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::blake2b::{SIGMA, truncate};

    /// The kernel in plain code, one lane after the other, as RFC 7693 writes it down.
    #[derive(Clone, Copy)]
    struct Plain;

    impl Kernel for Plain {
        fn compress(self, states: &mut States, step: &Step<'_>) {
            let count = step.blocks[0].len();
            for lane in 0..LANES {
                assert_eq!(step.blocks[lane].len(), count);
                assert!(count == 1 || step.last[lane] == 0);
                let mut h: [u64; 8] = std::array::from_fn(|at| states.words[at][lane]);
                let mut counter = step.counters[lane];
                for block in step.blocks[lane] {
                    compress(&mut h, block, counter, step.last[lane]);
                    counter += BLOCK_BYTES as u64;
                }
                (0..8).for_each(|at| states.words[at][lane] = h[at]);
            }
        }
    }

    fn compress(h: &mut [u64; 8], block: &Block, counter: u64, last: u64) {
        let (words, _) = block.as_chunks();
        let m: [u64; 16] = std::array::from_fn(|at| u64::from_le_bytes(words[at]));
        let mut v: [u64; 16] = std::array::from_fn(|at| if at < 8 { h[at] } else { IV[at - 8] });
        v[12] ^= counter;
        v[14] ^= last;
        let mut mix = |a: usize, b: usize, c: usize, d: usize, x: usize, y: usize| {
            for (word, [to_d, to_b]) in [(m[x], [32, 24]), (m[y], [16, 63])] {
                v[a] = v[a].wrapping_add(v[b]).wrapping_add(word);
                v[d] = (v[d] ^ v[a]).rotate_right(to_d);
                v[c] = v[c].wrapping_add(v[d]);
                v[b] = (v[b] ^ v[c]).rotate_right(to_b);
            }
        };
        for round in 0..12 {
            let s = SIGMA[round % 10];
            for column in 0..4 {
                let at = |row: usize| 4 * row + column;
                mix(at(0), at(1), at(2), at(3), s[2 * column], s[2 * column + 1]);
            }
            for diagonal in 0..4 {
                let at = |row: usize| 4 * row + (diagonal + row) % 4;
                mix(
                    at(0),
                    at(1),
                    at(2),
                    at(3),
                    s[8 + 2 * diagonal],
                    s[9 + 2 * diagonal],
                );
            }
        }
        (0..8).for_each(|at| h[at] ^= v[at] ^ v[at + 8]);
    }

    fn reference(output: Output, content: &[u8]) -> Digest {
        use blake2::Digest as _;
        match output {
            Output::Long => truncate(&blake2::Blake2b512::digest(content)),
            Output::Short => truncate(&blake2::Blake2b256::digest(content)),
        }
    }

    fn assert_right(kernel: impl Kernel, output: Output, contents: &[&[u8]]) {
        let mut digests = vec![None; contents.len()];
        hash_all(
            kernel,
            output,
            contents.iter().copied().enumerate(),
            |at, digest| {
                assert_eq!(digests[at].replace(digest), None);
            },
        );
        for (content, digest) in contents.iter().zip(digests) {
            assert_eq!(
                digest,
                Some(reference(output, content)),
                "{} bytes",
                content.len()
            );
        }
    }

    /// Every length up to 2,000 bytes in every lane, and mixes of lengths for up to three contents a
    /// lane. Miri, which takes some 10,000 times as long, takes samples.
    pub(crate) fn assert_kernel_is_right(kernel: impl Kernel) {
        let buffer: Vec<u8> = (0..2100_u32).map(|i| (i * 31 % 251) as u8).collect();
        let lengths: Vec<usize> = if cfg!(miri) {
            vec![0, 1, 128, 129, 300]
        } else {
            (0..=2000).collect()
        };
        let lanes = (0..LANES).step_by(if cfg!(miri) { 3 } else { 1 });
        let counts = (0..=3 * LANES).step_by(if cfg!(miri) { 11 } else { 1 });
        for output in [Output::Long, Output::Short] {
            for &length in &lengths {
                let content = &buffer[length % 64..][..length];
                assert_right(kernel, output, &[content; LANES]);
                for lane in lanes.clone() {
                    let mut contents = [&buffer[7..][..length * 7 % 600]; LANES];
                    contents[lane] = content;
                    assert_right(kernel, output, &contents);
                }
            }
            for count in counts.clone() {
                let mixed = |at: usize| &buffer[at..][..(count * 997 + at * 1231) % 1500];
                let contents: Vec<&[u8]> = (0..count).map(mixed).collect();
                assert_right(kernel, output, &contents);
            }
        }
    }

    #[test]
    fn lanes_give_every_content_its_own_digest() {
        assert_kernel_is_right(Plain);
    }
}
