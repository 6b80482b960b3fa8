//! Taking over a segment with its sidecar where no manifest says that the two belong together.
//!
//! NEDB v3 reused ids after failed compactions, so a valid sidecar may be that of other data of the
//! same length. Its entries are therefore compared with the content.

use std::sync::Arc;

use rayon::prelude::*;

use super::Recovery;
use super::report::Repair;
use crate::dir::{Dir, FileKind, is_mostly_holes, open_regular_file};
use crate::error::{Error, Result};
use crate::format::{Entry, Sidecar};
use crate::options::Reading;
use crate::segment::sidecar::open_sidecar;
use crate::segment::{Data, Sealed};
use crate::threads::in_parallel_if;

/// Less content than this is compared before other threads have begun to help.
const SHARED_BYTES_MIN: u64 = 128 << 10;
/// How many entries are compared with the content at first. If all of them are right, the others
/// are taken to be right; if one is not, all are compared.
const SAMPLED_ENTRIES: usize = 64;

/// A sidecar that belongs to its data, its entries sorted.
pub(super) struct Adopted {
    pub(super) index: Sidecar<Vec<u8>>,
    /// Length of the data that the sidecar was made for. The data may have become shorter.
    pub(super) data_bytes: u64,
}

impl Recovery<'_> {
    /// Takes over a segment whose sidecar belongs to its data: one that NEDB v3 wrote, or one that
    /// we sealed just before a crash. False if there is no such sidecar.
    pub(super) fn adopt_sealed(&mut self, id: u32) -> Result<bool> {
        if !self.listing.sidecars.contains(&id) {
            return Ok(false);
        }
        let (dir, reading) = (self.dir, self.options.reading());
        let data = Data::open(dir, id, reading, u64::MAX)?;
        let Some(Adopted { index, data_bytes }) = adopt_sidecar(dir, &data, reading)? else {
            return Ok(false);
        };
        // The program that wrote the files may not have synced them, and NEDB v3 does not sort.
        dir.open_segment_file(id, FileKind::Data)?.sync()?;
        dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
        let sealed = Sealed::with_sidecar(dir, id, reading, data_bytes, &index)?;
        let binding = *sealed.binding();
        self.manifest.sealed.insert(id, binding);
        self.report.push(Repair::AdoptedSegment {
            segment: id,
            objects: u64::from(binding.objects),
        });
        self.note_short_data(&sealed);
        self.sealed.push(Arc::new(sealed));
        Ok(true)
    }
}

/// Reads the sidecar of a segment that the manifest does not list. `None` if it is damaged or was
/// made for other data, so that it has to be made anew.
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

/// Whether the data that is left has the content that the index says. If fewer than half of the
/// objects differ, they count as damaged, and the data not as other data. The index then says that
/// they are damaged; the data alone could not tell them from objects that nobody ever put.
pub(super) fn belongs_to<D: AsRef<[u8]> + Sync>(index: &Sidecar<D>, data: &Data) -> Result<bool> {
    if all_sampled_verify(index, data)? {
        return Ok(true);
    }
    let (checked, right) = compare(index, data, 1)?;
    Ok(2 * right > checked)
}

/// Whether each entry of a sample, as far as the data reaches, has the content that the index says.
pub(super) fn all_sampled_verify<D: AsRef<[u8]> + Sync>(
    index: &Sidecar<D>,
    data: &Data,
) -> Result<bool> {
    let step = index.len().div_ceil(SAMPLED_ENTRIES).max(1);
    let (checked, right) = compare(index, data, step)?;
    Ok(checked == right)
}

/// Compares every `step`th entry with the content. Returns how many lie within the data, and how
/// many of these verify.
fn compare<D: AsRef<[u8]> + Sync>(
    index: &Sidecar<D>,
    data: &Data,
    step: usize,
) -> Result<(usize, usize)> {
    let look_at = |entry: Entry| -> Result<(usize, usize)> {
        let content = data.read(entry.offset, entry.len as usize)?;
        let verifies = |content: &[u8]| data.hash_function().digest(content) == entry.digest;
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
