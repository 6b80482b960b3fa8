//! A sealed segment: data and sidecar, both as they are on disk.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::fanout::Fanout;
use super::once::Once;
use super::record_scan::{Hash, RecordScan};
use super::{Data, hash_records_single_threaded};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::dir::{Dir, FileKind, is_mostly_holes, open_regular_file, read_exact_at, read_new_at};
use crate::error::{Error, Result};
use crate::format::set_index::{Geometry, Location};
use crate::format::{Entry, FormatError, Records, SealedSegment, Sidecar, record};
use crate::memory::AtomicBits;
use crate::memory::quota::{HeldFile, MapUse};
use crate::memory::{Map, prefetch};
use crate::options::{ReadMode, Reading};
use crate::sync::{Mutex, lock};

/// The bytes of a sidecar, or of another file that is derived from the data.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Map(Map),
    Heap(Vec<u8>),
}

impl AsRef<[u8]> for FileBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map.bytes(),
            Self::Heap(bytes) => bytes,
        }
    }
}

/// A sidecar that was opened and not looked into yet.
#[derive(Debug)]
enum Unchecked {
    Map(Map),
    /// Held open, as long as the process does not hold too many.
    File(HeldFile, Box<Path>),
    /// Opened when it is looked into.
    Named(Reading),
    /// There is none, and the data has to do.
    Missing,
}

/// An immutable segment. Costs no heap an object until its sidecar is searched, and then that of its
/// [`Fanout`]. The whole sidecar is checked when it is first asked for something.
#[derive(Debug)]
pub(crate) struct Sealed {
    data: Arc<Data>,
    binding: SealedSegment,
    /// Whether the sidecar on disk is to be what `binding` says.
    is_bound: bool,
    checked: Once<CheckedIndex>,
    /// Held while the sidecar is checked, so that it is done once. Nothing that is done meanwhile
    /// may wait for other threads of a pool: they could be waiting for this.
    unchecked: Mutex<Unchecked>,
    /// Which records were verified in this process, by their position in the sidecar.
    verified: Once<AtomicBits>,
    /// Length of a record, on average.
    prefetched_bytes: usize,
}

/// An index that was checked as a whole, or rebuilt.
#[derive(Debug)]
struct CheckedIndex {
    index: Sidecar<FileBytes>,
    /// Made when the index is first searched; a walk does not need it.
    fanout: Once<Fanout>,
    /// Why the index may lack objects, where that is so.
    doubt: Option<String>,
}

impl CheckedIndex {
    fn new(index: Sidecar<FileBytes>) -> Self {
        Self {
            fanout: Once::new(),
            index,
            doubt: None,
        }
    }

    #[inline]
    fn fanout(&self, is_forked: impl FnOnce() -> bool) -> &Fanout {
        self.fanout
            .get_or_init(is_forked, || Fanout::new(&self.index))
    }
}

impl Sealed {
    /// A segment that the manifest binds to a sidecar. That is opened now, so that it is there also
    /// when the segment is compacted away, and checked when it is first used.
    pub(crate) fn open(
        dir: &Dir,
        id: u32,
        reading: Reading,
        binding: SealedSegment,
    ) -> Result<Self> {
        let data = Data::open(dir, id, reading, binding.data_bytes)?;
        let unchecked = match open_sidecar_file(dir, id, reading) {
            Err(error) if error.is_not_found() => Unchecked::Missing,
            opened => opened?,
        };
        Ok(Self {
            data: Arc::new(data),
            binding,
            is_bound: true,
            checked: Once::new(),
            unchecked: Mutex::new(unchecked),
            verified: Once::new(),
            prefetched_bytes: mean_record_bytes(&binding),
        })
    }

    /// A segment whose sidecar the caller has just written.
    pub(crate) fn with_index(
        dir: &Dir,
        id: u32,
        reading: Reading,
        data_bytes: u64,
        index: &Sidecar<Vec<u8>>,
    ) -> Result<Self> {
        let mut sealed = Self::open(dir, id, reading, binding_of(index, data_bytes))?;
        let checked = match open_sidecar(dir, id, reading).map(Sidecar::parse_unchecked) {
            Ok(Ok(mapped)) => CheckedIndex::new(mapped),
            _ => CheckedIndex::new(index.clone().map_bytes(FileBytes::Heap)),
        };
        sealed.checked = Once::from(checked);
        // Mapped once is enough.
        sealed.unchecked = Mutex::new(Unchecked::Missing);
        Ok(sealed)
    }

    /// A segment without a manifest, as a reader that must not write one sees it. `doubt`: why the
    /// index may lack objects, where that is so.
    pub(crate) fn in_memory(
        data: Data,
        data_bytes: u64,
        index: Sidecar<Vec<u8>>,
        doubt: Option<String>,
    ) -> Self {
        let binding = binding_of(&index, data_bytes);
        let checked = CheckedIndex {
            doubt,
            ..CheckedIndex::new(index.map_bytes(FileBytes::Heap))
        };
        Self {
            data: Arc::new(data),
            binding,
            is_bound: false,
            checked: Once::from(checked),
            unchecked: Mutex::new(Unchecked::Missing),
            verified: Once::new(),
            prefetched_bytes: mean_record_bytes(&binding),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        #[cfg(test)]
        crate::looks::count();
        self.data.id()
    }

    pub(crate) const fn data(&self) -> &Arc<Data> {
        &self.data
    }

    pub(crate) const fn binding(&self) -> &SealedSegment {
        &self.binding
    }

    /// Content of all records, in bytes.
    pub(crate) fn content_bytes(&self) -> u64 {
        let headers = record::HEADER_BYTES * u64::from(self.binding.objects);
        self.binding.data_bytes.saturating_sub(headers)
    }

    /// Length of the sidecar in bytes.
    pub(crate) fn index_bytes(&self) -> u64 {
        Sidecar::<&[u8]>::encoded_bytes(self.binding.objects).unwrap_or(u64::MAX)
    }

    /// The entries with this digest.
    ///
    /// Fails where there is none and the index had to be rebuilt from data that does not give back
    /// all that the manifest says was there: the object may have been one of the damaged ones.
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Result<impl Iterator<Item = Entry> + '_> {
        Ok(self.find_positions(digest)?.map(|(_, entry)| entry))
    }

    /// As [`find`](Self::find), with the positions of the entries in the sidecar.
    #[inline]
    pub(crate) fn find_positions(
        &self,
        digest: &Digest,
    ) -> Result<impl Iterator<Item = (usize, Entry)> + '_> {
        let checked = self.checked()?;
        let range = checked.fanout(|| self.data.is_inherited()).range(digest);
        // All of it at once: a search that waits for one line after the other takes longer.
        prefetch(checked.index.entries_bytes(range.clone()));
        let mut entries = checked.index.find_positions_in(range, digest).peekable();
        match &checked.doubt {
            Some(reason) if entries.peek().is_none() => Err(Error::CorruptIndex {
                segment: self.id(),
                reason: reason.clone(),
            }),
            _ => Ok(entries),
        }
    }

    /// Asks for what [`find`](Self::find) reads first, if the sidecar has been searched before.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, digest: &Digest) {
        if let Some(fanout) = self.checked.get().and_then(|checked| checked.fanout.get()) {
            fanout.prefetch(digest);
        }
    }

    /// Asks for what [`find`](Self::find) reads next.
    #[inline]
    pub(crate) fn prefetch_entry(&self, digest: &Digest) {
        if let Some(checked) = self.checked.get()
            && let Some(fanout) = checked.fanout.get()
        {
            prefetch(checked.index.entries_bytes(fanout.range(digest)));
        }
    }

    /// The entry of a digest that is in the sidecar at a position with the low bits that `location`
    /// has, if the sidecar has been searched before. Unlike a search, it reads no other entry.
    #[inline]
    pub(crate) fn entry_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<Entry> {
        let (_, entry) = self.numbered_entry_at(digest, geometry, location)?;
        Some(entry)
    }

    /// As [`entry_at`](Self::entry_at), if this record was verified in this process.
    #[inline]
    pub(crate) fn verified_entry(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<Entry> {
        let (position, entry) = self.numbered_entry_at(digest, geometry, location)?;
        self.verified.get()?.get(position).then_some(entry)
    }

    #[inline]
    fn numbered_entry_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<(usize, Entry)> {
        let (index, position) = self.position_at(digest, geometry, location)?;
        let entry = index.entry(position)?;
        (entry.digest == *digest).then_some((position, entry))
    }

    /// Asks for what [`entry_at`](Self::entry_at) reads.
    #[inline]
    pub(crate) fn prefetch_entry_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) {
        if let Some((index, position)) = self.position_at(digest, geometry, location) {
            prefetch(index.entries_bytes(position..position + 1));
        }
    }

    #[inline]
    fn position_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<(&Sidecar<FileBytes>, usize)> {
        let checked = self.checked.get()?;
        let part = checked.fanout.get()?.range(digest);
        let position = geometry.position_in(&part, location)?;
        Some((&checked.index, position))
    }

    /// Which records were verified in this process, by their position in the sidecar. Costs one bit
    /// of heap a record from the first time on.
    pub(crate) fn verified(&self) -> &AtomicBits {
        let is_forked = || self.data.is_inherited();
        self.verified.get_or_init(is_forked, || {
            // No more than fit the file, whatever the manifest says.
            let fit = usize::try_from(self.data.len() / record::HEADER_BYTES);
            let records = self.binding.objects as usize;
            AtomicBits::new(records.min(fit.unwrap_or(usize::MAX)))
        })
    }

    /// Asks for a record ahead of its use, as if it were of average length: how long it is only its
    /// own header says.
    #[inline]
    pub(crate) fn prefetch_record(&self, offset: u64) {
        let begin = offset.saturating_sub(record::HEADER_BYTES);
        if let Some(record) = self.data.mapped(begin, self.prefetched_bytes) {
            prefetch(record);
        }
    }

    /// The index. Its entries are sorted.
    pub(crate) fn index(&self) -> Result<&Sidecar<FileBytes>> {
        Ok(&self.checked()?.index)
    }

    /// Whether the manifest binds this to the sidecar on disk.
    pub(crate) const fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Fails if the index may lack objects.
    pub(crate) fn check_complete(&self) -> Result<()> {
        match &self.checked()?.doubt {
            None => Ok(()),
            Some(reason) => Err(Error::CorruptIndex {
                segment: self.id(),
                reason: reason.clone(),
            }),
        }
    }

    /// As [`doubt`](Self::doubt), as far as that is known without checking anything now.
    pub(crate) fn known_doubt(&self) -> Option<&str> {
        self.checked.get()?.doubt.as_deref()
    }

    /// Why the index may lack objects, where that is so.
    pub(crate) fn doubt(&self) -> Result<Option<&str>> {
        Ok(self.checked()?.doubt.as_deref())
    }

    /// The index with what was found out about it; checks the sidecar the first time.
    #[inline]
    fn checked(&self) -> Result<&CheckedIndex> {
        match self.checked.get() {
            Some(checked) => Ok(checked),
            None => self.check_now(),
        }
    }

    #[cold]
    fn check_now(&self) -> Result<&CheckedIndex> {
        if self.data.is_inherited() {
            // The lock may be held by a thread that only the parent has.
            let checked = self.check_after_fork()?;
            return Ok(self.checked.get_or_init(|| true, || checked));
        }
        // What a panic leaves behind is opened or missing, as before.
        let mut unchecked = lock(&self.unchecked);
        if self.checked.get().is_none() {
            let checked = match self.read_sidecar(&mut unchecked)? {
                Some(index) => CheckedIndex::new(index),
                None => self.rebuild()?,
            };
            return Ok(self.checked.get_or_init(|| false, || checked));
        }
        drop(unchecked);
        self.checked.get().ok_or_else(|| Error::CorruptIndex {
            segment: self.id(),
            reason: "it could not be checked".to_owned(),
        })
    }

    /// Checks the sidecar that there is now, as one that was just opened.
    fn check_after_fork(&self) -> Result<CheckedIndex> {
        let mode = if self.data.is_mapped() {
            ReadMode::Mmap
        } else {
            ReadMode::Pread
        };
        let mut unchecked = if self.is_bound {
            Unchecked::Named(Reading::from(mode))
        } else {
            Unchecked::Missing
        };
        match self.read_sidecar(&mut unchecked)? {
            Some(index) => Ok(CheckedIndex::new(index)),
            None => self.rebuild(),
        }
    }

    /// The sidecar, if there is one and it is, as a whole, what the manifest says.
    fn read_sidecar(&self, unchecked: &mut Unchecked) -> Result<Option<Sidecar<FileBytes>>> {
        let read = match unchecked {
            Unchecked::File(held, path) => Some(FileBytes::Heap(read_file(held.file(), path)?)),
            Unchecked::Named(reading) => match open_sidecar(self.data.dir(), self.id(), *reading) {
                Err(error) if error.is_not_found() => None,
                opened => Some(opened?),
            },
            Unchecked::Map(_) | Unchecked::Missing => None,
        };
        // After an error it is as it was.
        let bytes = match (std::mem::replace(unchecked, Unchecked::Missing), read) {
            (Unchecked::Map(map), _) => FileBytes::Map(map),
            (_, Some(bytes)) => bytes,
            (_, None) => return Ok(None),
        };
        Ok(check(bytes, &self.binding).ok())
    }

    fn rebuild(&self) -> Result<CheckedIndex> {
        let hash = hash_records_single_threaded;
        let rebuilt = rebuild_index(&self.data, Some(&self.binding), hash)?;
        Ok(CheckedIndex {
            doubt: rebuilt.doubt,
            ..CheckedIndex::new(rebuilt.index.map_bytes(FileBytes::Heap))
        })
    }
}

fn mean_record_bytes(binding: &SealedSegment) -> usize {
    let mean = binding.data_bytes / u64::from(binding.objects.max(1));
    usize::try_from(mean).unwrap_or(usize::MAX)
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

fn open_sidecar_file(dir: &Dir, id: u32, reading: Reading) -> Result<Unchecked> {
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

/// The bytes of an open file, mapped where they may be.
pub(crate) fn file_bytes(
    file: &File,
    path: &Path,
    len: u64,
    reading: Reading,
    map_use: MapUse,
) -> Result<FileBytes> {
    match map_file(file, len, reading, map_use) {
        Some(map) => Ok(FileBytes::Map(map)),
        None => read_file(file, path).map(FileBytes::Heap),
    }
}

fn map_file(file: &File, len: u64, reading: Reading, map_use: MapUse) -> Option<Map> {
    if is_mostly_holes(file, len).unwrap_or(true) {
        return None;
    }
    let map = reading.map(file, len, map_use)?;
    reading.advice.advise_index(&map);
    Some(map)
}

/// The bytes of a file that holds digests or tables; none if it has more holes than such a file can have,
/// which everybody takes for damage.
fn read_file(file: &File, path: &Path) -> Result<Vec<u8>> {
    let len = file.metadata().map_err(Error::io(path))?.len();
    if is_mostly_holes(file, len).map_err(Error::io(path))? {
        return Ok(Vec::new());
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    read_new_at(file, len, 0).map_err(Error::io(path))
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
pub(crate) struct RebuiltIndex {
    pub(crate) index: Sidecar<Vec<u8>>,
    /// Why objects may be missing from it.
    pub(crate) doubt: Option<String>,
}

/// Reads all records and hashes them with `hash`. Where the data is not mapped, in batches. With a binding, the result is known to be complete
/// if it is, to the bit, the sidecar that was written when the segment was sealed.
pub(crate) fn rebuild_index(
    data: &Data,
    binding: Option<&SealedSegment>,
    hash: Hash,
) -> Result<RebuiltIndex> {
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
    let index = Sidecar::build(&mut entries);
    let doubt = match binding {
        Some(binding) if !is_bound_by(binding, &index) => {
            Some("it is not the one that was written, and neither is the data".to_owned())
        }
        None if whole_bytes != data.len() => {
            Some(format!("the data is unreadable from byte {whole_bytes} on"))
        }
        _ => None,
    };
    Ok(RebuiltIndex { index, doubt })
}
