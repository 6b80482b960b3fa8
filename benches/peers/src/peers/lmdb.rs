//! LMDB, through `heed`.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithTls};
use sealstone::Digest;

use crate::hashing::{self, LANES_GROUP};
use crate::peer::{Laps, Peer, Reader, sorted};

/// Address space, more than any data set of this benchmark takes.
const MAP_BYTES: usize = 32 << 30;

/// LMDB as it is by default, with a map that is large enough.
///
/// - Not `MDB_WRITEMAP`, which "may be slightly faster for DBs that fit entirely in RAM" (`lmdb.h`,
///   `mdb_env_open`). Tried for bulk puts of 200,000 and 700,000 objects of 256 bytes and 1 KiB,
///   once each, it was slower every time, at 1 KiB by half and more. Reading was not compared.
/// - `MDB_NORDAHEAD` only where the store is larger than memory: "may help random read performance
///   when the DB is larger than RAM and system RAM is full" (ibid.). The other data sets of this
///   benchmark are not.
/// - Commits are synchronous: without that nothing survives power loss. A bulk put is one
///   transaction, so that it syncs once, and sorts each batch. For a load whose keys are all known
///   and sorted, `MDB_APPEND` "allows fast bulk loading" (`lmdb.h`, `mdb_put`).
/// - A reader is one long read transaction, so that the time of a get does not include beginning
///   one, and a get is a slice of the map.
pub struct Lmdb {
    env: Env,
    objects: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    fn open_with(folder: &Path, flags: EnvFlags) -> Self {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        // SAFETY: no flag of this benchmark takes away syncs or locks.
        unsafe { options.flags(flags) };
        // SAFETY: a map is unsound if another program changes the file, and none does: this
        // benchmark made the folder for this environment.
        let env = unsafe { options.open(folder) };
        let env = env.expect("LMDB opens");
        let txn = env.write_txn().expect("a transaction begins");
        let objects = env
            .create_databases_and_commit(txn, |opener, txn| {
                let objects = opener.create_database(txn, None)?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(objects))
            })
            .expect("the unnamed database is always there")
            .unwrap_commit();
        Self { env, objects }
    }
}

impl Peer for Lmdb {
    const NAME: &'static str = "LMDB";
    const FOLDER: &'static str = "lmdb";

    type Reader<'a> = LmdbReader<'a>;

    fn open(folder: &Path) -> Self {
        Self::open_with(folder, EnvFlags::empty())
    }

    fn open_larger_than_memory(folder: &Path, _cache_bytes: u64) -> Self {
        Self::open_with(folder, EnvFlags::NO_READ_AHEAD)
    }

    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps) {
        let mut txn = self.env.write_txn().expect("a transaction begins");
        for batch in batches {
            laps.lap(|| {
                for (digest, content) in sorted(batch) {
                    self.objects
                        .put(&mut txn, digest.as_bytes(), content)
                        .expect("LMDB puts");
                }
            });
        }
        laps.lap(|| txn.commit().expect("LMDB commits"));
    }

    fn load_sorted(&self, objects: &[(Digest, &[u8])]) -> bool {
        let mut txn = self.env.write_txn().expect("a transaction begins");
        for (digest, content) in objects {
            self.objects
                .put_with_flags(&mut txn, PutFlags::APPEND, digest.as_bytes(), content)
                .expect("LMDB appends");
        }
        txn.commit().expect("LMDB commits");
        true
    }

    fn put_and_sync(&self, contents: &[&[u8]]) {
        let mut txn = self.env.write_txn().expect("a transaction begins");
        for content in contents {
            let digest = hashing::digest(content);
            self.objects
                .put(&mut txn, digest.as_bytes(), content)
                .expect("LMDB puts");
        }
        txn.commit().expect("LMDB commits");
    }

    fn reader(&self) -> LmdbReader<'_> {
        LmdbReader {
            txn: self.env.read_txn().expect("a transaction begins"),
            objects: self.objects,
        }
    }
}

pub struct LmdbReader<'a> {
    txn: RoTxn<'a, WithTls>,
    objects: Database<'static, Bytes, Bytes>,
}

impl LmdbReader<'_> {
    #[inline]
    fn find(&self, digest: &Digest) -> Option<&[u8]> {
        self.objects
            .get(&self.txn, digest.as_bytes())
            .expect("LMDB gets")
    }
}

impl Reader for LmdbReader<'_> {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.find(digest).map(see)
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        hashing::check_in_lanes(
            digests,
            digests.iter().filter_map(|digest| self.find(digest)),
        )
    }

    fn scan_checked(&self) -> usize {
        let mut records = self.objects.iter(&self.txn).expect("LMDB iterates");
        let mut objects = 0;
        let (mut digests, mut contents) = (Vec::new(), Vec::new());
        loop {
            digests.clear();
            contents.clear();
            for record in records.by_ref().take(LANES_GROUP) {
                let (key, content) = record.expect("LMDB iterates");
                digests.push(Digest::try_from(key).expect("keys are digests"));
                contents.push(content);
            }
            if digests.is_empty() {
                return objects;
            }
            objects += digests.len();
            hashing::check_in_lanes(&digests, contents.iter().copied());
        }
    }
}
