//! A frame of a journal, and the chain of checksums that holds frames together.

use rayon::prelude::*;

use super::{ENTRY_BYTES, HEADER_BYTES};
use crate::digest::{Digest, HashFunction, Hasher};
use crate::format::bytes_at;
use crate::format::layout::frame::{self as layout, CHECKSUM_BYTES, HEAD_BYTES};

/// The checksum of a frame, which the next frame continues: each checksum covers the checksum
/// before it, so a frame is accepted only in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain(pub(super) [u8; CHECKSUM_BYTES]);

impl Chain {
    /// Returns what the first frame behind this header continues.
    pub(super) fn of_header(header: [u8; HEADER_BYTES]) -> Self {
        Self([0; CHECKSUM_BYTES]).next(&header)
    }

    pub(super) fn next(self, frame: &[u8]) -> Self {
        let mut hasher = Hasher::new(HashFunction::Blake2b);
        hasher.update(&self.0);
        hasher.update(frame);
        Self::from_digest(&hasher.finish())
    }

    fn from_digest(digest: &Digest) -> Self {
        Self(bytes_at(digest.as_bytes(), 0).unwrap_or_default())
    }
}

/// A frame with all its bytes. Its checksum may not hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u32,
    pub(super) end: u64,
    pub(super) entries: &'a [u8],
    pub(super) checksum: Chain,
    /// The frame without its checksum.
    pub(super) covered: &'a [u8],
    /// The checksum of the frame before, and `covered`. For the first frame of these bytes, whose
    /// predecessor is missing, `covered` alone.
    chained: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn at(bytes: &'a [u8], begin: usize) -> Option<Self> {
        let rest = bytes.get(begin..)?;
        let head: &[u8; HEAD_BYTES] = rest.first_chunk()?;
        let count = usize::try_from(layout::COUNT.number(head)).ok()?;
        let covered_bytes = count.checked_mul(ENTRY_BYTES)?.checked_add(HEAD_BYTES)?;
        let covered = rest.get(..covered_bytes)?;
        let chained_begin = begin.saturating_sub(CHECKSUM_BYTES);
        Some(Self {
            kind: layout::KIND.number(head),
            end: layout::END.number(head),
            entries: covered.get(HEAD_BYTES..)?,
            checksum: Chain(bytes_at(rest, covered_bytes)?),
            covered,
            chained: bytes.get(chained_begin..begin.checked_add(covered_bytes)?)?,
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.covered.len() + CHECKSUM_BYTES
    }
}

/// Number of frames that are hashed at a time.
const LANE_FRAMES: usize = 32;
/// Counts the frames that hold, up to the first that does not, if the frame before them holds. Each
/// is hashed with the checksum that is stored before it, so no frame waits for another.
pub(super) fn count_holding(frames: &[Frame<'_>]) -> usize {
    let mut holding = 0;
    for group in frames.chunks(LANE_FRAMES) {
        let holding_here = count_holding_in_lanes(group);
        holding += holding_here;
        if holding_here < group.len() {
            break;
        }
    }
    holding
}

pub(super) fn count_holding_in_parallel(frames: &[Frame<'_>]) -> usize {
    if frames.len() <= LANE_FRAMES {
        return count_holding_in_lanes(frames);
    }
    let groups = frames.par_chunks(LANE_FRAMES).map(count_holding_in_lanes);
    let groups: Vec<usize> = groups.collect();
    let whole = groups.iter().take_while(|&&holding| holding == LANE_FRAMES);
    let whole = whole.count();
    whole * LANE_FRAMES + groups.get(whole).unwrap_or(&0)
}

fn count_holding_in_lanes(frames: &[Frame<'_>]) -> usize {
    let mut contents = [&[][..]; LANE_FRAMES];
    let mut digests = [Digest::ZERO; LANE_FRAMES];
    for (content, frame) in contents.iter_mut().zip(frames) {
        *content = frame.chained;
    }
    let count = frames.len().min(LANE_FRAMES);
    HashFunction::Blake2b.digest_many_into(&contents[..count], &mut digests[..count]);
    let held = frames.iter().zip(&digests);
    held.take_while(|(frame, digest)| frame.checksum == Chain::from_digest(digest))
        .count()
}
