//! Putting, syncing, checkpoints.

use std::path::Path;

use super::Store;
use crate::digest::{Digest, Hashed};
use crate::error::Result;

impl Store {
    /// Stores content and gives its digest. Content that the store already holds, byte for byte, is
    /// not stored again; a damaged copy does not count, so putting again repairs.
    ///
    /// It can be read at once, by every thread. It survives power loss after the next
    /// [`sync`](Self::sync). It is hashed before any lock is taken; large content is written without
    /// being buffered.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond `u32::MAX` bytes; [`Error::ReadOnly`]; [`Error::Forked`];
    /// [`Error::Poisoned`]; [`Error::Io`], for instance when the disk is full. Then nothing was stored, what was stored
    /// before is unharmed, and the put can be tried again.
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        // Nothing is hashed that would then be refused.
        self.writer()?.require_acceptable(content.len())?;
        let hashed = Hashed::new(content);
        self.put_hashed(&hashed)?;
        Ok(*hashed.digest())
    }

    /// As [`put`](Self::put), for content that was hashed elsewhere. True if it was not held yet.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put).
    pub fn put_hashed(&self, hashed: &Hashed<'_>) -> Result<bool> {
        self.writer()?.put(hashed)
    }

    /// Makes everything durable that was put before: after this returns, it survives power loss.
    /// Puts and reads go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Forked`]; [`Error::Io`] if the system could not write, or not sync.
    /// After a failed sync of a file it is
    /// unknown what is on disk, and every further write is [`Error::Poisoned`].
    pub fn sync(&self) -> Result<()> {
        self.writer()?.sync()
    }

    /// Stores several contents; the digests are in their order. Faster than a [`put`](Self::put) for
    /// each: they are hashed several at a time and, in the threads of [`get_many`](Self::get_many), in
    /// parallel, and appended together. Of contents that are the same, one is stored. The puts of other
    /// threads go on in between.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put). Contents before the one that failed are stored.
    pub fn put_many<C: AsRef<[u8]> + Sync>(&self, contents: &[C]) -> Result<Vec<Digest>> {
        let writer = self.writer()?;
        // Asked for once, so that what is stored is what was hashed.
        let contents: Vec<&[u8]> = contents.iter().map(AsRef::as_ref).collect();
        writer.put_many(&contents)
    }

    /// Writes another store into the folder `target`, which must not exist or be empty but for
    /// `lost+found`: all objects that were put before this was called, as hard links, so it costs no
    /// space and next to no time. On another file system it copies, with the permissions of the files.
    ///
    /// From then on the two are changed independently of each other, but for damage: a file that has
    /// two names is one file, and what rots or is overwritten from outside is lost in both.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], [`Error::Locked`] where somebody else begins a store there at the same time,
    /// [`Error::ReadOnly`], [`Error::Poisoned`], [`Error::Io`]. The last can leave a part of the store, which
    /// says that segments are missing; remove it before you try again.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<()> {
        self.writer()?.checkpoint(target.as_ref())
    }
}
