//! Whether a data file is the retired segment that a manifest means. Another segment with the same
//! id is not ours to remove.

use super::adopt::all_sampled_verify;
use crate::dir::{Dir, FileKind};
use crate::error::Result;
use crate::format::{SealedSegment, Sidecar};
use crate::options::Reading;
use crate::segment::Data;
use crate::segment::sidecar::{open_sidecar, rebuild_sidecar, sidecar_fits};

/// Compares the length and the sidecar with the line in the manifest, and the sidecar with the
/// data. If the sidecar was removed, or not renamed yet, all of the data is hashed to make it anew.
pub(super) fn is_what_was_retired(
    dir: &Dir,
    id: u32,
    binding: &SealedSegment,
    reading: Reading,
) -> Result<bool> {
    if dir.data_bytes(id)? != Some(binding.data_bytes) {
        return Ok(false);
    }
    let data = Data::open(dir, id, reading, u64::MAX)?;
    if sidecar_fits(dir, id, binding)?
        && let Ok(index) = Sidecar::parse(open_sidecar(dir, id, reading)?)
    {
        return all_sampled_verify(&index, &data);
    }
    let rebuilt = rebuild_sidecar(&data, Some(binding), data.hash_on_all_cores())?;
    Ok(rebuilt.doubt.is_none())
}

/// Whether a data file may be the retired segment, as far as this shows without reading its data.
/// This is enough for a reader, which removes nothing. The files can be removed at any moment, so a
/// missing file counts as retired.
pub(super) fn may_be_what_was_retired(
    dir: &Dir,
    id: u32,
    binding: Option<&SealedSegment>,
) -> Result<bool> {
    let (Some(binding), Some(bytes)) = (binding, dir.data_bytes(id)?) else {
        return Ok(true);
    };
    if bytes != binding.data_bytes {
        return Ok(false);
    }
    let sidecar = dir.segment_path(id, FileKind::Sidecar);
    Ok(sidecar_fits(dir, id, binding)? || sidecar.status().is_err())
}
