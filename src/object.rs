//! The result of a read: verified content that keeps itself alive.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::digest::Digest;
use crate::memory::Map;
use crate::segment::Data;
use crate::segment::content::{Content, Verified};

/// The content of one object, checked against its digest when it was read.
///
/// It dereferences to its bytes without a copy, and holds the segment in which they lie: it stays
/// valid after the object was compacted away, after the files were removed and after the store was
/// dropped. Keeping an `Object` keeps the segment's files on disk, so keep a copy
/// (`object.to_vec()`) of content that you need for long. Cloning is cheap. Content that is not in
/// a file yet, at most 256 KiB long, is copied, so that the object does not hold the buffer.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let store = sealstone::Store::open(folder.path())?;
/// let digest = store.put(b"content")?;
/// let object = store.get(&digest)?.expect("just stored");
/// drop(store);
/// assert_eq!(object, b"content");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Object {
    digest: Digest,
    backing: Backing,
    offset: u64,
    len: usize,
}

#[derive(Clone)]
enum Backing {
    Sealed(Arc<Data>),
    Map(Arc<Map>),
    Heap(Arc<[u8]>),
}

impl Verified<'_> {
    /// Makes an object that holds the map or buffer of its content itself. Copies no mapped
    /// content.
    #[inline]
    pub(crate) fn into_object(self, digest: &Digest) -> Object {
        let len = self.bytes().len();
        let (backing, offset) = match self.into_content() {
            Content::Sealed { data, offset, .. } => (Backing::Sealed(Arc::clone(data)), offset),
            Content::Unsealed { map, offset, .. } => (Backing::Map(Arc::clone(map)), offset),
            Content::Heap(bytes) => (Backing::Heap(bytes.into()), 0),
            buffered @ Content::Buffered { .. } => (Backing::Heap(buffered.bytes().into()), 0),
        };
        Object {
            digest: *digest,
            backing,
            offset,
            len,
        }
    }
}

impl Object {
    /// Makes an object of a copy of content whose digest was checked.
    #[cfg(feature = "remote")]
    pub(crate) fn in_memory(digest: Digest, content: &[u8]) -> Self {
        Self {
            digest,
            backing: Backing::Heap(content.into()),
            offset: 0,
            len: content.len(),
        }
    }

    /// Returns the digest of the content.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    fn bytes(&self) -> Option<&[u8]> {
        match &self.backing {
            Backing::Sealed(data) => data.mapped(self.offset, self.len),
            Backing::Map(map) => map.slice(self.offset, self.len),
            Backing::Heap(bytes) => Some(bytes),
        }
    }
}

impl Deref for Object {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes()
            .expect("the bytes were there when the object was made, and maps do not shrink")
    }
}

impl AsRef<[u8]> for Object {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("digest", &self.digest)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Object {
    /// Compares the digests: equal digests mean equal content.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Object {}

/// Lets the bytes of an object be compared with those of slices, arrays, vectors and texts.
macro_rules! compare_bytes {
    ($object:ty) => {
        compare_bytes!($object: [u8], &[u8], Vec<u8>, str, &str);

        impl<const N: usize> PartialEq<[u8; N]> for $object {
            fn eq(&self, other: &[u8; N]) -> bool {
                **self == other[..]
            }
        }

        impl<const N: usize> PartialEq<&[u8; N]> for $object {
            fn eq(&self, other: &&[u8; N]) -> bool {
                **self == other[..]
            }
        }
    };
    ($object:ty: $($other:ty),*) => {$(
        impl PartialEq<$other> for $object {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                **self == *other
            }
        }
    )*};
}
pub(crate) use compare_bytes;

compare_bytes!(Object);

impl From<Object> for Vec<u8> {
    /// Copies the content, which then holds no file.
    fn from(object: Object) -> Self {
        object.to_vec()
    }
}

impl From<Object> for Arc<[u8]> {
    /// Copies the content unless it was copied when it was read. It then holds no file.
    fn from(object: Object) -> Self {
        match object.backing {
            Backing::Heap(bytes) => bytes,
            Backing::Sealed(_) | Backing::Map(_) => (*object).into(),
        }
    }
}

#[cfg(feature = "bytes")]
impl From<Object> for bytes::Bytes {
    /// Copies no content: the `Bytes` holds the object.
    fn from(object: Object) -> Self {
        Self::from_owner(object)
    }
}
