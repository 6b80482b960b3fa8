//! The records of an unsealed segment by digest.

use std::hash::RandomState;
use std::sync::{Arc, OnceLock};

use super::Extent;
use super::keyed_hash::KeyedHash;
use crate::digest::Digest;
use crate::format::Entry;
use crate::memory::{Computed, GrowOnlyMap};
use crate::sync::published::{AtomicBool, AtomicU32, Ordering};
use crate::threads::map_parts;

/// Where the content of each object of an unsealed segment lies.
///
/// One [`ActiveIndexWriter`] adds records, any number of readers look them up, and no reader waits.
///
/// 1. A record that is counted by [`len`](Self::len) is found, and its content can be read.
/// 2. An object that is put again to repair it is found all the time, first the old copy, then the
///    new one. The old copy moves to `superseded` before the new one takes its place, so every
///    record is in one of the two.
/// 3. Readers never wait, neither to look up nor to walk, and use no storage of their thread: they
///    may be in a forked process, where they would wait for ever for a thread that only the parent
///    has, or in a destructor of such storage. See [`GrowOnlyMap`].
#[derive(Debug)]
pub(crate) struct ActiveIndex {
    by_digest: GrowOnlyMap<Digest, Indexed, KeyedHash>,
    /// By offset, damaged records whose object was put again. They are no longer found, but they
    /// are in the file and so will be in its sidecar.
    superseded: OnceLock<GrowOnlyMap<u64, Entry, RandomState>>,
    records: AtomicU32,
    objects: AtomicU32,
}

/// The place of an object's content, and whether this process has hashed it.
#[derive(Debug)]
pub(crate) struct Indexed {
    extent: Extent,
    /// Whether the content was hashed in this process, by a put or by a read.
    is_verified: AtomicBool,
}

impl Indexed {
    /// Where the content lies.
    #[inline]
    pub(crate) const fn extent(&self) -> Extent {
        self.extent
    }

    /// Whether the content was hashed in this process. Nothing else is read because of the answer, so
    /// no order is needed.
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified.load(Ordering::Relaxed)
    }

    pub(crate) fn note_verified(&self) {
        self.is_verified.store(true, Ordering::Relaxed);
    }
}

/// The only handle that can add to an [`ActiveIndex`]; it cannot be cloned.
#[derive(Debug)]
pub(crate) struct ActiveIndexWriter(Arc<ActiveIndex>);

/// Number of records that one task inserts when an index is made of many.
const TASK_RECORDS: usize = 4096;

impl ActiveIndexWriter {
    /// Makes an index of `entries`, which may hold several copies of an object: the copy at the
    /// highest offset is found. `expected` is the number of records that the segment will
    /// probably have in the end; beyond that number the map grows, which a put waits for.
    pub(crate) fn new(entries: &[Entry], expected: usize) -> Self {
        let index = ActiveIndex {
            by_digest: GrowOnlyMap::new(entries.len().max(expected), KeyedHash::random()),
            superseded: OnceLock::new(),
            records: AtomicU32::new(0),
            objects: AtomicU32::new(0),
        };
        map_parts(entries.chunks(TASK_RECORDS).collect(), |entries| {
            for entry in entries {
                index.insert(entry, false);
            }
        });
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let objects = index.by_digest.len();
        let superseded = index.superseded.get().map_or(0, GrowOnlyMap::len);
        index.objects.store(count(objects), Ordering::Release);
        index
            .records
            .store(count(objects + superseded), Ordering::Release);
        Self(Arc::new(index))
    }

    /// The index that readers share.
    pub(crate) const fn shared(&self) -> &Arc<ActiveIndex> {
        &self.0
    }

    /// Whether there is room for another record. The limit is that of a sidecar.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < u32::MAX
    }

    /// Adds a record. From then on it is found instead of an earlier copy. `is_verified` says whether
    /// this process has hashed its content.
    pub(crate) fn insert(&mut self, entry: &Entry, is_verified: bool) {
        let index = &*self.0;
        let added = index.insert(entry, is_verified);
        // The record is counted after it can be found: a reader that sees the count finds it.
        if added == Added::Object {
            index.objects.fetch_add(1, Ordering::Release);
        }
        if added != Added::Nothing {
            index.records.fetch_add(1, Ordering::Release);
        }
    }
}

/// The change that one insertion made to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Object,
    /// Another copy of an object.
    Copy,
    Nothing,
}

impl ActiveIndex {
    /// Looks an object up. Never waits.
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Option<&Indexed> {
        if self.len() == 0 {
            // A segment is empty after each opening and each seal, and asking the map takes longer.
            return None;
        }
        self.by_digest.get(digest)
    }

    /// Adds a record without counting it. It may be there already: a reader takes some records from
    /// the data first, and then again from the journal.
    fn insert(&self, entry: &Entry, is_verified: bool) -> Added {
        let added = Extent {
            offset: entry.offset,
            len: entry.len,
        };
        let indexed = |extent, is_verified| Indexed {
            extent,
            is_verified: AtomicBool::new(is_verified),
        };
        // Nearly always the object is new, and then this is one probe.
        if self
            .by_digest
            .insert_new(entry.digest, indexed(added, is_verified))
        {
            return Added::Object;
        }
        let computed = self.by_digest.compute(entry.digest, |found| match found {
            None => Some(indexed(added, is_verified)),
            Some((_, found)) if found.extent.offset == added.offset => None,
            Some((digest, found)) if found.extent.offset < added.offset => {
                self.supersede(digest, found.extent);
                Some(indexed(added, is_verified))
            }
            Some((digest, found)) => {
                self.supersede(digest, added);
                Some(indexed(found.extent, found.is_verified()))
            }
        });
        match computed {
            Computed::Inserted => Added::Object,
            Computed::Replaced => Added::Copy,
            Computed::Nothing => Added::Nothing,
        }
    }

    /// Keeps a copy that is no longer found.
    fn supersede(&self, digest: &Digest, Extent { offset, len }: Extent) {
        let entry = Entry {
            digest: *digest,
            offset,
            len,
        };
        let superseded = self
            .superseded
            .get_or_init(|| GrowOnlyMap::new(0, RandomState::new()));
        superseded.insert_new(offset, entry);
    }

    /// Number of records, superseded records included. A later lookup or walk meets all of them.
    pub(crate) fn len(&self) -> u32 {
        self.records.load(Ordering::Acquire)
    }

    /// All records, superseded records included, in no order. A copy that is being superseded at
    /// this moment may be listed twice.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = self.current_entries();
        if let Some(superseded) = self.superseded.get() {
            entries.extend(superseded.collect(|_, entry| *entry));
        }
        entries
    }

    /// The records that a lookup finds, in no order.
    pub(crate) fn current_entries(&self) -> Vec<Entry> {
        self.by_digest.collect(|&digest, indexed| Entry {
            digest,
            offset: indexed.extent.offset,
            len: indexed.extent.len,
        })
    }

    /// Number of objects that can be found.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Acquire).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, offset: u64) -> Entry {
        Entry {
            digest: Digest::of(number.to_le_bytes()),
            offset,
            len: number,
        }
    }

    fn offset_of(index: &ActiveIndex, number: u32) -> Option<u64> {
        let digest = Digest::of(number.to_le_bytes());
        index.find(&digest).map(|found| found.extent.offset)
    }

    fn sorted_offsets(entries: &[Entry]) -> Vec<u64> {
        let mut offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        offsets
    }

    #[test]
    fn recovered_and_inserted_entries_are_found() {
        for recovered in [0, 1, 2, 3, 1000, 3 * u32::try_from(TASK_RECORDS).unwrap()] {
            let entries: Vec<Entry> = (0..recovered).map(|i| entry(i, i.into())).collect();
            let mut writer = ActiveIndexWriter::new(&entries, 0);
            let index = Arc::clone(writer.shared());
            for number in recovered..recovered + 100 {
                writer.insert(&entry(number, number.into()), false);
            }
            for number in 0..recovered + 100 {
                assert_eq!(offset_of(&index, number), Some(u64::from(number)));
            }
            assert_eq!(offset_of(&index, recovered + 100), None);
            assert_eq!(index.objects(), u64::from(recovered) + 100);
            assert_eq!(index.len(), recovered + 100);
            assert_eq!(index.entries().len(), recovered as usize + 100);
        }
    }

    #[test]
    fn the_copy_at_the_highest_offset_is_found_and_every_copy_is_kept() {
        for entries in [[(1, 10), (2, 20), (1, 30)], [(1, 30), (2, 20), (1, 10)]] {
            let entries = entries.map(|(number, offset)| entry(number, offset));
            let mut writer = ActiveIndexWriter::new(&entries, 0);
            let index = Arc::clone(writer.shared());
            assert_eq!((offset_of(&index, 1), index.objects()), (Some(30), 2));
            for (number, offset) in [(2, 20), (1, 40), (3, 50), (3, 60), (3, 60)] {
                writer.insert(&entry(number, offset), false);
            }
            assert_eq!(offset_of(&index, 1), Some(40));
            assert_eq!(offset_of(&index, 3), Some(60));
            assert_eq!((index.objects(), index.len()), (3, 6));
            assert_eq!(sorted_offsets(&index.entries()), [10, 20, 30, 40, 50, 60]);
            assert_eq!(sorted_offsets(&index.current_entries()), [20, 40, 60]);
        }
    }

    #[test]
    fn copies_that_are_inserted_in_parallel_are_told_apart() {
        const OBJECTS: u32 = 3000;
        let entries: Vec<Entry> = (0..10 * OBJECTS)
            .map(|at| entry(at % OBJECTS, at.into()))
            .collect();
        let writer = ActiveIndexWriter::new(&entries, 0);
        let index = writer.shared();
        assert_eq!(
            (index.objects(), index.len()),
            (OBJECTS.into(), 10 * OBJECTS)
        );
        for number in 0..OBJECTS {
            assert_eq!(
                offset_of(index, number),
                Some(u64::from(9 * OBJECTS + number))
            );
        }
        let all: Vec<u64> = (0..u64::from(10 * OBJECTS)).collect();
        assert_eq!(sorted_offsets(&index.entries()), all);
    }

    #[test]
    fn counted_records_are_found_while_the_map_grows() {
        const RECORDS: u32 = 20_000;
        let entries: Vec<Entry> = (0..10).map(|i| entry(i, i.into())).collect();
        let mut writer = ActiveIndexWriter::new(&entries, 0);
        let index = Arc::clone(writer.shared());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < RECORDS {
                        let len = index.len();
                        // The newest records, and some that were moved when the map grew.
                        for number in (seen..len).chain((0..len).step_by(997)) {
                            assert_eq!(offset_of(&index, number), Some(u64::from(number)));
                        }
                        assert!(index.entries().len() >= len as usize);
                        assert!(index.current_entries().len() >= len as usize);
                        seen = len;
                    }
                });
            }
            for number in 10..RECORDS {
                writer.insert(&entry(number, number.into()), false);
            }
        });
        assert_eq!(index.objects(), u64::from(RECORDS));
    }

    #[test]
    fn a_record_that_is_put_again_is_found_and_listed_all_the_time() {
        let mut writer = ActiveIndexWriter::new(&[entry(7, 0)], 0);
        let index = Arc::clone(writer.shared());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < 10_000 {
                    let found = offset_of(&index, 7).unwrap();
                    assert!(found >= seen);
                    let counted = index.len() as usize;
                    let mut offsets = sorted_offsets(&index.entries());
                    offsets.dedup();
                    assert!(offsets.len() >= counted);
                    assert_eq!(index.objects(), 1);
                    seen = found;
                }
            });
            for offset in 1..=10_000 {
                writer.insert(&entry(7, offset), false);
            }
        });
    }

    /// Such digests can be forged in a journal. A hash that gave them all one value would make the
    /// map grow without a bound.
    #[test]
    fn h65_digests_that_differ_in_their_last_bytes_are_told_apart() {
        let entry = |number: u32| {
            let mut digest = [7; 32];
            digest[28..].copy_from_slice(&number.to_le_bytes());
            Entry {
                digest: digest.into(),
                offset: number.into(),
                len: 1,
            }
        };
        let entries: Vec<Entry> = (0..300).map(entry).collect();
        let mut writer = ActiveIndexWriter::new(&entries, 0);
        let index = Arc::clone(writer.shared());
        for number in 300..600 {
            writer.insert(&entry(number), false);
        }
        for number in 0..600 {
            let found = index.find(&entry(number).digest).unwrap();
            assert_eq!(found.extent.offset, u64::from(number));
        }
        assert!(index.find(&entry(600).digest).is_none());
        assert_eq!((index.objects(), index.current_entries().len()), (600, 600));
    }
}
