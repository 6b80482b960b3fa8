//! Opens a store.

use std::path::Path;
use std::sync::Arc;

use super::{Access, Handle, Store};
use crate::dir::Dir;
use crate::engine::{OpenWriter, Shared};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::recovery::reader::Reader;
use crate::segment_set::SegmentSet;
use crate::sync::Mutex;

impl Store {
    /// Opens the store in the folder `root` for reading and writing, and creates it if there is
    /// none. Use [`Options`] to open it in another way.
    ///
    /// # Errors
    ///
    /// Fails like [`Options::open`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(root)
    }

    /// Returns the default [`Options`].
    #[must_use]
    pub fn options() -> Options {
        Options::new()
    }
}

impl Options {
    /// Opens the store in the folder `root`; its files are in `root/segments`. Takes time in
    /// proportion to the number of segments, not of objects.
    ///
    /// An existing store can be opened on a full disk too, but puts fail until there is room. The
    /// opening itself needs room if files of another program have to be taken over or the manifest
    /// was lost: then open the store [`read_only`](Self::read_only).
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Locked`](crate::Error::Locked) beside another writer, and with
    /// [`Error::NoStore`](crate::Error::NoStore),
    /// [`Error::MissingSegment`](crate::Error::MissingSegment) or [`Error::Io`](crate::Error::Io).
    /// Damage does not make it fail: the opening repairs damage if that loses nothing, and
    /// [`Store::recovery`] reports it; a read that meets other damage fails. The exception is damage
    /// that hides by which hash function the objects are named:
    /// [`Error::HashFunctionUnknown`](crate::Error::HashFunctionUnknown). A hash function in the
    /// options that is not that of the store is [`Error::HashFunction`](crate::Error::HashFunction).
    pub fn open(&self, root: impl AsRef<Path>) -> Result<Store> {
        let handle = Handle::open(root.as_ref(), self)?;
        Ok(Store {
            handle: Arc::new(handle),
        })
    }
}

impl Handle {
    fn open(root: &Path, options: &Options) -> Result<Self> {
        let dir = match options.open_dir(root)? {
            None if options.read_only || !options.create => {
                return Err(Error::NoStore {
                    path: root.to_owned(),
                });
            }
            None => options.create_dir(root)?,
            // The process that created the folder may have been killed before the name was durable.
            Some(dir) if !options.read_only && dir.read_manifest()?.is_none() => {
                options.create_dir(root)?
            }
            Some(dir) => dir,
        };
        if options.read_only {
            Self::open_reader(root, dir, options.clone())
        } else {
            let writer = OpenWriter::open(root, dir, options.clone())?;
            Ok(Self {
                shared: Arc::clone(writer.writer().shared()),
                access: Access::Writer(writer),
            })
        }
    }

    fn open_reader(root: &Path, dir: Dir, options: Options) -> Result<Self> {
        let mut reader = Reader::default();
        let seen = reader.load(&dir, &options, &SegmentSet::default())?;
        Ok(Self {
            shared: Arc::new(Shared::new(root, dir, options, seen)),
            access: Access::Reader(Mutex::new(reader)),
        })
    }
}
