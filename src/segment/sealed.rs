//! A sealed segment: data and sidecar, both as they are on disk.

use std::sync::Arc;

use super::content::Content;
use super::file_bytes::FileBytes;
use super::once::Once;
use super::sidecar::{
    CheckedSidecar, Unchecked, binding_of, open_sidecar, open_sidecar_file, rebuild_sidecar,
};
use super::{Data, hash_records_single_threaded};
use crate::digest::Digest;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::set_index::{Geometry, Location};
use crate::format::{Entry, SealedSegment, Sidecar, record};
use crate::memory::{AtomicBits, prefetch};
use crate::options::{ReadMode, Reading};
use crate::sync::{Mutex, lock};

/// An immutable segment. Costs no heap an object until its sidecar is searched, and then that of its
/// [`Fanout`]. The whole sidecar is checked when it is first asked for something.
#[derive(Debug)]
pub(crate) struct Sealed {
    data: Arc<Data>,
    binding: SealedSegment,
    /// Whether the sidecar on disk is to be what `binding` says.
    is_bound: bool,
    checked: Once<CheckedSidecar>,
    /// Held while the sidecar is checked, so that it is done once. Nothing that is done meanwhile
    /// may wait for other threads of a pool: they could be waiting for this.
    unchecked: Mutex<Unchecked>,
    /// Which records were verified in this process, by their position in the sidecar.
    verified: Once<AtomicBits>,
    /// Length of a record, on average.
    prefetched_bytes: usize,
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
    pub(crate) fn with_sidecar(
        dir: &Dir,
        id: u32,
        reading: Reading,
        data_bytes: u64,
        index: &Sidecar<Vec<u8>>,
    ) -> Result<Self> {
        let mut sealed = Self::open(dir, id, reading, binding_of(index, data_bytes))?;
        let checked = match open_sidecar(dir, id, reading).map(Sidecar::parse_unchecked) {
            Ok(Ok(mapped)) => CheckedSidecar::new(mapped),
            _ => CheckedSidecar::new(index.clone().map_bytes(FileBytes::Heap)),
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
        let checked = CheckedSidecar {
            doubt,
            ..CheckedSidecar::new(index.map_bytes(FileBytes::Heap))
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

    /// The entries with this digest, and their positions in the sidecar.
    ///
    /// Fails where there is none and the index had to be rebuilt from data that does not give back
    /// all that the manifest says was there: the object may have been one of the damaged ones.
    #[inline]
    pub(crate) fn find(
        &self,
        digest: &Digest,
    ) -> Result<impl Iterator<Item = (usize, Entry)> + '_> {
        let checked = self.checked()?;
        let range = checked.fanout(|| self.data.is_inherited()).range(digest);
        // All of it at once: a search that waits for one line after the other takes longer.
        prefetch(checked.sidecar.entries_bytes(range.clone()));
        let mut entries = checked.sidecar.find_positions_in(range, digest).peekable();
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
            prefetch(checked.sidecar.entries_bytes(fanout.range(digest)));
        }
    }

    /// As [`entry_at`](Self::entry_at), if this record was verified in this process.
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

    /// The entry of a digest that is in the sidecar at a position with the low bits that `location`
    /// has, and this position, if the sidecar has been searched before. Unlike a search, it reads no
    /// other entry.
    #[inline]
    pub(crate) fn entry_at(
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
        Some((&checked.sidecar, position))
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

    /// The bytes at `offset`, not verified. `None` if not all of them are there.
    #[inline]
    pub(crate) fn content(&self, offset: u64, len: usize) -> Result<Option<Content<'_>>> {
        let data = &self.data;
        if let Some(bytes) = data.mapped(offset, len) {
            return Ok(Some(Content::Sealed {
                data,
                offset,
                bytes,
            }));
        }
        let bytes = data.read(offset, len)?;
        Ok(bytes.map(|bytes| Content::Heap(bytes.into_owned())))
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
    pub(crate) fn sidecar(&self) -> Result<&Sidecar<FileBytes>> {
        Ok(&self.checked()?.sidecar)
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
    fn checked(&self) -> Result<&CheckedSidecar> {
        match self.checked.get() {
            Some(checked) => Ok(checked),
            None => self.check_now(),
        }
    }

    #[cold]
    fn check_now(&self) -> Result<&CheckedSidecar> {
        if self.data.is_inherited() {
            // The lock may be held by a thread that only the parent has.
            let checked = self.check_after_fork()?;
            return Ok(self.checked.get_or_init(|| true, || checked));
        }
        // What a panic leaves behind is opened or missing, as before.
        let mut unchecked = lock(&self.unchecked);
        if self.checked.get().is_none() {
            let checked = match unchecked.read(&self.data, &self.binding)? {
                Some(index) => CheckedSidecar::new(index),
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
            Some(index) => Ok(CheckedSidecar::new(index)),
            None => self.rebuild(),
        }
    }

    fn rebuild(&self) -> Result<CheckedSidecar> {
        let hash = hash_records_single_threaded;
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
