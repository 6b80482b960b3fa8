//! Which hash function names the objects of a store that is being opened.

use super::read_journal::read_first_entries;
use super::{RecoveryReport, parse_manifest};
use crate::digest::HashFunction;
use crate::dir::{Dir, FileKind};
use crate::error::{Error, Result};
use crate::format::{Entry, Manifest, Sidecar};
use crate::options::{Options, ReadMode, Reading};
use crate::segment::Data;
use crate::segment::sidecar::open_sidecar;

/// Most segments whose objects are hashed to find the function.
const SEGMENTS_MAX: usize = 64;
/// Objects of each of these segments that are hashed: the shortest of a sample.
const OBJECTS: usize = 4;
/// Entries from which these objects are taken.
const SAMPLED_ENTRIES: usize = 256;
/// Longer objects are not hashed: an index can be forged, and its file be a hole.
const OBJECT_BYTES_MAX: u32 = 64 << 20;

/// Returns the function of the store in this folder: the one that the manifest names; without a
/// manifest, the one by which an object has the digest that its index names; without such an object,
/// the one that the options wish for, or the default.
///
/// Without a manifest a store of NEDB has the default function too. But a manifest can also be lost or
/// damaged, and by the wrong function all objects of the store would count as damaged.
pub(super) fn of_store(
    dir: &Dir,
    options: &Options,
    manifest: Option<&Manifest>,
) -> Result<HashFunction> {
    let stored = match manifest {
        Some(manifest) => Some(manifest.hash_function),
        None => of_objects(dir)?,
    };
    let Some(stored) = stored else {
        return Ok(options.hash_function.unwrap_or_default());
    };
    require_equal(options.hash_function, stored)?;
    Ok(stored)
}

/// Does [`of_store`] for a reader that has not read the manifest yet.
pub(crate) fn of_unread_store(dir: &Dir, options: &Options) -> Result<HashFunction> {
    let bytes = dir.read_manifest()?;
    let mut report = RecoveryReport::default();
    let manifest = parse_manifest(dir, bytes.as_deref(), &mut report)?;
    of_store(dir, options, manifest.as_ref())
}

/// Fails if a function is wished for that is not that of the store.
pub(super) fn require_equal(wish: Option<HashFunction>, store: HashFunction) -> Result<()> {
    match wish {
        Some(given) if given != store => Err(Error::HashFunction { store, given }),
        _ => Ok(()),
    }
}

/// Returns the function by which an object has the digest that a sidecar or a journal names, if one
/// does. Reads no more than a few objects.
fn of_objects(dir: &Dir) -> Result<Option<HashFunction>> {
    let listing = dir.list()?;
    for &id in listing.data.iter().take(SEGMENTS_MAX) {
        match of_segment(dir, id) {
            Ok(None) => {}
            // The writer removed it since the folder was listed.
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
    }
    Ok(None)
}

fn of_segment(dir: &Dir, id: u32) -> Result<Option<HashFunction>> {
    let reading = Reading::from(ReadMode::Pread);
    let data = Data::open(dir, id, reading, u64::MAX)?;
    let mut sample = sample_of_sidecar(dir, id, reading)?;
    if sample.is_empty() {
        let entries = read_first_entries(dir, id)?;
        sample = sampled(entries.len(), |at| entries.get(at).copied());
    }
    sample.sort_unstable_by_key(|entry| entry.len);
    for entry in sample.iter().take(OBJECTS) {
        if let Some(content) = data.read(entry.offset, entry.len as usize)? {
            let names = |function: &&HashFunction| function.digest(&content) == entry.digest;
            if let Some(function) = HashFunction::ALL.iter().find(names) {
                return Ok(Some(*function));
            }
        }
    }
    Ok(None)
}

fn sample_of_sidecar(dir: &Dir, id: u32, reading: Reading) -> Result<Vec<Entry>> {
    if dir.segment_path(id, FileKind::Sidecar).status().is_err() {
        return Ok(Vec::new());
    }
    match Sidecar::parse(open_sidecar(dir, id, reading)?) {
        Ok(sidecar) => Ok(sampled(sidecar.len(), |at| sidecar.entry(at))),
        Err(_) => Ok(Vec::new()),
    }
}

fn sampled(count: usize, entry: impl Fn(usize) -> Option<Entry>) -> Vec<Entry> {
    let step = count.div_ceil(SAMPLED_ENTRIES).max(1);
    let sample = (0..count).step_by(step).filter_map(entry);
    sample
        .filter(|entry| entry.len <= OBJECT_BYTES_MAX)
        .collect()
}
