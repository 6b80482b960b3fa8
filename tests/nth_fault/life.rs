//! A store's life with one fault, and the promises that must hold at every moment of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sealstone::{Digest, Options, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{
    Contents, assert_holds, assert_lacks, assert_same, assert_undamaged, assert_verifies, content,
    contents, copy_store, names, trimmed, walk,
};
use crate::fault::{Injector, Lasting, is_poisoned};

const SEGMENT_BYTES_MAX: u64 = 2000;
/// A block this short ends in the middle of a record.
const WRITE_BLOCK_BYTES: usize = 600;

/// What an application knows of its store.
#[derive(Clone, Default)]
struct Known {
    /// Objects that a sync acknowledged: they are there from then on.
    synced: Contents,
    /// Objects that a put acknowledged: they are there as long as the handle.
    held: Contents,
    /// Objects dropped by a compaction whose commit failed: all of them are there, or none.
    uncertain: Contents,
    dropped: BTreeSet<Digest>,
    ever_put: Contents,
}

pub struct Life {
    injector: Injector,
    folder: TempDir,
    known: Known,
}

impl Life {
    /// Runs the whole life. Every broken promise is a panic.
    pub fn run(injector: &Injector) {
        let mut life = Self {
            injector: injector.clone(),
            folder: TempDir::new().unwrap(),
            known: Known::default(),
        };
        let root = life.folder.path().join("store");
        let killed = life.folder.path().join("killed");
        let mut known_when_killed = None;
        if let Some(store) = life.open(&root) {
            life.first_session(&store);
            life.trim(&store, &root);
            {
                let _still = life.injector.stillness.write().unwrap();
                copy_store(&root, &killed);
                known_when_killed = Some(life.known.clone());
            }
            life.lift_halfway(&store);
            life.close(store);
        }
        if let Some(store) = life.open(&root) {
            life.second_session(&store);
            life.close(store);
        }
        if root.join("segments").exists() {
            life.read_only(&root);
        }
        let known = known_when_killed.map(|known| std::mem::replace(&mut life.known, known));
        if let Some(known) = known {
            if let Some(store) = life.open(&killed) {
                life.second_session(&store);
                life.close(store);
            }
            life.injector.lift();
            life.ends_well(&killed);
            life.known = known;
        }
        life.injector.lift();
        life.ends_well(&root);
    }

    fn options(&self) -> Options {
        new_options()
            .segment_bytes_max(SEGMENT_BYTES_MAX)
            .set_index_minimum(3, 40)
            .write_block_bytes(WRITE_BLOCK_BYTES)
            .operations(self.injector.operations())
    }

    fn open(&mut self, root: &Path) -> Option<Store> {
        let options = self.options();
        let store = self.injector.attempt(|| options.open(root))?;
        assert_undamaged(&store);
        self.look_again(&store);
        Some(store)
    }

    /// Compares what opening found with what is known.
    fn look_again(&mut self, store: &Store) {
        let found = walk(store);
        let known = &mut self.known;
        for (digest, content) in &found {
            let put = known.ever_put.get(digest);
            assert!(put == Some(content), "{digest:?} was never put");
        }
        let left = known.uncertain.keys().filter(|d| found.contains_key(d));
        let left = left.count();
        if left > 0 {
            assert_eq!(left, known.uncertain.len(), "half a compaction");
        } else {
            known.dropped.extend(known.uncertain.keys());
        }
        known.uncertain.clear();
        assert_holds(store, &known.synced);
        assert_holds(store, &found);
        assert_lacks(store, &known.dropped);
        known.held = found;
    }

    /// Checks that acknowledged objects are there, and dropped ones are not.
    fn check(&self, store: &Store) {
        assert_holds(store, &self.known.held);
        assert_lacks(store, &self.known.dropped);
    }

    fn put(&mut self, store: &Store, content: Vec<u8>) {
        let digest = digest_of(&content);
        self.known.ever_put.insert(digest, content.clone());
        let was_dropped = self.known.dropped.remove(&digest);
        if self.injector.attempt(|| store.put(&content)).is_some() {
            self.known.held.insert(digest, content);
        } else {
            let is_held = self.known.held.contains_key(&digest);
            assert_eq!(store.contains(digest).unwrap(), is_held, "a failed put");
            if was_dropped {
                self.known.dropped.insert(digest);
            }
        }
    }

    /// Puts content that is long for this store, which is durable at once.
    fn put_reader(&mut self, store: &Store, content: Vec<u8>) {
        let digest = digest_of(&content);
        self.known.ever_put.insert(digest, content.clone());
        let put = || store.put_reader(&content[..]);
        if self.injector.attempt(put).is_some() {
            self.known.held.insert(digest, content.clone());
            self.known.synced.insert(digest, content);
        } else {
            assert!(!store.contains(digest).unwrap(), "a failed put");
        }
    }

    fn put_many(&mut self, store: &Store, many: &Contents) {
        self.known.ever_put.extend(many.clone());
        let in_order: Vec<&Vec<u8>> = many.values().collect();
        let put = self.injector.attempt(|| store.put_many(&in_order));
        // The objects before the one that failed are stored.
        let is_there = |digest: &&Digest| store.contains(digest).unwrap();
        let stored = many.keys().take_while(is_there).count();
        assert!(
            put.is_none() || stored == many.len(),
            "{stored} objects are there"
        );
        assert!(!many.keys().skip(stored).any(|digest| is_there(&digest)));
        let stored = many.clone().into_iter().take(stored);
        self.known.held.extend(stored);
    }

    /// Hands everything to the system first, which may fail and loses nothing.
    fn sync(&mut self, store: &Store) {
        self.injector.attempt(|| store.flush());
        self.check(store);
        if self.injector.attempt(|| store.sync()).is_some() {
            self.known.synced.clone_from(&self.known.held);
        }
        assert_holds(store, &self.known.synced);
    }

    /// Drops every third object. One of them and a new object are put between beginning and
    /// finishing.
    fn compact(&mut self, store: &Store, number: u64) {
        let mut dead: Contents = self.known.held.clone().into_iter().step_by(3).collect();
        let injector = self.injector.clone();
        let Some(compaction) = injector.attempt(|| store.begin_compaction()) else {
            return self.check(store);
        };
        // Beginning a compaction has sealed these objects.
        let durable = self.known.held.clone();
        let (pinned, again) = dead.pop_first().unwrap();
        self.put(store, again);
        self.put(store, content(number, 700));
        match compaction.finish(|digest| *digest != pinned && !dead.contains_key(digest)) {
            Ok(_) => {
                for digest in dead.keys() {
                    self.known.held.remove(digest);
                    self.known.synced.remove(digest);
                }
                self.known.dropped.extend(dead.into_keys());
            }
            Err(error) => {
                injector.assert_expected(&error);
                // This handle goes on with the old set.
                self.check(store);
                if store.sync().is_err_and(|error| is_poisoned(&error)) {
                    for digest in dead.keys() {
                        self.known.synced.remove(digest);
                    }
                    self.known.uncertain = dead;
                } else {
                    self.known.synced.extend(durable);
                }
            }
        }
        self.check(store);
    }

    /// Trims the store by about a third.
    fn trim(&mut self, store: &Store, root: &Path) {
        // What is dropped must be durable before, and in the files, or it cannot be told here.
        if self.injector.attempt(|| store.sync()).is_none() {
            return self.check(store);
        }
        self.known.synced.clone_from(&self.known.held);
        let bytes_max = store.stats().data_file_bytes * 2 / 3;
        let dead = trimmed(root, store, bytes_max);
        let trimmed = self.injector.attempt(|| store.trim(bytes_max));
        let is_poisoned = store.sync().is_err_and(|error| is_poisoned(&error));
        if trimmed.is_none() {
            // This handle goes on with the old set.
            self.check(store);
            if !is_poisoned {
                return;
            }
        }
        let is_dead = |digest: &Digest| dead.contains(digest);
        self.known.synced.retain(|digest, _| !is_dead(digest));
        if trimmed.is_some() {
            self.known.held.retain(|digest, _| !is_dead(digest));
            self.known.dropped.extend(dead);
        } else {
            let held = self.known.held.iter().filter(|(digest, _)| is_dead(digest));
            let uncertain = held.map(|(digest, content)| (*digest, content.clone()));
            self.known.uncertain = uncertain.collect();
        }
        self.check(store);
    }

    fn checkpoint(&self, store: &Store, target: &Path) {
        let made = self.injector.attempt(|| {
            // A failed attempt leaves a folder that is not empty.
            let _ = std::fs::remove_dir_all(target);
            store.checkpoint(target)
        });
        if made.is_some() {
            for read_only in [true, false] {
                let options = Options::new().read_only(read_only);
                let copy = options.open(target).unwrap();
                assert_undamaged(&copy);
                assert_same(&walk(&copy), &self.known.held);
                assert_verifies(&copy);
            }
        }
    }

    fn first_session(&mut self, store: &Store) {
        for content in contents(0, 6, 300).into_values() {
            self.put(store, content);
        }
        self.sync(store);
        // The lengths are nothing, one byte, as much as a segment, more, and more than the append
        // buffer.
        for (number, len) in (100..).zip([0, 1, 1900, 300, 2500, 270_000, 40]) {
            self.put(store, content(number, len));
        }
        self.put_many(store, &contents(200, 12, 250));
        self.put_reader(store, content(300, 1200));
        self.check(store);
        let again: Vec<Vec<u8>> = self.known.held.values().step_by(4).cloned().collect();
        for content in again {
            self.put(store, content);
        }
        self.sync(store);
        self.compact(store, 300);
        self.checkpoint(store, &self.folder.path().join("copy"));
        for content in contents(400, 4, 400).into_values() {
            self.put(store, content);
        }
        self.sync(store);
        self.put(store, content(500, 90));
        self.check(store);
        assert_same(&walk(store), &self.known.held);
    }

    fn second_session(&mut self, store: &Store) {
        self.put_many(store, &contents(600, 5, 300));
        self.compact(store, 700);
        self.sync(store);
        self.check(store);
        assert_verifies(store);
    }

    /// In every second case, lifts a lasting fault here, while the store is open.
    fn lift_halfway(&mut self, store: &Store) {
        if self.injector.lasting == Lasting::UntilLifted && self.injector.at.is_multiple_of(2) {
            self.injector.lift();
            self.put(store, content(800, 300));
            self.sync(store);
            self.check(store);
        }
    }

    fn close(&mut self, store: Store) {
        let closed = store.clone().close();
        drop(store);
        match closed {
            Ok(()) => self.known.synced.clone_from(&self.known.held),
            Err(error) => self.injector.assert_expected(&error),
        }
    }

    /// Opens the store for reading, which needs nothing that could fail here.
    fn read_only(&mut self, root: &Path) {
        let reader = self.options().read_only(true).open(root).unwrap();
        assert_undamaged(&reader);
        assert_holds(&reader, &self.known.synced);
        assert_lacks(&reader, &self.known.dropped);
    }

    /// Checks that everything works and nothing is missing once the fault is gone.
    fn ends_well(&mut self, root: &PathBuf) {
        let store = self.options().open(root).unwrap();
        assert_undamaged(&store);
        self.look_again(&store);
        assert_verifies(&store);
        let known = &mut self.known;
        let new = contents(900, 8, 300);
        known.ever_put.extend(new.clone());
        for content in new.values() {
            store.put(content).unwrap();
        }
        store.sync().unwrap();
        known.held.extend(new);
        known.synced.clone_from(&known.held);
        self.compact(&store, 1000);
        store.close().unwrap();
        for read_only in [true, false] {
            let store = self.options().read_only(read_only).open(root).unwrap();
            assert_undamaged(&store);
            assert_same(&walk(&store), &self.known.held);
            assert_lacks(&store, &self.known.dropped);
            assert_verifies(&store);
        }
        assert_eq!(names(root, &[".tmp"]), [""; 0]);
    }
}
