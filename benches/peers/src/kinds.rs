//! The operations on a store that is not open yet: filling, settling and opening it.

use std::fs;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sealstone::Digest;

use crate::contents::Contents;
use crate::machine;
use crate::operations::Contender;
use crate::peer::{Laps, Peer, Reader};
use crate::peers::{
    FirstRead, Fjall, Lmdb, ParityDb, PinnedReader, PinnedReaderFirstRead, Redb, Sealstone,
};

/// A kind of store that fits into a list. Its calls are virtual, which costs nothing: none is
/// short.
pub trait Kind {
    fn name(&self) -> &'static str;

    /// Returns the subfolder with its files.
    fn folder(&self) -> &'static str;

    /// Returns whether it only reads what another kind writes.
    fn is_view(&self) -> bool;

    /// Puts all objects into a new folder that is read later.
    fn build(&self, folder: &Path, contents: &Contents);

    /// Puts all slices of the objects into a new folder that is read later, one after the other.
    fn build_in_slices(&self, folder: &Path, slices: &mut dyn Iterator<Item = Contents>);

    /// Puts all objects into a new folder, each batch as it comes, and syncs at the end.
    fn bulk_put(&self, folder: &Path, contents: &Contents) -> Written;

    /// Loads a new folder with all objects sorted; `None` if that is no faster than a bulk put.
    fn load_sorted(&self, folder: &Path, objects: &[(Digest, &[u8])]) -> Option<Duration>;

    /// Puts all objects into a new folder with a sync each `every` objects; `None` without a sync.
    fn put_with_syncs(&self, folder: &Path, contents: &Contents, every: usize) -> Option<Written>;

    /// Brings a store that was filled into the state in which it is read.
    fn settle(&self, folder: &Path);

    /// Opens, gets one object and closes; returns the time of opening and of the get.
    fn open_and_get(&self, folder: &Path, digest: &Digest) -> (Duration, Duration);

    fn open(&self, folder: &Path) -> Box<dyn Contender>;

    /// Opens a store that does not fit into memory.
    fn open_larger_than_memory(&self, folder: &Path, cache_bytes: u64) -> Box<dyn Contender>;

    /// Opens, gets objects and one that the store lacks, and calls `look` while the store is open.
    fn use_a_little(&self, folder: &Path, digests: &[Digest], look: &mut dyn FnMut());
}

/// The time that a writing operation took.
pub struct Written {
    pub total: Duration,
    /// The longest batch, or the sync at the end.
    pub longest: Duration,
}

struct Of<P>(PhantomData<P>);

fn of<P: Peer>() -> Box<dyn Kind> {
    Box::new(Of::<P>(PhantomData))
}

/// Returns all kinds, in the order in which they take turns and are reported.
pub fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        of::<Sealstone>(),
        of::<PinnedReader>(),
        of::<FirstRead>(),
        of::<PinnedReaderFirstRead>(),
        of::<Lmdb>(),
        of::<Redb>(),
        of::<Fjall>(),
        of::<ParityDb>(),
    ]
}

/// Returns the kinds that write, each store once.
pub fn writers() -> Vec<Box<dyn Kind>> {
    let mut kinds = kinds();
    kinds.retain(|kind| !kind.is_view());
    kinds
}

impl<P: Peer> Kind for Of<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn folder(&self) -> &'static str {
        P::FOLDER
    }

    fn is_view(&self) -> bool {
        P::IS_VIEW
    }

    fn build(&self, folder: &Path, contents: &Contents) {
        let peer = P::open(folder);
        peer.bulk_put(&contents.batches(), &mut Laps::default());
    }

    fn build_in_slices(&self, folder: &Path, slices: &mut dyn Iterator<Item = Contents>) {
        let peer = P::open(folder);
        for contents in slices {
            peer.bulk_put(&contents.batches(), &mut Laps::default());
        }
    }

    fn bulk_put(&self, folder: &Path, contents: &Contents) -> Written {
        let batches = contents.batches();
        let peer = P::open_to_put(folder);
        let mut laps = Laps::default();
        let start = Instant::now();
        peer.bulk_put(&batches, &mut laps);
        let total = sync_by_closing(peer, start);
        Written {
            total,
            longest: laps.longest,
        }
    }

    fn load_sorted(&self, folder: &Path, objects: &[(Digest, &[u8])]) -> Option<Duration> {
        let peer = P::open(folder);
        let start = Instant::now();
        peer.load_sorted(objects).then(|| start.elapsed())
    }

    fn put_with_syncs(&self, folder: &Path, contents: &Contents, every: usize) -> Option<Written> {
        if !P::HAS_SYNC {
            return None;
        }
        let contents: Vec<_> = contents.iter().collect();
        let peer = P::open(folder);
        let mut laps = Laps::default();
        let start = Instant::now();
        for group in contents.chunks(every) {
            laps.lap(|| peer.put_and_sync(group));
        }
        Some(Written {
            total: start.elapsed(),
            longest: laps.longest,
        })
    }

    fn settle(&self, folder: &Path) {
        P::open(folder).settle();
    }

    fn open_and_get(&self, folder: &Path, digest: &Digest) -> (Duration, Duration) {
        let start = Instant::now();
        let peer = P::open(folder);
        let opened = start.elapsed();
        let start = Instant::now();
        let found = peer.reader().get_checked(digest);
        let got = start.elapsed();
        assert!(found.is_some(), "the object is there");
        (opened, got)
    }

    fn open(&self, folder: &Path) -> Box<dyn Contender> {
        Box::new(P::open(folder))
    }

    fn open_larger_than_memory(&self, folder: &Path, cache_bytes: u64) -> Box<dyn Contender> {
        Box::new(P::open_larger_than_memory(folder, cache_bytes))
    }

    fn use_a_little(&self, folder: &Path, digests: &[Digest], look: &mut dyn FnMut()) {
        let peer = P::open(folder);
        let reader = peer.reader();
        crate::operations::checked(&reader, digests);
        let absent = Digest::from([0x5a; 32]);
        assert!(reader.get(&absent, <[u8]>::len).is_none());
        look();
    }
}

/// Returns the time since `start`, including closing where nothing else makes puts durable.
fn sync_by_closing<P: Peer>(peer: P, start: Instant) -> Duration {
    if P::HAS_SYNC {
        return start.elapsed();
    }
    drop(peer);
    start.elapsed()
}

/// Returns the bytes of the blocks that the files of a folder take; their lengths may include
/// holes.
pub fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    entries
        .map(|entry| {
            let entry = entry.expect("the folder can be listed");
            let metadata = entry.metadata().expect("the file is there");
            if metadata.is_dir() {
                disk_bytes(&entry.path())
            } else {
                metadata.blocks() * 512
            }
        })
        .sum()
}

/// Makes an empty folder in the place of any earlier one, and waits until the disk is quiet.
pub fn new_folder(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("the folder can be removed");
    }
    fs::create_dir_all(folder).expect("the folder can be made");
    machine::quiet_disk();
}
