//! Opening without changing anything, beside a writer that may be at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::adopt::{Adopted, adopt_sidecar};
use super::look::{Look, unlisted};
use super::report::RecoveryReport;
use super::retired::may_be_what_was_retired;
use super::{appended, hash_function, parse_manifest, read_journal};
use crate::digest::HashFunction;
use crate::dir::{Dir, FileKind, Listing, open_regular_file, regular_file_bytes};
use crate::error::{Error, Result};
use crate::format::{Entry, Journal, Manifest, SealedSegment, journal};
use crate::memory::Map;
use crate::options::{Options, ReadMode, Reading};
use crate::run::Run;
use crate::segment::active::Contents;
use crate::segment::active_index::ActiveIndexWriter;
use crate::segment::record_scan::RecordScan;
use crate::segment::sidecar::{RebuiltSidecar, rebuild_sidecar};
use crate::segment::{Active, Data, RecordHash, Sealed};
use crate::segment_set::{ResolvedRun, SegmentSet};

/// How often loading starts again because the writer committed something meanwhile. After that the
/// last result is taken: it may be an error, hold a segment twice, or not be the newest.
const ATTEMPTS_MAX: usize = 16;

/// If a journal has grown by more than this, it is read from its beginning, with more care.
const FOLLOWED_BYTES_MAX: u64 = 64 << 20;

/// What a reader keeps from one [`load`](Self::load) to the next.
///
/// The caller of `load` holds a lock, so nothing here may wait for other threads of a pool: they
/// could be waiting for that lock.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    followed: BTreeMap<u32, Followed>,
}

/// What a load goes by.
#[derive(Clone, Copy)]
struct Source<'a> {
    dir: &'a Dir,
    options: &'a Options,
    /// The set of the load before. Segments and runs that have not changed are taken from it.
    previous: &'a SegmentSet,
}

impl Source<'_> {
    /// Returns the function of the store, given its parsed manifest, if that is valid, and the bytes of
    /// the file, if there is one.
    fn hash_function(
        &self,
        manifest: Option<&Manifest>,
        manifest_bytes: Option<&[u8]>,
    ) -> Result<HashFunction> {
        if self.previous.objects() == 0 {
            return hash_function::of_store(self.dir, self.options, manifest, manifest_bytes);
        }
        let known = self.previous.hash_function();
        if let Some(manifest) = manifest {
            // The folder may have been replaced by that of another store.
            hash_function::require_equal(Some(known), manifest.hash_function)?;
        }
        Ok(known)
    }
}

impl Reader {
    /// Loads what is on disk now. Segments that `previous` holds already are taken from there.
    pub(crate) fn load(
        &mut self,
        dir: &Dir,
        options: &Options,
        previous: &SegmentSet,
    ) -> Result<(SegmentSet, RecoveryReport)> {
        let source = Source {
            dir,
            options,
            previous,
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = dir.read_manifest()?;
            let loaded = self.load_once(source, before.as_deref());
            // The writer may have removed or renamed files that this manifest lists.
            if attempt == ATTEMPTS_MAX || dir.read_manifest()? == before {
                return loaded;
            }
        }
    }

    fn load_once(
        &mut self,
        source: Source<'_>,
        manifest: Option<&[u8]>,
    ) -> Result<(SegmentSet, RecoveryReport)> {
        let dir = source.dir;
        let mut report = RecoveryReport::default();
        let stored = parse_manifest(dir, manifest, &mut report)?;
        let hash_function = source.hash_function(stored.as_ref(), manifest)?;
        let options = &source.options.clone().hash_function(hash_function);
        let source = Source { options, ..source };
        let manifest = stored.clone().unwrap_or_default();
        let listing = dir.list()?;
        // A store keeps its manifest, or a segment before it has one.
        if stored.is_none() && listing.data.is_empty() && source.previous.objects() > 0 {
            let path = dir.path().parent().unwrap_or(dir.path()).to_path_buf();
            return Err(Error::NoStore { path });
        }
        let look = Look::at(dir, &listing, &manifest)?;
        look.judge_missing(dir, &manifest, options, &mut report)?;
        let mut sealed = source.load_listed(&manifest, &look)?;
        let fits = stored.is_some() && look.is_complete(&manifest);
        let mut ids: Vec<u32> = unlisted(&listing, &manifest).collect();
        for (&id, binding) in &manifest.retired {
            // A retired segment is not data, unless another segment has its id by now, or a file
            // that the manifest lists instead of it is missing.
            let is_meant = || may_be_what_was_retired(dir, id, binding.as_ref());
            if listing.data.contains(&id) && !(fits && is_meant()?) {
                ids.push(id);
            }
        }
        let mut unsealed = Vec::new();
        for id in ids {
            match self.load_unlisted(source, &listing, id) {
                Ok(Unlisted::Sealed(segment)) => sealed.push(segment),
                Ok(Unlisted::Unsealed(segment)) => unsealed.push(segment),
                // The segment was sealed and compacted away since the folder was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let loaded: BTreeSet<u32> = unsealed.iter().map(|active| active.id()).collect();
        self.followed.retain(|id, _| loaded.contains(id));
        let runs = source.load_runs(&listing)?;
        Ok((
            SegmentSet::new(hash_function, sealed, unsealed, runs),
            report,
        ))
    }

    fn load_unlisted(
        &mut self,
        source: Source<'_>,
        listing: &Listing,
        id: u32,
    ) -> Result<Unlisted> {
        let (dir, reading) = (source.dir, source.options.reading());
        if let Some(known) = source.previous.unsealed_with_id(id)
            && let Some(active) = self.follow(dir, reading, known)?
        {
            return Ok(Unlisted::Unsealed(active));
        }
        if listing.sidecars.contains(&id) && !listing.journals.contains(&id) {
            if let Some(known) = source.previous.sealed_with_id(id) {
                return Ok(Unlisted::Sealed(Arc::clone(known)));
            }
            return load_sealed(dir, reading, id).map(|sealed| Unlisted::Sealed(Arc::new(sealed)));
        }
        let active = self.load_unsealed(dir, reading, id)?;
        Ok(Unlisted::Unsealed(active))
    }

    /// Loads an unsealed segment from its journal, and from its data where the journal ends.
    /// Records that the journal notes are not hashed here, since each read verifies them.
    fn load_unsealed(&mut self, dir: &Dir, reading: Reading, id: u32) -> Result<Arc<Active>> {
        let journal = read_journal(dir, id)?;
        let mut journal = journal.unwrap_or_else(|| Journal::empty(id));
        let mut entries = std::mem::take(&mut journal.entries);
        let begin = journal.covered_bytes;
        let hash = RecordHash::on_this_thread(reading.hash_function);
        let seen_bytes = append_entries_behind((dir, id), begin, hash, &mut entries)?;
        let index = ActiveIndexWriter::new(&entries, 0);
        let contents = Contents {
            hash_function: reading.hash_function,
            index: Arc::clone(index.shared()),
            bytes: journal.covered_bytes,
            durable_bytes: journal.synced_bytes,
        };
        let followed = Followed {
            journal,
            index,
            seen_bytes,
        };
        self.followed.insert(id, followed);
        open_active(dir, reading.mode, id, contents)
    }

    /// Reads on in the journal of a segment that was loaded before. `None` if the journal does not
    /// tell everything that is in the segment.
    fn follow(
        &mut self,
        dir: &Dir,
        reading: Reading,
        known: &Arc<Active>,
    ) -> Result<Option<Arc<Active>>> {
        let id = known.id();
        let Some(Followed {
            journal,
            index,
            seen_bytes,
        }) = self.followed.get_mut(&id)
        else {
            return Ok(None);
        };
        let path = dir.segment_path(id, FileKind::Data);
        let data_bytes = regular_file_bytes(&path)?;
        if data_bytes < journal.covered_bytes || !read_on(dir, id, journal)? {
            return Ok(None);
        }
        if data_bytes > journal.covered_bytes.max(*seen_bytes) {
            // The writer has written data and not its journal yet, or cannot write the journal.
            return Ok(None);
        }
        for entry in std::mem::take(&mut journal.entries) {
            index.insert(&entry, false);
        }
        let flushed_bytes = journal.covered_bytes.min(data_bytes);
        // If the load before this one failed, nobody has seen its state of the segment.
        let is_known = known.has_index(index.shared()) && known.flushed_bytes() == flushed_bytes;
        if is_known && known.durable_bytes() == journal.synced_bytes {
            return Ok(Some(Arc::clone(known)));
        }
        let contents = Contents {
            hash_function: reading.hash_function,
            index: Arc::clone(index.shared()),
            bytes: journal.covered_bytes,
            durable_bytes: journal.synced_bytes,
        };
        open_active(dir, reading.mode, id, contents).map(Some)
    }
}

impl Source<'_> {
    /// Loads the segments that the manifest lists as sealed.
    fn load_listed(&self, manifest: &Manifest, look: &Look) -> Result<Vec<Arc<Sealed>>> {
        let (dir, reading) = (self.dir, self.options.reading());
        let mut segments = Vec::new();
        for (&id, &binding) in &manifest.sealed {
            let Some(&data_bytes) = look.sealed_bytes.get(&id) else {
                continue;
            };
            let appended_bytes = data_bytes.saturating_sub(binding.data_bytes);
            let is_as_before = |known: &Sealed| {
                let is_longer = !known.is_bound() && known.data().len() == data_bytes;
                *known.binding() == binding && appended_bytes == 0 || is_longer
            };
            let known = self.previous.sealed_with_id(id);
            if let Some(known) = known.filter(|known| is_as_before(known)) {
                segments.push(Arc::clone(known));
            } else if appended_bytes > 0 {
                segments.push(Arc::new(load_longer(dir, reading, id, binding)?));
            } else {
                segments.push(Arc::new(Sealed::open(dir, id, reading, binding)?));
            }
        }
        Ok(segments)
    }

    /// Opens the runs of the set index. A run that is open already is taken even if another file
    /// has its name by now: it is resolved against its own segments.
    fn load_runs(&self, listing: &Listing) -> Result<Vec<Arc<Run>>> {
        let mut runs = Vec::new();
        let known = self.previous.runs().iter().map(ResolvedRun::run);
        let known = known.filter(|run| !run.is_damaged());
        let known: HashMap<u32, &Arc<Run>> = known.map(|run| (run.number(), run)).collect();
        for &number in &listing.set_indexes {
            if let Some(&known) = known.get(&number) {
                runs.push(Arc::clone(known));
                continue;
            }
            match Run::open(self.dir, number, self.options.reading()) {
                Ok(run) => runs.extend(run.map(Arc::new)),
                // The writer has merged the run with others since the folder was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }
}

/// An unsealed segment that was loaded before.
#[derive(Debug)]
struct Followed {
    /// The journal as far as it was read, without its entries, which are in the segment's index.
    journal: Journal,
    index: ActiveIndexWriter,
    /// Length of the data file when it was searched for records behind the journal's end.
    seen_bytes: u64,
}

/// Appends the whole records behind `begin`, where `known` ends, and returns the length of the
/// file.
fn append_entries_behind(
    (dir, id): (&Dir, u32),
    begin: u64,
    hash: RecordHash,
    known: &mut Vec<Entry>,
) -> Result<u64> {
    let path = dir.segment_path(id, FileKind::Data);
    let (file, file_bytes) = open_regular_file(&path)?;
    let seen_empty = known.iter().any(|entry| entry.len == 0);
    let mut scan = RecordScan::new((&file, &path), begin, file_bytes, seen_empty, hash);
    scan.append_rest(known)?;
    Ok(file_bytes)
}

/// Reads the frames that were appended to a journal. False if the journal is missing or was
/// replaced.
fn read_on(dir: &Dir, id: u32, journal: &mut Journal) -> Result<bool> {
    let path = dir.segment_path(id, FileKind::Journal);
    let (mut file, file_bytes) = match open_regular_file(&path) {
        // A segment of NEDB v3 has no journal, so nothing can follow.
        Err(error) if error.is_not_found() => return Ok(journal.covered_bytes == 0),
        opened => opened?,
    };
    if file_bytes.saturating_sub(journal.valid_bytes) > FOLLOWED_BYTES_MAX {
        return Ok(false);
    }
    let overlap = journal.valid_bytes.min(journal::FRAME_BYTES as u64);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(journal.valid_bytes - overlap))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(Error::io(&path))?;
    let overlap = usize::try_from(overlap).unwrap_or(usize::MAX);
    match bytes.split_at_checked(overlap) {
        Some((read_before, frames)) if journal.is_continued_by(read_before) => {
            journal.extend(frames);
            Ok(true)
        }
        _ => Ok(false),
    }
}

enum Unlisted {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>),
}

/// Opens an unsealed segment as far as its data file reaches, which may be shorter than its journal
/// says.
fn open_active(dir: &Dir, mode: ReadMode, id: u32, mut contents: Contents) -> Result<Arc<Active>> {
    let path = dir.segment_path(id, FileKind::Data);
    let (file, file_bytes) = open_regular_file(&path)?;
    contents.bytes = contents.bytes.min(file_bytes);
    let map = match mode {
        ReadMode::Mmap => Map::reserve(&file, contents.bytes).ok(),
        ReadMode::Pread => None,
    };
    Ok(Arc::new(Active::for_reader(id, file, &path, map, contents)))
}

/// Opens a segment that the manifest lists and to which a program has appended that knows no
/// manifest.
fn load_longer(dir: &Dir, reading: Reading, id: u32, binding: SealedSegment) -> Result<Sealed> {
    let data = Data::open(dir, id, reading, u64::MAX)?;
    if let Some(Adopted { index, data_bytes }) = adopt_sidecar(dir, &data, reading)? {
        return Ok(Sealed::in_memory(data, data_bytes, index, None));
    }
    let sealed = Sealed::open(dir, id, reading, binding)?;
    match appended::find(dir, &sealed, sealed.data().hash_on_this_thread())? {
        Some(appended) => appended.in_memory(dir, id, reading),
        None => Ok(sealed),
    }
}

/// Opens a segment that has a sidecar and that no manifest lists, as NEDB v3 leaves it. The sidecar
/// may be in any order or not fit; then a sorted one is made in memory.
fn load_sealed(dir: &Dir, reading: Reading, id: u32) -> Result<Sealed> {
    let data = Data::open(dir, id, reading, u64::MAX)?;
    if let Some(Adopted { index, data_bytes }) = adopt_sidecar(dir, &data, reading)? {
        return Ok(Sealed::in_memory(data, data_bytes, index, None));
    }
    let RebuiltSidecar { sidecar, doubt } =
        rebuild_sidecar(&data, None, data.hash_on_this_thread())?;
    let data_bytes = data.len();
    Ok(Sealed::in_memory(data, data_bytes, sidecar, doubt))
}
