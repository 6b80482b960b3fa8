//! A store of its own that keeps objects which were read before, within a bound.

use std::path::Path;
use std::sync::{Arc, RwLock};

use crate::digest::{HashFunction, Hashed};
use crate::error::{RemoteError, Result};
use crate::options::Options;
use crate::store::Store;
use crate::sync::{Mutex, lock, read, write};

/// Into how many segments the cache is divided: a trim drops one of them or a few.
const SEGMENTS: u64 = 16;
/// Shortest and longest segment of the cache, in bytes.
const SEGMENT_BYTES: (u64, u64) = (16 << 10, 64 << 20);
/// Segments that may be on disk beyond those that are counted: a trim leaves the one that is appended
/// to, and a reader that is just reading keeps the files of one.
const SEGMENTS_SPARE: u64 = 2;
/// What an object takes on disk at most besides its record: an entry of the sidecar and one of the
/// journal, 44 bytes each, and 12 bytes in each of three runs, one of them old and one being built.
const OBJECT_BYTES: u64 = 44 + 44 + 3 * 12;
/// What a segment takes besides: the last block of each of its three files.
const SEGMENT_FILES_BYTES: u64 = 3 * 4096;
/// What the store takes besides: manifest, lock, and the headers of three runs.
const STORE_FILES_BYTES: u64 = 64 << 10;
/// Bytes that the files of the cache take besides the records and entries of its objects.
const FILES_BYTES: u64 = (SEGMENTS + SEGMENTS_SPARE) * SEGMENT_FILES_BYTES + STORE_FILES_BYTES;
/// Least room for objects.
const OBJECTS_BYTES_MIN: u64 = 512 << 10;
/// Length of a record's header in bytes.
const HEADER_BYTES: u64 = crate::format::record::HEADER_BYTES;

/// The cache of a reader. Clones are handles to the same cache, and none of them keeps it open once the
/// reader is gone.
#[derive(Clone)]
pub(super) struct Cache(Arc<RwLock<Option<OpenCache>>>);

/// A store that is trimmed before it would exceed its bound.
struct OpenCache {
    store: Store,
    /// Most bytes of all files in the folder of the cache.
    bytes_max: u64,
    usage: Mutex<Usage>,
}

/// What is on disk. The numbers never exceed it by less than what is really there.
struct Usage {
    /// The files of the index.
    index_bytes: u64,
    /// The records in the cache.
    data_bytes: u64,
    /// Their number.
    objects: u64,
    /// The files of segments beyond those for which room is spared: each opening begins one.
    files_bytes: u64,
}

impl Usage {
    fn objects_bytes(&self) -> u64 {
        self.data_bytes + self.objects * OBJECT_BYTES + self.files_bytes
    }
}

impl Cache {
    /// Opens the store in `root`, or makes it.
    pub(super) fn open(root: &Path, function: HashFunction, bytes_max: u64) -> Result<Self> {
        let open = OpenCache::open(root, function, bytes_max)?;
        Ok(Self(Arc::new(RwLock::new(Some(open)))))
    }

    /// The store, for reads without a lock. It stays open as long as this handle.
    pub(super) fn store(&self) -> Result<Store> {
        self.with(|open| Ok(open.store.clone()))
    }

    /// Makes room for an index whose files take `index_bytes`. Fails if too little would be left for
    /// objects.
    pub(super) fn make_room_for_index(&self, index_bytes: u64) -> Result<()> {
        self.with(|open| open.make_room_for_index(index_bytes))
    }

    /// Makes room for `bytes` more of an index that is of use but not needed. Returns false, and has
    /// changed nothing, if the index would take more than half of the bound.
    pub(super) fn make_room_for_more_index(&self, bytes: u64) -> Result<bool> {
        self.with(|open| open.make_room_for_more_index(bytes))
    }

    /// Most bytes of a segment that is taken over as a whole.
    pub(super) fn whole_bytes_max(&self) -> u64 {
        self.with(|open| Ok(open.whole_bytes_max())).unwrap_or(0)
    }

    /// Keeps objects, and drops the oldest ones for that if need be. Leaves out an object that would take
    /// much of the room.
    pub(super) fn put(&self, contents: &[Hashed<'_>]) -> Result<()> {
        self.with(|open| open.put(contents))
    }

    /// Keeps objects if that is possible. The reader has them already, so a full disk costs later reads a
    /// request, and is no error.
    pub(super) fn keep(&self, contents: &[Hashed<'_>]) {
        let kept = self.put(contents);
        #[cfg(feature = "tracing")]
        if let Err(error) = &kept {
            tracing::warn!(error = error.as_reason(), "keeping objects in the cache");
        }
        drop(kept);
    }

    /// Closes the cache, once the calls that are under way have ended. Later ones fail.
    pub(super) fn close(&self) {
        drop(write(&self.0).take());
    }

    fn with<T>(&self, work: impl FnOnce(&OpenCache) -> Result<T>) -> Result<T> {
        match &*read(&self.0) {
            Some(open) => work(open),
            None => Err(RemoteError::Cancelled.into()),
        }
    }
}

/// Length of the segments of a cache with this bound.
fn segment_bytes(bytes_max: u64) -> u64 {
    (bytes_max / SEGMENTS).clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1)
}

/// Room for objects, in bytes, in a cache with this bound whose index takes `index_bytes`.
fn room(bytes_max: u64, index_bytes: u64) -> u64 {
    let spare = SEGMENTS_SPARE * segment_bytes(bytes_max);
    let taken = index_bytes.saturating_add(spare + FILES_BYTES);
    bytes_max.saturating_sub(taken)
}

/// The least bound with which [`room`] is enough beside an index of this length.
fn bytes_min(index_bytes: u64) -> u64 {
    let fixed = index_bytes.saturating_add(FILES_BYTES + OBJECTS_BYTES_MIN);
    // The spare segments take an eighth of the bound: as much as a seventh of all that is not theirs.
    let of_rest = fixed / (SEGMENTS / SEGMENTS_SPARE - 1) + 1;
    let (least, most) = SEGMENT_BYTES;
    fixed.saturating_add(of_rest.clamp(SEGMENTS_SPARE * least, SEGMENTS_SPARE * most))
}

impl OpenCache {
    fn open(root: &Path, function: HashFunction, bytes_max: u64) -> Result<Self> {
        let options = Options::new()
            .hash_function(function)
            .segment_bytes_max(segment_bytes(bytes_max))
            // What is missing is read from the bucket again.
            .allow_missing_segments(true);
        let store = options.open(root)?;
        // What earlier crashes have left is no evidence of a loss here.
        store.remove_leftovers()?;
        let stats = store.stats();
        let segments = stats.segments.len() as u64;
        let usage = Usage {
            index_bytes: 0,
            data_bytes: stats.data_file_bytes + stats.torn_file_bytes,
            objects: stats.segments.iter().map(|segment| segment.objects).sum(),
            files_bytes: segments.saturating_sub(SEGMENTS) * SEGMENT_FILES_BYTES,
        };
        Ok(Self {
            usage: Mutex::new(usage),
            store,
            bytes_max,
        })
    }

    fn make_room_for_index(&self, index_bytes: u64) -> Result<()> {
        let mut usage = lock(&self.usage);
        let room = room(self.bytes_max, index_bytes);
        if room < OBJECTS_BYTES_MIN {
            return Err(RemoteError::CacheTooSmall {
                path: self.store.root().to_owned(),
                bytes_max: self.bytes_max,
                bytes_min: bytes_min(index_bytes),
            }
            .into());
        }
        self.trim_to(&mut usage, room)?;
        usage.index_bytes = index_bytes;
        Ok(())
    }

    fn make_room_for_more_index(&self, bytes: u64) -> Result<bool> {
        let index_bytes = lock(&self.usage).index_bytes.saturating_add(bytes);
        if index_bytes > self.bytes_max / 2 || room(self.bytes_max, index_bytes) < OBJECTS_BYTES_MIN
        {
            return Ok(false);
        }
        self.make_room_for_index(index_bytes)?;
        Ok(true)
    }

    fn whole_bytes_max(&self) -> u64 {
        room(self.bytes_max, lock(&self.usage).index_bytes) / 4
    }

    fn put(&self, contents: &[Hashed<'_>]) -> Result<()> {
        let record_bytes = |hashed: &Hashed<'_>| hashed.content().len() as u64 + HEADER_BYTES;
        let mut rest = contents;
        while !rest.is_empty() {
            let mut usage = lock(&self.usage);
            let room = room(self.bytes_max, usage.index_bytes);
            let (mut count, mut data_bytes) = (0, 0);
            for hashed in rest {
                let bytes = data_bytes + record_bytes(hashed);
                if bytes + (count as u64 + 1) * OBJECT_BYTES > room / 8 {
                    break;
                }
                (count, data_bytes) = (count + 1, bytes);
            }
            if count == 0 {
                rest = &rest[1..];
                continue;
            }
            let (batch, after) = rest.split_at(count);
            let needed = data_bytes + count as u64 * OBJECT_BYTES;
            self.trim_to(&mut usage, room.saturating_sub(needed))?;
            // Counted before they are there, so that the count is never too low.
            usage.data_bytes += data_bytes;
            usage.objects += count as u64;
            drop(usage);
            let is_new = self.store.put_many_hashed(batch)?;
            let known = batch.iter().zip(is_new).filter(|(_, is_new)| !is_new);
            let known = known.map(|(hashed, _)| record_bytes(hashed));
            let (count, bytes) = known.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
            let mut usage = lock(&self.usage);
            usage.data_bytes = usage.data_bytes.saturating_sub(bytes);
            usage.objects = usage.objects.saturating_sub(count);
            rest = after;
        }
        Ok(())
    }

    /// Drops the oldest objects until the others take at most `room` bytes, or nothing more can be dropped.
    fn trim_to(&self, usage: &mut Usage, room: u64) -> Result<()> {
        while usage.objects_bytes() > room {
            // The same part of the records as of all that the objects take; one segment less than
            // there would be room for, so that not every put trims.
            let part = u128::from(usage.data_bytes) * u128::from(room)
                / u128::from(usage.objects_bytes()).max(1);
            let target = u64::try_from(part).unwrap_or(u64::MAX);
            let stats = self
                .store
                .trim(target.saturating_sub(segment_bytes(self.bytes_max)))?;
            if stats.dropped_segments == 0 {
                // Only the segment is left that is appended to, for which room is spared unless it comes
                // from a process that had a higher bound and was killed.
                if usage.objects_bytes() > room.saturating_add(segment_bytes(self.bytes_max)) {
                    self.store.begin_compaction()?.finish(|_| false)?;
                    (usage.data_bytes, usage.objects, usage.files_bytes) = (0, 0, 0);
                }
                break;
            }
            // A trim of many segments leaves their files to a thread, or to the next trim.
            self.store.trim(u64::MAX)?;
            let files_bytes = stats.dropped_segments * SEGMENT_FILES_BYTES;
            usage.files_bytes = usage.files_bytes.saturating_sub(files_bytes);
            let dropped_bytes = stats.bytes_before - stats.bytes_after;
            usage.data_bytes = usage.data_bytes.saturating_sub(dropped_bytes);
            usage.objects = usage.objects.saturating_sub(stats.dropped_objects);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h77_the_least_bound_that_an_error_names_is_enough_and_the_least() {
        for index_bytes in [0, 1, 4096, 99_999, 1 << 20, 77 << 20, 1 << 30, 1 << 40] {
            let room = |bytes_max| room(bytes_max, index_bytes);
            let least = bytes_min(index_bytes);
            assert!(room(least) >= OBJECTS_BYTES_MIN, "{index_bytes}");
            assert!(room(least - SEGMENTS) < OBJECTS_BYTES_MIN, "{index_bytes}");
        }
    }
}
