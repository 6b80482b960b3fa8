//! Walking over all objects.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Result;
use crate::format::Entry;
use crate::memory::prefetch;
use crate::object::Object;
use crate::options::VerifyReads;
use crate::segment::content::Content;
use crate::segment::{Active, Sealed};
use crate::segment_set::{ObjectCopy, SegmentSet, Tried};

/// All objects of a store at the moment when [`Store::iter`](crate::Store::iter) was called, in the
/// order of the files, each once and verified.
///
/// A damaged object is an item that is an error; the walk goes on behind it.
#[derive(Debug)]
pub struct Objects {
    records: Records,
    /// What was read ahead, in order.
    ready: VecDeque<Result<Object>>,
}

/// Records are verified together, in lanes, up to so many and about so many bytes.
const BATCH_RECORDS: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

impl Objects {
    pub(crate) fn new(set: Arc<SegmentSet>) -> Self {
        Self {
            records: Records::new(set),
            ready: VecDeque::new(),
        }
    }

    /// Reads some records ahead; none are left if that leaves nothing ready.
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
        let copies = batch.iter().map(|(held, entry)| held.copy(*entry));
        // The single read says what is wrong with a copy that cannot be read.
        let contents: Vec<Option<Content<'_>>> =
            copies.map(|copy| copy.content().ok().flatten()).collect();
        let there = contents.iter().flatten().map(Content::bytes);
        let digests = Digest::of_many(&there.collect::<Vec<_>>());
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

/// A segment that a record was found in.
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
    fn copy(&self, entry: Entry) -> ObjectCopy<'_> {
        match self {
            Self::Sealed(segment) => ObjectCopy::sealed(segment, entry),
            Self::Unsealed(segment) => ObjectCopy::Unsealed { segment, entry },
        }
    }
}

/// One object. Another copy may be whole where this one is damaged.
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

/// The digests of all objects, in the order of [`Objects`], without reading any content but what a crash
/// may have taken: see [`Store::contains`](crate::Store::contains).
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
        loop {
            let digest = match self.0.next()? {
                Ok((copy, _)) => copy
                    .is_there()
                    .map(|is_there| is_there.then_some(copy.entry().digest)),
                Err(error) => Err(error),
            };
            if let Some(item) = digest.transpose() {
                return Some(item);
            }
        }
    }
}

/// The records of a set, of several copies of an object only one: the one in the newest sealed
/// segment, or else in the newest unsealed one. Holds 4 bytes for each record of one sealed segment,
/// and an entry for each record that is not sealed, taken at the beginning since more may follow.
#[derive(Debug)]
struct Records {
    set: Arc<SegmentSet>,
    segments: VecDeque<Segment>,
    current: Option<Walk>,
}

#[derive(Debug)]
enum Segment {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>, Vec<Entry>),
}

/// What is left of one segment.
#[derive(Debug)]
enum Walk {
    Sealed {
        segment: Arc<Sealed>,
        /// Positions in the sidecar, in file order.
        positions: std::vec::IntoIter<u32>,
        /// Entries whose buckets in the set index were asked for.
        ahead: VecDeque<Entry>,
    },
    Unsealed(Arc<Active>, std::vec::IntoIter<Entry>),
}

/// How many entries a walk looks up ahead: file order is random order in sidecar and set index.
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
            Self::Unsealed(segment, _) => ObjectCopy::Unsealed { segment, entry },
        }
    }

    fn next_entry(&mut self, set: &SegmentSet) -> Result<Option<Entry>> {
        match self {
            Self::Sealed {
                segment,
                positions,
                ahead,
            } => {
                let index = segment.sidecar()?;
                while ahead.len() < ENTRIES_AHEAD
                    && let Some(position) = positions.next()
                {
                    if let Some(&later) = positions.as_slice().get(ENTRIES_AHEAD) {
                        let later = later as usize;
                        prefetch(index.entries_bytes(later..later + 1));
                    }
                    if let Some(entry) = index.entry(position as usize) {
                        set.prefetch_buckets(&entry.digest);
                        ahead.push_back(entry);
                    }
                }
                Ok(ahead.pop_front())
            }
            Self::Unsealed(_, entries) => Ok(entries.next()),
        }
    }

    /// Fails if the index may lack objects.
    fn check_complete(&self) -> Result<()> {
        match self {
            Self::Sealed { segment, .. } => segment.check_complete(),
            Self::Unsealed(..) => Ok(()),
        }
    }

    /// Whether no other sealed segment is to give out this object instead.
    fn gives_out(&self, entry: &Entry, set: &SegmentSet) -> bool {
        let copy = match self {
            Self::Sealed { segment, .. } => Some((segment.id(), entry.offset)),
            Self::Unsealed(..) => None,
        };
        set.is_newest_sealed_copy(&entry.digest, copy)
    }
}

/// The records of the unsealed segments, each object once.
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
        }
    }

    fn is_at_end(&self) -> bool {
        self.current.is_none() && self.segments.is_empty()
    }

    fn next(&mut self) -> Option<Result<(ObjectCopy<'_>, &SegmentSet)>> {
        loop {
            let Some(walk) = &mut self.current else {
                match Walk::of(self.segments.pop_front()?) {
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

/// The positions in a sidecar that are to be had, by where the records lie in the data file.
pub(crate) fn positions_in_file_order(
    segment: &Sealed,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<u32>> {
    let index = segment.sidecar()?;
    let offsets = index.entries().map(|entry| entry.offset).zip(0_u32..);
    let wanted = offsets.filter(|&(_, position)| is_wanted(position as usize));
    Ok(match u32::try_from(segment.binding().data_bytes) {
        Ok(data_bytes) => short_file_order(wanted, data_bytes),
        Err(_) => file_order(wanted),
    })
}

/// Parts of a file whose records are sorted each for themselves: as many as fit the first level cache,
/// and fewer of a small file.
const PARTS_MAX: usize = 4096;
const RECORDS_IN_PART: usize = 32;

/// As [`file_order`] for files whose offsets fit 32 bits, and faster: records are spread over their
/// file, so those of each part of it are few, and few are sorted fast. An offset that lies about the
/// file spoils nothing but the order.
fn short_file_order(offsets: impl Iterator<Item = (u64, u32)>, data_bytes: u32) -> Vec<u32> {
    let keys = offsets.map(|(offset, position)| offset << u32::BITS | u64::from(position));
    let keys: Vec<u64> = keys.collect();
    let parts = (keys.len() / RECORDS_IN_PART).clamp(1, PARTS_MAX);
    let part_bytes = u64::from(data_bytes).div_ceil(parts as u64).max(1);
    let shift = part_bytes.next_power_of_two().ilog2();
    let part = |key: u64| {
        let at = usize::try_from(key >> u32::BITS >> shift);
        at.map_or(parts - 1, |at| at.min(parts - 1))
    };
    // Where the next key of each part goes; in the end, where the part ends.
    let mut ends = vec![0_usize; parts];
    for &key in &keys {
        ends[part(key)] += 1;
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    let mut order = vec![0; keys.len()];
    for key in keys {
        let end = &mut ends[part(key)];
        order[*end] = key;
        *end += 1;
    }
    let mut begin = 0;
    for end in ends {
        order[begin..end].sort_unstable();
        begin = end;
    }
    // What is cut off is the offset.
    #[expect(clippy::cast_possible_truncation)]
    order.into_iter().map(|key| key as u32).collect()
}

fn file_order(offsets: impl Iterator<Item = (u64, u32)>) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = offsets.collect();
    order.sort_unstable();
    order.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_short_file_is_that_of_any_file() {
        let data_bytes = 1 << 20;
        let spread = |number: u64| number * 0x9e37_79b1 % u64::from(data_bytes);
        let lies = [u64::from(u32::MAX), 0, u64::from(data_bytes), 0];
        let offsets: Vec<u64> = (0..10_000).map(spread).chain(lies).collect();
        for offsets in [&offsets[..], &offsets[..1], &[], &[7; 100]] {
            let numbered = || offsets.iter().copied().zip(0..);
            let expected = file_order(numbered());
            for data_bytes in [data_bytes, 0, 1, u32::MAX] {
                assert_eq!(short_file_order(numbered(), data_bytes), expected);
            }
        }
    }
}
