//! Reads, searches and walks.

use std::sync::Arc;

use super::{PinnedReader, Store};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::error::{Error, Result};
use crate::object::Object;
use crate::scan::{Digests, Lengths, Objects};

impl Store {
    /// Reads an object and checks it against its digest. Returns `None` if the store does not hold
    /// it.
    ///
    /// Never waits for a writer. Costs one probe of the set index however many segments there are,
    /// then one pass over the content. Use [`PinnedReader`] in hot loops, and
    /// [`get_many`](Self::get_many) for many objects at a time.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Corrupt`] if every copy is damaged, with [`Error::CorruptIndex`] if
    /// damage hides whether there is a copy, and with [`Error::Io`].
    pub fn get(&self, digest: impl AsRef<Digest>) -> Result<Option<Object>> {
        self.look_up(digest.as_ref())
    }

    fn look_up(&self, digest: &Digest) -> Result<Option<Object>> {
        let shared = self.shared();
        let set = shared.set.load();
        let found = set.lookup(digest, shared.options.verify_reads)?;
        shared.look_after(&set);
        Ok(found.map(|found| found.into_object(digest)))
    }

    /// Makes a reader that holds the present segments, for hot loops: its objects borrow from it,
    /// and a hit costs no write to memory that threads share. See [`PinnedReader`].
    #[must_use]
    pub fn reader(&self) -> PinnedReader {
        PinnedReader::new(Arc::clone(&self.handle.shared))
    }

    /// Reads several objects; the results are in the order of `digests`. A read that fails does not
    /// prevent the others.
    ///
    /// For more than a few objects it takes a fraction of the time of as many calls of
    /// [`get`](Self::get): the lookups wait for memory together, contents are hashed side by side,
    /// and large batches are spread over the cores, in the pool of `rayon` to which the calling
    /// thread belongs, or else in a pool that the stores of the process share.
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

    /// Returns whether the store holds an object. Asks the indexes only, without reading the
    /// content.
    ///
    /// A read-only handle does read the content of an object that is not known to be synced: it may
    /// have been lost in a crash, and then [`get`](Self::get) finds nothing. So do
    /// [`find`](Self::find) and [`digests`](Self::digests), which give the same answer.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::CorruptIndex`] or [`Error::Io`].
    pub fn contains(&self, digest: impl AsRef<Digest>) -> Result<bool> {
        self.shared().set.load().contains(digest.as_ref())
    }

    /// Returns the length of an object in bytes, or `None` if the store does not hold it. Asks the
    /// indexes as [`contains`](Self::contains) does, without reading the content, which may turn out to
    /// be damaged.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let digest = store.put("text")?;
    /// assert_eq!(store.len_of(digest)?, Some(4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails like [`contains`](Self::contains).
    pub fn len_of(&self, digest: impl AsRef<Digest>) -> Result<Option<u64>> {
        self.shared().set.load().len_of(digest.as_ref())
    }

    /// Does [`contains`](Self::contains) for several objects; the answers are in the order of `digests`.
    /// The lookups wait for memory and for the disk together, so it takes a fraction of the time of as
    /// many calls.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use sealstone::Digest;
    ///
    /// let held = store.put("held")?;
    /// let answers = store.contains_many(&[held, Digest::of("absent")]);
    /// let answers: Vec<bool> = answers.into_iter().collect::<Result<_, _>>()?;
    /// assert_eq!(answers, [true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains_many(&self, digests: &[Digest]) -> Vec<Result<bool>> {
        self.shared().set.load().contains_many(digests)
    }

    /// Returns the one object whose digest begins with these hexadecimal digits, if there is one.
    ///
    /// Takes time logarithmic in the objects of each sealed segment, and linear in the objects that
    /// are not sealed yet.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::AmbiguousPrefix`], which lists a few candidates, if there are several
    /// such objects, and with [`Error::BadPrefix`] unless `prefix` has 1 to 64 hexadecimal digits.
    pub fn find(&self, prefix: &str) -> Result<Option<Digest>> {
        let filled_with = |digit: &str| {
            let missing = (2 * DIGEST_BYTES).checked_sub(prefix.len())?;
            let text = format!("{prefix}{}", digit.repeat(missing));
            text.parse::<Digest>().ok().filter(|_| !prefix.is_empty())
        };
        let (Some(low), Some(high)) = (filled_with("0"), filled_with("f")) else {
            return Err(Error::BadPrefix {
                prefix: prefix.to_owned(),
            });
        };
        self.shared().set.load().find_between(&low, &high, prefix)
    }

    /// Returns the number of objects, from the indexes alone, in constant time for each segment. An
    /// object that was put again to repair a damaged copy counts twice until a compaction. A
    /// read-only handle counts unsynced objects that were lost in a crash until a writer has opened
    /// the store.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shared().set.load().objects()
    }

    /// Returns whether the store holds no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over all objects that are in the store now, in the order of the files, each once
    /// and verified. Later puts and compactions do not change what the iterator returns.
    ///
    /// The iterator holds on the heap 4 bytes for each object of the sealed segment that it reads,
    /// up to 24 while it begins a segment, and 48 for each object that was not sealed when it was
    /// made, up to twice as many if several segments were not sealed. It reads up to 64 objects or
    /// 256 KiB ahead; with [`ReadMode::Pread`](crate::ReadMode::Pread) these are copies. If the set
    /// index does not cover all segments, it also searches sidecars, which costs up to a byte for
    /// each of their objects once a process.
    #[must_use]
    pub fn iter(&self) -> Objects {
        Objects::new(self.shared().set.load_full())
    }

    /// Iterates over the digests of all objects, in the order of [`iter`](Self::iter). Reads no
    /// more content than [`contains`](Self::contains) does.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests::new(self.shared().set.load_full())
    }

    /// Iterates over the digests and the lengths in bytes of all objects, as
    /// [`digests`](Self::digests) does. The lengths are those that the indexes name, as in
    /// [`len_of`](Self::len_of).
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        Lengths::new(self.shared().set.load_full())
    }
}

impl IntoIterator for &Store {
    type Item = Result<Object>;
    type IntoIter = Objects;

    fn into_iter(self) -> Objects {
        self.iter()
    }
}
