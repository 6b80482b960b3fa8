//! Keeps the lanes of a [`Kernel`] busy with contents of different lengths.

use super::{BLOCK_BYTES, Output};
use crate::digest::{DIGEST_BYTES, Digest};

/// Number of contents that are hashed side by side while there are enough.
pub(super) const LANES: usize = 8;
/// Number of contents that are hashed side by side when no more remain. On a processor that works on
/// 512 bits in two steps, eight lanes take twice as long as four.
pub(super) const HALF_LANES: usize = LANES / 2;

/// The bytes that one compression takes.
pub(super) type Block = [u8; BLOCK_BYTES];

/// The states of all lanes. The state of a lane is a column.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct States<const WIDTH: usize> {
    pub(super) words: [[u64; WIDTH]; 8],
    /// Number of bytes of each content that have been compressed.
    pub(super) hashed_bytes: [u64; WIDTH],
    /// Length of each content.
    pub(super) content_bytes: [u64; WIDTH],
}

/// What is compressed next. A bit of the masks is a lane, the least that of the first lane.
#[derive(Debug)]
pub(super) struct Step<'a, const WIDTH: usize> {
    /// The lanes whose content begins here: what [`States`] holds of them is from another one.
    pub(super) beginning: u8,
    /// The parameters, which go into the first word of a state that begins.
    pub(super) parameters: u64,
    /// Full blocks of each lane, none of them a last one: as many in one as in the other.
    pub(super) blocks: [&'a [Block]; WIDTH],
    /// One more block of each lane.
    pub(super) then: [&'a Block; WIDTH],
    /// The lanes whose content ends with that block.
    pub(super) ending: u8,
}

/// Compresses blocks of several contents side by side.
pub(super) trait Kernel<const WIDTH: usize>: Copy {
    /// Compresses the blocks of each lane into its state.
    fn compress(self, states: &mut States<WIDTH>, step: &Step<'_, WIDTH>);
}

impl<const WIDTH: usize> States<WIDTH> {
    const NONE: Self = Self {
        words: [[0; WIDTH]; 8],
        hashed_bytes: [0; WIDTH],
        content_bytes: [0; WIDTH],
    };

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
struct Content<'a> {
    /// Position among all contents.
    position: usize,
    /// The blocks that are not yet compressed, without the last.
    blocks: &'a [Block],
    /// The last block: 1 to 128 bytes, or none of an empty content.
    last: &'a [u8],
}

/// Lanes, and what is in them.
struct Lanes<'a, const WIDTH: usize> {
    output: Output,
    states: States<WIDTH>,
    /// `None` where a lane has nothing to do.
    contents: [Option<Content<'a>>; WIDTH],
    /// The last blocks that are shorter than a block, filled up with zeros.
    padded: [Block; WIDTH],
    beginning: u8,
}

/// Hashes contents, each given with its position, and passes each digest to `take` with the position
/// of its content. A lane begins with the next content as soon as it is done with one.
pub(super) fn hash_all<'a>(
    kernel: impl Kernel<LANES> + Kernel<HALF_LANES>,
    output: Output,
    mut contents: impl ExactSizeIterator<Item = (usize, &'a [u8])>,
    mut take: impl FnMut(usize, Digest),
) {
    let mut half = Lanes::<HALF_LANES>::new(output);
    if contents.len() > HALF_LANES {
        let mut lanes = Lanes::<LANES>::new(output);
        lanes.run(kernel, &mut contents, &mut take, HALF_LANES);
        half.go_on_from(&lanes);
    }
    half.run(kernel, &mut contents, &mut take, 0);
}

impl<'a, const WIDTH: usize> Lanes<'a, WIDTH> {
    const fn new(output: Output) -> Self {
        Self {
            output,
            states: States::NONE,
            contents: [None; WIDTH],
            padded: [[0; BLOCK_BYTES]; WIDTH],
            beginning: 0,
        }
    }

    /// Hashes until no content comes any more and at most `rest` of them are not yet done.
    fn run(
        &mut self,
        kernel: impl Kernel<WIDTH>,
        contents: &mut impl Iterator<Item = (usize, &'a [u8])>,
        mut take: impl FnMut(usize, Digest),
        rest: usize,
    ) {
        loop {
            for lane in 0..WIDTH {
                if self.contents[lane].is_none() {
                    let Some((position, content)) = contents.next() else {
                        break;
                    };
                    self.begin(lane, position, content);
                }
            }
            let active = self.contents.iter().flatten();
            let count = active.clone().count();
            // Up to the last block of the shortest content, and then one block of each.
            let shortest = active.min_by_key(|content| content.blocks.len());
            match shortest {
                Some(&shortest) if count > rest => self.step(kernel, &shortest, &mut take),
                _ => return,
            }
        }
    }

    fn begin(&mut self, lane: usize, position: usize, content: &'a [u8]) {
        let before_last = content.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let (blocks, last) = content.split_at(before_last);
        self.contents[lane] = Some(Content {
            position,
            blocks: blocks.as_chunks().0,
            last,
        });
        self.states.content_bytes[lane] = content.len() as u64;
        self.beginning |= 1 << lane;
        if last.len() < BLOCK_BYTES {
            self.padded[lane] = [0; BLOCK_BYTES];
            self.padded[lane][..last.len()].copy_from_slice(last);
        }
    }

    /// Hashes the blocks of `shortest`, and as many of the others. Passes on the digest of each content
    /// that ends with them.
    fn step(
        &mut self,
        kernel: impl Kernel<WIDTH>,
        shortest: &Content<'a>,
        mut take: impl FnMut(usize, Digest),
    ) {
        let count = shortest.blocks.len();
        // A lane that has nothing to do repeats what another does.
        let mut step = Step {
            beginning: self.beginning,
            parameters: self.output.parameters(),
            blocks: [shortest.blocks; WIDTH],
            then: self.padded.each_ref(),
            ending: 0,
        };
        for (lane, content) in self.contents.iter().enumerate() {
            let Some(content) = content else { continue };
            let (blocks, behind) = content.blocks.split_at(count);
            step.blocks[lane] = blocks;
            if let Some(next) = behind.first() {
                step.then[lane] = next;
            } else {
                step.ending |= 1 << lane;
                if let Ok(last) = content.last.try_into() {
                    step.then[lane] = last;
                }
            }
        }
        kernel.compress(&mut self.states, &step);
        self.beginning = 0;
        for (lane, slot) in self.contents.iter_mut().enumerate() {
            let Some(content) = slot else { continue };
            if let Some(behind) = content.blocks.get(count + 1..) {
                content.blocks = behind;
            } else {
                take(content.position, self.states.digest(lane));
                *slot = None;
            }
        }
    }

    /// Takes over what other lanes have not hashed to its end: as many contents as these lanes or
    /// fewer.
    fn go_on_from<const OTHERS: usize>(&mut self, others: &Lanes<'a, OTHERS>) {
        let active = (0..OTHERS).filter(|&from| others.contents[from].is_some());
        for (lane, from) in active.enumerate() {
            self.contents[lane] = others.contents[from];
            self.padded[lane] = others.padded[from];
            self.beginning |= (others.beginning >> from & 1) << lane;
            let (to, others) = (&mut self.states, &others.states);
            for (row, others) in to.words.iter_mut().zip(&others.words) {
                row[lane] = others[from];
            }
            to.hashed_bytes[lane] = others.hashed_bytes[from];
            to.content_bytes[lane] = others.content_bytes[from];
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::digest::blake2b::{IV, SIGMA, truncate};

    /// The kernel in plain code, one lane after the other, as RFC 7693 writes it down.
    #[derive(Clone, Copy)]
    struct Plain;

    impl<const WIDTH: usize> Kernel<WIDTH> for Plain {
        fn compress(self, states: &mut States<WIDTH>, step: &Step<'_, WIDTH>) {
            for lane in 0..WIDTH {
                assert_eq!(step.blocks[lane].len(), step.blocks[0].len());
                let mut h: [u64; 8] = std::array::from_fn(|at| states.words[at][lane]);
                let mut counter = states.hashed_bytes[lane];
                if step.beginning >> lane & 1 == 1 {
                    (h, counter) = (IV, 0);
                    h[0] ^= step.parameters;
                }
                for block in step.blocks[lane] {
                    counter += BLOCK_BYTES as u64;
                    compress(&mut h, block, counter, 0);
                }
                if step.ending >> lane & 1 == 1 {
                    counter = states.content_bytes[lane];
                    compress(&mut h, step.then[lane], counter, u64::MAX);
                } else {
                    counter += BLOCK_BYTES as u64;
                    compress(&mut h, step.then[lane], counter, 0);
                }
                states.hashed_bytes[lane] = counter;
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

    fn assert_right(
        kernel: impl Kernel<LANES> + Kernel<HALF_LANES>,
        output: Output,
        contents: &[&[u8]],
    ) {
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
    pub(crate) fn assert_kernel_is_right(kernel: impl Kernel<LANES> + Kernel<HALF_LANES>) {
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
