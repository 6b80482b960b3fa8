//! Puts, syncs and checkpoints.

use std::io::Read;
use std::path::Path;

use super::Store;
use crate::digest::{Digest, Hashed};
use crate::engine::Stored;
use crate::error::{Error, Result};

impl Store {
    /// Stores content and returns its digest. Content that the store already holds, byte for byte,
    /// is not stored again. A damaged copy does not count, so putting the content again repairs it.
    ///
    /// Every thread can read the content at once. It survives power loss after the next
    /// [`sync`](Self::sync). It is hashed before any lock is taken; large content is written
    /// without being buffered.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooLarge`] beyond `u32::MAX` bytes, and with [`Error::ReadOnly`],
    /// [`Error::Forked`], [`Error::Poisoned`] or [`Error::Io`], for instance when the disk is full.
    /// Then nothing was stored, objects that were stored before are unharmed, and the put can be
    /// tried again.
    pub fn put(&self, content: impl AsRef<[u8]>) -> Result<Digest> {
        self.put_bytes(content.as_ref())
    }

    fn put_bytes(&self, content: &[u8]) -> Result<Digest> {
        // This check comes first, so that content that is refused is not hashed.
        let writer = self.writer()?;
        writer.require_acceptable(content.len())?;
        let hashed = Hashed::with(self.hash_function(), content);
        writer.put(&hashed)?;
        Ok(*hashed.digest())
    }

    /// Does [`put`](Self::put) for content that was hashed elsewhere. Returns true if the store did
    /// not hold it yet.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::HashFunction`] if the content was hashed by another function than
    /// [`hash_function`](Self::hash_function), and like [`put`](Self::put).
    pub fn put_hashed(&self, hashed: &Hashed<'_>) -> Result<bool> {
        let writer = self.writer()?;
        self.require_same_function(hashed)?;
        writer.put(hashed)
    }

    /// Stores the content that a reader gives up to its end, and returns its digest and its length.
    ///
    /// Content of up to 32 MiB, or an eighth of a segment if that is less, is collected in memory, and
    /// then put as [`put`](Self::put) does. Longer content is written to a segment of its own while it
    /// comes, once, and about 3 MiB of it are in memory at a time. It is durable when this returns, as
    /// after a [`sync`](Self::sync), for about seven fsyncs. If the store holds it already, the copy is
    /// read and hashed, and what was written is removed; threads that put the same long content at the
    /// same time may each store it, until the next compaction. For [`trim`](Self::trim) long content is
    /// as old as the beginning of this call.
    ///
    /// Other puts never wait for the reader. Nobody sees the object before all of it was read.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("file");
    /// # std::fs::write(&path, "content")?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// let stored = store.put_reader(std::fs::File::open(path)?)?;
    /// assert_eq!(store.get(stored.digest)?.unwrap(), "content");
    /// assert_eq!((stored.bytes, stored.is_new), (7, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Content`] if the reader fails, and like [`put`](Self::put). Nothing was stored
    /// then, and of the reader an unknown part is read.
    pub fn put_reader(&self, mut content: impl Read) -> Result<Stored> {
        self.writer()?.put_reader(&mut content, None)
    }

    /// Does [`put_reader`](Self::put_reader) for content whose digest is known, as that of a file that
    /// was fetched from elsewhere.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::DigestMismatch`] if the content has another digest, and like
    /// [`put_reader`](Self::put_reader). Nothing was stored then.
    pub fn put_reader_as(
        &self,
        digest: impl AsRef<Digest>,
        mut content: impl Read,
    ) -> Result<Stored> {
        let writer = self.writer()?;
        writer.put_reader(&mut content, Some(digest.as_ref()))
    }

    fn require_same_function(&self, hashed: &Hashed<'_>) -> Result<()> {
        let (store, given) = (self.hash_function(), hashed.function());
        if store == given {
            Ok(())
        } else {
            Err(Error::HashFunction { store, given })
        }
    }

    /// Hands every object to the operating system that was put before: it survives the end of this
    /// process after this returns, however that ends, but not a crash of the system or power loss.
    /// Readers of other processes see it after a [`refresh`](Self::refresh).
    ///
    /// An application that keeps an index elsewhere, to which it writes the digests of objects, calls
    /// this before it writes to an index that is not synced either, and [`sync`](Self::sync) before one
    /// that is. Takes a system call for the data and one for the journal, however many objects were put.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let store = sealstone::Store::open(folder.path())?;
    /// let digest = store.put(b"text of a document")?;
    /// store.flush()?;
    /// // If this process is killed from here on, the object is there.
    /// let reader = sealstone::Options::new().read_only(true).open(folder.path())?;
    /// assert!(reader.contains(&digest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ReadOnly`], [`Error::Forked`], [`Error::Poisoned`] or [`Error::Io`], for
    /// instance when the disk is full. Then some objects may not have been handed over; they can still
    /// be read through this store, and the next flush or sync tries again.
    pub fn flush(&self) -> Result<()> {
        self.writer()?.flush()
    }

    /// Makes every object durable that was put before: it survives power loss after this returns.
    /// Puts and reads go on meanwhile. Threads that sync at the same time share the work: while one of
    /// them waits for the disk, the others collect, and the next one syncs for all of these.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ReadOnly`], [`Error::Forked`], or [`Error::Io`] if the system could not
    /// write or sync. After a failed sync of a file it is unknown what is on disk, and every
    /// further write fails with [`Error::Poisoned`].
    pub fn sync(&self) -> Result<()> {
        self.writer()?.sync()
    }

    /// Stores several contents and returns their digests, in their order. This is faster than a
    /// [`put`](Self::put) for each: contents are hashed several at a time and in parallel, in the
    /// threads that [`get_many`](Self::get_many) uses, and appended together. Equal contents are
    /// stored once. The puts of other threads go on in between.
    ///
    /// # Errors
    ///
    /// Fails like [`put`](Self::put). Contents before the one that failed are stored.
    pub fn put_many<C: AsRef<[u8]> + Sync>(&self, contents: &[C]) -> Result<Vec<Digest>> {
        let writer = self.writer()?;
        // `as_ref` is called once for each, so that the bytes that were hashed are stored.
        let contents: Vec<&[u8]> = contents.iter().map(AsRef::as_ref).collect();
        writer.put_many(&contents)
    }

    /// Does [`put_many`](Self::put_many) for contents that were hashed elsewhere. Returns for each whether
    /// the store did not hold it yet; of equal contents that are new, the first is new.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let store = sealstone::Store::open(folder.path())?;
    /// use sealstone::Hashed;
    ///
    /// store.put("old")?;
    /// let hashed = ["old", "new", "new"].map(|text| Hashed::new(text.as_bytes()));
    /// assert_eq!(store.put_many_hashed(&hashed)?, [false, true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with [`Error::HashFunction`] if a content was hashed by another function than
    /// [`hash_function`](Self::hash_function); then nothing was stored. Fails like
    /// [`put_many`](Self::put_many).
    pub fn put_many_hashed(&self, hashed: &[Hashed<'_>]) -> Result<Vec<bool>> {
        let writer = self.writer()?;
        for hashed in hashed {
            self.require_same_function(hashed)?;
        }
        writer.put_many_hashed(hashed)
    }

    /// Writes another store into the folder `target`, which must not exist, or be empty but for
    /// `lost+found`. It holds all objects that were put before this call. Its files are hard links,
    /// so it costs no space and next to no time. On another file system the files are copied, with
    /// their permissions.
    ///
    /// From then on the two stores change independently of each other, except for damage: a file
    /// with two names is one file, and bytes that rot or are overwritten from outside are lost in
    /// both.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotEmpty`], with [`Error::Locked`] if another process or thread begins a
    /// store there at the same time, and with [`Error::ReadOnly`], [`Error::Poisoned`] or
    /// [`Error::Io`]. The last can leave a part of a store, whose opening reports missing segments;
    /// remove it before you try again.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<()> {
        self.writer()?.checkpoint(target.as_ref())
    }
}
