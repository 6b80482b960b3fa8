//! Builds a run from the sidecars of its segments.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::dir::{BlockWriter, Dir, HUGE_PAGE_BYTES, WritableFile};
use crate::error::Result;
use crate::format::SealedSegment;
use crate::format::Sidecar;
use crate::format::set_index::{Builder, Written, page_sums};
use crate::segment::Sealed;
use crate::segment::file_bytes::FileBytes;

/// Builds run `number` over these segments, in parallel on the threads of the current pool.
///
/// Returns `None` if no run can cover them, or if `is_cancelled`, which it asks now and then, is
/// true. Leaves out a segment whose sidecar is in doubt. Removes the file of a run that failed.
pub(crate) fn build(
    dir: &Dir,
    number: u32,
    segments: &[Arc<Sealed>],
    is_cancelled: impl Fn() -> bool,
) -> Result<Option<()>> {
    let mut covered = Vec::with_capacity(segments.len());
    for segment in segments {
        if segment.is_bound() && segment.doubt()?.is_none() {
            covered.push((segment.id(), *segment.binding(), segment.sidecar()?));
        }
        if is_cancelled() {
            return Ok(None);
        }
    }
    let bindings: Vec<(u32, SealedSegment)> = covered.iter().map(|c| (c.0, c.1)).collect();
    let sidecars: Vec<_> = covered.iter().map(|covered| covered.2).collect();
    let Some(builder) = Builder::new(&bindings) else {
        return Ok(None);
    };
    let file = dir.create_set_index_temporary(number)?;
    let written = write(&file, builder, &sidecars, is_cancelled);
    let written = match written {
        Ok(Some(())) => dir.rename_set_index(file.path()).map(Some),
        other => other,
    };
    if !matches!(written, Ok(Some(()))) {
        // The next opening removes the file if this fails.
        let _ = dir.remove_if_present(file.path());
    }
    written
}

/// Asks the system for the entries whose buckets are in `pieces`, out of all `buckets`. Digests are
/// spread evenly, so the place of the entries is known well enough without a search.
fn fetch(sidecars: &[&Sidecar<FileBytes>], pieces: Option<&[Range<u64>]>, buckets: u64) {
    let (Some(first), Some(last)) = (pieces.and_then(<[_]>::first), pieces.and_then(<[_]>::last))
    else {
        return;
    };
    for sidecar in sidecars {
        let position = |bucket: u64| {
            let position = sidecar.len() as u128 * u128::from(bucket) / u128::from(buckets.max(1));
            usize::try_from(position).unwrap_or(usize::MAX)
        };
        let entries = sidecar.entries_bytes(position(first.start)..position(last.end));
        let file = sidecar.get_ref();
        file.will_need(file.range_of(entries));
    }
}

fn write(
    file: &WritableFile,
    mut builder: Builder,
    sidecars: &[&Sidecar<FileBytes>],
    is_cancelled: impl Fn() -> bool,
) -> Result<Option<()>> {
    let mut run = BlockWriter::new(file, HUGE_PAGE_BYTES);
    run.append(&vec![0; builder.header_bytes()])?;
    let mut sums = Vec::new();
    let pieces = builder.pieces();
    let buckets = pieces.last().map_or(0, |last| last.end);
    let mut steps = pieces.chunks(2 * rayon::current_num_threads()).peekable();
    fetch(sidecars, steps.peek().copied(), buckets);
    while let Some(pieces) = steps.next() {
        if is_cancelled() {
            return Ok(None);
        }
        fetch(sidecars, steps.peek().copied(), buckets);
        let filled: Vec<_> = pieces
            .par_iter()
            .map(|buckets| builder.fill(buckets.clone(), sidecars))
            .collect();
        let placed: Vec<_> = filled
            .into_iter()
            .map(|piece| builder.place(piece))
            .collect();
        let sum = || -> Vec<Vec<u64>> {
            let sum_piece = |(at, bytes): &Written| page_sums(bytes, builder.page_at(*at));
            placed.par_iter().map(sum_piece).collect()
        };
        let write = || placed.iter().try_for_each(|(_, bytes)| run.append(bytes));
        let (written, piece_sums) = rayon::join(write, sum);
        written?;
        sums.extend(piece_sums.into_iter().flatten());
    }
    let [(_, end), (_, sums), (at, header)] = builder.finish(sums);
    run.append(&end)?;
    run.append(&sums)?;
    run.finish()?;
    // The header comes last: without it the file is not a valid run.
    file.write_all_at(&header, at)?;
    Ok(Some(()))
}
