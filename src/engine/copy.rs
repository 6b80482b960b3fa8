//! Stores that are made of the sealed segments of another one: checkpoints and pulls.

use std::collections::BTreeMap;

use crate::digest::HashFunction;
use crate::dir::Dir;
use crate::error::Result;
use crate::format::{Manifest, SealedSegment};
use crate::segment::begun::Begun;

/// Makes the manifest of a store of these segments, and the id of its first segment of its own: above
/// theirs, and not below `least`. `None` if no id is left.
///
/// A program that knows no manifest appends to the segment with the highest id, so the store gets an
/// empty segment above those that it shares.
pub(crate) fn manifest_of_copy(
    hash_function: HashFunction,
    sealed: BTreeMap<u32, SealedSegment>,
    least: u32,
) -> (Manifest, Option<u32>) {
    let highest = sealed.last_key_value().map(|(&id, _)| u64::from(id));
    let above = highest
        .map_or(0, |highest| highest + 1)
        .max(u64::from(least));
    let above = u32::try_from(above).ok();
    let manifest = Manifest {
        hash_function,
        next_id: above.map_or(1 << 32, |above| u64::from(above) + 1),
        sealed,
        ..Manifest::default()
    };
    (manifest, above)
}

/// Creates the first segment of a copy of its own, once its files are there, and makes all names durable.
pub(crate) fn finish_copy(copy: &Dir, above: Option<u32>) -> Result<()> {
    if let Some(id) = above {
        // A segment without a journal above missing segments is taken for the work of another
        // program that compacted the store. A copy that was cut off must not look like that.
        copy.sync()?;
        let begun = Begun::create(copy, id)?;
        begun.create_journal(copy)?;
    }
    copy.sync()
}
