//! parity-db.

use std::path::Path;

use parity_db::{ColumnOptions, CompressionType, Db, Options};
use sealstone::Digest;

use crate::hashing::{self, LANES_GROUP};
use crate::peer::{Laps, Peer, Reader};

const OBJECTS: u8 = 0;

/// parity-db with one hash column, as its README says of digests.
///
/// - `preimage`: "the column value is the preimage of the key [...]. Enables some optimizations";
///   `uniform`: "allows for skipping additional key hashing" (docs.rs, `parity_db::ColumnOptions`).
/// - Not `btree_index`: "significantly less performant and require more disk space". Not
///   `ref_counted`, and no compression: the content is random (ibid.).
/// - `sync_wal` and `sync_data` on, as by default: "provides crash resistance guarantee". `stats`
///   off: "may have effect on performance" (docs.rs, `parity_db::Options`).
/// - Each put is a commit of a whole batch: "writes are typically performed in large batches"
///   (README).
///
/// There is no call that waits until a commit is durable: "writes already committed but not already
/// saved to disk by the background threads are lost" (README). So the time of a bulk put includes
/// closing the store, and puts with frequent syncs are left out. A get copies the content.
pub struct ParityDb(Db);

impl ParityDb {
    fn commit<'a>(&self, objects: impl Iterator<Item = (Digest, &'a [u8])>) {
        let changes = objects.map(|(digest, content)| (OBJECTS, digest, Some(content.to_vec())));
        self.0.commit(changes).expect("parity-db commits");
    }
}

impl Peer for ParityDb {
    const NAME: &'static str = "parity-db";
    const FOLDER: &'static str = "parity-db";
    const HAS_SYNC: bool = false;

    type Reader<'a> = ParityDbReader<'a>;

    fn open(folder: &Path) -> Self {
        let mut options = Options::with_columns(folder, 1);
        options.stats = false;
        options.columns[usize::from(OBJECTS)] = ColumnOptions {
            preimage: true,
            uniform: true,
            compression: CompressionType::NoCompression,
            ..ColumnOptions::default()
        };
        Self(Db::open_or_create(&options).expect("parity-db opens"))
    }

    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps) {
        for batch in batches {
            laps.lap(|| {
                let digests = hashing::on_all_cores(batch);
                self.commit(digests.into_iter().zip(batch.iter().copied()));
            });
        }
    }

    fn put_and_sync(&self, contents: &[&[u8]]) {
        self.commit(
            contents
                .iter()
                .map(|content| (hashing::digest(content), *content)),
        );
    }

    fn reader(&self) -> ParityDbReader<'_> {
        ParityDbReader(&self.0)
    }
}

pub struct ParityDbReader<'a>(&'a Db);

impl ParityDbReader<'_> {
    #[inline]
    fn find(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0
            .get(OBJECTS, digest.as_bytes())
            .expect("parity-db gets")
    }
}

impl Reader for ParityDbReader<'_> {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.find(digest).map(|content| see(&content))
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        let contents: Vec<_> = digests
            .iter()
            .filter_map(|digest| self.find(digest))
            .collect();
        hashing::check_in_lanes(digests, contents.iter().map(Vec::as_slice))
    }

    /// Hashes the contents without comparing: the walk over the tables of parity-db gives content
    /// without its key. Hashing costs the same.
    fn scan_checked(&self) -> usize {
        let mut objects = 0;
        let mut group = Vec::with_capacity(LANES_GROUP);
        let mut hash = |group: &mut Vec<Vec<u8>>| {
            objects += group.len();
            hashing::in_lanes(group.iter().map(Vec::as_slice), |(_, digest)| {
                std::hint::black_box(digest);
            });
            group.clear();
        };
        self.0
            .iter_column_while(OBJECTS, |state| {
                group.push(state.value);
                if group.len() == LANES_GROUP {
                    hash(&mut group);
                }
                true
            })
            .expect("parity-db iterates");
        hash(&mut group);
        objects
    }
}
