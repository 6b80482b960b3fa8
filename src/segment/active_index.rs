//! The records of an unsealed segment by digest.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Extent;
use crate::digest::Digest;
use crate::format::Entry;

/// Records that were there when the segment was opened, and those that were added since.
///
/// The former are in a table that is made in one go, which takes a few tens of nanoseconds a record
/// and so keeps an opening after a crash short; the latter in a lock-free map. Both hash with a key
/// that is chosen at random, so nobody can choose contents that collide.
#[derive(Debug)]
pub(crate) struct ActiveIndex {
    found: FrozenTable,
    added: papaya::HashMap<Digest, Extent>,
    /// How many of `added` take the place of one in `found`.
    shadowing: AtomicU64,
    /// Records that were added, whose object was then put again because they are damaged. They are
    /// no longer found, but they are in the file and so will be in its sidecar.
    superseded: Mutex<Vec<Entry>>,
}

impl ActiveIndex {
    /// An index of `entries`, which are in file order: of two copies the later is found.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self {
            found: FrozenTable::new(entries),
            added: papaya::HashMap::default(),
            shadowing: AtomicU64::new(0),
            superseded: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn find(&self, digest: &Digest) -> Option<Extent> {
        let added = self.added.pin().get(digest).copied();
        added.or_else(|| self.found.find(digest))
    }

    /// Adds a record, which is found from then on instead of an earlier copy.
    pub(crate) fn insert(&self, entry: &Entry) {
        let Entry {
            digest,
            offset,
            len,
        } = *entry;
        let found = self.found.find(&digest);
        // A reader may be told of a record twice: by the data first, then by the journal.
        if found.is_some_and(|found| found.offset == offset) {
            return;
        }
        match self.added.pin().insert(digest, Extent { offset, len }) {
            Some(old) if old.offset == offset => {}
            Some(old) => self.lock_superseded().push(Entry {
                digest,
                offset: old.offset,
                len: old.len,
            }),
            None if found.is_some() => {
                self.shadowing.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// All records, in no order, also those that are not found any more.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = self.found.entries.clone();
        entries.extend(self.added_entries());
        entries.extend_from_slice(&self.lock_superseded());
        entries
    }

    /// The records that are found, in no order.
    pub(crate) fn current_entries(&self) -> Vec<Entry> {
        let mut entries = self.added_entries();
        let shadowed: HashSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
        let found = self.found.current_entries();
        entries.extend(found.filter(|entry| !shadowed.contains(&entry.digest)));
        entries
    }

    fn added_entries(&self) -> Vec<Entry> {
        let added = self.added.pin();
        let entries = added.iter().map(|(&digest, extent)| Entry {
            digest,
            offset: extent.offset,
            len: extent.len,
        });
        entries.collect()
    }

    /// Number of objects that can be found.
    pub(crate) fn objects(&self) -> u64 {
        let added = self.added.len() as u64;
        let shadowing = self.shadowing.load(Ordering::Relaxed);
        (u64::from(self.found.objects) + added).saturating_sub(shadowing)
    }

    fn lock_superseded(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A vector that only grows by `push` is whole even after a panic.
        self.superseded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash table that is never changed: open addressing, at most half full.
#[derive(Debug)]
struct FrozenTable {
    entries: Vec<Entry>,
    /// Positions in `entries`, or `VACANT`. A power of two of them.
    slots: Box<[u32]>,
    hasher: RandomState,
    /// How many digests there are.
    objects: u32,
}

const VACANT: u32 = u32::MAX;

impl FrozenTable {
    fn new(entries: Vec<Entry>) -> Self {
        let slots = (2 * entries.len()).next_power_of_two();
        let mut table = Self {
            slots: vec![VACANT; slots].into_boxed_slice(),
            entries,
            hasher: RandomState::new(),
            objects: 0,
        };
        for (position, entry) in (0..).zip(&table.entries) {
            let slot = table.slot_of(&entry.digest);
            table.objects += u32::from(table.slots[slot] == VACANT);
            table.slots[slot] = position;
        }
        table
    }

    fn current_entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let filled = self.slots.iter();
        filled.filter_map(|&position| self.entries.get(position as usize).copied())
    }

    fn find(&self, digest: &Digest) -> Option<Extent> {
        if self.entries.is_empty() {
            return None;
        }
        let position = self.slots[self.slot_of(digest)];
        let entry = self.entries.get(position as usize)?;
        Some(Extent {
            offset: entry.offset,
            len: entry.len,
        })
    }

    /// The slot that holds this digest, or the vacant one in which it belongs.
    fn slot_of(&self, digest: &Digest) -> usize {
        let mask = self.slots.len() - 1;
        let hash = self.hasher.hash_one(digest);
        // On a system of 32 bits the low bits are as good.
        #[expect(clippy::cast_possible_truncation)]
        let mut slot = hash as usize & mask;
        loop {
            match self.entries.get(self.slots[slot] as usize) {
                Some(entry) if entry.digest != *digest => slot = (slot + 1) & mask,
                _ => return slot,
            }
        }
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
            let index = ActiveIndex::new((0..found).map(|i| entry(i, u64::from(i))).collect());
            for number in found..found + 100 {
                index.insert(&entry(number, u64::from(number)));
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
        let index = ActiveIndex::new(vec![entry(1, 10), entry(2, 20), entry(1, 30)]);
        assert_eq!((offset_of(&index, 1), index.objects()), (Some(30), 2));
        index.insert(&entry(2, 20));
        index.insert(&entry(1, 40));
        index.insert(&entry(3, 50));
        index.insert(&entry(3, 60));
        index.insert(&entry(3, 60));
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
}
