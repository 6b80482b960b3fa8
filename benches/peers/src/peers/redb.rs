//! redb.

use std::path::Path;

use redb::{Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use sealstone::{DIGEST_BYTES, Digest};

use crate::hashing::{self, LANES_GROUP};
use crate::peer::{Laps, Peer, Reader, sorted};

type Key = &'static [u8; DIGEST_BYTES];
type Value = &'static [u8];

const OBJECTS: TableDefinition<Key, Value> = TableDefinition::new("objects");

/// More than any data set of this benchmark: redb reads with system calls, and does not read again
/// what its cache holds.
const CACHE_BYTES: usize = 6 << 30;

/// redb with a cache that holds everything, if the store fits into memory.
///
/// - `set_cache_size`: "the amount of memory used for caching data" (docs.rs, `redb::Builder`); the
///   default of 1 GiB does not hold these data sets. Where the store is larger than memory, the cache
///   has a quarter of the memory.
/// - Keys are arrays, a type of fixed width whose lengths the tree does not store (`design.md`,
///   "Branch page", "Leaf page").
/// - `Durability::Immediate`, the default, with one transaction for a bulk put, so that it syncs
///   once (docs.rs, `redb::Durability`). Two-phase commit and quick repair stay off, since they
///   make commits slower (docs.rs, `WriteTransaction::set_quick_repair`).
/// - `Database::compact` runs before the store is read.
/// - A reader is one long read transaction, and a get is a guard on a page of the cache.
pub struct Redb(Database);

impl Redb {
    fn open_with(folder: &Path, cache_bytes: usize) -> Self {
        let database = Builder::new()
            .set_cache_size(cache_bytes)
            .create(folder.join("objects.redb"))
            .expect("redb opens");
        Self(database)
    }

    fn put<'a>(&self, batches: impl Iterator<Item = Vec<(Digest, &'a [u8])>>, laps: &mut Laps) {
        let txn = self.0.begin_write().expect("a transaction begins");
        {
            let mut table = txn.open_table(OBJECTS).expect("redb opens the table");
            let mut batches = batches;
            while laps.lap(|| {
                let Some(batch) = batches.next() else {
                    return false;
                };
                for (digest, content) in batch {
                    table
                        .insert(digest.as_bytes(), content)
                        .expect("redb inserts");
                }
                true
            }) {}
        }
        laps.lap(|| txn.commit().expect("redb commits"));
    }
}

impl Peer for Redb {
    const NAME: &'static str = "redb";
    const FOLDER: &'static str = "redb";

    type Reader<'a> = RedbReader;

    fn open(folder: &Path) -> Self {
        Self::open_with(folder, CACHE_BYTES)
    }

    fn open_larger_than_memory(folder: &Path, cache_bytes: u64) -> Self {
        Self::open_with(folder, usize::try_from(cache_bytes).expect("64 bits"))
    }

    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps) {
        self.put(batches.iter().map(|batch| sorted(batch)), laps);
    }

    fn load_sorted(&self, objects: &[(Digest, &[u8])]) -> bool {
        self.put(std::iter::once(objects.to_vec()), &mut Laps::default());
        true
    }

    fn put_and_sync(&self, contents: &[&[u8]]) {
        let hashed = |&content| (hashing::digest(content), content);
        let objects = contents.iter().map(hashed).collect();
        self.put(std::iter::once(objects), &mut Laps::default());
    }

    fn settle(mut self) {
        self.0.compact().expect("redb compacts");
    }

    fn reader(&self) -> RedbReader {
        let txn = self.0.begin_read().expect("a transaction begins");
        RedbReader(txn.open_table(OBJECTS).expect("redb opens the table"))
    }
}

pub struct RedbReader(ReadOnlyTable<Key, Value>);

impl Reader for RedbReader {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let guard = self.0.get(digest.as_bytes()).expect("redb gets")?;
        Some(see(guard.value()))
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        let guards: Vec<_> = digests
            .iter()
            .filter_map(|digest| self.0.get(digest.as_bytes()).expect("redb gets"))
            .collect();
        hashing::check_in_lanes(digests, guards.iter().map(redb::AccessGuard::value))
    }

    fn scan_checked(&self) -> usize {
        let mut records = self.0.iter().expect("redb iterates");
        let mut objects = 0;
        loop {
            let group: Vec<_> = records
                .by_ref()
                .take(LANES_GROUP)
                .map(|record| record.expect("redb iterates"))
                .collect();
            if group.is_empty() {
                return objects;
            }
            objects += group.len();
            let digests: Vec<_> = group
                .iter()
                .map(|(key, _)| Digest::from(*key.value()))
                .collect();
            hashing::check_in_lanes(&digests, group.iter().map(|(_, content)| content.value()));
        }
    }
}
