//! A sealed segment: its data file and its sidecar, both as they are on disk.

use std::sync::Arc;

use super::Data;
use super::content::Content;
use super::file_bytes::FileBytes;
use super::once::Once;
use super::sidecar::{
    CheckedSidecar, Unchecked, binding_of, open_sidecar, open_sidecar_file, rebuild_sidecar,
};
use crate::digest::Digest;
use crate::dir::{Dir, FileKind};
use crate::error::{Error, Result};
use crate::format::set_index::{Geometry, Location};
use crate::format::sidecar::Found;
use crate::format::{Entry, SealedSegment, Sidecar, record};
use crate::memory::{AtomicBits, prefetch};
use crate::options::{ReadMode, Reading};
use crate::sync::{Mutex, lock};

/// An immutable segment. It takes no heap an object until its sidecar is searched, and from then on
/// the heap of its [`Fanout`]. The whole sidecar is checked when it is first used.
#[derive(Debug)]
pub(crate) struct Sealed {
    data: Arc<Data>,
    binding: SealedSegment,
    /// Whether the manifest binds the sidecar on disk to `binding`.
    is_bound: bool,
    checked: Once<CheckedSidecar>,
    /// Held while the sidecar is checked, so that it is checked once. The check must not wait for
    /// threads of a pool: they could be waiting for this lock.
    unchecked: Mutex<Unchecked>,
    /// The records that were verified in this process, by their position in the sidecar.
    verified: Once<AtomicBits>,
    /// Average length of a record.
    record_bytes_mean: usize,
}

impl Sealed {
    /// Opens a segment that the manifest binds to a sidecar. The sidecar is opened now, so that it
    /// stays readable when the segment is compacted away, and checked when it is first used.
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
            record_bytes_mean: mean_record_bytes(&binding),
        })
    }

    /// Opens a segment whose sidecar the caller has just written.
    pub(crate) fn with_sidecar(
        dir: &Dir,
        id: u32,
        reading: Reading,
        data_bytes: u64,
        sidecar: &Sidecar<Vec<u8>>,
    ) -> Result<Self> {
        let mut sealed = Self::open(dir, id, reading, binding_of(sidecar, data_bytes))?;
        let checked = match open_sidecar(dir, id, reading).map(Sidecar::parse_unchecked) {
            Ok(Ok(mapped)) => CheckedSidecar::new(mapped),
            _ => CheckedSidecar::new(sidecar.clone().map_bytes(FileBytes::Heap)),
        };
        sealed.checked = Once::from(checked);
        // `checked` has mapped the sidecar already.
        sealed.unchecked = Mutex::new(Unchecked::Missing);
        Ok(sealed)
    }

    /// Makes a segment that the manifest does not list, for a reader that must not write one.
    /// `doubt` says why the sidecar may lack objects, if it may.
    pub(crate) fn in_memory(
        data: Data,
        data_bytes: u64,
        sidecar: Sidecar<Vec<u8>>,
        doubt: Option<String>,
    ) -> Self {
        let binding = binding_of(&sidecar, data_bytes);
        let checked = CheckedSidecar {
            doubt,
            ..CheckedSidecar::new(sidecar.map_bytes(FileBytes::Heap))
        };
        Self {
            data: Arc::new(data),
            binding,
            is_bound: false,
            checked: Once::from(checked),
            unchecked: Mutex::new(Unchecked::Missing),
            verified: Once::new(),
            record_bytes_mean: mean_record_bytes(&binding),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        #[cfg(test)]
        crate::visits::count();
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
        Sidecar::<&[u8]>::encoded_bytes(self.binding.objects)
    }

    /// The entries with this digest, and their positions in the sidecar.
    ///
    /// Fails if there is no such entry and the sidecar had to be rebuilt from data that lacks some
    /// objects of which the manifest knows: this object may be one of them.
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Result<Found<'_, FileBytes>> {
        let checked = self.checked()?;
        let range = checked.fanout(|| self.data.is_inherited()).range(digest);
        // Fetches all lines at once: a search that waits for each in turn takes longer.
        prefetch(checked.sidecar.entries_bytes(range.clone()));
        let find = || checked.sidecar.find_positions_in(range.clone(), digest);
        match &checked.doubt {
            Some(reason) if find().next().is_none() => Err(Error::CorruptIndex {
                segment: self.id(),
                reason: reason.clone(),
            }),
            _ => Ok(find()),
        }
    }

    /// Prefetches what [`find`](Self::find) reads first, if the sidecar has been searched before.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, digest: &Digest) {
        if let Some(fanout) = self.checked.get().and_then(|checked| checked.fanout.get()) {
            fanout.prefetch(digest);
        }
    }

    /// Prefetches the entries that [`find`](Self::find) reads next.
    #[inline]
    pub(crate) fn prefetch_entry(&self, digest: &Digest) {
        if let Some(checked) = self.checked.get()
            && let Some(fanout) = checked.fanout.get()
        {
            prefetch(checked.sidecar.entries_bytes(fanout.range(digest)));
        }
    }

    /// Returns [`entry_at`](Self::entry_at) if this record was verified in this process.
    #[inline]
    pub(crate) fn verified_entry(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<Entry> {
        let (position, entry) = self.entry_at(digest, geometry, location)?;
        self.verified.get()?.get(position).then_some(entry)
    }

    /// Returns the entry of this digest and its position, if it stands where the low bits of its
    /// position in `location` say and if the sidecar has been searched before. Reads no other
    /// entry, unlike a search.
    #[inline]
    pub(crate) fn entry_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) -> Option<(usize, Entry)> {
        let (sidecar, position) = self.position_at(digest, geometry, location)?;
        let entry = sidecar.entry(position)?;
        (entry.digest == *digest).then_some((position, entry))
    }

    /// Prefetches the entry that [`entry_at`](Self::entry_at) reads.
    #[inline]
    pub(crate) fn prefetch_entry_at(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) {
        if let Some((sidecar, position)) = self.position_at(digest, geometry, location) {
            prefetch(sidecar.entries_bytes(position..position + 1));
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
        Some((&checked.sidecar, position))
    }

    /// The records that were verified in this process, by their position in the sidecar. The first
    /// call allocates one bit a record.
    pub(crate) fn verified(&self) -> &AtomicBits {
        let is_forked = || self.data.is_inherited();
        self.verified.get_or_init(is_forked, || {
            // No more records than fit into the file, whatever the manifest says.
            let fit = usize::try_from(self.data.len() / record::HEADER_BYTES);
            let records = self.binding.objects as usize;
            AtomicBits::new(records.min(fit.unwrap_or(usize::MAX)))
        })
    }

    /// The bytes at `offset`, not verified. `None` if not all of them are there.
    #[inline]
    pub(crate) fn content(&self, offset: u64, len: usize) -> Result<Option<Content<'_>>> {
        let data = &self.data;
        let mapped = data.mapped(offset, len);
        if let Some(bytes) = mapped {
            return Ok(Some(Content::Sealed {
                data,
                offset,
                bytes,
            }));
        }
        let bytes = data.read(offset, len)?;
        Ok(bytes.map(|bytes| Content::Heap(bytes.into_owned())))
    }

    /// Prefetches a record as if it were of average length: only its own header gives its length.
    #[inline]
    pub(crate) fn prefetch_record(&self, offset: u64) {
        let begin = offset.saturating_sub(record::HEADER_BYTES);
        if let Some(record) = self.data.mapped(begin, self.record_bytes_mean) {
            #[cfg(test)]
            crate::memory::prefetched::count();
            prefetch(record);
        }
    }

    /// Average length of a record.
    pub(crate) const fn record_bytes_mean(&self) -> usize {
        self.record_bytes_mean
    }

    /// Asks the system for the entry that [`entry_at`](Self::entry_at) reads, and does not wait.
    pub(crate) fn will_need_entry(
        &self,
        digest: &Digest,
        geometry: &Geometry,
        location: &Location,
    ) {
        if let Some((sidecar, position)) = self.position_at(digest, geometry, location) {
            let entry = sidecar.entries_bytes(position..position + 1);
            let file = sidecar.get_ref();
            file.will_need(file.range_of(entry));
        }
    }

    /// Asks the system for the whole sidecar, for a pass over it.
    pub(crate) fn fetch_sidecar(&self) -> Result<()> {
        self.sidecar()?.get_ref().fetch();
        Ok(())
    }

    /// Has the system keep the sidecar in memory, for a walk through the data that reads its entries
    /// in another order than theirs.
    pub(crate) fn keep_sidecar(&self) -> Result<()> {
        let path = self.data.dir().segment_path(self.id(), FileKind::Sidecar);
        self.sidecar()?.get_ref().keep(&path);
        Ok(())
    }

    /// The sidecar. Its entries are sorted.
    pub(crate) fn sidecar(&self) -> Result<&Sidecar<FileBytes>> {
        Ok(&self.checked()?.sidecar)
    }

    /// Whether the manifest binds this segment to the sidecar on disk.
    pub(crate) const fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Fails if the sidecar may lack objects.
    pub(crate) fn check_complete(&self) -> Result<()> {
        match &self.checked()?.doubt {
            None => Ok(()),
            Some(reason) => Err(Error::CorruptIndex {
                segment: self.id(),
                reason: reason.clone(),
            }),
        }
    }

    /// Returns [`doubt`](Self::doubt), or `None` if the sidecar has not been checked yet.
    pub(crate) fn known_doubt(&self) -> Option<&str> {
        self.checked.get()?.doubt.as_deref()
    }

    /// Why the sidecar may lack objects, or `None` if it is complete.
    pub(crate) fn doubt(&self) -> Result<Option<&str>> {
        Ok(self.checked()?.doubt.as_deref())
    }

    /// The checked sidecar. The first call checks it.
    #[inline]
    fn checked(&self) -> Result<&CheckedSidecar> {
        match self.checked.get() {
            Some(checked) => Ok(checked),
            None => self.check_now(),
        }
    }

    #[cold]
    fn check_now(&self) -> Result<&CheckedSidecar> {
        if self.data.is_inherited() {
            // A thread that only the parent has may hold the lock.
            let checked = self.check_after_fork()?;
            return Ok(self.checked.get_or_init(|| true, || checked));
        }
        // A panic leaves the sidecar opened or missing, so poison is ignored.
        let mut unchecked = lock(&self.unchecked);
        if self.checked.get().is_none() {
            let checked = match unchecked.read(&self.data, &self.binding)? {
                Some(sidecar) => CheckedSidecar::new(sidecar),
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

    /// Opens the sidecar again and checks it.
    fn check_after_fork(&self) -> Result<CheckedSidecar> {
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
        match unchecked.read(&self.data, &self.binding)? {
            Some(sidecar) => Ok(CheckedSidecar::new(sidecar)),
            None => self.rebuild(),
        }
    }

    fn rebuild(&self) -> Result<CheckedSidecar> {
        let hash = self.data.hash_on_this_thread();
        let rebuilt = rebuild_sidecar(&self.data, Some(&self.binding), hash)?;
        Ok(CheckedSidecar {
            doubt: rebuilt.doubt,
            ..CheckedSidecar::new(rebuilt.sidecar.map_bytes(FileBytes::Heap))
        })
    }
}

fn mean_record_bytes(binding: &SealedSegment) -> usize {
    let mean = binding.data_bytes / u64::from(binding.objects.max(1));
    usize::try_from(mean).unwrap_or(usize::MAX)
}
