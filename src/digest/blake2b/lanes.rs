//! Hashes several contents at a time, in the lanes of vector registers.
//!
//! One BLAKE2b cannot use wide registers well, since each step waits for the step before. Four of
//! them side by side can, and take about a third of the time. `blake2b_simd::many` puts the next
//! content into a lane as soon as the lane's content has ended, so different lengths cost nothing
//! until the contents run out. From then on lanes stay empty while the longest content is hashed to
//! its end, which is why the longest contents go first here.

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, MAX_DEGREE, degree, hash_many};

use super::truncate;
use crate::digest::Digest;

/// Number of contents that are put in order at a time. Their positions fit a byte.
const WINDOW: usize = 256;
/// Number of contents that are handed to the lanes at a time, a multiple of the number of lanes.
const JOBS: usize = 32;
const BLOCK_BYTES: usize = 128;

const _: () = assert!(WINDOW == 1 << u8::BITS && JOBS.is_multiple_of(MAX_DEGREE));

/// Hashes each of `contents` into its place in `digests`.
pub(super) fn digest_many<T: AsRef<[u8]>>(contents: &[T], digests: &mut [Digest]) {
    for (contents, digests) in contents.chunks(WINDOW).zip(digests.chunks_mut(WINDOW)) {
        if contents.is_sorted_by(|a, b| blocks(a) >= blocks(b)) {
            for (contents, digests) in contents.chunks(JOBS).zip(digests.chunks_mut(JOBS)) {
                run(contents.iter(), |position, digest| {
                    digests[position] = digest;
                });
            }
        } else {
            let mut order = [0; WINDOW];
            let order = longest_first(contents, &mut order);
            for order in order.chunks(JOBS) {
                let place = |position: usize| usize::from(order[position].to_le_bytes()[0]);
                let contents = (0..order.len()).map(|position| &contents[place(position)]);
                run(contents, |position, digest| {
                    digests[place(position)] = digest;
                });
            }
        }
    }
}

/// Orders at most [`WINDOW`] contents by falling number of blocks. The least byte of each number is
/// the position of a content.
fn longest_first<'a, T: AsRef<[u8]>>(contents: &[T], order: &'a mut [u64; WINDOW]) -> &'a [u64] {
    let order = &mut order[..contents.len()];
    for ((key, content), position) in order.iter_mut().zip(contents).zip(0..) {
        *key = !(blocks(content) as u64) << u8::BITS | position;
    }
    order.sort_unstable();
    order
}

/// The number of blocks that are hashed for a content: the last may be partial, and the empty
/// content takes one too.
fn blocks<T: AsRef<[u8]>>(content: &T) -> usize {
    content.as_ref().len().div_ceil(BLOCK_BYTES).max(1)
}

/// Hashes at most [`JOBS`] contents and passes each digest to `take` with the position of its
/// content.
fn run<'a, T: AsRef<[u8]> + 'a>(
    contents: impl ExactSizeIterator<Item = &'a T> + Clone,
    mut take: impl FnMut(usize, Digest),
) {
    let count = contents.len();
    if count < 2 {
        let digests = contents.map(|content| Digest::of(content.as_ref()));
        digests
            .enumerate()
            .for_each(|(at, digest)| take(at, digest));
        return;
    }
    #[cfg(test)]
    contents
        .clone()
        .for_each(|content| crate::digest::work::count(content.as_ref()));
    let params = Params::new();
    let mut jobs = [const { None }; JOBS];
    // Two or three remaining contents are padded to four: one full register takes less time than
    // two that are not full.
    let padding = match count % 4 {
        remainder @ (2 | 3) if degree() == 4 => 4 - remainder,
        _ => 0,
    };
    let last = contents.clone().skip(count - padding);
    for (job, content) in jobs.iter_mut().zip(contents.chain(last)) {
        *job = Some(HashManyJob::new(&params, content.as_ref()));
    }
    hash_many(jobs.iter_mut().flatten());
    for (position, job) in jobs.iter().take(count).flatten().enumerate() {
        take(position, truncate(job.to_hash().as_bytes()));
    }
}
