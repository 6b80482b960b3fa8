//! The interface of NEDB v3's `SegmentStore` over a Sealstone store.

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;

use sealstone::{CompactionStats, Digest, Hashed, Store};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Reads and writes the folder that NEDB calls `objects`, and names objects as NEDB does: by 64
/// hexadecimal digits.
pub struct SegmentStore(Store);

impl SegmentStore {
    /// Opens the store. Fails while it is open for writing elsewhere.
    pub fn open(objects_root: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(Store::open(objects_root)?))
    }

    /// Stores content. Refuses it if it does not have this hash.
    pub fn put(&self, hash: &str, content: &[u8]) -> Result<()> {
        let hashed = Hashed::check_with(self.0.hash_function(), hash.parse()?, content)?;
        self.0.put_hashed(&hashed)?;
        Ok(())
    }

    pub fn get(&self, hash: &str) -> Result<Option<Vec<u8>>> {
        let object = self.0.get(hash.parse::<Digest>()?)?;
        Ok(object.map(|object| object.to_vec()))
    }

    /// Whether the store holds the object. False for what is no hash, and if the index cannot be read.
    pub fn contains(&self, hash: &str) -> bool {
        let digest = hash.parse::<Digest>();
        digest.is_ok_and(|digest| self.0.contains(digest).unwrap_or(false))
    }

    pub fn all_hashes(&self) -> Result<Vec<String>> {
        let hashes = self.0.digests().map(|digest| Ok(digest?.to_string()));
        hashes.collect()
    }

    /// Makes every object durable that was put before.
    pub fn sync(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    /// Drops the objects that are not live. An object that was put after `live` was collected and
    /// before this call is dropped; [`begin_compaction`](Self::begin_compaction) has no such gap.
    pub fn compact(&self, live: &HashSet<String>) -> Result<CompactionStats> {
        self.begin_compaction()?.finish(live)
    }

    /// Begins a compaction. Every object that is put from here on is kept.
    pub fn begin_compaction(&self) -> Result<Compaction> {
        Ok(Compaction(self.0.begin_compaction()?))
    }
}

/// A compaction that has begun. Collect what is live now.
pub struct Compaction(sealstone::Compaction);

impl Compaction {
    /// Drops the objects that are not live, unless they were put since the compaction began.
    pub fn finish(self, live: &HashSet<String>) -> Result<CompactionStats> {
        let live = live.iter().map(|hash| hash.parse::<Digest>());
        let live = live.collect::<std::result::Result<Vec<Digest>, _>>()?;
        Ok(self.0.finish_list(live)?)
    }
}
