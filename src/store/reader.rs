//! Readers for hot loops.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::digest::Digest;
use crate::engine::Shared;
use crate::error::Result;
use crate::object::{Object, compare_bytes};
use crate::segment::content::Verified;
use crate::segment_set::SegmentSet;

/// A reader of the segments that existed when it was made or last [refreshed](Self::refresh).
///
/// A read from a [`Store`](crate::Store) loads the current set of segments and returns an
/// [`Object`] that holds its segment. Both change counters that all threads share, which costs more
/// the more threads read. A pinned reader holds the set once, and its objects borrow from it, so a
/// hit writes to no shared memory. Give each thread a reader of its own; cloning is cheap.
///
/// It sees every object that was put before it was made, also after a compaction has dropped the
/// object, and some objects that were put later. It may outlive the store; as long as it lives, the
/// files of its segments stay on disk.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let store = sealstone::Store::open(folder.path())?;
/// let digests = store.put_many(&["one", "two"])?;
/// let reader = store.reader();
/// let mut bytes = 0;
/// for digest in &digests {
///     bytes += reader.get(digest)?.map_or(0, |content| content.len());
/// }
/// assert_eq!(bytes, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PinnedReader {
    shared: Arc<Shared>,
    set: Arc<SegmentSet>,
}

impl PinnedReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let set = shared.set.load_full();
        Self { shared, set }
    }

    /// Reads an object, as [`Store::get`](crate::Store::get) does.
    ///
    /// # Errors
    ///
    /// Fails like [`Store::get`](crate::Store::get).
    #[inline]
    pub fn get(&self, digest: impl AsRef<Digest>) -> Result<Option<PinnedObject<'_>>> {
        let digest = digest.as_ref();
        let found = self.set.lookup(digest, self.shared.options.verify_reads)?;
        self.shared.look_after(&self.set);
        Ok(found.map(|found| PinnedObject {
            digest: *digest,
            found,
        }))
    }

    /// Reads several objects, as [`Store::get_many`](crate::Store::get_many) does.
    #[must_use]
    pub fn get_many(&self, digests: &[Digest]) -> Vec<Result<Option<PinnedObject<'_>>>> {
        let found = self.shared.look_up_many(&self.set, digests);
        self.shared.look_after(&self.set);
        found
            .into_iter()
            .zip(digests)
            .map(|(found, &digest)| Ok(found?.map(|found| PinnedObject { digest, found })))
            .collect()
    }

    /// Whether the store holds an object, as [`Store::contains`](crate::Store::contains) does.
    ///
    /// # Errors
    ///
    /// Fails like [`Store::contains`](crate::Store::contains).
    pub fn contains(&self, digest: impl AsRef<Digest>) -> Result<bool> {
        self.set.contains(digest.as_ref())
    }

    /// Returns the length of an object, as [`Store::len_of`](crate::Store::len_of) does.
    ///
    /// # Errors
    ///
    /// Fails like [`Store::contains`](crate::Store::contains).
    pub fn len_of(&self, digest: impl AsRef<Digest>) -> Result<Option<u64>> {
        self.set.len_of(digest.as_ref())
    }

    /// Whether the store holds each of several objects, as
    /// [`Store::contains_many`](crate::Store::contains_many) does.
    #[must_use]
    pub fn contains_many(&self, digests: &[Digest]) -> Vec<Result<bool>> {
        self.set.contains_many(digests)
    }

    /// Goes on with the present segments of the store. Returns whether they have changed.
    pub fn refresh(&mut self) -> bool {
        let set = self.shared.set.load_full();
        let changed = !Arc::ptr_eq(&set, &self.set);
        self.set = set;
        changed
    }
}

impl fmt::Debug for PinnedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedReader")
            .field("root", &self.shared.root)
            .field("objects", &self.set.objects())
            .finish_non_exhaustive()
    }
}

/// The content of one object, checked against its digest. It borrows from the [`PinnedReader`] that
/// found it.
#[derive(Clone, Debug)]
pub struct PinnedObject<'a> {
    digest: Digest,
    found: Verified<'a>,
}

impl PinnedObject<'_> {
    /// Returns the digest of the content.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns an object that holds its segment itself, and so can outlive the reader. Copies no
    /// content.
    #[must_use]
    pub fn into_object(self) -> Object {
        self.found.into_object(&self.digest)
    }
}

impl Deref for PinnedObject<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.found.bytes()
    }
}

impl AsRef<[u8]> for PinnedObject<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for PinnedObject<'_> {
    /// Compares the digests: equal digests mean equal content.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for PinnedObject<'_> {}

compare_bytes!(PinnedObject<'_>);

impl From<PinnedObject<'_>> for Vec<u8> {
    /// Copies the content, which then holds no file.
    fn from(object: PinnedObject<'_>) -> Self {
        object.to_vec()
    }
}

impl From<PinnedObject<'_>> for Arc<[u8]> {
    /// Copies the content, which then holds no file.
    fn from(object: PinnedObject<'_>) -> Self {
        object[..].into()
    }
}

#[cfg(feature = "bytes")]
impl From<PinnedObject<'_>> for bytes::Bytes {
    /// Copies no content: the `Bytes` holds an [`Object`].
    fn from(object: PinnedObject<'_>) -> Self {
        object.into_object().into()
    }
}
