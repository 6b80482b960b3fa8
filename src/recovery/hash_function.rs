//! Which hash function names the objects of a store that is being opened.

use super::read_journal::read_first_frames;
use crate::digest::{HashFunction, Hasher};
use crate::dir::{Dir, FileKind, has_more_holes_than_data};
use crate::error::{Error, Result};
use crate::format::{Entry, Manifest, Sidecar};
use crate::options::{Options, ReadMode, Reading};
use crate::segment::Data;
use crate::segment::sidecar::open_sidecar;

/// Most segments whose objects are hashed to find the function.
const SEGMENTS_MAX: usize = 64;
/// Most objects of each of these segments that are hashed: the shortest of a sample. Some may be
/// damaged.
const OBJECTS_MAX: usize = 64;
/// Entries from which these objects are taken.
const SAMPLED_ENTRIES: usize = 256;
/// No further object of a segment is hashed once so much content was.
const HASHED_BYTES_MAX: u64 = 64 << 20;
/// Content that is read at a time, since a sample can have objects of 4 GiB.
const READ_BYTES: usize = 1 << 20;

/// What the objects of a store say of its hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// An object has the digest that an index names.
    Proof(HashFunction),
    /// Indexes name synced objects, and none of those that were hashed has its digest by any
    /// function that is compiled in.
    Contradiction,
    /// No index names an object that can be hashed.
    Silence,
    /// There is no data.
    Empty,
}

/// Returns the function of the store in this folder, given its parsed manifest, if that is valid, and
/// the bytes of the file, if there is one.
///
/// Without a valid manifest the function is the one by which an object has the digest that its index
/// names. Where no object tells, a folder without a manifest has the default function, as the folders
/// of NEDB have it; a store with another function has a manifest before it has an object. A damaged
/// manifest may have named any function, so its remains or the options have to say. A function that is
/// only guessed is never taken: a writer would name all objects anew by it.
pub(super) fn of_store(
    dir: &Dir,
    options: &Options,
    manifest: Option<&Manifest>,
    manifest_bytes: Option<&[u8]>,
) -> Result<HashFunction> {
    let wish = options.hash_function;
    let unknown = || Error::HashFunctionUnknown {
        path: dir.manifest_path().to_path_buf(),
    };
    let function = match (manifest, manifest_bytes) {
        (Some(manifest), _) => manifest.hash_function,
        (None, None) => match evidence(dir, HASHED_BYTES_MAX)? {
            Evidence::Proof(function) => function,
            Evidence::Empty => wish.unwrap_or_default(),
            // All functions were tried, so the objects are damaged.
            Evidence::Contradiction if HashFunction::ALL_ARE_COMPILED_IN => HashFunction::default(),
            Evidence::Contradiction => wish.ok_or_else(unknown)?,
            Evidence::Silence => HashFunction::default(),
        },
        (None, Some(damaged)) => match evidence(dir, u64::MAX)? {
            Evidence::Proof(function) => function,
            other => match Manifest::hash_function_in(damaged).or(wish) {
                Some(function) => function,
                None if other == Evidence::Empty => HashFunction::default(),
                None => return Err(unknown()),
            },
        },
    };
    require_equal(wish, function)?;
    Ok(function)
}

/// Fails if a function is wished for that is not that of the store.
pub(super) fn require_equal(wish: Option<HashFunction>, store: HashFunction) -> Result<()> {
    match wish {
        Some(given) if given != store => Err(Error::HashFunction { store, given }),
        _ => Ok(()),
    }
}

/// Hashes some objects that a sidecar or a journal names, none of them longer than `object_bytes_max`.
fn evidence(dir: &Dir, object_bytes_max: u64) -> Result<Evidence> {
    let mut found = Evidence::Empty;
    let listing = dir.list()?;
    for &id in listing.data.iter().take(SEGMENTS_MAX) {
        match of_segment(dir, id, object_bytes_max) {
            Ok(proof @ Evidence::Proof(_)) => return Ok(proof),
            Ok(Evidence::Contradiction) => found = Evidence::Contradiction,
            Ok(Evidence::Silence) if found == Evidence::Empty => found = Evidence::Silence,
            Ok(Evidence::Silence | Evidence::Empty) => {}
            // The writer removed it since the folder was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn of_segment(dir: &Dir, id: u32, object_bytes_max: u64) -> Result<Evidence> {
    let reading = Reading::from(ReadMode::Pread);
    let data = Data::open(dir, id, reading, u64::MAX)?;
    if data.len() == 0 {
        return Ok(Evidence::Empty);
    }
    let mut sample = sample_of_sidecar(dir, id, reading)?;
    if sample.entries.is_empty() {
        sample = sample_of_journal(dir, id)?;
    }
    // An index can be forged, and the file be a hole.
    let is_sparse = data.with_file(|(file, path)| {
        has_more_holes_than_data(file, data.len()).map_err(Error::io(path))
    });
    let object_bytes_max = if is_sparse?.unwrap_or(true) {
        object_bytes_max.min(HASHED_BYTES_MAX)
    } else {
        object_bytes_max
    };
    let mut found = Evidence::Silence;
    let mut hashed_bytes = 0;
    sample.entries.sort_unstable_by_key(|entry| entry.len);
    for entry in sample.entries.iter().take(OBJECTS_MAX) {
        let bytes = u64::from(entry.len);
        if hashed_bytes > HASHED_BYTES_MAX || bytes > object_bytes_max {
            break;
        }
        hashed_bytes += bytes;
        match function_of(&data, entry)? {
            Some(function) => return Ok(Evidence::Proof(function)),
            None if entry.end().is_some_and(|end| end <= sample.synced_bytes) => {
                found = Evidence::Contradiction;
            }
            None => {}
        }
    }
    Ok(found)
}

/// Returns the function by which the content of this entry has its digest.
fn function_of(data: &Data, entry: &Entry) -> Result<Option<HashFunction>> {
    let functions = HashFunction::ALL.iter().copied();
    let mut hashers: Vec<_> = functions.map(|f| (f, Hasher::new(f))).collect();
    let mut position = entry.offset;
    let mut rest = entry.len as usize;
    while rest > 0 {
        let Some(part) = data.read(position, rest.min(READ_BYTES))? else {
            return Ok(None);
        };
        for (_, hasher) in &mut hashers {
            hasher.update(&part);
        }
        position += part.len() as u64;
        rest -= part.len();
    }
    let digests = hashers.into_iter().map(|(f, hasher)| (f, hasher.finish()));
    let mut names = digests.filter(|(_, digest)| *digest == entry.digest);
    Ok(names.next().map(|(function, _)| function))
}

/// Some entries of an index.
#[derive(Default)]
struct Sample {
    entries: Vec<Entry>,
    /// Records that end before this position in the data file were synced, so that a crash cannot
    /// have taken them.
    synced_bytes: u64,
}

fn sample_of_sidecar(dir: &Dir, id: u32, reading: Reading) -> Result<Sample> {
    if dir.segment_path(id, FileKind::Sidecar).status().is_err() {
        return Ok(Sample::default());
    }
    match Sidecar::parse(open_sidecar(dir, id, reading)?) {
        Ok(sidecar) => Ok(Sample {
            entries: sampled(sidecar.len(), |at| sidecar.entry(at)),
            synced_bytes: u64::MAX,
        }),
        Err(_) => Ok(Sample::default()),
    }
}

fn sample_of_journal(dir: &Dir, id: u32) -> Result<Sample> {
    let Some(journal) = read_first_frames(dir, id)? else {
        return Ok(Sample::default());
    };
    let entries = journal.entries;
    Ok(Sample {
        entries: sampled(entries.len(), |at| entries.get(at).copied()),
        synced_bytes: journal.synced_bytes,
    })
}

fn sampled(count: usize, entry: impl Fn(usize) -> Option<Entry>) -> Vec<Entry> {
    let step = count.div_ceil(SAMPLED_ENTRIES).max(1);
    (0..count).step_by(step).filter_map(entry).collect()
}
