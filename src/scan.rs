//! Walking over all objects.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Result;
use crate::format::Entry;
use crate::object::Object;
use crate::segment::{Active, Sealed};
use crate::segment_set::{Place, SegmentSet};

/// All objects of a store at the moment when [`Store::iter`](crate::Store::iter) was called, in the
/// order of the files, each once and verified.
///
/// A damaged object is an item that is an error; the walk goes on behind it.
#[derive(Debug)]
pub struct Objects(Records);

impl Objects {
    pub(crate) fn new(set: Arc<SegmentSet>) -> Self {
        Self(Records::new(set))
    }
}

impl Iterator for Objects {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (place, set) = match self.0.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            // Another copy may be whole where this one is damaged.
            match place.object().or_else(|_| set.get(&place.entry().digest)) {
                Ok(Some(object)) => return Some(Ok(object)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The digests of all objects, in the order of [`Objects`], without reading any content.
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
        let record = self.0.next()?;
        Some(record.map(|(place, _)| place.entry().digest))
    }
}

/// The records of a set, of several copies of an object only one: the one in the newest sealed
/// segment, or else in the newest unsealed one. Holds 4 bytes for each record of one sealed segment,
/// and an entry for each record that is not sealed, taken at the beginning since more may follow.
#[derive(Debug)]
struct Records {
    set: Arc<SegmentSet>,
    segments: VecDeque<Segment>,
    current: Option<(Segment, InFileOrder)>,
}

#[derive(Clone, Debug)]
enum Segment {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>, Vec<Entry>),
}

/// What is left of one segment.
#[derive(Debug)]
enum InFileOrder {
    Positions(std::vec::IntoIter<u32>),
    Entries(std::vec::IntoIter<Entry>),
}

impl Segment {
    fn place(&self, entry: Entry) -> Place<'_> {
        match self {
            Self::Sealed(sealed) => Place::Sealed(sealed, entry),
            Self::Unsealed(active, _) => Place::Unsealed(active, entry),
        }
    }

    fn in_file_order(&mut self) -> Result<InFileOrder> {
        Ok(match self {
            Self::Sealed(sealed) => {
                InFileOrder::Positions(positions_in_file_order(sealed, |_| true)?.into_iter())
            }
            Self::Unsealed(_, entries) => {
                let mut entries = std::mem::take(entries);
                entries.sort_unstable_by_key(|entry| entry.offset);
                InFileOrder::Entries(entries.into_iter())
            }
        })
    }

    fn next_entry(&self, left: &mut InFileOrder) -> Option<Result<Entry>> {
        match (self, left) {
            (Self::Sealed(sealed), InFileOrder::Positions(positions)) => {
                let position = positions.next()? as usize;
                sealed
                    .index()
                    .map(|index| index.entry(position))
                    .transpose()
            }
            (_, InFileOrder::Entries(entries)) => entries.next().map(Ok),
            (Self::Unsealed(..), InFileOrder::Positions(_)) => None,
        }
    }

    /// Fails if the index may lack objects.
    fn check_complete(&self) -> Result<()> {
        match self {
            Self::Sealed(sealed) => sealed.check_complete(),
            Self::Unsealed(..) => Ok(()),
        }
    }

    /// Whether no other sealed segment is to give out this object instead.
    fn gives_out(&self, entry: &Entry, set: &SegmentSet) -> bool {
        let copy = match self {
            Self::Sealed(sealed) => Some((sealed.id(), entry.offset)),
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

    fn next(&mut self) -> Option<Result<(Place<'_>, &SegmentSet)>> {
        loop {
            let Some((segment, left)) = &mut self.current else {
                let mut segment = self.segments.pop_front()?;
                match segment.in_file_order() {
                    Ok(records) => self.current = Some((segment.clone(), records)),
                    Err(error) => return Some(Err(error)),
                }
                if let Err(error) = segment.check_complete() {
                    return Some(Err(error));
                }
                continue;
            };
            let entry = match segment.next_entry(left) {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.current = None;
                    continue;
                }
            };
            if segment.gives_out(&entry, &self.set) {
                let (segment, _) = self.current.as_ref()?;
                return Some(Ok((segment.place(entry), &self.set)));
            }
        }
    }
}

/// The positions in a sidecar that are to be had, by where the records lie in the data file.
pub(crate) fn positions_in_file_order(
    segment: &Sealed,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<u32>> {
    let index = segment.index()?;
    let offsets = index.entries().map(|entry| entry.offset).zip(0_u32..);
    let wanted = offsets.filter(|&(_, position)| is_wanted(position as usize));
    Ok(if u32::try_from(segment.binding().data_bytes).is_ok() {
        short_file_order(wanted)
    } else {
        file_order(wanted)
    })
}

/// As [`file_order`] for files whose offsets fit 32 bits, in half the time. An offset that lies
/// about the file spoils nothing but the order.
fn short_file_order(offsets: impl Iterator<Item = (u64, u32)>) -> Vec<u32> {
    let keys = offsets.map(|(offset, position)| offset << u32::BITS | u64::from(position));
    let mut order: Vec<u64> = keys.collect();
    order.sort_unstable();
    // What is cut off is the offset.
    #[expect(clippy::cast_possible_truncation)]
    order.into_iter().map(|key| key as u32).collect()
}

fn file_order(offsets: impl Iterator<Item = (u64, u32)>) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = offsets.collect();
    order.sort_unstable();
    order.into_iter().map(|(_, position)| position).collect()
}
