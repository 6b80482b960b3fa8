//! Taking over records that were appended to a sealed segment. A program that knows no manifest
//! appends to the segment with the highest id, as NEDB v3 does.

use super::adopt::belongs_to;
use super::report::{RecoveryReport, Repair};
use super::torn::{self, Torn};
use crate::dir::{Dir, FileKind, open_regular_file};
use crate::error::Result;
use crate::format::{Entry, Sidecar};
use crate::options::Reading;
use crate::segment::record_scan::RecordScan;
use crate::segment::{Data, RecordHash, Sealed};

/// The whole records of a segment that is longer than the manifest says.
pub(super) struct Appended {
    /// All records, those that the manifest covers included.
    entries: Vec<Entry>,
    /// How many of them the manifest does not cover.
    new_records: usize,
    /// Where the last record ends.
    end: u64,
    /// Length of the file.
    file_bytes: u64,
}

/// Finds the records behind those that the manifest covers, which are those of `sealed`. `None` if
/// the data is not the data that the manifest means, or its index is lost.
pub(super) fn find(dir: &Dir, sealed: &Sealed, hash: RecordHash) -> Result<Option<Appended>> {
    if sealed.doubt()?.is_some() || !belongs_to(sealed.sidecar()?, sealed.data())? {
        return Ok(None);
    }
    let mut entries: Vec<Entry> = sealed.sidecar()?.entries().collect();
    let covered_records = entries.len();
    let seen_empty = entries.iter().any(|entry| entry.len == 0);
    let path = dir.segment_path(sealed.id(), FileKind::Data);
    let (file, file_bytes) = open_regular_file(&path)?;
    let named = (&file, &*path);
    let begin = sealed.binding().data_bytes;
    let mut scan = RecordScan::new(named, begin, file_bytes, seen_empty, hash);
    scan.append_rest(&mut entries)?;
    Ok(Some(Appended {
        new_records: entries.len() - covered_records,
        entries,
        end: scan.position(),
        file_bytes,
    }))
}

impl Appended {
    /// Returns the segment with all of its records, for a reader that changes nothing.
    pub(super) fn in_memory(mut self, dir: &Dir, id: u32, reading: Reading) -> Result<Sealed> {
        let data = Data::open(dir, id, reading, self.end)?;
        let index = Sidecar::build(&mut self.entries);
        Ok(Sealed::in_memory(data, self.end, index, None))
    }

    /// Seals the segment with all of its records. Bytes behind them are saved and cut off.
    pub(super) fn seal(
        mut self,
        dir: &Dir,
        id: u32,
        reading: Reading,
        report: &mut RecoveryReport,
    ) -> Result<Sealed> {
        let data = dir.open_segment_file(id, FileKind::Data)?;
        // If the file has another name, as after a checkpoint, somebody may be appending to it.
        if self.end < self.file_bytes && !data.has_other_names()? {
            let torn = Torn {
                segment: id,
                range: self.end..self.file_bytes,
                is_unnoted: false,
            };
            torn::cut_off(dir, &data, &torn, report)?;
        }
        // The program that wrote the records may not have synced them.
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
