//! Opens the sidecar of a sealed segment, checks it as a whole, or rebuilds it from the data.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::LazyLock;

use super::Data;
use super::RecordHash;
use super::fanout::Fanout;
use super::file_bytes::{FileBytes, file_bytes, map_file, read_file};
use super::once::Once;
use super::record_scan::RecordScan;
use crate::digest::{DIGEST_BYTES, Digest};
use crate::dir::{Dir, FileKind, open_regular_file, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{FormatError, Records, SealedSegment, Sidecar};
use crate::memory::Map;
use crate::memory::quota::{HeldFile, MapUse};
use crate::options::Reading;

/// A sidecar that was opened but not read yet.
#[derive(Debug)]
pub(super) enum Unchecked {
    Map(Map),
    /// The file is held open, unless the process holds too many.
    File(HeldFile, Box<Path>),
    /// The file is opened when it is read.
    Named(Reading),
    /// There is no sidecar; it is rebuilt from the data.
    Missing,
}

impl Unchecked {
    /// Reads the sidecar. `None` if it is missing or does not match what the manifest says of it.
    pub(super) fn read(
        &mut self,
        data: &Data,
        binding: &SealedSegment,
    ) -> Result<Option<Sidecar<FileBytes>>> {
        let read = match self {
            Self::File(held, path) => Some(FileBytes::Heap(read_file(held.file(), path)?)),
            Self::Named(reading) => match open_sidecar(data.dir(), data.id(), *reading) {
                Err(error) if error.is_not_found() => None,
                opened => Some(opened?),
            },
            Self::Map(_) | Self::Missing => None,
        };
        // All errors were returned above, before `self` changes.
        let bytes = match (std::mem::replace(self, Self::Missing), read) {
            (Self::Map(map), _) => FileBytes::Map(map),
            (_, Some(bytes)) => bytes,
            (_, None) => return Ok(None),
        };
        fetch(&bytes);
        Ok(check(bytes, binding).ok())
    }
}

/// A sidecar that was checked as a whole, or rebuilt.
#[derive(Debug)]
pub(super) struct CheckedSidecar {
    pub(super) sidecar: Sidecar<FileBytes>,
    /// Made when the sidecar is first searched; a walk does not need it.
    pub(super) fanout: Once<Fanout>,
    /// Why the sidecar may lack objects, if it may.
    pub(super) doubt: Option<String>,
}

impl CheckedSidecar {
    pub(super) fn new(sidecar: Sidecar<FileBytes>) -> Self {
        Self {
            fanout: Once::new(),
            sidecar,
            doubt: None,
        }
    }

    #[inline]
    pub(super) fn fanout(&self, is_forked: impl FnOnce() -> bool) -> &Fanout {
        self.fanout
            .get_or_init(is_forked, || Fanout::new(&self.sidecar))
    }
}

/// Makes the manifest's entry for a segment with this sidecar.
pub(crate) fn binding_of<D: AsRef<[u8]>>(sidecar: &Sidecar<D>, data_bytes: u64) -> SealedSegment {
    SealedSegment {
        data_bytes,
        // The parser limits the count to `u32`.
        objects: u32::try_from(sidecar.len()).unwrap_or(u32::MAX),
        sidecar_checksum: sidecar.checksum(),
    }
}

/// Whether the sidecar on disk has the length and the checksum that the manifest binds the segment
/// to. Reads the last 32 bytes only; the rest is checked when the segment is first used.
pub(crate) fn sidecar_fits(dir: &Dir, id: u32, binding: &SealedSegment) -> Result<bool> {
    let path = dir.segment_path(id, FileKind::Sidecar);
    let (file, len) = match open_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(false),
        opened => opened?,
    };
    if Sidecar::<&[u8]>::encoded_bytes(binding.objects) != len {
        return Ok(false);
    }
    let mut checksum = [0; DIGEST_BYTES];
    read_exact_at(&file, &mut checksum, len - DIGEST_BYTES as u64).map_err(Error::io(&path))?;
    Ok(Digest::from(checksum) == binding.sidecar_checksum)
}

/// Opens the bytes of a sidecar that the caller reads as a whole, mapped if possible.
pub(crate) fn open_sidecar(dir: &Dir, id: u32, reading: Reading) -> Result<FileBytes> {
    let path = dir.segment_path(id, FileKind::Sidecar);
    let (file, len) = open_regular_file(&path)?;
    let bytes = file_bytes(&file, &path, len, reading, MapUse::Sidecar)?;
    fetch(&bytes);
    Ok(bytes)
}

/// Asks the system for a whole sidecar that is about to be checked. A file that is none by its length
/// is not read.
fn fetch(bytes: &FileBytes) {
    if Sidecar::parse_unchecked(bytes).is_ok() {
        bytes.fetch();
    }
}

pub(super) fn open_sidecar_file(dir: &Dir, id: u32, reading: Reading) -> Result<Unchecked> {
    let path = dir.segment_path(id, FileKind::Sidecar);
    let (file, len) = open_regular_file(&path)?;
    if let Some(map) = map_file(&file, len, reading, MapUse::Sidecar) {
        return Ok(Unchecked::Map(map));
    }
    Ok(match HeldFile::hold(file) {
        Some(held) => Unchecked::File(held, path.as_ref().into()),
        None => Unchecked::Named(reading),
    })
}

/// Checks a whole sidecar against what the manifest says of it. A sidecar that passes was written
/// by us, for this data, unless the manifest was forged with it. Even then its entries are sorted
/// and tile the data: no two lead to the same bytes.
pub(crate) fn check(
    bytes: FileBytes,
    binding: &SealedSegment,
) -> std::result::Result<Sidecar<FileBytes>, FormatError> {
    let sidecar = Sidecar::parse(bytes)?;
    let tiles = || sidecar.tiles_as_seen_from(*POINT, binding.data_bytes);
    if !is_bound_by(binding, &sidecar) || !sidecar.is_sorted() || !tiles() {
        return Err(FormatError::Checksum);
    }
    Ok(sidecar)
}

/// Whether a sidecar that [`check`] has passed is the same still.
#[cfg(feature = "remote")]
pub(crate) fn still_holds(sidecar: &Sidecar<FileBytes>, binding: &SealedSegment) -> bool {
    Sidecar::parse(sidecar.as_bytes()).is_ok_and(|parsed| is_bound_by(binding, &parsed))
}

/// A number that nobody who writes a sidecar can know.
static POINT: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Whether a sidecar is the one that the manifest names. For a sidecar that we wrote the checksum
/// alone decides; but the number of objects is relied on before the sidecar is read.
fn is_bound_by<D: AsRef<[u8]>>(binding: &SealedSegment, sidecar: &Sidecar<D>) -> bool {
    sidecar.checksum() == binding.sidecar_checksum && sidecar.len() == binding.objects as usize
}

/// Bytes of records that are read, hashed and forgotten before the next are read.
const STEP_BYTES: usize = 8 << 20;

/// A sidecar made from the data alone.
pub(crate) struct RebuiltSidecar {
    pub(crate) sidecar: Sidecar<Vec<u8>>,
    /// Why the sidecar may lack objects, if it may.
    pub(crate) doubt: Option<String>,
}

/// Reads all records, in batches where the data is not mapped, and hashes them with `hash`. With a
/// binding, the result is complete if it equals, bit for bit, the sidecar that was written when the
/// segment was sealed.
pub(crate) fn rebuild_sidecar(
    data: &Data,
    binding: Option<&SealedSegment>,
    hash: RecordHash,
) -> Result<RebuiltSidecar> {
    let (mut entries, whole_bytes) = if let Some(bytes) = data.mapped_all() {
        let mut records = Records::new(bytes);
        let mut entries = Vec::new();
        let mut ahead = data.read_ahead();
        loop {
            let begin = records.position();
            let end = begin.saturating_add(STEP_BYTES);
            ahead.step(data.map(), begin as u64..end as u64);
            let mut step = Vec::new();
            while records.position() < end
                && let Some(record) = records.next()
            {
                step.push(record);
            }
            if step.is_empty() {
                break;
            }
            entries.append(&mut hash.entries(&step));
        }
        (entries, records.position() as u64)
    } else {
        let scanned = data.with_file(|file| {
            let mut scan = RecordScan::new(file, 0, data.len(), false, hash);
            let mut entries = Vec::new();
            scan.append_rest(&mut entries)?;
            Ok((entries, scan.position()))
        });
        scanned?.unwrap_or_default()
    };
    let sidecar = Sidecar::build(&mut entries);
    let doubt = match binding {
        Some(binding) if !is_bound_by(binding, &sidecar) => {
            Some("neither the sidecar nor the data is what was written".to_owned())
        }
        None if whole_bytes != data.len() => {
            Some(format!("the data is unreadable from byte {whole_bytes} on"))
        }
        _ => None,
    };
    Ok(RebuiltSidecar { sidecar, doubt })
}
