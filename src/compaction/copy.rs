//! Writes the new segments.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rayon::prelude::*;

use super::Prepared;
use crate::digest::Digest;
use crate::dir::{BlockWriter, Dir, FileKind, WritableFile};
use crate::error::{Error, Result};
use crate::format::{Entry, Sidecar, record};
use crate::object::Object;
use crate::segment::batches::{BATCH_RECORDS_MAX, batches, span};
use crate::segment::read_ahead::ReadAhead;
use crate::segment::{Data, Output, Sealed, content_len};
use crate::segment_set::{ObjectCopy, SegmentSet};

impl Prepared {
    /// Copies the live records into temporaries, one task for each new segment, in parallel, and
    /// verifies each record. The files are durable under their temporary names when this returns.
    /// On an error the temporaries are removed. It is an error if a live record was not copied.
    pub(crate) fn copy(&self, dir: &Dir, ids: &[u32], set: &SegmentSet) -> Result<Vec<Output>> {
        let outputs: Vec<Result<Output>> = ids
            .par_iter()
            .zip(&self.plan.outputs)
            .map(|(&id, parts)| self.copy_output(dir, id, parts, set))
            .collect();
        let outputs = with_cause(outputs, |output| output.discard(dir))?;
        self.check_outputs(&outputs).inspect_err(|_| {
            for output in &outputs {
                output.discard(dir);
            }
        })?;
        Ok(outputs)
    }

    fn copy_output(
        &self,
        dir: &Dir,
        id: u32,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Output> {
        let data = dir.create_segment_temporary(id, FileKind::Data)?;
        let copied = self.write_behind(&data, parts, set);
        let output = copied.and_then(
            |Copied {
                 sidecar,
                 data_bytes,
             }| { Output::of_temporary(dir, id, &data, data_bytes, sidecar) },
        );
        output.inspect_err(|_| {
            let _ = dir.remove_if_present(data.path());
        })
    }

    /// Writes an output and syncs it while it is being written: if it were synced only at the end,
    /// the disk would wait for the copying and then the copying for the disk.
    fn write_behind(
        &self,
        file: &WritableFile,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
    ) -> Result<Copied> {
        std::thread::scope(|scope| {
            let (ask, asked) = mpsc::channel();
            let sync_when_asked = move || asked.iter().try_for_each(|()| file.sync());
            let syncing = thread::Builder::new().spawn_scoped(scope, sync_when_asked);
            let copied = self.write_output(file, parts, set, ask);
            // If the system starts no thread, requests are lost, and the caller syncs everything.
            let Ok(syncing) = syncing else { return copied };
            // A failed sync comes first: it is the cause of writes that were refused after it.
            match syncing.join() {
                Ok(synced) => synced.and(copied),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn write_output(
        &self,
        file: &WritableFile,
        parts: &[(usize, Range<usize>)],
        set: &SegmentSet,
        ask_for_sync: Sender<()>,
    ) -> Result<Copied> {
        let mut writer = RecordWriter::new(file, ask_for_sync);
        for (number, range) in parts {
            let input = &self.inputs[*number];
            let sidecar = input.sidecar()?;
            let mut ahead = input.data().read_ahead();
            for positions in self.live[*number][range.clone()].chunks(BATCH_RECORDS_MAX) {
                let sources = positions.iter().map(|&at| sidecar.entry(at as usize));
                let sources: Vec<Entry> = sources.flatten().collect();
                for batch in batches(&sources, |source| u64::from(source.len)) {
                    copy_batch(input, batch, set, &mut writer, &mut ahead)?;
                }
            }
        }
        writer.finish()
    }
}

/// Returns all outputs. If some failed, returns the cause and passes the others to `discard`.
fn with_cause(results: Vec<Result<Output>>, discard: impl Fn(&Output)) -> Result<Vec<Output>> {
    if results.iter().any(Result::is_err) {
        results.iter().flatten().for_each(discard);
    }
    // After a failed fsync the directory refuses the writes of other tasks. Such a refusal may
    // stand before its cause.
    let is_cause = |result: &Result<Output>| {
        let error = result.as_ref().err();
        error.is_some_and(|error| !matches!(error, Error::Poisoned { .. } | Error::Closed))
    };
    let cause = results.iter().position(is_cause).unwrap_or(0);
    results.into_iter().skip(cause).collect()
}

/// Copies a batch of records of one segment, hashing them together.
fn copy_batch(
    input: &Arc<Sealed>,
    batch: &[Entry],
    set: &SegmentSet,
    writer: &mut RecordWriter<'_>,
    ahead: &mut ReadAhead,
) -> Result<()> {
    let data = input.data();
    read_ahead(data, batch, ahead);
    let contents = batch.iter().map(|e| data.read(e.offset, e.len as usize));
    let contents: Vec<Option<Cow<'_, [u8]>>> = contents.map(|c| c.ok().flatten()).collect();
    let present: Vec<&[u8]> = contents
        .iter()
        .map(|c| c.as_deref().unwrap_or(&[]))
        .collect();
    let digests = data.hash_function().digest_many(&present);
    for ((source, content), digest) in batch.iter().zip(&contents).zip(digests) {
        match content {
            Some(content) if digest == source.digest => writer.append(digest, content)?,
            _ => writer.append(source.digest, &whole_copy(input, source, set)?)?,
        }
    }
    Ok(())
}

/// Has the system read the file ahead of a batch, or no more than the records of the batch where
/// little of the file is live.
fn read_ahead(data: &Data, batch: &[Entry], ahead: &mut ReadAhead) {
    let live_bytes: u64 = batch.iter().map(|entry| u64::from(entry.len)).sum();
    let all = span(batch);
    if all.end.saturating_sub(all.start) / SPARSE_FACTOR <= live_bytes {
        ahead.step(data.map(), all);
    } else if let Some(map) = data.map() {
        for entry in batch {
            map.will_need(span(std::slice::from_ref(entry)));
        }
    }
}

/// A part of a file is read as a whole unless it is more than this many times as long as the live
/// content in it.
const SPARSE_FACTOR: u64 = 8;

/// Returns another copy of a record that does not verify. If no copy verifies, the error names a
/// damaged one.
fn whole_copy(input: &Arc<Sealed>, source: &Entry, set: &SegmentSet) -> Result<Object> {
    let own = ObjectCopy::sealed(input, *source);
    set.get(&source.digest)?.ok_or_else(|| own.corrupt())
}

/// Appends records, and asks for a sync now and then.
struct RecordWriter<'a> {
    writer: BlockWriter<'a>,
    entries: Vec<Entry>,
    ask_for_sync: Sender<()>,
    /// Written length at which the next sync is asked for.
    sync_at_bytes: u64,
}

/// Bytes that are written between two syncs.
const SYNC_STEP_BYTES: u64 = 64 << 20;

impl<'a> RecordWriter<'a> {
    fn new(file: &'a WritableFile, ask_for_sync: Sender<()>) -> Self {
        Self {
            writer: BlockWriter::new(file, file.write_block_bytes()),
            entries: Vec::new(),
            ask_for_sync,
            sync_at_bytes: SYNC_STEP_BYTES,
        }
    }

    /// Appends a record. The caller has compared the digest; the length is taken from `content`,
    /// since the length in a sidecar may be wrong.
    fn append(&mut self, digest: Digest, content: &[u8]) -> Result<()> {
        let len = content_len(content)?;
        self.writer.append(&record::header(len))?;
        self.entries.push(Entry {
            digest,
            offset: self.writer.position(),
            len,
        });
        self.writer.append(content)?;
        if self.writer.written_bytes() >= self.sync_at_bytes {
            self.begin_sync();
        }
        Ok(())
    }

    fn begin_sync(&mut self) {
        self.sync_at_bytes = self.writer.written_bytes() + SYNC_STEP_BYTES;
        // The thread that syncs has ended only if a sync failed, and then the next write fails too.
        let _ = self.ask_for_sync.send(());
    }

    fn finish(mut self) -> Result<Copied> {
        let data_bytes = self.writer.finish()?;
        if data_bytes >= SYNC_STEP_BYTES {
            let _ = self.ask_for_sync.send(());
        }
        Ok(Copied {
            sidecar: Sidecar::build(&mut self.entries),
            data_bytes,
        })
    }
}

/// The sidecar of a data file that was written, and the length of that file.
struct Copied {
    sidecar: Sidecar<Vec<u8>>,
    data_bytes: u64,
}
