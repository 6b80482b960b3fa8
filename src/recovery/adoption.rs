//! Whether a sidecar belongs to the data beside it, where no manifest says so.
//!
//! NEDB v3 reused ids after failed compactions, so a sidecar that holds by itself may be that of
//! other data of the same length. What it says is therefore compared with the content.

use rayon::prelude::*;

use crate::digest::Digest;
use crate::dir::{Dir, FileKind, is_mostly_holes, open_regular_file};
use crate::error::{Error, Result};
use crate::format::{Entry, Sidecar};
use crate::options::Reading;
use crate::segment::Data;
use crate::segment::sidecar::open_sidecar;
use crate::threads::in_parallel_if;

/// Less content than this is compared before other threads have begun to help.
const SHARED_BYTES_MIN: u64 = 128 << 10;
/// How many entries are compared with the content. If all of them are right the others are, too;
/// if one is not, all are compared.
const SAMPLED_ENTRIES: usize = 64;

/// A sidecar that belongs to its data, its entries sorted.
pub(super) struct Adopted {
    pub(super) index: Sidecar<Vec<u8>>,
    /// Length of the data that it was made for. The data may have become shorter.
    pub(super) data_bytes: u64,
}

/// Reads the sidecar of a segment that the manifest does not speak of. `None` if it does not hold, or
/// was made for other data, and so has to be made anew.
pub(super) fn adopt_sidecar(dir: &Dir, data: &Data, reading: Reading) -> Result<Option<Adopted>> {
    let path = dir.segment_path(data.id(), FileKind::Sidecar);
    let (file, file_bytes) = open_regular_file(&path)?;
    if is_mostly_holes(&file, file_bytes).map_err(Error::io(&path))? {
        return Ok(None);
    }
    let Ok(index) = Sidecar::parse(open_sidecar(dir, data.id(), reading)?) else {
        return Ok(None);
    };
    let data_bytes = index.entries().filter_map(|entry| entry.end()).max();
    let data_bytes = data_bytes.unwrap_or(0);
    if data_bytes < data.len() || !index.tiles(data_bytes) || !belongs_to(&index, data)? {
        return Ok(None);
    }
    let mut entries: Vec<Entry> = index.entries().collect();
    Ok(Some(Adopted {
        index: Sidecar::build(&mut entries),
        data_bytes,
    }))
}

/// Whether what is left of the data is what the index says. Damage to less than half of the objects
/// is taken for damage to them, not for other data: they are then known to be damaged, while from the
/// data alone they could not be told from objects that nobody ever put.
pub(super) fn belongs_to<D: AsRef<[u8]> + Sync>(index: &Sidecar<D>, data: &Data) -> Result<bool> {
    if all_sampled_verify(index, data)? {
        return Ok(true);
    }
    let (checked, right) = compare(index, data, 1)?;
    Ok(2 * right > checked)
}

/// Whether a sample of what is left of the data is, without exception, what the index says.
pub(super) fn all_sampled_verify<D: AsRef<[u8]> + Sync>(
    index: &Sidecar<D>,
    data: &Data,
) -> Result<bool> {
    let step = index.len().div_ceil(SAMPLED_ENTRIES).max(1);
    let (checked, right) = compare(index, data, step)?;
    Ok(checked == right)
}

/// Of every `step`th entry: how many lie within the data, and how many of these verify.
fn compare<D: AsRef<[u8]> + Sync>(
    index: &Sidecar<D>,
    data: &Data,
    step: usize,
) -> Result<(usize, usize)> {
    let look_at = |entry: Entry| -> Result<(usize, usize)> {
        let content = data.read(entry.offset, entry.len as usize)?;
        let verifies = |content: &[u8]| Digest::of(content) == entry.digest;
        Ok(match content {
            None => (0, 0),
            Some(content) => (1, usize::from(verifies(&content))),
        })
    };
    let add = |a: (usize, usize), b: (usize, usize)| Ok((a.0 + b.0, a.1 + b.1));
    let entry = |at| index.entry(at);
    in_parallel_if(
        data.len() / step as u64 >= SHARED_BYTES_MIN,
        || {
            let positions = (0..index.len()).into_par_iter().step_by(step);
            let looked_at = positions.filter_map(entry).map(look_at);
            looked_at.try_reduce(|| (0, 0), add)
        },
        || {
            let positions = (0..index.len()).step_by(step);
            let mut looked_at = positions.filter_map(entry).map(look_at);
            looked_at.try_fold((0, 0), |sum, looked_at| add(sum, looked_at?))
        },
    )
}
