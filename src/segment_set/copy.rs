//! One copy of an object.

use std::sync::Arc;

use super::tried::Tried;
use crate::digest::{Digest, HashFunction};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::options::VerifyReads;
use crate::segment::content::{Content, Verified};
use crate::segment::{Active, Extent, Sealed};

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

    /// The bytes, not verified. `None` if the file is shorter than the index says.
    pub(crate) fn content(&self) -> Result<Option<Content<'a>>> {
        let Entry { offset, len, .. } = *self.entry();
        match self {
            Self::Sealed { segment, .. } => segment.content(offset, len as usize),
            Self::Unsealed { segment, .. } => segment.read(Extent { offset, len }),
        }
    }

    /// Reads and verifies this copy, unless `tried` knows that it was hashed in vain. With
    /// [`VerifyReads::FirstRead`] a mapped record that was verified in this process is not hashed.
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
        let position = match (verify, &content, self) {
            (VerifyReads::FirstRead, Content::Sealed { .. }, Self::Sealed { position, .. }) => {
                *position
            }
            _ => None,
        };
        if self.was_verified(position) {
            return Ok(Some(content.known_right()));
        }
        let Some(verified) = content.verify(self.hash_function(), &self.entry().digest) else {
            tried.insert(self);
            return self.damaged();
        };
        self.note_verified(position);
        Ok(Some(verified))
    }

    fn was_verified(&self, position: Option<usize>) -> bool {
        match (self, position) {
            (Self::Sealed { segment, .. }, Some(position)) => segment.verified().get(position),
            _ => false,
        }
    }

    fn note_verified(&self, position: Option<usize>) {
        if let (Self::Sealed { segment, .. }, Some(position)) = (self, position) {
            segment.verified().set(position);
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
            Self::Unsealed { segment, entry } => segment.may_be_torn(entry),
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
        if self.entry().len as usize != content.len() {
            return Ok(false);
        }
        if let Self::Sealed { segment, entry, .. } = self
            && segment.data().content_len(entry.offset)? != Some(content.len())
        {
            return Ok(false);
        }
        let stored = self.content()?;
        Ok(stored.is_some_and(|stored| stored.bytes() == content))
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
    let Extent { offset, len } = segment.find(digest)?;
    let digest = *digest;
    let entry = Entry {
        digest,
        offset,
        len,
    };
    Some(ObjectCopy::Unsealed { segment, entry })
}
