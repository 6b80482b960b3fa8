//! Opening without changing anything, beside a writer that may be at work.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::adoption::{Adopted, adopt_sidecar};
use super::report::RecoveryReport;
use super::{open_listed_data, parse_manifest, unsealed};
use crate::dir::{Dir, FileKind, Listing};
use crate::error::{Error, Result};
use crate::format::{Journal, Manifest, journal};
use crate::mmap::Map;
use crate::options::{Options, ReadMode};
use crate::segment::active::Contents;
use crate::segment::active_index::ActiveIndex;
use crate::segment::sealed::rebuild_index;
use crate::segment::{Active, Data, Sealed};
use crate::segment_set::SegmentSet;

/// How often loading starts again because the writer committed something meanwhile. What is loaded
/// is right even then; it may hold a segment twice, or not the newest.
const ATTEMPTS_MAX: usize = 16;

/// What a reader carries from one [`load`](Self::load) to the next.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// How far the journal of each unsealed segment was read; without the entries, which are in the
    /// segment's index.
    journals: BTreeMap<u32, Journal>,
}

impl Reader {
    /// Loads what is on disk now. Segments that `previous` holds already are taken from there.
    pub(crate) fn load(
        &mut self,
        dir: &Dir,
        options: &Options,
        previous: &SegmentSet,
    ) -> Result<(SegmentSet, RecoveryReport)> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = dir.read_manifest()?;
            let loaded = self.load_once(dir, options, previous, before.as_deref());
            // The writer may have removed or renamed what this manifest speaks of.
            if attempt == ATTEMPTS_MAX || dir.read_manifest()? == before {
                return loaded;
            }
        }
    }

    fn load_once(
        &mut self,
        dir: &Dir,
        options: &Options,
        previous: &SegmentSet,
        manifest: Option<&[u8]>,
    ) -> Result<(SegmentSet, RecoveryReport)> {
        let mut report = RecoveryReport::default();
        let manifest = parse_manifest(dir, manifest, &mut report)?.unwrap_or_default();
        let listing = dir.list()?;
        let mut sealed = Vec::new();
        for (&id, &binding) in &manifest.sealed {
            let known = previous.sealed().iter().find(|sealed| sealed.id() == id);
            if let Some(known) = known.filter(|known| *known.binding() == binding) {
                sealed.push(Arc::clone(known));
                continue;
            }
            let open = || Sealed::open(dir, id, options.read_mode, binding);
            let opened = open_listed_data(dir, options, id, &mut report, open)?;
            sealed.extend(opened.map(Arc::new));
        }
        for id in journals_without_data(&listing, &manifest) {
            unsealed::check_data_is_not_missing(dir, options, id, &mut report)?;
        }
        let mut unsealed = Vec::new();
        for id in unlisted(&listing, &manifest) {
            match self.load_unlisted(dir, options.read_mode, previous, &listing, id) {
                Ok(Unlisted::Sealed(segment)) => sealed.push(segment),
                Ok(Unlisted::Unsealed(segment)) => unsealed.push(segment),
                // It was sealed and compacted away since the listing was made.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.journals
            .retain(|id, _| unsealed.iter().any(|active| active.id() == *id));
        Ok((SegmentSet::new(sealed, unsealed), report))
    }

    fn load_unlisted(
        &mut self,
        dir: &Dir,
        mode: ReadMode,
        previous: &SegmentSet,
        listing: &Listing,
        id: u32,
    ) -> Result<Unlisted> {
        let known = previous.unsealed().iter().find(|active| active.id() == id);
        if let Some(known) = known
            && let Some(active) = self.follow(dir, mode, known)?
        {
            return Ok(Unlisted::Unsealed(active));
        }
        if listing.sidecars.contains(&id) && !listing.journals.contains(&id) {
            let known = previous.sealed().iter().find(|sealed| sealed.id() == id);
            if let Some(known) = known {
                return Ok(Unlisted::Sealed(Arc::clone(known)));
            }
            return load_sealed(dir, mode, id).map(|sealed| Unlisted::Sealed(Arc::new(sealed)));
        }
        let active = self.load_unsealed(dir, mode, id)?;
        Ok(Unlisted::Unsealed(active))
    }

    /// Loads an unsealed segment from its journal, and from its data where the journal ends.
    fn load_unsealed(&mut self, dir: &Dir, mode: ReadMode, id: u32) -> Result<Arc<Active>> {
        let mut journal = unsealed::read_journal(dir, id)?.unwrap_or_else(|| Journal::empty(id));
        let data = Data::open(dir, id, mode, u64::MAX)?;
        // What the journal notes is verified by each read, so that nothing needs hashing here.
        let trusted = Journal {
            synced_bytes: journal.covered_bytes.min(data.len()),
            ..journal.clone()
        };
        let tail = unsealed::examine(&data, &trusted)?;
        let mut entries = tail.entries;
        if journal.covered_bytes > data.len() {
            // These are lost; that they are known makes reading them an error instead of a miss.
            entries.clone_from(&journal.entries);
        }
        let contents = Contents {
            index: Arc::new(ActiveIndex::new(entries)),
            bytes: data.len(),
            durable_bytes: journal.synced_bytes,
        };
        journal.entries = Vec::new();
        self.journals.insert(id, journal);
        open_active(dir, mode, id, contents)
    }

    /// Reads on in the journal of a segment that is known. `None` if it was replaced.
    fn follow(
        &mut self,
        dir: &Dir,
        mode: ReadMode,
        known: &Arc<Active>,
    ) -> Result<Option<Arc<Active>>> {
        let id = known.id();
        let Some(journal) = self.journals.get_mut(&id) else {
            return Ok(None);
        };
        let path = dir.segment_path(id, FileKind::Journal);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(Error::io(&path))?,
        };
        let mut bytes = Vec::new();
        let overlap = journal.valid_bytes.min(journal::FRAME_BYTES as u64);
        file.seek(SeekFrom::Start(journal.valid_bytes - overlap))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(Error::io(&path))?;
        let overlap = usize::try_from(overlap).unwrap_or(usize::MAX);
        let Some((read_before, frames)) = bytes.split_at_checked(overlap) else {
            return Ok(None);
        };
        if !journal.is_continued_by(read_before) {
            return Ok(None);
        }
        let valid_bytes = journal.valid_bytes;
        journal.extend(frames);
        if journal.valid_bytes == valid_bytes {
            return Ok(Some(Arc::clone(known)));
        }
        let index = known.shared_index();
        for entry in std::mem::take(&mut journal.entries) {
            index.insert(&entry);
        }
        let contents = Contents {
            index,
            bytes: journal.covered_bytes,
            durable_bytes: journal.synced_bytes,
        };
        open_active(dir, mode, id, contents).map(Some)
    }
}

enum Unlisted {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>),
}

fn is_listed(id: u32, manifest: &Manifest) -> bool {
    manifest.sealed.contains_key(&id) || manifest.retired.contains(&id)
}

/// Data files that the manifest does not speak of.
fn unlisted(listing: &Listing, manifest: &Manifest) -> Vec<u32> {
    let ids = listing.data.iter().copied();
    ids.filter(|&id| !is_listed(id, manifest)).collect()
}

/// Journals that the manifest does not speak of, without a data file.
pub(super) fn journals_without_data(listing: &Listing, manifest: &Manifest) -> Vec<u32> {
    let ids = listing.journals.difference(&listing.data).copied();
    ids.filter(|&id| !is_listed(id, manifest)).collect()
}

/// Opens the file as far as it reaches; it may be shorter than what its journal speaks of.
fn open_active(dir: &Dir, mode: ReadMode, id: u32, mut contents: Contents) -> Result<Arc<Active>> {
    let path = dir.segment_path(id, FileKind::Data);
    let file = File::open(&path).map_err(Error::io(&path))?;
    let file_bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
    contents.bytes = contents.bytes.min(file_bytes);
    let map = match mode {
        ReadMode::Mmap => Map::reserve(&file, contents.bytes).ok(),
        ReadMode::Pread => None,
    };
    Ok(Arc::new(Active::for_reader(id, file, &path, map, contents)))
}

/// A segment with a sidecar and no manifest, as NEDB v3 leaves it. Its sidecar may be in any order,
/// or not fit; a sorted one is then made in memory.
fn load_sealed(dir: &Dir, mode: ReadMode, id: u32) -> Result<Sealed> {
    let data = Data::open(dir, id, mode, u64::MAX)?;
    let (index, data_bytes) = match adopt_sidecar(dir, &data, mode)? {
        Some(Adopted { index, data_bytes }) => (index, data_bytes),
        None => (rebuild_index(&data, None)?.index, data.len()),
    };
    Ok(Sealed::in_memory(data, dir, mode, data_bytes, index))
}
