//! One copy of an object.

use std::sync::Arc;

use super::tried::Tried;
use crate::digest::{Digest, HashFunction, Hasher};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::memory::Map;
use crate::options::VerifyReads;
use crate::segment::active_index::Indexed;
use crate::segment::content::{Content, Verified};
use crate::segment::{Active, Extent, Sealed};

/// Bytes of a copy that are read and hashed at a time.
const PIECE_BYTES: u32 = 1 << 20;

/// One record of an object, which an index has found.
#[derive(Clone, Copy)]
pub(crate) enum ObjectCopy<'a> {
    Sealed {
        segment: &'a Arc<Sealed>,
        entry: Entry,
        /// Where the entry stands in the sidecar, if that is known.
        position: Option<usize>,
    },
    Unsealed {
        segment: &'a Arc<Active>,
        entry: Entry,
        /// What the index of the segment knows of the object, if it was asked.
        indexed: Option<&'a Indexed>,
    },
}

impl<'a> ObjectCopy<'a> {
    /// Makes a copy in a sealed segment, without its position in the sidecar.
    pub(crate) const fn sealed(segment: &'a Arc<Sealed>, entry: Entry) -> Self {
        Self::Sealed {
            segment,
            entry,
            position: None,
        }
    }

    /// Makes a copy in an unsealed segment, without what its index knows of it.
    pub(crate) const fn unsealed(segment: &'a Arc<Active>, entry: Entry) -> Self {
        Self::Unsealed {
            segment,
            entry,
            indexed: None,
        }
    }

    /// The id of the segment that holds the copy.
    pub(crate) fn segment_id(&self) -> u32 {
        match self {
            Self::Sealed { segment, .. } => segment.id(),
            Self::Unsealed { segment, .. } => segment.id(),
        }
    }

    /// The function that names the object.
    fn hash_function(&self) -> HashFunction {
        match self {
            Self::Sealed { segment, .. } => segment.data().hash_function(),
            Self::Unsealed { segment, .. } => segment.hash_function(),
        }
    }

    pub(crate) const fn entry(&self) -> &Entry {
        match self {
            Self::Sealed { entry, .. } | Self::Unsealed { entry, .. } => entry,
        }
    }

    /// The map of the file that holds the copy, if it is mapped.
    pub(super) fn map(&self) -> Option<&'a Map> {
        match self {
            Self::Sealed { segment, .. } => segment.data().map(),
            Self::Unsealed { segment, .. } => segment.map(),
        }
    }

    /// The bytes, not verified. `None` if the file is shorter than the index says.
    pub(crate) fn content(&self) -> Result<Option<Content<'a>>> {
        let Entry { offset, len, .. } = *self.entry();
        self.part(Extent { offset, len })
    }

    /// Bytes of the file that holds the copy. `None` if the file is too short.
    fn part(&self, extent: Extent) -> Result<Option<Content<'a>>> {
        match self {
            Self::Sealed { segment, .. } => segment.content(extent.offset, extent.len as usize),
            Self::Unsealed { segment, .. } => segment.read(extent),
        }
    }

    /// Reads and verifies this copy, unless `tried` knows that it was hashed in vain. With
    /// [`VerifyReads::FirstRead`] a record in memory that was verified in this process is not hashed.
    ///
    /// Returns `None` for a record that was lost in a crash before it was ever synced. Only a
    /// reader, which repairs nothing, can meet such a record.
    pub(crate) fn read(
        &self,
        verify: VerifyReads,
        tried: &mut Tried,
    ) -> Result<Option<Verified<'a>>> {
        if tried.has(self) {
            return self.damaged();
        }
        let Some(content) = self.content()? else {
            tried.insert(self);
            return self.damaged();
        };
        // What a system call has copied can differ from what it copied before.
        let is_once = verify == VerifyReads::FirstRead && !matches!(content, Content::Heap(_));
        if is_once && self.was_verified() {
            content.fetch_unhashed();
            return Ok(Some(content.known_right()));
        }
        let Some(verified) = content.verify(self.hash_function(), &self.entry().digest) else {
            tried.insert(self);
            return self.damaged();
        };
        if is_once {
            self.note_verified();
        }
        Ok(Some(verified))
    }

    fn was_verified(&self) -> bool {
        match *self {
            Self::Sealed {
                segment, position, ..
            } => position.is_some_and(|position| segment.verified().get(position)),
            Self::Unsealed { indexed, .. } => indexed.is_some_and(Indexed::is_verified),
        }
    }

    fn note_verified(&self) {
        match *self {
            Self::Sealed {
                segment, position, ..
            } => {
                if let Some(position) = position {
                    segment.verified().set(position);
                }
            }
            Self::Unsealed { indexed, .. } => {
                if let Some(indexed) = indexed {
                    indexed.note_verified();
                }
            }
        }
    }

    /// The result of a read of a copy that does not verify.
    fn damaged<T>(&self) -> Result<Option<T>> {
        if self.may_be_torn() {
            Ok(None)
        } else {
            Err(self.corrupt())
        }
    }

    /// Whether this copy may have been lost in a crash before it was ever synced, so that only its
    /// content tells if it is there.
    fn may_be_torn(&self) -> bool {
        match self {
            Self::Sealed { .. } => false,
            Self::Unsealed { segment, entry, .. } => segment.may_be_torn(entry),
        }
    }

    /// Whether this copy is there. Reads its content only if it [may be torn](Self::may_be_torn).
    pub(crate) fn is_there(&self) -> Result<bool> {
        let read = || self.read(VerifyReads::EveryRead, &mut Tried::default());
        Ok(!self.may_be_torn() || read()?.is_some())
    }

    /// Whether this copy equals `content`, byte for byte, and its record has the right length, without
    /// which the sidecar could not be rebuilt from the data.
    pub(crate) fn holds(&self, content: &[u8]) -> Result<bool> {
        if self.entry().len as usize != content.len() || !self.has_right_header()? {
            return Ok(false);
        }
        let Some(stored) = self.content()? else {
            return Ok(false);
        };
        stored.fetch();
        Ok(stored.bytes() == content)
    }

    /// Whether the header of the record gives the length that the sidecar gives.
    fn has_right_header(&self) -> Result<bool> {
        match self {
            Self::Sealed { segment, entry, .. } => {
                Ok(segment.data().content_len(entry.offset)? == Some(entry.len as usize))
            }
            Self::Unsealed { .. } => Ok(true),
        }
    }

    /// Whether this copy [holds](Self::holds) the content of its digest. Has one piece of it in memory at
    /// a time.
    pub(crate) fn is_whole(&self) -> Result<bool> {
        if !self.has_right_header()? {
            return Ok(false);
        }
        let Entry { offset, len, .. } = *self.entry();
        let mut hasher = Hasher::new(self.hash_function());
        let mut done = 0;
        while done < len {
            let piece = Extent {
                offset: offset + u64::from(done),
                len: PIECE_BYTES.min(len - done),
            };
            let Some(content) = self.part(piece)? else {
                return Ok(false);
            };
            content.fetch();
            hasher.update(content.bytes());
            if let Some(map) = self.map() {
                map.forget(piece.offset..piece.offset + u64::from(piece.len));
            }
            done += piece.len;
        }
        Ok(hasher.finish() == self.entry().digest)
    }

    #[cold]
    pub(crate) fn corrupt(&self) -> Error {
        Error::Corrupt {
            digest: self.entry().digest,
            segment: self.segment_id(),
            offset: self.entry().offset,
        }
    }
}

/// The copy of `digest` that an unsealed segment holds.
pub(super) fn unsealed_copy<'a>(
    segment: &'a Arc<Active>,
    digest: &Digest,
) -> Option<ObjectCopy<'a>> {
    let indexed = segment.find(digest)?;
    let Extent { offset, len } = indexed.extent();
    let digest = *digest;
    let entry = Entry {
        digest,
        offset,
        len,
    };
    Some(ObjectCopy::Unsealed {
        segment,
        entry,
        indexed: Some(indexed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::work::hashed_bytes;
    use crate::options::{Options, ReadMode};
    use crate::store::Store;

    fn hashed_in_a_get(store: &Store, digest: &Digest) -> u64 {
        hashed_bytes(|| assert!(store.get(digest).unwrap().is_some()))
    }

    /// A get of an object in the segment that is appended to.
    #[test]
    fn content_that_was_put_or_read_is_not_hashed_again_with_first_read() {
        const CONTENT: &[u8] = &[7; 3000];
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            for verify in [VerifyReads::FirstRead, VerifyReads::EveryRead] {
                let folder = tempfile::tempdir().unwrap();
                let options = Options::new().read_mode(mode).verify_reads(verify);
                let always = CONTENT.len() as u64;
                let is_once = verify == VerifyReads::FirstRead;
                let store = options.open(folder.path()).unwrap();
                let digest = store.put(CONTENT).unwrap();
                // It stays in the buffer, also when it is in the file.
                let after_put = if is_once { 0 } else { always };
                assert_eq!(hashed_in_a_get(&store, &digest), after_put);
                store.sync().unwrap();
                assert_eq!(hashed_in_a_get(&store, &digest), after_put);
                // This handle has not put it, and has no buffer.
                let is_mapped = mode == ReadMode::Mmap;
                let again = if is_once && is_mapped { 0 } else { always };
                let reader = options.read_only(true).open(folder.path()).unwrap();
                assert_eq!(hashed_in_a_get(&reader, &digest), always);
                assert_eq!(hashed_in_a_get(&reader, &digest), again);
                assert!(!reader.refresh().unwrap());
                assert_eq!(hashed_in_a_get(&reader, &digest), again);
            }
        }
    }
}
