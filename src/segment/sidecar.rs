//! The sidecar of a sealed segment: opened, checked as a whole, or made again from the data.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::LazyLock;

use super::Data;
use super::fanout::Fanout;
use super::file_bytes::{FileBytes, file_bytes, map_file, read_file};
use super::once::Once;
use super::record_scan::{Hash, RecordScan};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::dir::{Dir, FileKind, open_regular_file, read_exact_at};
use crate::error::{Error, Result};
use crate::format::{FormatError, Records, SealedSegment, Sidecar};
use crate::memory::Map;
use crate::memory::quota::{HeldFile, MapUse};
use crate::options::Reading;

/// A sidecar that was opened, and whose bytes were not looked at yet.
#[derive(Debug)]
pub(super) enum Unchecked {
    Map(Map),
    /// Held open, as long as the process does not hold too many.
    File(HeldFile, Box<Path>),
    /// Opened when it is looked into.
    Named(Reading),
    /// There is none, and the data has to do.
    Missing,
}

impl Unchecked {
    /// The sidecar, if there is one and it is, as a whole, what the manifest says.
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
        // After an error it is as it was.
        let bytes = match (std::mem::replace(self, Self::Missing), read) {
            (Self::Map(map), _) => FileBytes::Map(map),
            (_, Some(bytes)) => bytes,
            (_, None) => return Ok(None),
        };
        Ok(check(bytes, binding).ok())
    }
}

/// An index that was checked as a whole, or rebuilt.
#[derive(Debug)]
pub(super) struct CheckedSidecar {
    pub(super) sidecar: Sidecar<FileBytes>,
    /// Made when the index is first searched; a walk does not need it.
    pub(super) fanout: Once<Fanout>,
    /// Why the index may lack objects, where that is so.
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

/// What the manifest is to say of a segment with this index.
pub(crate) fn binding_of<D: AsRef<[u8]>>(index: &Sidecar<D>, data_bytes: u64) -> SealedSegment {
    SealedSegment {
        data_bytes,
        // The parser limits the count to `u32`.
        objects: u32::try_from(index.len()).unwrap_or(u32::MAX),
        sidecar_checksum: index.checksum(),
    }
}

/// Whether the sidecar on disk has the length and the checksum that the manifest binds the segment
/// to. Reads 32 bytes. What lies before them is checked when the segment is first used.
pub(crate) fn sidecar_fits(dir: &Dir, id: u32, binding: &SealedSegment) -> Result<bool> {
    let path = dir.segment_path(id, FileKind::Sidecar);
    let (file, len) = match open_regular_file(&path) {
        Err(error) if error.is_not_found() => return Ok(false),
        opened => opened?,
    };
    if Sidecar::<&[u8]>::encoded_bytes(binding.objects) != Some(len) {
        return Ok(false);
    }
    let mut checksum = [0; DIGEST_BYTES];
    read_exact_at(&file, &mut checksum, len - DIGEST_BYTES as u64).map_err(Error::io(&path))?;
    Ok(Digest::from(checksum) == binding.sidecar_checksum)
}

/// Opens the bytes of a sidecar, mapped where they may be.
pub(crate) fn open_sidecar(dir: &Dir, id: u32, reading: Reading) -> Result<FileBytes> {
    let path = dir.segment_path(id, FileKind::Sidecar);
    let (file, len) = open_regular_file(&path)?;
    file_bytes(&file, &path, len, reading, MapUse::Sidecar)
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

/// Checks a whole sidecar against what the manifest says of it. What passes was written by us, for
/// this data, unless the manifest was forged with it. Whoever wrote it, its entries are sorted, and tile
/// the data: no two lead to the same bytes.
fn check(
    bytes: FileBytes,
    binding: &SealedSegment,
) -> std::result::Result<Sidecar<FileBytes>, FormatError> {
    let index = Sidecar::parse(bytes)?;
    let tiles = || index.tiles_as_seen_from(*POINT, binding.data_bytes);
    if !is_bound_by(binding, &index) || !index.is_sorted() || !tiles() {
        return Err(FormatError::Checksum);
    }
    Ok(index)
}

/// A number that nobody who writes a sidecar can know.
static POINT: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Whether an index is the one that the manifest speaks of. The checksum alone says so of what we wrote;
/// but the number of objects is relied on before the index is read.
fn is_bound_by<D: AsRef<[u8]>>(binding: &SealedSegment, index: &Sidecar<D>) -> bool {
    index.checksum() == binding.sidecar_checksum && index.len() == binding.objects as usize
}

/// An index made from the data alone.
pub(crate) struct RebuiltSidecar {
    pub(crate) sidecar: Sidecar<Vec<u8>>,
    /// Why objects may be missing from it.
    pub(crate) doubt: Option<String>,
}

/// Reads all records and hashes them with `hash`. Where the data is not mapped, in batches. With a binding, the result is known to be complete
/// if it is, to the bit, the sidecar that was written when the segment was sealed.
pub(crate) fn rebuild_sidecar(
    data: &Data,
    binding: Option<&SealedSegment>,
    hash: Hash,
) -> Result<RebuiltSidecar> {
    let (mut entries, whole_bytes) = if let Some(bytes) = data.mapped_all() {
        let mut records = Records::new(bytes);
        let whole: Vec<_> = records.by_ref().collect();
        (hash(&whole), records.position() as u64)
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
            Some("it is not the one that was written, and neither is the data".to_owned())
        }
        None if whole_bytes != data.len() => {
            Some(format!("the data is unreadable from byte {whole_bytes} on"))
        }
        _ => None,
    };
    Ok(RebuiltSidecar { sidecar, doubt })
}
