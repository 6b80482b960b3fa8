//! The locations of a digest, one after the other.

use std::slice;

use super::geometry::Slot;
use super::{DamagedPage, Location, PROBED_BUCKETS_MAX, Probe, SLOT_BYTES, SetIndex};

/// Checks a page before it is read. Returns false if the page is damaged.
pub(crate) trait PageCheck {
    fn page_holds(&mut self, page: u64) -> bool;
}

impl<F: FnMut(u64) -> bool> PageCheck for F {
    #[inline]
    fn page_holds(&mut self, page: u64) -> bool {
        self(page)
    }
}

/// The iterator of [`SetIndex::find_probed`].
#[derive(Debug)]
pub(crate) struct Matches<'a, D, C> {
    pub(super) run: &'a SetIndex<D>,
    pub(super) probe: Probe,
    pub(super) check: C,
    /// The bucket to read next.
    pub(super) bucket: u64,
    /// The slots of the bucket before that are not yet read.
    pub(super) slots: slice::Iter<'a, [u8; SLOT_BYTES]>,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Table,
    /// The number of the entry to read next.
    Overflow(u64),
    End,
}

impl<D: AsRef<[u8]>, C: PageCheck> Iterator for Matches<'_, D, C> {
    type Item = Result<Location, DamagedPage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let geometry = self.run.header.geometry;
        loop {
            while let Some(&slot) = self.slots.next() {
                let slot = Slot::from_bytes(slot);
                if slot.is_vacant() {
                    // No bucket behind a vacant slot can have the object: it would be in this slot.
                    self.end();
                    return None;
                }
                if let Some(location) = geometry.location(slot, &self.probe) {
                    return Some(Ok(location));
                }
            }
            match self.stage {
                Stage::Table => match self.read_bucket() {
                    Some(Ok(())) => {}
                    Some(Err(damaged)) => return Some(self.end_with(damaged)),
                    None => return self.search_overflow(),
                },
                Stage::Overflow(_) => return self.next_in_overflow(),
                Stage::End => return None,
            }
        }
    }
}

impl<D: AsRef<[u8]>, C: PageCheck> Matches<'_, D, C> {
    /// Reads the next bucket. Returns `None` if no further one can have the object.
    #[inline]
    fn read_bucket(&mut self) -> Option<Result<(), DamagedPage>> {
        if self.bucket - self.probe.bucket >= PROBED_BUCKETS_MAX {
            return None;
        }
        let bytes = self.run.bucket(self.bucket)?;
        let page = SetIndex::<D>::page_of_bucket(self.bucket);
        if !self.check.page_holds(page) {
            return Some(Err(DamagedPage { page }));
        }
        let (slots, _) = bytes.as_chunks();
        self.slots = slots.iter();
        self.bucket += 1;
        Some(Ok(()))
    }

    #[cold]
    fn search_overflow(&mut self) -> Option<Result<Location, DamagedPage>> {
        let first = self
            .run
            .overflow_lower_bound(self.probe.leading, &mut self.check);
        match first {
            Ok(first) => {
                self.stage = Stage::Overflow(first);
                self.next_in_overflow()
            }
            Err(damaged) => Some(self.end_with(damaged)),
        }
    }

    #[cold]
    fn next_in_overflow(&mut self) -> Option<Result<Location, DamagedPage>> {
        while let Stage::Overflow(number) = self.stage {
            match self.run.overflow_entry(number, &mut self.check) {
                Ok(Some((leading, slot))) if leading == self.probe.leading => {
                    self.stage = Stage::Overflow(number + 1);
                    // Equal leading bits have equal tags, unless the run is forged.
                    if let Some(location) = self.run.header.geometry.location(slot, &self.probe) {
                        return Some(Ok(location));
                    }
                }
                Ok(_) => self.stage = Stage::End,
                Err(damaged) => return Some(self.end_with(damaged)),
            }
        }
        None
    }

    fn end_with<T>(&mut self, damaged: DamagedPage) -> Result<T, DamagedPage> {
        self.end();
        Err(damaged)
    }

    fn end(&mut self) {
        self.stage = Stage::End;
        self.slots = [].iter();
    }
}
