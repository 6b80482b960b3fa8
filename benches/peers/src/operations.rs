//! The operations on open stores. Each is measured as time for an object.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use sealstone::Digest;

use crate::hashing;
use crate::peer::{Peer, Reader};

/// An operation on an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Random gets with the content checked against its digest.
    Checked,
    /// Random gets that look at the first byte.
    Unchecked,
    /// Batches of that many random gets, checked.
    Batch(usize),
    /// Checked random gets on as many threads; the time is that of all threads together.
    Threads(usize),
    /// Gets of digests that the store lacks.
    Miss,
    /// A walk over all objects in the order of the files, checked.
    Scan,
}

/// All operations, in the order in which they are measured and reported.
pub const OPERATIONS: [Operation; 7] = [
    Operation::Checked,
    Operation::Batch(BATCH_OBJECTS),
    Operation::Unchecked,
    Operation::Threads(2),
    Operation::Threads(8),
    Operation::Miss,
    Operation::Scan,
];

/// The gets of a batch, where nothing else is said.
pub const BATCH_OBJECTS: usize = 32;

impl Operation {
    pub fn name(self) -> String {
        match self {
            Self::Checked => "get, checked".into(),
            Self::Unchecked => "get, unchecked".into(),
            Self::Batch(objects) => format!("get in batches of {objects}, checked"),
            Self::Threads(threads) => format!("get, checked, {threads} threads"),
            Self::Miss => "get of what is not there".into(),
            Self::Scan => "scan, checked".into(),
        }
    }
}

/// The digests that are looked up, drawn beforehand.
pub struct Picks {
    pub held: Vec<Digest>,
    pub absent: Vec<Digest>,
}

/// An open store. A virtual call is made once for a whole operation, not for each get.
pub trait Contender {
    fn name(&self) -> &'static str;

    /// Reads everything once, so that no measurement touches a page for the first time.
    fn warm(&self, digests: &[Digest]);

    /// Returns the microseconds for an object, or `None` if this contender does not take part.
    fn measure(&self, operation: Operation, picks: &Picks) -> Option<f64>;
}

impl<P: Peer> Contender for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn warm(&self, digests: &[Digest]) {
        unchecked(&self.reader(), digests);
    }

    fn measure(&self, operation: Operation, picks: &Picks) -> Option<f64> {
        if !P::measures(operation) {
            return None;
        }
        let mut objects = picks.held.len();
        let start = Instant::now();
        match operation {
            Operation::Checked => checked(&self.reader(), &picks.held),
            Operation::Unchecked => unchecked(&self.reader(), &picks.held),
            Operation::Batch(objects) => batches(&self.reader(), &picks.held, objects),
            Operation::Threads(threads) => {
                return Some(on_threads(self, threads, &picks.held));
            }
            Operation::Miss => {
                objects = picks.absent.len();
                misses(&self.reader(), &picks.absent);
            }
            Operation::Scan => objects = self.reader().scan_checked(),
        }
        Some(microseconds_each(start, objects))
    }
}

/// Returns the microseconds since `start` for each object.
pub fn microseconds_each(start: Instant, objects: usize) -> f64 {
    microseconds(start.elapsed().as_secs_f64(), objects)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn microseconds(seconds: f64, objects: usize) -> f64 {
    seconds * 1e6 / objects as f64
}

// These are not inlined, so that each loop is compiled alone and not together with its caller.

#[inline(never)]
pub fn checked<R: Reader>(reader: &R, digests: &[Digest]) {
    for digest in digests {
        let bytes = reader.get_checked(digest).expect("every object is there");
        black_box(bytes);
    }
}

#[inline(never)]
pub fn unchecked<R: Reader>(reader: &R, digests: &[Digest]) {
    for digest in digests {
        let first = reader.get(digest, |content| content.first().copied());
        black_box(first.expect("every object is there"));
    }
}

#[inline(never)]
fn batches<R: Reader>(reader: &R, digests: &[Digest], objects: usize) {
    for batch in digests.chunks(objects) {
        black_box(reader.get_batch_checked(batch));
    }
}

#[inline(never)]
fn misses<R: Reader>(reader: &R, digests: &[Digest]) {
    for digest in digests {
        let found = reader.get(digest, <[u8]>::len);
        assert!(found.is_none(), "a digest of nothing was found");
    }
}

/// Lets each thread get its share, and measures from the start of the first thread to the end of
/// the last. The threads look at the clock by themselves: if they are more than the cores, the
/// thread that started them may run again only when they are done.
fn on_threads<P: Peer>(peer: &P, threads: usize, digests: &[Digest]) -> f64 {
    let shares = digests.chunks(digests.len().div_ceil(threads));
    let ready = Barrier::new(shares.len());
    let read = |share: &[Digest]| {
        let reader = peer.reader();
        ready.wait();
        let start = Instant::now();
        checked(&reader, share);
        (start, Instant::now())
    };
    let times: Vec<_> = thread::scope(|scope| {
        let read = &read;
        let handles: Vec<_> = shares
            .map(|share| scope.spawn(move || read(share)))
            .collect();
        let join = |handle: thread::ScopedJoinHandle<_>| handle.join().expect("no read fails");
        handles.into_iter().map(join).collect()
    });
    let first: Instant = times.iter().map(|time| time.0).min().expect("a thread");
    let last = times.iter().map(|time| time.1).max().expect("a thread");
    microseconds((last - first).as_secs_f64(), digests.len())
}

/// The bound of every store: hashing a content that is in the first cache.
pub struct HashAlone(pub Vec<u8>);

impl HashAlone {
    pub const NAME: &str = "BLAKE2b alone";
}

impl Contender for HashAlone {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn warm(&self, _: &[Digest]) {}

    fn measure(&self, operation: Operation, picks: &Picks) -> Option<f64> {
        let objects = picks.held.len();
        let start = Instant::now();
        match operation {
            Operation::Checked => {
                for _ in 0..objects {
                    black_box(hashing::digest(black_box(&self.0)));
                }
            }
            Operation::Batch(together) => {
                for _ in 0..objects / together {
                    let group = (0..together).map(|_| black_box(&self.0[..]));
                    hashing::in_lanes(group, |(_, digest)| {
                        black_box(digest);
                    });
                }
            }
            _ => return None,
        }
        Some(microseconds_each(start, objects))
    }
}
