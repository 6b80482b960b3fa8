//! The orders and promises of the two sides.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::SmallRng;
use sealstone::Digest;

use crate::common::layout::Files;
use crate::common::nedb;
use crate::common::workload::content;

/// What is known of an object that either side was told to put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither side promises that it is there or that it is gone.
    Loose {
        was_dropped: bool,
    },
    /// The side that has the store open now put it.
    Put {
        was_dropped: bool,
    },
    Synced,
}

#[derive(Clone, Default)]
pub struct Ledger {
    /// The number of the next new object.
    pub next: u64,
    pub objects: BTreeMap<u64, State>,
    /// The whole records of data files that NEDB wrote since our last compaction.
    pub nedb_files: Files,
    /// The segments that were sealed when Sealstone last closed the store.
    pub sealed: BTreeSet<u32>,
    /// The sealed segments that NEDB has removed since.
    pub gone: BTreeSet<u32>,
}

impl Ledger {
    pub fn new_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn note_put(&mut self, number: u64) {
        let was_dropped = match self.objects.get(&number) {
            Some(State::Synced) => return,
            Some(State::Loose { was_dropped } | State::Put { was_dropped }) => *was_dropped,
            None => false,
        };
        self.objects.insert(number, State::Put { was_dropped });
    }

    /// Notes that NEDB was told to put an object. If NEDB only found a copy that we had dropped,
    /// that copy may be in a file that our manifest retires. NEDB has changed no byte to tell us
    /// so, and the object may be lost.
    pub fn note_nedb_put(&mut self, number: u64, is_appended: bool) {
        match self.objects.get(&number) {
            Some(State::Synced) => {}
            Some(State::Loose { was_dropped } | State::Put { was_dropped })
                if *was_dropped && !is_appended => {}
            // A put that a kill interrupted had written it, and it may have been dropped since.
            None if !is_appended => {
                let state = State::Loose { was_dropped: true };
                self.objects.insert(number, state);
            }
            _ => {
                let state = State::Put { was_dropped: false };
                self.objects.insert(number, state);
            }
        }
    }

    pub fn note_synced(&mut self) {
        for state in self.objects.values_mut() {
            if matches!(state, State::Put { .. }) {
                *state = State::Synced;
            }
        }
    }

    /// Notes a compaction: from its beginning, the objects that it drops may be there or not.
    pub fn note_dropping(&mut self, is_live: impl Fn(u64) -> bool) {
        for (number, state) in &mut self.objects {
            if !is_live(*number) {
                *state = State::Loose { was_dropped: true };
            }
        }
    }

    pub fn note_killed(&mut self) {
        for state in self.objects.values_mut() {
            if let State::Put { was_dropped } = *state {
                *state = State::Loose { was_dropped };
            }
        }
    }

    pub fn synced(&self) -> impl Iterator<Item = u64> {
        let objects = self.objects.iter();
        objects.filter_map(|(number, state)| (*state == State::Synced).then_some(*number))
    }
}

/// Returns the object of a number. Few are larger than a segment, and one is empty.
pub fn object(number: u64) -> Vec<u8> {
    let len = match number % 97 {
        _ if number == 5 => 0,
        11 => 5_000,
        of => 8 + of * 4,
    };
    content(number, usize::try_from(len).unwrap())
}

pub fn digest(number: u64) -> Digest {
    Digest::from(nedb::digest(&object(number)))
}

/// Returns the number of an earlier object or of a new one.
pub fn any_number(ledger: &mut Ledger, rng: &mut SmallRng) -> u64 {
    if ledger.next > 0 && rng.random_ratio(1, 4) {
        rng.random_range(0..ledger.next)
    } else {
        ledger.new_number()
    }
}

/// Returns the live objects of a compaction, which drops few, many or all objects.
pub fn live_set(ledger: &Ledger, rng: &mut SmallRng) -> BTreeSet<u64> {
    let percent = [95, 60, 20, 0][rng.random_range(0..4)];
    (0..ledger.next)
        .filter(|_| rng.random_range(0..100) < percent)
        .collect()
}
