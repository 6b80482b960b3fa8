//! The records of an unsealed segment by digest.

use std::sync::Arc;

use super::Extent;
use super::records::Records;
use super::slots::{KeyedHash, Slots};
use crate::digest::Digest;
use crate::format::Entry;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Records in the order in which they were appended, and slots that say where a digest is among them.
///
/// One [`ActiveIndexWriter`] adds to it, any number of readers look, and nobody waits: a record is
/// written before the slot that leads to it, and slots that have become too few are left as they are
/// and followed by twice as many.
#[derive(Debug)]
pub(crate) struct ActiveIndex {
    records: Records,
    /// By size. Those before the current ones are kept for readers who were looking when these were
    /// made; together they are no more than these are.
    slots: [OnceLock<Slots>; Slots::SIZES],
    current_size: AtomicUsize,
    hash: KeyedHash,
    /// Records whose object was put again because they are damaged. They are no longer found, but
    /// they are in the file and so will be in its sidecar.
    superseded: AtomicU32,
}

/// The only handle that can add to an [`ActiveIndex`]; it cannot be cloned.
#[derive(Debug)]
pub(crate) struct ActiveIndexWriter(Arc<ActiveIndex>);

/// How many hashes are computed ahead when many records are loaded, so that their cache lines are on
/// the way at the same time.
const PREFETCHED_RECORDS: usize = 32;
/// Below this the few records of a small store would have it grow again and again.
const CAPACITY_MIN: usize = if cfg!(all(test, loom)) { 1 } else { 64 };

impl ActiveIndexWriter {
    /// An index of `entries`, which are in file order: of two copies the later is found.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let hash = KeyedHash::random();
        let size = Slots::size_for(entries.len().max(CAPACITY_MIN));
        let slots = Slots::new(size);
        let superseded = fill(&slots, &hash, &entries);
        let index = ActiveIndex {
            records: Records::new(entries),
            slots: std::array::from_fn(|_| OnceLock::new()),
            current_size: AtomicUsize::new(size),
            hash,
            superseded: AtomicU32::new(superseded),
        };
        index.slots[size].get_or_init(|| slots);
        Self(Arc::new(index))
    }

    /// For readers.
    pub(crate) const fn shared(&self) -> &Arc<ActiveIndex> {
        &self.0
    }

    /// Whether there is room for another record. A sidecar does not have more either.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < Records::LEN_MAX
    }

    /// Adds a record, which is found from then on instead of an earlier copy.
    pub(crate) fn insert(&mut self, entry: &Entry) {
        let index = &*self.0;
        let hash = index.hash.of(&entry.digest);
        let (slot, found) = index.look_up(index.slots(), hash, &entry.digest);
        // A reader may be told of a record twice: by the data first, then by the journal.
        if found.is_some_and(|found| found.offset == entry.offset) {
            return;
        }
        let position = index.records.write_next(entry);
        if found.is_none() && index.are_slots_full() {
            let (slot, _) = index.grow().find(hash, |_| None::<()>);
            Slots::set(slot, hash, position);
        } else {
            Slots::set(slot, hash, position);
        }
        // After that, so that who sees it counted also finds it.
        index.records.count_next();
        if found.is_some() {
            // Last, so that who sees the copy before it discounted also sees this one counted.
            index.superseded.fetch_add(1, Ordering::Release);
        }
    }
}

/// Fills vacant slots. How many of the records are superseded by a later copy.
fn fill(slots: &Slots, hash: &KeyedHash, entries: &[Entry]) -> u32 {
    let mut superseded = 0;
    let mut hashes = [0; PREFETCHED_RECORDS];
    let mut positions = 0..;
    for batch in entries.chunks(PREFETCHED_RECORDS) {
        for (hashed, entry) in hashes.iter_mut().zip(batch) {
            *hashed = hash.of(&entry.digest);
            slots.prefetch(*hashed);
        }
        for ((entry, hashed), position) in batch.iter().zip(hashes).zip(&mut positions) {
            let is_copy =
                |earlier: u32| (entries[earlier as usize].digest == entry.digest).then_some(());
            let (slot, copy) = slots.find(hashed, is_copy);
            superseded += u32::from(copy.is_some());
            Slots::set(slot, hashed, position);
        }
    }
    superseded
}

impl ActiveIndex {
    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Option<Extent> {
        let hash = self.hash.of(digest);
        self.look_up(self.slots(), hash, digest).1
    }

    /// The slot that leads to this digest, and to what; or the vacant one in which it belongs.
    #[inline]
    fn look_up<'a>(
        &self,
        slots: &'a Slots,
        hash: u32,
        digest: &Digest,
    ) -> (&'a AtomicU64, Option<Extent>) {
        slots.find(hash, |position| self.records.extent_if(position, digest))
    }

    #[inline]
    fn slots(&self) -> &Slots {
        let size = self.current_size.load(Ordering::Acquire);
        // They are always there already, before their size is current.
        self.slots[size].get_or_init(|| Slots::new(size))
    }

    fn are_slots_full(&self) -> bool {
        let size = self.current_size.load(Ordering::Relaxed);
        self.objects() >= Slots::capacity(size) as u64
    }

    /// Makes twice as many slots the current ones.
    fn grow(&self) -> &Slots {
        let size = self.current_size.load(Ordering::Relaxed) + 1;
        let grown = self.slots[size].get_or_init(|| self.slots().doubled(size));
        self.current_size.store(size, Ordering::Release);
        grown
    }

    /// Number of records, those that are not found any more included. A lookup that follows finds
    /// all of them.
    pub(crate) fn len(&self) -> u32 {
        self.records.len()
    }

    /// All records in file order, also those that are not found any more.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.records.to_vec()
    }

    /// The records that are found, in no order.
    pub(crate) fn current_entries(&self) -> Vec<Entry> {
        let positions = self.slots().positions();
        let entries = positions.filter_map(|position| self.records.entry(position));
        entries.collect()
    }

    /// Number of objects that can be found.
    pub(crate) fn objects(&self) -> u64 {
        // One that was put again may be counted twice for a moment, but not left out.
        let superseded = self.superseded.load(Ordering::Acquire);
        u64::from(self.len().saturating_sub(superseded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, offset: u64) -> Entry {
        Entry {
            digest: Digest::of(&number.to_le_bytes()),
            offset,
            len: number,
        }
    }

    fn offset_of(index: &ActiveIndex, number: u32) -> Option<u64> {
        let digest = Digest::of(&number.to_le_bytes());
        index.find(&digest).map(|extent| extent.offset)
    }

    #[test]
    fn what_was_found_and_what_was_added_is_there() {
        for found in [0, 1, 2, 3, 1000] {
            let found_entries = (0..found).map(|i| entry(i, u64::from(i))).collect();
            let mut writer = ActiveIndexWriter::new(found_entries);
            let index = Arc::clone(writer.shared());
            for number in found..found + 100 {
                writer.insert(&entry(number, u64::from(number)));
            }
            for number in 0..found + 100 {
                assert_eq!(offset_of(&index, number), Some(u64::from(number)));
            }
            assert_eq!(offset_of(&index, found + 100), None);
            assert_eq!(index.objects(), u64::from(found) + 100);
            assert_eq!(index.entries().len(), found as usize + 100);
        }
    }

    #[test]
    fn the_last_copy_is_found_and_all_are_kept() {
        let mut writer = ActiveIndexWriter::new(vec![entry(1, 10), entry(2, 20), entry(1, 30)]);
        let index = Arc::clone(writer.shared());
        assert_eq!((offset_of(&index, 1), index.objects()), (Some(30), 2));
        writer.insert(&entry(2, 20));
        writer.insert(&entry(1, 40));
        writer.insert(&entry(3, 50));
        writer.insert(&entry(3, 60));
        writer.insert(&entry(3, 60));
        assert_eq!(offset_of(&index, 1), Some(40));
        assert_eq!(offset_of(&index, 3), Some(60));
        assert_eq!(index.objects(), 3);
        let mut offsets: Vec<u64> = index.entries().iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, [10, 20, 30, 40, 50, 60]);
        let current = index.current_entries();
        let mut offsets: Vec<u64> = current.iter().map(|entry| entry.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, [20, 40, 60]);
    }

    #[test]
    fn what_was_added_is_found_while_the_slots_become_more() {
        const RECORDS: u32 = 20_000;
        let mut writer = ActiveIndexWriter::new((0..10).map(|i| entry(i, i.into())).collect());
        let index = Arc::clone(writer.shared());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < RECORDS {
                        let len = index.len();
                        // The newest, and some of those that older slots were made for.
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
                writer.insert(&entry(number, number.into()));
            }
        });
        assert_eq!(index.objects(), u64::from(RECORDS));
    }

    #[test]
    fn digests_of_one_hash_are_told_apart() {
        // The hash covers the first half of a digest.
        let entry = |number: u32| {
            let mut digest = [7; 32];
            digest[28..].copy_from_slice(&number.to_le_bytes());
            Entry {
                digest: digest.into(),
                offset: number.into(),
                len: 1,
            }
        };
        let mut writer = ActiveIndexWriter::new((0..300).map(entry).collect());
        let index = Arc::clone(writer.shared());
        for number in 300..600 {
            writer.insert(&entry(number));
        }
        for number in 0..600 {
            let found = index.find(&entry(number).digest).unwrap();
            assert_eq!(found.offset, u64::from(number));
        }
        assert_eq!(index.find(&entry(600).digest), None);
        assert_eq!((index.objects(), index.current_entries().len()), (600, 600));
    }
}
