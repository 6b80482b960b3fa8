//! Hashes several contents at a time, in the lanes of vector registers.
//!
//! One BLAKE2b cannot use wide registers well, since each step waits for the step before. Several of
//! them side by side can: eight or four with AVX-512 ([`lanes`](super::lanes)), else what
//! `blake2b_simd::many` takes side by side, four with AVX2.
//!
//! The next content goes into a lane as soon as the lane's content has ended, so different lengths
//! cost nothing until the contents run out. From then on lanes stay empty while the longest content
//! is hashed to its end, which is why the longest contents go first here, and why a content that is
//! much longer than all others is hashed alone: a block takes half of the time then.

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, MAX_DEGREE, degree, hash_many};

#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
#[cfg(target_arch = "x86_64")]
use super::lanes::{LANES, hash_all};
use super::{BLOCK_BYTES, Output, truncate, whole};
use crate::digest::Digest;

/// Number of contents that are put in order at a time. Their positions fit a byte.
const WINDOW: usize = 256;
/// Number of contents that are handed to `blake2b_simd` at a time, a multiple of its lanes.
const JOBS: usize = 32;

const _: () = assert!(WINDOW == 1 << u8::BITS && JOBS.is_multiple_of(MAX_DEGREE));

/// Hashes each of `contents` into its place in `digests`.
pub(in crate::digest) fn digest_many<T: AsRef<[u8]>>(
    output: Output,
    contents: &[T],
    digests: &mut [Digest],
) {
    for (contents, digests) in contents.chunks(WINDOW).zip(digests.chunks_mut(WINDOW)) {
        let mut order = [0; WINDOW];
        let order = longest_first(contents, &mut order);
        let lanes = side_by_side();
        let blocks_at = |&at: &u8| blocks(&contents[usize::from(at)]);
        let (alone, together) = order.split_at(hashed_alone(order.iter().map(blocks_at), lanes));
        for &at in alone {
            let at = usize::from(at);
            digests[at] = whole(output, contents[at].as_ref());
        }
        let together = together.iter().map(|&at| usize::from(at));
        let together = together.map(|at| (at, contents[at].as_ref()));
        hash_together(output, together, |at, digest| digests[at] = digest);
    }
}

/// Number of contents that are hashed side by side.
fn side_by_side() -> usize {
    #[cfg(target_arch = "x86_64")]
    if Avx512::detect().is_some() {
        return LANES;
    }
    degree()
}

/// Orders at most [`WINDOW`] contents by falling number of blocks, and returns their positions.
fn longest_first<'a, T: AsRef<[u8]>>(contents: &[T], order: &'a mut [u8; WINDOW]) -> &'a [u8] {
    let order = &mut order[..contents.len()];
    if contents.is_sorted_by(|a, b| blocks(a) >= blocks(b)) {
        order
            .iter_mut()
            .zip(0..=u8::MAX)
            .for_each(|(at, position)| *at = position);
        return order;
    }
    // The least byte of a key is the position of a content.
    let mut keys = [0; WINDOW];
    let keys = &mut keys[..contents.len()];
    for ((key, content), position) in keys.iter_mut().zip(contents).zip(0..) {
        *key = !(blocks(content) as u64) << u8::BITS | position;
    }
    keys.sort_unstable();
    for (at, key) in order.iter_mut().zip(keys) {
        [*at, ..] = key.to_le_bytes();
    }
    order
}

/// The number of blocks that are hashed for a content: the last may be partial, and the empty
/// content takes one too.
fn blocks<T: AsRef<[u8]>>(content: &T) -> usize {
    content.as_ref().len().div_ceil(BLOCK_BYTES).max(1)
}

/// Returns how many contents, of these numbers of blocks in falling order, are better hashed alone.
/// A block alone takes about half as long as blocks side by side, so a content is one of them if it
/// would keep a lane busy twice as long as all others together need.
fn hashed_alone(blocks: impl Iterator<Item = usize> + Clone, lanes: usize) -> usize {
    let mut behind: usize = blocks.clone().sum();
    let next = blocks.clone().skip(1).chain([0]);
    let is_alone = |&(longest, next): &(usize, usize)| {
        behind -= longest;
        longest > 2 * next.max(behind.div_ceil(lanes))
    };
    blocks.zip(next).take_while(is_alone).count()
}

/// Hashes contents, the longest first, each given with its position, and passes each digest to
/// `take` with the position of its content.
fn hash_together<'a>(
    output: Output,
    contents: impl ExactSizeIterator<Item = (usize, &'a [u8])>,
    mut take: impl FnMut(usize, Digest),
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = Avx512::detect() {
        return hash_all(kernel, output, contents, take);
    }
    if degree() == 1 {
        contents.for_each(|(at, content)| take(at, whole(output, content)));
        return;
    }
    let mut contents = contents.peekable();
    while contents.peek().is_some() {
        hash_jobs(output, contents.by_ref().take(JOBS), &mut take);
    }
}

/// The jobs of [`hash_jobs`]. The alignment makes their place in the lines of the cache the same in each
/// process; that of the stack is another one in each.
#[repr(align(64))]
struct Jobs<'a>([Option<HashManyJob<'a>>; JOBS]);

/// Hashes at most [`JOBS`] contents.
fn hash_jobs<'a>(
    output: Output,
    contents: impl Iterator<Item = (usize, &'a [u8])>,
    mut take: impl FnMut(usize, Digest),
) {
    let mut parameters = Params::new();
    parameters.hash_length(output.bytes());
    let mut positions = [0; JOBS];
    let Jobs(jobs) = &mut Jobs([const { None }; JOBS]);
    let mut count = 0;
    let mut last = &[][..];
    for ((at, content), (position, job)) in contents.zip(positions.iter_mut().zip(&mut *jobs)) {
        (*position, last) = (at, content);
        *job = Some(HashManyJob::new(&parameters, content));
        count += 1;
    }
    // Two or three remaining contents are padded to four: one full register takes less time than
    // two that are not full.
    if degree() == 4 && matches!(count % 4, 2 | 3) {
        let padding = jobs.iter_mut().skip(count).take(4 - count % 4);
        padding.for_each(|job| *job = Some(HashManyJob::new(&parameters, last)));
    }
    hash_many(jobs.iter_mut().flatten());
    for (&position, job) in positions.iter().zip(jobs.iter().take(count).flatten()) {
        take(position, truncate(job.to_hash().as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with AVX-512 hashes nothing with them otherwise.
    #[test]
    fn the_jobs_of_blake2b_simd_give_each_content_its_own_digest() {
        let buffer: Vec<u8> = (0..2100_u32).map(|i| (i * 31 % 251) as u8).collect();
        for output in [Output::Long, Output::Short] {
            for count in 0..=JOBS {
                let content = |at: usize| &buffer[at..][..(count * 997 + at * 1231) % 1500];
                let mut digests = vec![None; count];
                let contents = (0..count).map(|at| (at, content(at)));
                hash_jobs(output, contents, |at, digest| {
                    assert_eq!(digests[at].replace(digest), None);
                });
                for (at, digest) in digests.into_iter().enumerate() {
                    assert_eq!(digest, Some(whole(output, content(at))), "{at} of {count}");
                }
            }
        }
    }

    #[test]
    fn contents_that_are_much_longer_than_the_others_are_hashed_alone() {
        for (blocks, lanes, alone) in [
            (&[][..], 8, 0),
            (&[1], 8, 1),
            (&[1, 1], 8, 0),
            (&[3, 1], 8, 2),
            (&[2, 1], 8, 0),
            (&[100, 50, 1], 8, 0),
            (&[1000, 100, 10, 1], 4, 4),
            (&[1000, 100, 10, 10], 4, 2),
        ] {
            assert_eq!(
                hashed_alone(blocks.iter().copied(), lanes),
                alone,
                "{blocks:?}"
            );
        }
        // The many short contents keep the lanes busy longer than the long content does.
        let blocks = std::iter::once(10).chain([1; 200]);
        assert_eq!(hashed_alone(blocks, 4), 0);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_kernel_of_avx_512_is_right() {
        match Avx512::detect() {
            Some(kernel) => super::super::lanes::tests::assert_kernel_is_right(kernel),
            None => println!("not tested: this processor lacks AVX-512"),
        }
    }
}
