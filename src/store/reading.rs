//! Reading.

use std::sync::Arc;

use super::{PinnedReader, Store};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::error::{Error, Result};
use crate::object::Object;
use crate::scan::{Digests, Objects};

impl Store {
    /// Reads an object and checks it against its digest. `None` if the store does not hold it.
    ///
    /// Never waits for a writer. Costs one probe of the set index however many segments there are,
    /// then one pass over the content. [`PinnedReader`] is for hot loops, [`get_many`](Self::get_many)
    /// for many objects at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if every copy is damaged, [`Error::CorruptIndex`] if damage leaves it
    /// unknown whether there is one, [`Error::Io`].
    pub fn get(&self, digest: &Digest) -> Result<Option<Object>> {
        let shared = self.shared();
        let set = shared.set.load();
        let found = set.lookup(digest, shared.options.verify_reads)?;
        shared.look_after(&set);
        Ok(found.map(|found| found.into_object(digest)))
    }

    /// A reader that holds the segments as they are now, for hot loops: what it finds borrows from
    /// it, and a hit costs no write to memory that threads share. See [`PinnedReader`].
    #[must_use]
    pub fn reader(&self) -> PinnedReader {
        PinnedReader::new(Arc::clone(&self.handle.shared))
    }

    /// Reads several objects; the results are in the order of `digests`. One that fails does not
    /// keep the others from being read.
    ///
    /// From a few on it takes a fraction of the time of as many calls of [`get`](Self::get): the
    /// lookups wait for memory together, contents are hashed side by side, and large batches are
    /// spread over the cores: in the pool of `rayon` to which the calling thread belongs, or else in
    /// one that the stores of the process share.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let digests = store.put_many(&["one", "two"])?;
    /// let contents: Vec<Vec<u8>> = store
    ///     .get_many(&digests)
    ///     .into_iter()
    ///     .filter_map(|result| result.transpose())
    ///     .map(|object| object.map(|object| object.to_vec()))
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(contents, [b"one", b"two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_many(&self, digests: &[Digest]) -> Vec<Result<Option<Object>>> {
        let shared = self.shared();
        let set = shared.set.load();
        let found = shared.look_up_many(&set, digests);
        shared.look_after(&set);
        found
            .into_iter()
            .zip(digests)
            .map(|(found, digest)| Ok(found?.map(|found| found.into_object(digest))))
            .collect()
    }

    /// Whether the store holds an object. Asks the indexes only; the content is not read.
    ///
    /// A read-only handle reads the content of what was never synced, as far as it knows: a crash may
    /// have taken it, and then [`get`](Self::get) finds nothing. [`find`](Self::find) and
    /// [`digests`](Self::digests) do so too, and say the same.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptIndex`], [`Error::Io`].
    pub fn contains(&self, digest: &Digest) -> Result<bool> {
        self.shared().set.load().contains(digest)
    }

    /// The one object whose digest begins with these hexadecimal digits, if there is one.
    ///
    /// Logarithmic in sealed segments, linear in the objects that are not sealed yet.
    ///
    /// # Errors
    ///
    /// [`Error::AmbiguousPrefix`] with a few candidates if there are several;
    /// [`Error::BadPrefix`] unless `prefix` has 1 to 64 hexadecimal digits.
    pub fn find(&self, prefix: &str) -> Result<Option<Digest>> {
        let bound = |fill: &str| {
            let missing = (2 * DIGEST_BYTES).checked_sub(prefix.len())?;
            let text = format!("{prefix}{}", fill.repeat(missing));
            text.parse::<Digest>().ok().filter(|_| !prefix.is_empty())
        };
        let (Some(low), Some(high)) = (bound("0"), bound("f")) else {
            return Err(Error::BadPrefix {
                prefix: prefix.to_owned(),
            });
        };
        self.shared().set.load().find_between(&low, &high, prefix)
    }

    /// Number of objects, by the indexes alone. One that was put again to repair a damaged copy counts
    /// twice until a compaction, and a read-only handle counts what a crash has taken before it was synced
    /// until a writer has opened the store. Constant for each segment.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shared().set.load().objects()
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects that are in the store now, in the order of the files, each once and verified.
    /// What is put or compacted later changes nothing for the iterator.
    ///
    /// Holds in the heap 4 bytes for each object of the sealed segment that it is in, up to 24 while it
    /// begins one, and 48 for each object that was not sealed when it was called, up to twice as many
    /// where several segments were not. It reads up to 64 objects or 256 KiB ahead, which is a copy with
    /// [`ReadMode::Pread`](crate::ReadMode::Pread). Where the set index does not cover all segments it
    /// also searches sidecars, which costs up to a byte for each of their objects once a process.
    #[must_use]
    pub fn iter(&self) -> Objects {
        Objects::new(self.shared().set.load_full())
    }

    /// As [`iter`](Self::iter), without reading any content, but for what [`contains`](Self::contains)
    /// reads.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests::new(self.shared().set.load_full())
    }
}

impl IntoIterator for &Store {
    type Item = Result<Object>;
    type IntoIter = Objects;

    fn into_iter(self) -> Objects {
        self.iter()
    }
}
