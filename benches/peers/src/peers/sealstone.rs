//! Sealstone, and the ways of reading it.

use std::ops::Deref;
use std::path::Path;

use sealstone::{Digest, Options, Store, VerifyReads};

use crate::operations::Operation;
use crate::peer::{Laps, Peer, Reader};

/// Sealstone with default options: the store itself checks every read. For the time of puts it does
/// not write for huge pages, since they cost more where the host of a virtual machine takes memory
/// back (`sealstone::Options::huge_page_writes`). Its own figures have the time of puts with
/// default options. A store that is larger than memory "needs no setting" (docs.rs, `sealstone`,
/// "Larger than memory"), and is opened only to be read.
pub struct Sealstone(pub Store);

const FOLDER: &str = "sealstone";

/// Opens a store for reading beside its writer.
fn open_beside(folder: &Path, options: Options) -> Store {
    options
        .read_only(true)
        .open(folder)
        .expect("Sealstone opens")
}

/// Sets that content is hashed only at its first read.
fn first_read(options: Options) -> Options {
    options.verify_reads(VerifyReads::FirstRead)
}

/// The reader of a store is the store itself.
type Plain<'a> = &'a Store;

/// The reader that `Store::reader` gives; it borrows nothing from the store.
pub type Pinned<'a> = sealstone::PinnedReader;

fn pin(store: &Store) -> Pinned<'_> {
    store.reader()
}

impl Peer for Sealstone {
    const NAME: &'static str = "Sealstone";
    const FOLDER: &'static str = FOLDER;

    type Reader<'a> = &'a Store;

    fn open(folder: &Path) -> Self {
        Self(Store::open(folder).expect("Sealstone opens"))
    }

    fn open_larger_than_memory(folder: &Path, _cache_bytes: u64) -> Self {
        Self(open_beside(folder, Options::new()))
    }

    fn open_to_put(folder: &Path) -> Self {
        let options = Options::new().huge_page_writes(false);
        Self(options.open(folder).expect("Sealstone opens"))
    }

    fn bulk_put(&self, batches: &[Vec<&[u8]>], laps: &mut Laps) {
        for batch in batches {
            laps.lap(|| self.0.put_many(batch).expect("Sealstone puts"));
        }
        laps.lap(|| self.0.sync().expect("Sealstone syncs"));
    }

    fn put_and_sync(&self, contents: &[&[u8]]) {
        for content in contents {
            self.0.put(content).expect("Sealstone puts");
        }
        self.0.sync().expect("Sealstone syncs");
    }

    fn settle(self) {
        self.0.close().expect("Sealstone closes");
    }

    fn reader(&self) -> &Store {
        &self.0
    }

    fn measures(operation: Operation) -> bool {
        operation != Operation::Unchecked
    }
}

impl Reader for &Store {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        Store::get(self, digest)
            .expect("Sealstone gets")
            .map(|object| see(&object))
    }

    #[inline]
    fn get_checked(&self, digest: &Digest) -> Option<usize> {
        self.get(digest, <[u8]>::len)
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        bytes_of(self.get_many(digests))
    }

    fn scan_checked(&self) -> usize {
        let check = |objects, object: sealstone::Result<_>| {
            object.expect("Sealstone iterates");
            objects + 1
        };
        self.iter().fold(0, check)
    }
}

/// Returns the bytes in the answer to a batch.
fn bytes_of<O: Deref<Target = [u8]>>(answers: Vec<sealstone::Result<Option<O>>>) -> usize {
    let found = answers.into_iter().map(|answer| {
        let object = answer
            .expect("Sealstone gets")
            .expect("every object is there");
        object.len()
    });
    found.sum()
}

impl Reader for Pinned<'_> {
    #[inline]
    fn get<T>(&self, digest: &Digest, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        Self::get(self, digest)
            .expect("Sealstone gets")
            .map(|object| see(&object))
    }

    #[inline]
    fn get_checked(&self, digest: &Digest) -> Option<usize> {
        Reader::get(self, digest, <[u8]>::len)
    }

    fn get_batch_checked(&self, digests: &[Digest]) -> usize {
        bytes_of(self.get_many(digests))
    }

    fn scan_checked(&self) -> usize {
        unreachable!("a pinned reader has no walk")
    }
}

/// A way of reading what [`Sealstone`] writes, as a contender of its own.
macro_rules! view {
    ($(#[$doc:meta])* $type:ident, $name:literal, $reader:ident, $open:expr, $pin:expr, $measures:expr) => {
        $(#[$doc])*
        pub struct $type(Store);

        impl Peer for $type {
            const NAME: &'static str = $name;
            const FOLDER: &'static str = FOLDER;
            const IS_VIEW: bool = true;

            type Reader<'a> = $reader<'a>;

            fn open(folder: &Path) -> Self {
                Self(open_beside(folder, $open(Options::new())))
            }

            fn bulk_put(&self, _: &[Vec<&[u8]>], _: &mut Laps) {
                unreachable!("only read")
            }

            fn put_and_sync(&self, _: &[&[u8]]) {
                unreachable!("only read")
            }

            fn reader(&self) -> $reader<'_> {
                $pin(&self.0)
            }

            fn measures(operation: Operation) -> bool {
                let measures: fn(Operation) -> bool = $measures;
                measures(operation)
            }
        }
    };
}

view! {
    /// The pinned reader, whose hits cost no shared atomic.
    PinnedReader, "Sealstone reader", Pinned, |options| options, pin,
    |operation| !matches!(operation, Operation::Unchecked | Operation::Scan)
}

view! {
    /// Content is hashed at its first read, and not again. The first reads are over before the
    /// measurement begins.
    FirstRead, "Sealstone FirstRead", Plain, first_read, |store| store,
    |operation| operation == Operation::Unchecked
}

view! {
    /// A pinned reader with content hashed only at its first read.
    PinnedReaderFirstRead, "Sealstone reader FirstRead", Pinned, first_read, pin,
    |operation| operation == Operation::Unchecked
}
