//! One copy of an object.

use std::sync::Arc;

use super::Found;
use crate::digest::{Digest, Hashed};
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::memory::prefetch;
use crate::object::{Backing, Object};
use crate::segment::active::Content;
use crate::segment::{Active, Extent, Sealed};

/// One copy of an object.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Sealed(&'a Arc<Sealed>, Entry),
    Unsealed(&'a Arc<Active>, Entry),
}

impl<'a> Place<'a> {
    pub(crate) fn segment(&self) -> u32 {
        match self {
            Self::Sealed(segment, _) => segment.id(),
            Self::Unsealed(active, _) => active.id(),
        }
    }

    pub(crate) const fn entry(&self) -> &Entry {
        match self {
            Self::Sealed(_, entry) | Self::Unsealed(_, entry) => entry,
        }
    }

    /// This copy to be verified together with others. `None` for one that is not to be had without a
    /// copy, or not at all: [`object`](Self::object) then says what there is.
    pub(crate) fn unverified(self) -> Option<Unverified<'a>> {
        match self {
            Self::Sealed(segment, Entry { offset, len, .. }) => {
                let bytes = segment.data().mapped(offset, len as usize)?;
                Some(Unverified::Sealed(segment, offset, bytes))
            }
            Self::Unsealed(active, Entry { offset, len, .. }) => {
                let extent = Extent { offset, len };
                let content = active.read(extent).ok()??;
                Some(Unverified::Unsealed(active.id(), extent, content))
            }
        }
    }

    /// Reads and verifies this copy. `None` for what a crash took before it was ever synced, which
    /// only a reader that repairs nothing can meet.
    #[inline]
    pub(crate) fn object(&self) -> Result<Option<Object>> {
        match self {
            Self::Sealed(segment, entry) => self.sealed_object(segment, entry),
            Self::Unsealed(active, entry) => self.unsealed_object(active, entry),
        }
    }

    #[inline]
    fn sealed_object(&self, segment: &Sealed, entry: &Entry) -> Result<Option<Object>> {
        let Entry { offset, len, .. } = *entry;
        let len = len as usize;
        let data = segment.data();
        if let Some(bytes) = data.mapped(offset, len) {
            prefetch(bytes);
            self.verify(bytes)?;
            let backing = Backing::Sealed(Arc::clone(data));
            return Ok(Some(Object::new(entry.digest, backing, offset, len)));
        }
        let bytes = data.read(offset, len)?.ok_or_else(|| self.corrupt())?;
        self.verify(&bytes)?;
        let backing = Backing::Heap(bytes.into_owned().into());
        Ok(Some(Object::new(entry.digest, backing, 0, len)))
    }

    fn unsealed_object(&self, active: &Arc<Active>, entry: &Entry) -> Result<Option<Object>> {
        let Entry {
            offset,
            len,
            digest,
        } = *entry;
        let content = active.read(Extent { offset, len })?;
        let len = len as usize;
        let Some(content) = content.filter(|content| Digest::of(content.bytes(len)) == digest)
        else {
            return self.damaged();
        };
        let extent = Extent {
            offset,
            len: entry.len,
        };
        Ok(Some(unsealed_object(digest, extent, content)))
    }

    /// What a read gives of a copy that does not verify.
    pub(super) fn damaged(&self) -> Result<Option<Object>> {
        if self.may_be_torn() {
            Ok(None)
        } else {
            Err(self.corrupt())
        }
    }

    /// Whether only a look at the content tells if this copy is there: a crash may have taken it before it
    /// was ever synced, which only a reader that repairs nothing can meet.
    pub(crate) fn may_be_torn(&self) -> bool {
        match self {
            Self::Sealed(..) => false,
            Self::Unsealed(active, entry) => active.may_be_torn(entry),
        }
    }

    /// Whether this copy is there, as a read would say. Reads no content unless the index alone cannot
    /// tell.
    pub(crate) fn is_there(&self) -> Result<bool> {
        Ok(!self.may_be_torn() || self.object()?.is_some())
    }

    fn verify(&self, bytes: &[u8]) -> Result<()> {
        if Digest::of(bytes) == self.entry().digest {
            Ok(())
        } else {
            Err(self.corrupt())
        }
    }

    #[cold]
    pub(crate) fn corrupt(&self) -> Error {
        Error::Corrupt {
            digest: self.entry().digest,
            segment: self.segment(),
            offset: self.entry().offset,
        }
    }

    /// The segment, if `accept` takes it and this copy is, byte for byte, the content.
    pub(super) fn holding(
        &self,
        hashed: &Hashed<'_>,
        accept: &impl Fn(u32) -> bool,
    ) -> Result<Option<u32>> {
        let segment = self.segment();
        let holds = accept(segment) && self.holds(hashed.content())?;
        Ok(holds.then_some(segment))
    }

    /// Whether this copy is, byte for byte, `content`.
    fn holds(&self, content: &[u8]) -> Result<bool> {
        let Entry { offset, len, .. } = *self.entry();
        if len as usize != content.len() {
            return Ok(false);
        }
        Ok(match self {
            Self::Sealed(segment, _) => {
                let bytes = segment.data().read(offset, content.len())?;
                bytes.is_some_and(|bytes| *bytes == *content)
            }
            Self::Unsealed(active, _) => {
                let stored = active.read(Extent { offset, len })?;
                stored.is_some_and(|stored| stored.bytes(content.len()) == content)
            }
        })
    }
}

/// A copy whose content is there and yet to be verified.
pub(crate) enum Unverified<'a> {
    Sealed(&'a Arc<Sealed>, u64, &'a [u8]),
    Unsealed(u32, Extent, Content<'a>),
}

impl<'a> Unverified<'a> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Sealed(_, _, bytes) => bytes,
            Self::Unsealed(_, extent, content) => content.bytes(extent.len as usize),
        }
    }

    /// Its segment, and where its content begins.
    pub(super) fn position(&self) -> (u32, u64) {
        match self {
            Self::Sealed(segment, offset, _) => (segment.id(), *offset),
            Self::Unsealed(segment, extent, _) => (*segment, extent.offset),
        }
    }

    /// The caller has verified it.
    pub(crate) fn found(self, digest: &Digest) -> Found<'a> {
        match self {
            Self::Sealed(segment, offset, bytes) => Found::Mapped {
                data: segment.data(),
                offset,
                bytes,
            },
            Self::Unsealed(_, extent, content) => {
                Found::Object(unsealed_object(*digest, extent, content))
            }
        }
    }
}

/// Verified content of an unsealed segment, holding what it lies in. What is still in the buffer is
/// copied: a small object would keep all of it, 2 MiB and more, and the next block would need another. It
/// was hashed just now, which takes twenty times as long as to copy it.
fn unsealed_object(digest: Digest, extent: Extent, content: Content<'_>) -> Object {
    let len = extent.len as usize;
    let (backing, offset) = match content {
        Content::Mapped(map, _) => (Backing::Map(Arc::clone(map)), extent.offset),
        Content::Buffered(..) => (Backing::Heap(content.bytes(len).into()), 0),
        Content::Copied(bytes) => (Backing::Heap(bytes.into()), 0),
    };
    Object::new(digest, backing, offset, len)
}
