//! fjall.

use std::path::Path;

use fjall::config::HashRatioPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Slice};
use sealstone::Digest;

use crate::hashing::{self, LANES_GROUP};
use crate::peer::{Laps, Peer, Reader, sorted};

/// More than any data set of this benchmark.
const CACHE_BYTES: u64 = 6 << 30;

/// Content of this length and more goes to blob files.
const SEPARATED_BYTES_MIN: u32 = 4 << 10;

/// fjall with a cache that holds everything, if the store fits into memory.
///
/// - `cache_size`: "20-25% of the available memory - or more if the data set fully fits into
///   memory" (docs.rs, `fjall::DatabaseBuilder`). Where it does not, the cache has a quarter of the
///   memory.
/// - Key-value separation from 4 KiB on: it is for "large blob use cases" (README); below, it costs
///   a second read for each get ("at the cost of lower read performance", docs.rs,
///   `KvSeparationOptions::separation_threshold`).
/// - `expect_point_read_hits`: the last level has no filters, "if you know that point reads
///   generally are expected to find" (docs.rs, `KeyspaceCreateOptions`), as gets of this benchmark
///   do. Misses pay for it.
/// - `data_block_hash_ratio_policy` 1.33: "in-memory or heavily cached workloads benefit more from
///   a higher hash ratio" (source of `KeyspaceCreateOptions`).
/// - No compression: the content is random.
/// - Bulk puts by ingestion of sorted batches: "prefer this method over singular inserts or write
///   batches for maximum bulk load speed" (docs.rs, `Keyspace::start_ingestion`). Batches through
///   the journal were slower when both were tried, once each. Other puts are a batch that is
///   persisted with `SyncAll`.
/// - A full compaction runs before the store is read.
pub struct Fjall {
    database: Database,
    objects: Keyspace,
}

impl Fjall {
    fn open_with(folder: &Path, cache_bytes: u64) -> Self {
        let database = Database::builder(folder)
            .cache_size(cache_bytes)
            .open()
            .expect("fjall opens");
        let separation = KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES_MIN);
        let options = || {
            KeyspaceCreateOptions::default()
                .expect_point_read_hits(true)
                .data_block_hash_ratio_policy(HashRatioPolicy::all(1.33))
                .with_kv_separation(Some(separation))
        };
        let objects = database
            .keyspace("objects", options)
            .expect("fjall opens the keyspace");
        Self { database, objects }
    }

    fn ingest(&self, objects: &[(Digest, &[u8])]) {
        let mut ingestion = self.objects.start_ingestion().expect("fjall ingests");
        for (digest, content) in objects {
            ingestion
                .write(digest.as_bytes(), *content)
                .expect("fjall ingests");
        }
        ingestion.finish().expect("fjall ingests");
    }

    fn sync(&self) {
        self.database
            .persist(PersistMode::SyncAll)
            .expect("fjall syncs");
    }
}

impl Peer for Fjall {
    const NAME: &'static str = "fjall";
    const FOLDER: &'static str = "fjall";

    type Reader<'a> = FjallReader<'a>;

    fn open(folder: &Path) -> Self {
        Self::open_with(folder, CACHE_BYTES)
    }

    fn open_larger_than_memory(folder: &Path, cache_bytes: u64) -> Self {
        Self::open_with(folder, cache_bytes)
    }

    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps) {
        for batch in batches {
            laps.lap(|| self.ingest(&sorted(batch)));
        }
        laps.lap(|| self.sync());
    }

    fn load_sorted(&self, objects: &[(Digest, &[u8])]) -> bool {
        self.ingest(objects);
        self.sync();
        true
    }

    fn put_and_sync(&self, contents: &[&[u8]]) {
        let mut batch = self.database.batch();
        for content in contents {
            let digest = hashing::digest(content);
            batch.insert(&self.objects, digest.as_bytes(), *content);
        }
        batch.commit().expect("fjall commits");
        self.sync();
    }

    fn settle(self) {
        self.objects
            .rotate_memtable_and_wait()
            .expect("fjall flushes");
        self.objects.major_compact().expect("fjall compacts");
    }

    fn reader(&self) -> FjallReader<'_> {
        FjallReader(&self.objects)
    }
}

pub struct FjallReader<'a>(&'a Keyspace);

impl FjallReader<'_> {
    #[inline]
    fn find(&self, digest: &Digest) -> Option<Slice> {
        self.0.get(digest.as_bytes()).expect("fjall gets")
    }
}

impl Reader for FjallReader<'_> {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.find(digest).map(|content| see(&content))
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        let contents: Vec<_> = digests
            .iter()
            .filter_map(|digest| self.find(digest))
            .collect();
        hashing::check_in_lanes(digests, contents.iter().map(|content| &content[..]))
    }

    fn scan_checked(&self) -> usize {
        let mut records = self.0.iter();
        let mut objects = 0;
        loop {
            let group: Vec<_> = records
                .by_ref()
                .take(LANES_GROUP)
                .map(|record| record.into_inner().expect("fjall iterates"))
                .collect();
            if group.is_empty() {
                return objects;
            }
            objects += group.len();
            let digests: Vec<_> = group
                .iter()
                .map(|(key, _)| Digest::try_from(&key[..]).expect("keys are digests"))
                .collect();
            hashing::check_in_lanes(&digests, group.iter().map(|(_, content)| &content[..]));
        }
    }
}
