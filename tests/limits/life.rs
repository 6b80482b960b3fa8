//! A short life of a store in which a limit may make any call fail.

use std::path::Path;

use sealstone::{Digest, Error, Options, Store};

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    Contents, assert_holds, assert_same, assert_undamaged, assert_verifies, content, contents,
    walk, without_syncing,
};

pub fn options() -> Options {
    new_options()
        .segment_bytes_max(2000)
        .operations(without_syncing())
}

/// The results of the calls, and the objects that are there.
#[derive(Default)]
pub struct Life {
    pub synced: Contents,
    pub held: Contents,
    pub refused: usize,
    pub done: usize,
}

impl Life {
    /// Runs the life; `is_expected` says whether the limit may cause an error.
    pub fn live(&mut self, root: &Path, is_expected: &impl Fn(&Error) -> bool) {
        let opened = options().open(root);
        let Some(store) = self.note(opened, is_expected) else {
            return;
        };
        for len in [300, 0, 40, 700, 5000, 1, 1900, 300, 300, 300] {
            self.put(&store, len, is_expected);
        }
        self.sync(&store, is_expected);
        self.compact(&store, is_expected);
        for len in [300, 30, 300] {
            self.put(&store, len, is_expected);
        }
        self.sync(&store, is_expected);
        assert_holds(&store, &self.held);
        let closed = store.close();
        if self.note(closed, is_expected).is_some() {
            self.synced.clone_from(&self.held);
        }
    }

    fn note<T>(
        &mut self,
        result: Result<T, Error>,
        is_expected: &impl Fn(&Error) -> bool,
    ) -> Option<T> {
        match result {
            Ok(given) => {
                self.done += 1;
                Some(given)
            }
            Err(error) => {
                assert!(is_expected(&error), "{error:?}");
                self.refused += 1;
                None
            }
        }
    }

    fn put(&mut self, store: &Store, len: usize, is_expected: &impl Fn(&Error) -> bool) {
        let content = content((self.done + self.refused) as u64, len);
        let put = store.put(&content);
        if let Some(digest) = self.note(put, is_expected) {
            self.held.insert(digest, content);
        } else {
            let digest = digest_of(&content);
            let is_held = self.held.contains_key(&digest);
            assert_eq!(store.contains(digest).unwrap(), is_held);
        }
    }

    fn sync(&mut self, store: &Store, is_expected: &impl Fn(&Error) -> bool) {
        let synced = store.sync();
        if self.note(synced, is_expected).is_some() {
            self.synced.clone_from(&self.held);
        }
    }

    fn compact(&mut self, store: &Store, is_expected: &impl Fn(&Error) -> bool) {
        let dead: Vec<Digest> = self.held.keys().copied().step_by(2).collect();
        let compacted = store.compact(|digest| !dead.contains(digest));
        match self.note(compacted, is_expected) {
            Some(_) => {
                for digest in &dead {
                    self.held.remove(digest);
                    self.synced.remove(digest);
                }
            }
            // If the state of the disk is unknown, the compaction may have dropped these objects.
            None if store.sync().is_err() => {
                assert_holds(store, &self.held);
                for digest in &dead {
                    self.synced.remove(digest);
                }
            }
            None => assert_holds(store, &self.held),
        }
    }

    /// Checks that nothing is missing and everything works once the limit is gone.
    pub fn assert_ends_well(mut self, root: &Path) {
        let store = options().open(root).unwrap();
        assert_undamaged(&store);
        assert_holds(&store, &self.synced);
        self.held = walk(&store);
        assert_verifies(&store);
        for (digest, content) in contents(1000, 10, 300) {
            store.put(&content).unwrap();
            self.held.insert(digest, content);
        }
        store.sync().unwrap();
        let dead = self.held.pop_first().unwrap().0;
        store.compact(|digest| *digest != dead).unwrap();
        store.close().unwrap();
        let store = options().open(root).unwrap();
        assert_same(&walk(&store), &self.held);
        assert_verifies(&store);
    }
}
