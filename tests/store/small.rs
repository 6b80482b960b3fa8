//! A store of small segments, and a gate that holds up its operations.

use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use sealstone::format::Records;
use sealstone::{Digest, Options, Store};

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::file;
use crate::common::workload::{PATIENCE, names, without_syncing};

const SEGMENT_BYTES_MAX: u64 = 2000;

pub fn options() -> Options {
    new_options()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

pub fn read_only(root: &Path) -> Store {
    options().read_only(true).open(root).unwrap()
}

pub fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

pub fn digests(contents: &[Vec<u8>]) -> Vec<Digest> {
    contents.iter().map(|content| digest_of(content)).collect()
}

/// Checks that the data files hold whole records only and the empty object at most once, which
/// recovery does not take for a tear.
#[track_caller]
pub fn assert_data_is_whole(root: &Path) {
    for name in names(root, &[".dat"]) {
        // The background thread may have removed the file since it was listed.
        let Ok(bytes) = fs::read(file(root, &name)) else {
            continue;
        };
        let mut records = Records::new(&bytes);
        let empty = records.by_ref().filter(|record| record.content.is_empty());
        assert!(empty.count() <= 1, "{name}");
        assert_eq!(records.position(), bytes.len(), "{name}");
    }
}

/// A gate, which is open at first.
#[derive(Default)]
pub struct Gate {
    /// Whether it is shut, and the number of threads that wait at it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub fn shut(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    /// Waits until the gate is open, but gives up before the test does, so that the test can end.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let waiting = self
            .changed
            .wait_timeout_while(state, 2 * PATIENCE, |state| state.0);
        waiting.unwrap().0.1 -= 1;
    }

    /// Waits with patience until `count` threads are at the gate, and returns whether they came.
    pub fn awaits(&self, count: usize, patience: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let waiting = self
            .changed
            .wait_timeout_while(state, patience, |state| state.1 < count);
        !waiting.unwrap().1.timed_out()
    }
}
