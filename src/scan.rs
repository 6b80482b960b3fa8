//! Walks over all objects.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Result;
use crate::file_order::positions_in_file_order;
use crate::format::Entry;
use crate::memory::{Map, prefetch};
use crate::object::Object;
use crate::options::VerifyReads;
use crate::segment::batches::span;
use crate::segment::content::Content;
use crate::segment::read_ahead::ReadAhead;
use crate::segment::{Active, Sealed};
use crate::segment_set::{ObjectCopy, SegmentSet, Tried};

/// An iterator over all objects that a store held when [`Store::iter`](crate::Store::iter) was
/// called, in the order of the files, each once and verified.
///
/// The item for a damaged object is an error; the walk goes on behind it.
#[derive(Debug)]
pub struct Objects {
    records: Records,
    /// The items that were read ahead, in order.
    ready: VecDeque<Result<Object>>,
    /// The segment that is walked through, and how far its file is read ahead.
    ahead: (Option<u32>, ReadAhead),
}

/// Most records that are verified together, in lanes.
const BATCH_RECORDS: usize = 64;
/// Bytes of content at which such a batch ends.
const BATCH_BYTES: usize = 256 << 10;

impl Objects {
    pub(crate) fn new(set: Arc<SegmentSet>) -> Self {
        Self {
            records: Records::new(set),
            ready: VecDeque::new(),
            ahead: (None, ReadAhead::default()),
        }
    }

    /// Has the system read the files of a batch ahead, which is in their order.
    fn read_files_ahead(&mut self, batch: &[(Held, Entry)]) {
        let same_file = |a: &(Held, Entry), b: &(Held, Entry)| a.0.id() == b.0.id();
        for part in batch.chunk_by(same_file) {
            if let [(held, first), ..] = part
                && let [.., (_, last)] = part
            {
                if self.ahead.0 != Some(held.id()) {
                    self.ahead = (Some(held.id()), held.read_ahead());
                }
                self.ahead.1.step(held.map(), span(&[*first, *last]));
            }
        }
    }

    /// Reads a batch of records ahead. It makes none ready if its copies are all absent, so the
    /// caller repeats it until the end of the records.
    fn read_ahead(&mut self) {
        let mut batch: Vec<(Held, Entry)> = Vec::with_capacity(BATCH_RECORDS);
        let mut bytes = 0;
        let mut failure = None;
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES && failure.is_none() {
            match self.records.next() {
                Some(Ok((copy, _))) => {
                    bytes += copy.entry().len as usize;
                    batch.push((Held::from(&copy), *copy.entry()));
                }
                Some(Err(error)) => failure = Some(Err(error)),
                None => break,
            }
        }
        self.read_files_ahead(&batch);
        let copies = batch.iter().map(|(held, entry)| held.copy(*entry));
        // The single read below reports what is wrong with a copy that cannot be read.
        let contents: Vec<Option<Content<'_>>> =
            copies.map(|copy| copy.content().ok().flatten()).collect();
        let present = contents.iter().flatten();
        let present = present
            .inspect(|content| content.fetch())
            .map(Content::bytes);
        let present: Vec<&[u8]> = present.collect();
        let digests = self.records.set.hash_function().digest_many(&present);
        let mut digests = digests.iter();
        for ((held, entry), content) in batch.iter().zip(contents) {
            let right = content.filter(|_| digests.next() == Some(&entry.digest));
            let object = match right {
                Some(content) => Ok(Some(content.known_right().into_object(&entry.digest))),
                None => read(held.copy(*entry), &self.records.set),
            };
            self.ready.extend(object.transpose());
        }
        self.ready.extend(failure);
    }
}

/// A segment in which a record was found.
enum Held {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>),
}

impl From<&ObjectCopy<'_>> for Held {
    fn from(copy: &ObjectCopy<'_>) -> Self {
        match copy {
            ObjectCopy::Sealed { segment, .. } => Self::Sealed(Arc::clone(segment)),
            ObjectCopy::Unsealed { segment, .. } => Self::Unsealed(Arc::clone(segment)),
        }
    }
}

impl Held {
    fn id(&self) -> u32 {
        match self {
            Self::Sealed(segment) => segment.id(),
            Self::Unsealed(segment) => segment.id(),
        }
    }

    fn map(&self) -> Option<&Map> {
        match self {
            Self::Sealed(segment) => segment.data().map(),
            Self::Unsealed(segment) => segment.map(),
        }
    }

    fn read_ahead(&self) -> ReadAhead {
        match self {
            Self::Sealed(segment) => segment.data().read_ahead(),
            Self::Unsealed(_) => ReadAhead::default(),
        }
    }

    fn copy(&self, entry: Entry) -> ObjectCopy<'_> {
        match self {
            Self::Sealed(segment) => ObjectCopy::sealed(segment, entry),
            Self::Unsealed(segment) => ObjectCopy::unsealed(segment, entry),
        }
    }
}

/// Reads one object. If this copy is damaged, another copy may be whole.
fn read(copy: ObjectCopy<'_>, set: &SegmentSet) -> Result<Option<Object>> {
    let digest = &copy.entry().digest;
    match copy.read(VerifyReads::EveryRead, &mut Tried::default()) {
        Ok(verified) => Ok(verified.map(|verified| verified.into_object(digest))),
        Err(_) => set.get(digest),
    }
}

impl Iterator for Objects {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.records.is_at_end() {
            self.read_ahead();
        }
        self.ready.pop_front()
    }
}

/// An iterator over the digests of all objects, in the order of [`Objects`]. It reads only content
/// that may have been lost in a crash: see [`Store::contains`](crate::Store::contains).
#[derive(Debug)]
pub struct Digests(Records);

impl Digests {
    pub(crate) fn new(set: Arc<SegmentSet>) -> Self {
        Self(Records::new(set))
    }
}

impl Iterator for Digests {
    type Item = Result<Digest>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.next_there()?;
        Some(entry.map(|entry| entry.digest))
    }
}

/// An iterator over the digests and the lengths in bytes of all objects, in the order of [`Objects`]. It
/// reads no more content than [`Digests`] does.
#[derive(Debug)]
pub struct Lengths(Records);

impl Lengths {
    pub(crate) fn new(set: Arc<SegmentSet>) -> Self {
        Self(Records::new(set))
    }
}

impl Iterator for Lengths {
    type Item = Result<(Digest, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.next_there()?;
        Some(entry.map(|entry| (entry.digest, u64::from(entry.len))))
    }
}

/// The records of a set, one for each object: the copy in the newest sealed segment, or else in the
/// newest unsealed segment. Holds 4 bytes for each record of one sealed segment, and an entry for
/// each unsealed record, taken at the beginning since more records may follow.
#[derive(Debug)]
struct Records {
    set: Arc<SegmentSet>,
    segments: VecDeque<Segment>,
    current: Option<Walk>,
    /// Whether no record was read yet.
    is_new: bool,
}

#[derive(Debug)]
enum Segment {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>, Vec<Entry>),
}

/// The records of one segment that are left to walk.
#[derive(Debug)]
enum Walk {
    Sealed {
        segment: Arc<Sealed>,
        /// Positions in the sidecar, in file order.
        positions: std::vec::IntoIter<u32>,
        /// Entries whose buckets in the set index were prefetched.
        ahead: VecDeque<Entry>,
    },
    Unsealed(Arc<Active>, std::vec::IntoIter<Entry>),
}

/// Number of entries that a walk looks up ahead: file order is random order in sidecar and set
/// index.
const ENTRIES_AHEAD: usize = 16;

impl Walk {
    fn of(segment: Segment) -> Result<Self> {
        Ok(match segment {
            Segment::Sealed(segment) => Self::Sealed {
                positions: positions_in_file_order(&segment, |_| true)?.into_iter(),
                segment,
                ahead: VecDeque::with_capacity(ENTRIES_AHEAD),
            },
            Segment::Unsealed(active, mut entries) => {
                entries.sort_unstable_by_key(|entry| entry.offset);
                Self::Unsealed(active, entries.into_iter())
            }
        })
    }

    fn copy(&self, entry: Entry) -> ObjectCopy<'_> {
        match self {
            Self::Sealed { segment, .. } => ObjectCopy::sealed(segment, entry),
            Self::Unsealed(segment, _) => ObjectCopy::unsealed(segment, entry),
        }
    }

    fn next_entry(&mut self, set: &SegmentSet) -> Result<Option<Entry>> {
        match self {
            Self::Sealed {
                segment,
                positions,
                ahead,
            } => {
                let sidecar = segment.sidecar()?;
                while ahead.len() < ENTRIES_AHEAD
                    && let Some(position) = positions.next()
                {
                    if let Some(&later) = positions.as_slice().get(ENTRIES_AHEAD) {
                        let later = later as usize;
                        prefetch(sidecar.entries_bytes(later..later + 1));
                    }
                    if let Some(entry) = sidecar.entry(position as usize) {
                        set.prefetch_buckets(&entry.digest);
                        ahead.push_back(entry);
                    }
                }
                Ok(ahead.pop_front())
            }
            Self::Unsealed(_, entries) => Ok(entries.next()),
        }
    }

    /// Fails if the sidecar of the segment may lack objects.
    fn check_complete(&self) -> Result<()> {
        match self {
            Self::Sealed { segment, .. } => segment.check_complete(),
            Self::Unsealed(..) => Ok(()),
        }
    }

    /// Whether the walk of this segment returns this object, and not the walk of another segment.
    fn gives_out(&self, entry: &Entry, set: &SegmentSet) -> bool {
        let copy = match self {
            Self::Sealed { segment, .. } => Some((segment.id(), entry.offset)),
            Self::Unsealed(..) => None,
        };
        set.is_newest_sealed_copy(&entry.digest, copy)
    }
}

/// The unsealed segments with their records, each object once.
fn unsealed_segments(set: &SegmentSet) -> Vec<Segment> {
    let mut seen = HashSet::new();
    let several = set.unsealed().len() > 1;
    let mut segments = Vec::new();
    for active in set.unsealed().iter().rev() {
        let mut entries = active.current_entries();
        if several {
            entries.retain(|entry| seen.insert(entry.digest));
        }
        segments.push(Segment::Unsealed(Arc::clone(active), entries));
    }
    segments.reverse();
    segments
}

impl Records {
    fn new(set: Arc<SegmentSet>) -> Self {
        let sealed = set.sealed().iter().cloned().map(Segment::Sealed);
        Self {
            segments: sealed.chain(unsealed_segments(&set)).collect(),
            set,
            current: None,
            is_new: true,
        }
    }

    fn is_at_end(&self) -> bool {
        self.current.is_none() && self.segments.is_empty()
    }

    /// Returns the entry of the next object that was not lost in a crash.
    fn next_there(&mut self) -> Option<Result<Entry>> {
        loop {
            let entry = match self.next()? {
                Ok((copy, _)) => copy
                    .is_there()
                    .map(|is_there| is_there.then_some(*copy.entry())),
                Err(error) => Err(error),
            };
            if let Some(item) = entry.transpose() {
                return Some(item);
            }
        }
    }

    fn next(&mut self) -> Option<Result<(ObjectCopy<'_>, &SegmentSet)>> {
        loop {
            let Some(walk) = &mut self.current else {
                let segment = self.segments.pop_front()?;
                if std::mem::take(&mut self.is_new) {
                    self.set.keep_runs();
                }
                match Walk::of(segment) {
                    Ok(walk) => {
                        let complete = walk.check_complete();
                        self.current = Some(walk);
                        if let Err(error) = complete {
                            return Some(Err(error));
                        }
                    }
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let entry = match walk.next_entry(&self.set) {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    self.current = None;
                    continue;
                }
                Err(error) => {
                    self.current = None;
                    return Some(Err(error));
                }
            };
            if walk.gives_out(&entry, &self.set) {
                let walk = self.current.as_ref()?;
                return Some(Ok((walk.copy(entry), &self.set)));
            }
        }
    }
}
