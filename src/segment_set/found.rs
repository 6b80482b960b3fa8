//! What a lookup finds, before it is decided how long it is to be held.

use std::sync::Arc;

use crate::digest::Digest;
use crate::object::{Backing, Object};
use crate::segment::Data;

/// Verified content.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Bytes of a mapped segment, as long as the set that they were found in is held.
    Mapped {
        data: &'a Arc<Data>,
        offset: u64,
        bytes: &'a [u8],
    },
    /// Content that is held by itself.
    Object(Object),
}

impl Found<'_> {
    /// Content that holds its segment by itself.
    #[inline]
    pub(crate) fn into_object(self, digest: &Digest) -> Object {
        match self {
            Self::Mapped {
                data,
                offset,
                bytes,
            } => {
                let backing = Backing::Sealed(Arc::clone(data));
                Object::new(*digest, backing, offset, bytes.len())
            }
            Self::Object(object) => object,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { bytes, .. } => bytes,
            Self::Object(object) => object,
        }
    }
}
