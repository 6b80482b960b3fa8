//! Writing the new segments.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::Prepared;
use crate::dir::{Dir, FileKind, WritableFile};
use crate::error::{Error, Result};
use crate::format::{Entry, Index, SealedSegment, record};
use crate::segment::sealed::binding_of;
use crate::segment_set::{Place, SegmentSet};

impl Prepared {
    /// Copies into temporaries, one task for each new segment, in parallel; each record is verified.
    /// Everything is durable when this returns, under its temporary name. On an error the temporaries
    /// are removed.
    pub(crate) fn copy(&self, dir: &Dir, ids: &[u32], set: &SegmentSet) -> Result<Vec<Output>> {
        let outputs: Vec<Result<Output>> = ids
            .par_iter()
            .zip(&self.plan.outputs)
            .map(|(&id, parts)| self.copy_output(dir, id, parts, set))
            .collect();
        if outputs.iter().any(Result::is_err) {
            for output in outputs.iter().flatten() {
                output.discard(dir);
            }
        }
        outputs.into_iter().collect()
    }

    fn copy_output(
        &self,
        dir: &Dir,
        id: u32,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Output> {
        let data = dir.create_segment_temporary(id, FileKind::Data)?;
        let written = self.write_output(&data, parts, set).and_then(|copied| {
            data.sync()?;
            let sidecar = dir.create_segment_temporary(id, FileKind::Sidecar)?;
            let written = sidecar.write_all_at(copied.index.as_bytes(), 0);
            let written = written.and_then(|()| sidecar.sync());
            if let Err(error) = written {
                let _ = dir.remove_if_present(sidecar.path());
                return Err(error);
            }
            Ok((copied, sidecar))
        });
        match written {
            Ok((Copied { index, data_bytes }, sidecar)) => Ok(Output {
                id,
                binding: binding_of(&index, data_bytes),
                index: Arc::new(index),
                // Their names are all that is needed from here on; there may be many of them.
                data: data.path().to_owned(),
                sidecar: sidecar.path().to_owned(),
            }),
            Err(error) => {
                let _ = dir.remove_if_present(data.path());
                Err(error)
            }
        }
    }

    fn write_output(
        &self,
        file: &WritableFile,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Copied> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut written_bytes = 0;
        let mut entries = Vec::new();
        for (number, range) in parts {
            let input = &self.inputs[*number];
            let index = input.index()?;
            for &position in &self.live[*number][range.clone()] {
                let Some(source) = index.entry(position as usize) else {
                    continue;
                };
                let object = match Place::Sealed(input, source).object() {
                    Ok(Some(object)) => object,
                    // Another copy may be whole.
                    failed => set
                        .get(&source.digest)?
                        .map_or_else(|| failed, |o| Ok(Some(o)))?
                        .ok_or(Error::Corrupt {
                            digest: source.digest,
                            segment: input.id(),
                            offset: source.offset,
                        })?,
                };
                chunk.extend_from_slice(&record::header(source.len));
                entries.push(Entry {
                    offset: written_bytes + chunk.len() as u64,
                    ..source
                });
                if chunk.len() + object.len() > CHUNK_BYTES {
                    file.write_all_at(&chunk, written_bytes)?;
                    written_bytes += chunk.len() as u64;
                    chunk.clear();
                }
                if object.len() > CHUNK_BYTES {
                    file.write_all_at(&object, written_bytes)?;
                    written_bytes += object.len() as u64;
                } else {
                    chunk.extend_from_slice(&object);
                }
            }
        }
        file.write_all_at(&chunk, written_bytes)?;
        let data_bytes = written_bytes + chunk.len() as u64;
        Ok(Copied {
            index: Index::build(&mut entries),
            data_bytes,
        })
    }
}

struct Copied {
    index: Index<Vec<u8>>,
    data_bytes: u64,
}

/// A new segment, durable under temporary names.
pub(crate) struct Output {
    pub(crate) id: u32,
    pub(crate) binding: SealedSegment,
    pub(crate) index: Arc<Index<Vec<u8>>>,
    data: PathBuf,
    sidecar: PathBuf,
}

impl Output {
    /// Gives both files their names. The directory is not synced yet.
    pub(crate) fn rename_into_place(&self, dir: &Dir) -> Result<()> {
        dir.rename_into_place(&self.data)?;
        dir.rename_into_place(&self.sidecar)
    }

    /// Removes the files, under whatever name they have.
    pub(crate) fn discard(&self, dir: &Dir) {
        // What stays is removed by the next opening: it has the name of a temporary, or the manifest
        // lists it as retired.
        let _ = dir.remove_if_present(&self.data);
        let _ = dir.remove_if_present(&self.sidecar);
        let _ = dir.remove_segment(self.id);
    }
}
