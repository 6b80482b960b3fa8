//! Taking over what was appended to a sealed segment by a program that knows no manifest, as NEDB v3 does
//! to the segment with the highest id.

use super::adoption::belongs_to;
use super::report::{RecoveryReport, Repair};
use super::torn::{self, Torn};
use crate::dir::{Dir, FileKind, open_regular_file};
use crate::error::Result;
use crate::format::{Entry, SealedSegment, Sidecar};
use crate::options::Reading;
use crate::segment::record_scan::{Hash, RecordScan};
use crate::segment::{Data, Sealed};

/// The whole records of a segment that is longer than the manifest says.
pub(super) struct Appended {
    /// All of them, those that the manifest binds included.
    entries: Vec<Entry>,
    /// How many of them the manifest does not know.
    new_records: usize,
    /// Where the last of them ends.
    end: u64,
    /// Length of the file.
    file_bytes: u64,
}

/// Finds the records behind those that the manifest binds. `None` if the data is not what the manifest
/// means at all, or its index is lost.
pub(super) fn find(
    dir: &Dir,
    id: u32,
    reading: Reading,
    binding: SealedSegment,
    hash: Hash,
) -> Result<Option<Appended>> {
    let bound = Sealed::open(dir, id, reading, binding)?;
    if bound.doubt()?.is_some() || !belongs_to(bound.sidecar()?, bound.data())? {
        return Ok(None);
    }
    let mut entries: Vec<Entry> = bound.sidecar()?.entries().collect();
    let bound_records = entries.len();
    let seen_empty = entries.iter().any(|entry| entry.len == 0);
    let path = dir.segment_path(id, FileKind::Data);
    let (file, file_bytes) = open_regular_file(&path)?;
    let named = (&file, &*path);
    let mut scan = RecordScan::new(named, binding.data_bytes, file_bytes, seen_empty, hash);
    scan.append_rest(&mut entries)?;
    Ok(Some(Appended {
        new_records: entries.len() - bound_records,
        entries,
        end: scan.position(),
        file_bytes,
    }))
}

impl Appended {
    /// The segment with all of its records, for a reader that changes nothing.
    pub(super) fn in_memory(mut self, dir: &Dir, id: u32, reading: Reading) -> Result<Sealed> {
        let data = Data::open(dir, id, reading, self.end)?;
        let index = Sidecar::build(&mut self.entries);
        Ok(Sealed::in_memory(data, self.end, index, None))
    }

    /// Seals the segment with all of its records. What lies behind them is cut off, after it was saved.
    pub(super) fn seal(
        mut self,
        dir: &Dir,
        id: u32,
        reading: Reading,
        report: &mut RecoveryReport,
    ) -> Result<Sealed> {
        let data = dir.open_segment_file(id, FileKind::Data)?;
        // Under another name, as after a checkpoint, somebody may be appending to it.
        if self.end < self.file_bytes && !data.has_other_names()? {
            let torn = Torn {
                segment: id,
                range: self.end..self.file_bytes,
                is_unnoted: false,
            };
            torn::cut_off(dir, &data, &torn, report)?;
        }
        // Whoever wrote them may not have synced them.
        data.sync()?;
        let index = Sidecar::build(&mut self.entries);
        dir.replace_segment_file(id, FileKind::Sidecar, index.as_bytes())?;
        if self.new_records > 0 {
            report.push(Repair::AdoptedTail {
                segment: id,
                objects: self.new_records as u64,
            });
        }
        Sealed::with_sidecar(dir, id, reading, self.end, &index)
    }
}
