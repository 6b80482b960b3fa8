//! Looks at a bucket without the code that is tested, but for its parsers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use sealstone::Digest;
use sealstone::format::{Entry, Records, Sidecar};
use sealstone::remote::format::{RefManifest, RefSegment};

/// A bucket in memory.
#[derive(Clone)]
pub(crate) struct Bucket(pub(crate) Arc<InMemory>);

impl Bucket {
    pub(crate) fn new() -> Self {
        Self(Arc::new(InMemory::new()))
    }

    /// The names of all objects below a folder, sorted.
    pub(crate) async fn names(&self, folder: &str) -> Vec<String> {
        let objects: Vec<_> = self
            .0
            .list(Some(&folder.into()))
            .try_collect()
            .await
            .unwrap();
        let names = objects.iter().map(|object| object.location.to_string());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) async fn read(&self, name: &str) -> Bytes {
        let path = Path::from(name);
        let found = self.0.get(&path).await;
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        found.bytes().await.unwrap()
    }

    pub(crate) async fn write(&self, name: &str, bytes: Bytes) {
        self.0.put(&name.into(), bytes.into()).await.unwrap();
    }

    /// The newest manifest of a ref.
    pub(crate) async fn newest(&self, name: &str) -> Option<RefManifest> {
        let names = self.names(&format!("refs/{name}")).await;
        let newest = names.first()?;
        Some(RefManifest::parse(&self.read(newest).await).unwrap())
    }

    /// The names of the files of a segment, without their endings.
    pub(crate) fn stem(name: &str, segment: &RefSegment) -> String {
        let RefSegment { sealed, folder, .. } = segment;
        format!("segments/{name}/{folder}/{}", sealed.sidecar_checksum)
    }

    /// Checks every byte that the newest manifest of a ref lists, and returns the digests of all objects.
    /// `None` if the ref does not exist.
    pub(crate) async fn check(&self, name: &str) -> Option<BTreeSet<Digest>> {
        let manifest = self.newest(name).await?;
        let mut digests = BTreeSet::new();
        for segment in manifest
            .state
            .expect("the newest is not emptied")
            .segments
            .values()
        {
            let stem = Self::stem(name, segment);
            let data = self.read(&format!("{stem}.dat")).await;
            let sidecar = Sidecar::parse(self.read(&format!("{stem}.idx")).await).unwrap();
            assert_eq!(sidecar.checksum(), segment.sealed.sidecar_checksum);
            let records = Records::new(&data);
            let entry = |record: sealstone::format::Record<'_>| Entry {
                digest: Digest::of(record.content),
                offset: record.offset,
                len: record.content.len().try_into().unwrap(),
            };
            let mut entries: Vec<Entry> = records.map(entry).collect();
            digests.extend(entries.iter().map(|entry| entry.digest));
            let rebuilt = Sidecar::build(&mut entries);
            assert_eq!(rebuilt.as_bytes(), sidecar.as_bytes(), "{stem}");
            assert!(rebuilt.tiles(data.len() as u64), "{stem}");
        }
        Some(digests)
    }
}
