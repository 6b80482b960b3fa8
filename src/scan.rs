//! Walking over all objects.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Result;
use crate::format::{Entry, Index};
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
            let (segment, entry) = match self.0.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let object = segment.place(entry).object();
            // Another copy may be whole where this one is damaged.
            match object.or_else(|_| self.0.set.get(&entry.digest)) {
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
        Some(record.map(|(_, entry)| entry.digest))
    }
}

/// The records of a set that a lookup would find first. Holds 4 bytes an object of one segment.
#[derive(Debug)]
struct Records {
    set: Arc<SegmentSet>,
    segments: VecDeque<Segment>,
    current: Option<(Segment, InFileOrder)>,
}

#[derive(Clone, Debug)]
enum Segment {
    Sealed(Arc<Sealed>),
    Unsealed(Arc<Active>),
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
            Self::Unsealed(active) => Place::Unsealed(active, entry),
        }
    }

    fn in_file_order(&self) -> Result<InFileOrder> {
        Ok(match self {
            Self::Sealed(sealed) => {
                InFileOrder::Positions(positions_in_file_order(sealed)?.into_iter())
            }
            Self::Unsealed(active) => {
                let mut entries = active.entries();
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
            (Self::Unsealed(_), InFileOrder::Positions(_)) => None,
        }
    }
}

impl Records {
    fn new(set: Arc<SegmentSet>) -> Self {
        let sealed = set.sealed().iter().cloned().map(Segment::Sealed);
        let unsealed = set.unsealed().iter().cloned().map(Segment::Unsealed);
        Self {
            segments: sealed.chain(unsealed).collect(),
            set,
            current: None,
        }
    }

    fn next(&mut self) -> Option<Result<(Segment, Entry)>> {
        loop {
            let Some((segment, left)) = &mut self.current else {
                let segment = self.segments.pop_front()?;
                match segment.in_file_order() {
                    Ok(records) => self.current = Some((segment, records)),
                    Err(error) => return Some(Err(error)),
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
            // Of several copies, the one that a lookup finds first is given out.
            let here = (segment.place(entry).segment(), entry.offset);
            match self.set.first_place(&entry.digest) {
                Ok(first) if first == Some(here) => return Some(Ok((segment.clone(), entry))),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The positions in a sidecar, by where the records lie in the data file.
pub(crate) fn positions_in_file_order(segment: &Sealed) -> Result<Vec<u32>> {
    Ok(file_order(segment.index()?))
}

fn file_order<D: AsRef<[u8]>>(index: &Index<D>) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = index
        .entries()
        .zip(0..)
        .map(|(entry, position)| (entry.offset, position))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, position)| position).collect()
}
