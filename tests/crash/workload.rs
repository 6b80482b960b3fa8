//! Random lives of a store, the same for the same seed except for work in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use sealstone::test_seam::Operations;
use sealstone::{Digest, HashFunction, Options, Store};

use crate::common::hash::options_of;
use crate::common::workload::{content, trimmed};
use crate::log::{Event, Mark, Recorder};
use crate::nedb;

/// The store's folder, below the one in which everything happens. Its parent is missing at first,
/// too.
pub const STORE: &str = "above/store";

/// All contents that were ever put, by digest.
pub type Contents = BTreeMap<Digest, Vec<u8>>;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub function: HashFunction,
    pub segment_bytes_max: u64,
    /// The number of segments from which on a run of the set index is built.
    pub set_index_minimum: usize,
    /// Whether links fail, so that a checkpoint has to copy.
    pub refuses_links: bool,
    /// Whether the life begins with files that NEDB v3 left. It knows the default function only.
    pub begins_with_nedb: bool,
    /// Whether one record exceeds the append buffer, and so is written by itself.
    pub has_large_record: bool,
    /// The length of a block, unless it is the default, which no segment here reaches. Unsynced
    /// data then ends in the middle of a record.
    pub write_block_bytes: Option<usize>,
}

/// More than the appender collects before it writes.
const LARGE_RECORD_BYTES: usize = 270_000;

impl Shape {
    pub fn of(seed: u64, function: HashFunction) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            function,
            segment_bytes_max: rng.random_range(900..3000),
            set_index_minimum: rng.random_range(1..4),
            refuses_links: rng.random_ratio(1, 4),
            begins_with_nedb: rng.random_ratio(1, 8) && function == HashFunction::default(),
            // Large records are rare, since each of their images takes as long as ten others.
            has_large_record: rng.random_ratio(1, 24),
            write_block_bytes: rng.random_bool(0.5).then(|| rng.random_range(100..1500)),
        }
    }

    /// Returns options that leave it to the store by which function its objects are named.
    pub fn options(self, operations: Arc<dyn Operations>) -> Options {
        self.on(Options::new(), operations)
    }

    /// Returns the options of the application, which names the function unless it is the default.
    pub fn options_of_application(self, operations: Arc<dyn Operations>) -> Options {
        self.on(options_of(self.function), operations)
    }

    fn on(self, options: Options, operations: Arc<dyn Operations>) -> Options {
        let options = options
            .segment_bytes_max(self.segment_bytes_max)
            .set_index_minimum(self.set_index_minimum, u64::MAX)
            .operations(operations);
        match self.write_block_bytes {
            Some(bytes) => options.write_block_bytes(bytes),
            None => options,
        }
    }
}

/// A store that reports its acknowledgements to the log.
pub struct Life<'a> {
    root: &'a Path,
    shape: Shape,
    recorder: Arc<Recorder>,
    store: Option<Store>,
    rng: SmallRng,
    contents: Contents,
    /// The contents of the store.
    held: BTreeSet<Digest>,
    next_number: u64,
    checkpoints: u32,
}

impl<'a> Life<'a> {
    fn new(root: &'a Path, shape: Shape, recorder: Arc<Recorder>, seed: u64) -> Self {
        Self {
            root,
            shape,
            recorder,
            store: None,
            rng: SmallRng::seed_from_u64(seed),
            contents: Contents::new(),
            held: BTreeSet::new(),
            // No two lives put the same contents, except for the shortest.
            next_number: seed << 16,
            checkpoints: 0,
        }
    }

    fn store(&mut self) -> &Store {
        let operations = Arc::clone(&self.recorder) as _;
        let options = self.shape.options_of_application(operations);
        self.store
            .get_or_insert_with(|| options.open(self.root.join(STORE)).unwrap())
    }

    fn new_content(&mut self) -> Vec<u8> {
        self.next_number += 1;
        let len = match self.rng.random_range(0..20) {
            0 => 0,
            1 => self.rng.random_range(1..9),
            2 => self.rng.random_range(1000..4000),
            3..8 => self.rng.random_range(9..60),
            _ => self.rng.random_range(60..700),
        };
        content(self.next_number, len)
    }

    fn put(&mut self, content: Vec<u8>) {
        let digest = self.shape.function.digest(&content);
        self.recorder.mark(Mark::Putting(digest));
        self.store().put(&content).unwrap();
        self.recorder.mark(Mark::Put(digest));
        self.held.insert(digest);
        self.contents.insert(digest, content);
    }

    /// Puts content that is long for this store, which is durable at once, also if it was put before.
    fn put_reader(&mut self) {
        self.next_number += 1;
        let len = self.rng.random_range(400..2500);
        let content = content(self.next_number, len);
        let digest = self.shape.function.digest(&content);
        if self.rng.random_bool(0.5) {
            self.put(content.clone());
        }
        self.recorder.mark(Mark::Putting(digest));
        self.store().put_reader(&content[..]).unwrap();
        self.recorder.mark(Mark::Put(digest));
        self.recorder.mark(Mark::SyncedOne(digest));
        self.held.insert(digest);
        self.contents.insert(digest, content);
    }

    fn put_many(&mut self) {
        let count = self.rng.random_range(2..8);
        let contents: Vec<Vec<u8>> = (0..count).map(|_| self.new_content()).collect();
        let digests: Vec<Digest> = self.shape.function.digest_many(&contents);
        for digest in &digests {
            self.recorder.mark(Mark::Putting(*digest));
        }
        self.store().put_many(&contents).unwrap();
        for digest in &digests {
            self.recorder.mark(Mark::Put(*digest));
        }
        self.held.extend(&digests);
        self.contents.extend(digests.into_iter().zip(contents));
    }

    fn put_again(&mut self) {
        // The content comes from dropped objects as well as from those that are there.
        let old = self.contents.values().choose(&mut self.rng).cloned();
        if let Some(content) = old {
            self.put(content);
        }
    }

    fn sync(&mut self) {
        self.store().sync().unwrap();
        self.recorder.mark(Mark::Synced);
    }

    /// Puts an object in each of some threads and syncs there, so that syncs are shared.
    fn sync_in_threads(&mut self) {
        let count = self.rng.random_range(2..5);
        let contents: Vec<Vec<u8>> = (0..count).map(|_| self.new_content()).collect();
        let recorder = &Arc::clone(&self.recorder);
        let function = self.shape.function;
        let store = self.store();
        thread::scope(|scope| {
            for content in &contents {
                scope.spawn(move || {
                    let digest = function.digest(content);
                    recorder.mark(Mark::Putting(digest));
                    store.put(content).unwrap();
                    recorder.mark(Mark::Put(digest));
                    store.sync().unwrap();
                    recorder.mark(Mark::SyncedOne(digest));
                });
            }
        });
        for content in contents {
            let digest = function.digest(&content);
            self.held.insert(digest);
            self.contents.insert(digest, content);
        }
    }

    /// Keeps an object, so that the files of its segment outlive the segment for a while.
    fn keep(&mut self) {
        let Some(digest) = self.held.iter().choose(&mut self.rng).copied() else {
            return;
        };
        let object = self.store().get(digest).unwrap();
        self.recorder
            .keep(object.expect("the store holds the object"));
    }

    /// Compacts the store; with `is_quiet`, nothing is put meanwhile.
    fn compact(&mut self, is_quiet: bool) {
        if self.rng.random_ratio(1, 3) {
            self.keep();
        }
        let share = *[0.1, 0.5, 0.9].choose(&mut self.rng).unwrap();
        let rng = &mut self.rng;
        let mut dead: BTreeSet<Digest> = self.held.iter().copied().collect();
        dead.retain(|_| rng.random_bool(share));
        let is_dead = dead.clone();
        let compaction = self.store().begin_compaction().unwrap();
        self.recorder.mark(Mark::Compacting);
        let puts = if is_quiet {
            0
        } else {
            self.rng.random_range(0..4)
        };
        for _ in 0..puts {
            let again = dead.iter().choose(&mut self.rng).copied();
            match again {
                Some(digest) if self.rng.random() => {
                    dead.remove(&digest);
                    self.put(self.contents[&digest].clone());
                }
                _ => {
                    let content = self.new_content();
                    dead.remove(&self.shape.function.digest(&content));
                    self.put(content);
                }
            }
        }
        if self.rng.random_ratio(1, 8) {
            // The compaction was given up, so nothing changes.
            self.recorder.mark(Mark::Dropped);
            return;
        }
        self.held.retain(|digest| !dead.contains(digest));
        self.recorder.mark(Mark::Dropping(dead));
        compaction
            .finish(|digest| !is_dead.contains(digest))
            .unwrap();
        self.recorder.mark(Mark::Dropped);
    }

    /// Trims the store to a part of its length.
    fn trim(&mut self) {
        if self.rng.random_ratio(1, 3) {
            self.keep();
        }
        self.sync();
        let synced = self.held.clone();
        if self.rng.random() {
            self.put_many();
        }
        self.store().flush().unwrap();
        let share = *[0, 2, 3].choose(&mut self.rng).unwrap();
        let bytes_max = self.store().stats().data_file_bytes * share / 4;
        let dropped = trimmed(&self.root.join(STORE), self.store(), bytes_max);
        if !dropped.is_subset(&synced) {
            // A crash during the trim can lose some of these objects and not others.
            self.sync();
        }
        self.held.retain(|digest| !dropped.contains(digest));
        self.recorder.mark(Mark::Dropping(dropped));
        self.store().trim(bytes_max).unwrap();
        self.recorder.mark(Mark::Dropped);
    }

    fn reopen(&mut self) {
        if let Some(store) = self.store.take() {
            if self.rng.random() {
                store.close().unwrap();
                self.recorder.mark(Mark::Synced);
            } else {
                drop(store);
            }
        }
        self.store();
    }

    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        let name = format!("copy-{}", self.checkpoints);
        let target = self.root.join(&name);
        self.recorder.mark(Mark::Checkpointing(name.into()));
        self.store().checkpoint(target).unwrap();
        self.recorder.mark(Mark::Checkpoint);
    }

    fn begin_with_nedb(&mut self) {
        let count = self.rng.random_range(2..12);
        let contents = (0..count).map(|_| self.new_content());
        let contents = contents.map(|content| (Digest::of(&content), content));
        let contents: Contents = contents.collect();
        for digest in contents.keys() {
            self.recorder.mark(Mark::Putting(*digest));
        }
        nedb::write(&self.recorder, self.root, &contents);
        self.held.extend(contents.keys());
        self.contents.extend(contents);
    }

    /// Ends the life. Kept objects go first, because an object that outlives its store removes
    /// nothing.
    fn end(&mut self) {
        self.recorder.let_go();
        drop(self.store.take());
    }

    fn step(&mut self) {
        match self.rng.random_range(0..48) {
            0..14 => {
                let content = self.new_content();
                self.put(content);
            }
            14..18 => self.put_many(),
            18..23 => self.put_again(),
            23..32 => self.sync(),
            32..34 => self.compact(false),
            34 | 35 => {
                // The second compaction finds the files removed that the first retired, and nothing
                // synced since.
                self.compact(true);
                self.compact(true);
            }
            36..39 => self.reopen(),
            39..41 => self.store().flush().unwrap(),
            41 | 42 => self.sync_in_threads(),
            43 | 44 => self.trim(),
            45 | 46 => self.put_reader(),
            _ if self.checkpoints < 2 => self.checkpoint(),
            _ => {}
        }
    }
}

/// The log of a life, and the contents that it ever put.
pub struct Lived {
    pub shape: Shape,
    pub events: Vec<Event>,
    pub contents: Contents,
}

pub fn live(root: &Path, function: HashFunction, seed: u64, with_sites: bool) -> Lived {
    let shape = Shape::of(seed, function);
    let recorder = Recorder::new(root, with_sites, shape.refuses_links);
    let mut life = Life::new(root, shape, Arc::clone(&recorder), seed);
    if shape.begins_with_nedb {
        life.begin_with_nedb();
    }
    life.store();
    recorder.mark(Mark::Opened);
    let steps = life.rng.random_range(10..40);
    let large_at = life.rng.random_range(0..steps);
    for step in 0..steps {
        if shape.has_large_record && step == large_at {
            life.next_number += 1;
            let content = content(life.next_number, LARGE_RECORD_BYTES);
            life.put(content);
        }
        life.step();
    }
    life.reopen();
    life.sync();
    life.end();
    Lived {
        shape,
        events: recorder.take(),
        contents: life.contents,
    }
}

/// Goes on after a crash: puts some objects that may be lost again, and acknowledges them.
pub fn live_on(
    root: &Path,
    shape: Shape,
    with_sites: bool,
    seed: u64,
    contents: &Contents,
) -> Vec<Event> {
    let recorder = Recorder::new(root, with_sites, shape.refuses_links);
    let mut life = Life::new(root, shape, Arc::clone(&recorder), seed);
    // The first life does not reach these numbers.
    life.next_number += 1 << 15;
    life.store();
    for _ in 0..life.rng.random_range(0..4) {
        let again = contents.values().choose(&mut life.rng).cloned();
        life.put(again.unwrap_or_default());
    }
    if life.rng.random() {
        let content = life.new_content();
        life.put(content);
    }
    if life.rng.random() {
        life.sync();
    }
    life.end();
    recorder.take()
}
