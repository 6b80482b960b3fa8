//! A store and its model, to which each action is applied side by side.

use std::collections::{BTreeMap, BTreeSet};

use proptest::sample::Index;
use sealstone::{Compaction, Digest, Error, Object, Options, PinnedReader, ReadMode, Store};
use tempfile::TempDir;

use super::Manner;
use super::actions::{Action, Content, Keep, SEGMENT_BYTES, Steps};
use crate::common::workload::{
    self, Contents, assert_holds, assert_same, assert_verifies, content, disk_bytes, eventually,
    trimmed, walk,
};

/// A store, the objects that it should hold, and a handle beside it.
pub struct Pair {
    folder: TempDir,
    manner: Manner,
    store: Option<Store>,
    model: Contents,
    /// The digests that were flushed and not dropped since; a handle beside must see them.
    flushed: BTreeSet<Digest>,
    held: Vec<(Object, Vec<u8>)>,
    beside: Option<(Store, Contents)>,
    /// The number of walks under way, which keep the files that they read.
    walks: usize,
    puts: u32,
}

fn bytes_of((number, len): Content) -> Vec<u8> {
    content(number, len)
}

impl Pair {
    pub fn new(manner: Manner, segment_bytes_max: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let options = manner.options().segment_bytes_max(segment_bytes_max);
        let store = options.open(folder.path()).unwrap();
        Self {
            folder,
            manner,
            store: Some(store),
            model: Contents::new(),
            flushed: BTreeSet::new(),
            held: Vec::new(),
            beside: None,
            walks: 0,
            puts: 0,
        }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn digest_of(&self, content: &[u8]) -> Digest {
        self.manner.function.digest(content)
    }

    /// Returns the object that an index means, if the store has any.
    fn pick(&self, index: Index) -> Option<(Digest, Vec<u8>)> {
        let at = index.index(self.model.len().max(1));
        let (digest, content) = self.model.iter().nth(at)?;
        Some((*digest, content.clone()))
    }

    /// Puts a content, each third time from a reader.
    fn put(&mut self, content: Vec<u8>) -> Digest {
        self.puts += 1;
        let digest = self.digest_of(&content);
        if self.puts.is_multiple_of(3) {
            let stored = self.store().put_reader(&content[..]).unwrap();
            let is_new = !self.model.contains_key(&digest);
            assert_eq!((stored.digest, stored.is_new), (digest, is_new));
            assert_eq!(stored.bytes, content.len() as u64);
        } else {
            assert_eq!(self.store().put(&content).unwrap(), digest);
        }
        self.model.insert(digest, content);
        digest
    }

    fn put_many(&mut self, contents: &[Content]) -> Vec<Digest> {
        let contents: Vec<Vec<u8>> = contents.iter().copied().map(bytes_of).collect();
        let digests = self.store().put_many(&contents).unwrap();
        let expected: Vec<Digest> = contents.iter().map(|c| self.digest_of(c)).collect();
        assert_eq!(digests, expected);
        self.model.extend(expected.into_iter().zip(contents));
        digests
    }

    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Put(content) => drop(self.put(bytes_of(content))),
            Action::PutAgain(index) => {
                if let Some((_, content)) = self.pick(index) {
                    self.put(content);
                }
            }
            Action::PutMany(contents) => drop(self.put_many(&contents)),
            Action::Get(index) => {
                if let Some((digest, content)) = self.pick(index) {
                    let reader = self.store().reader();
                    let object = reader.get(digest).unwrap();
                    assert_eq!(object.as_deref(), Some(&content[..]));
                    assert_holds(self.store(), &Contents::from([(digest, content)]));
                }
            }
            Action::GetMany(indexes) => self.get_many(&indexes),
            Action::GetAbsent(number) => {
                let absent = self.digest_of(&content(number, 9));
                assert!(self.store().get(absent).unwrap().is_none());
                assert!(self.store().reader().get(absent).unwrap().is_none());
                assert!(!self.store().contains(absent).unwrap());
            }
            Action::Find(index, len) => {
                if let Some((digest, _)) = self.pick(index) {
                    self.find(&digest.to_string()[..len]);
                }
            }
            Action::FindText(text) => self.find(&text),
            Action::Walk => self.check_everything(),
            Action::WalkBeside(contents, keep) => self.walk_beside(&contents, keep),
            Action::Hold(index) => {
                if let Some((digest, content)) = self.pick(index) {
                    let object = self.store().get(digest).unwrap().unwrap();
                    self.held.push((object, content));
                }
            }
            Action::LetGo => self.held.clear(),
            Action::Flush => self.flush(),
            Action::Sync => self.sync(),
            Action::Reopen(size) => self.reopen(SEGMENT_BYTES[size]),
            Action::Compact(keep) => self.compact(keep),
            Action::CompactInSteps(steps) => self.compact_in_steps(&steps),
            Action::Trim(of_256) => self.trim(of_256),
            Action::Verify => assert_verifies(self.store()),
            Action::Checkpoint => self.checkpoint(),
            Action::OpenBeside(mapped) => self.open_beside(mapped),
            Action::ReadBeside(index) => self.read_beside(index),
            Action::Refresh => self.refresh(),
            Action::SyncAndRefresh => {
                self.sync();
                self.refresh();
            }
            Action::CloseBeside => self.beside = None,
        }
        assert_eq!(self.store().len(), self.model.len() as u64);
        assert_eq!(self.store().is_empty(), self.model.is_empty());
    }

    fn flush(&mut self) {
        self.store().flush().unwrap();
        self.flushed = self.model.keys().copied().collect();
    }

    fn sync(&mut self) {
        self.store().sync().unwrap();
        self.flushed = self.model.keys().copied().collect();
    }

    fn get_many(&self, indexes: &[Index]) {
        let mut wanted: Vec<(Digest, Option<Vec<u8>>)> = indexes
            .iter()
            .filter_map(|index| self.pick(*index))
            .map(|(digest, content)| (digest, Some(content)))
            .collect();
        wanted.push((self.digest_of(b"absent"), None));
        let digests: Vec<Digest> = wanted.iter().map(|(digest, _)| *digest).collect();
        let objects = self.store().get_many(&digests);
        let reader = self.store().reader();
        let pinned = reader.get_many(&digests);
        assert_eq!((objects.len(), pinned.len()), (wanted.len(), wanted.len()));
        for ((object, pinned), (digest, content)) in objects.into_iter().zip(pinned).zip(wanted) {
            assert_eq!(object.unwrap().as_deref(), content.as_deref());
            assert_eq!(pinned.unwrap().as_deref(), content.as_deref());
            assert_eq!(reader.get(digest).unwrap().as_deref(), content.as_deref());
            assert_eq!(reader.contains(digest).unwrap(), content.is_some());
        }
    }

    fn find(&self, prefix: &str) {
        let is_prefix =
            (1..=64).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lower = prefix.to_lowercase();
        let digests = self.model.keys();
        let matching: Vec<Digest> = digests
            .filter(|digest| digest.to_string().starts_with(&lower))
            .copied()
            .collect();
        match self.store().find(prefix) {
            Ok(found) => {
                assert!(is_prefix && matching.len() <= 1, "{prefix:?}");
                assert_eq!(found, matching.first().copied());
            }
            Err(Error::AmbiguousPrefix { candidates, .. }) => {
                assert!(is_prefix && matching.len() >= 2, "{prefix:?}");
                assert_eq!(candidates, matching[..matching.len().min(8)]);
            }
            Err(Error::BadPrefix { .. }) => assert!(!is_prefix, "{prefix:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    pub fn check_everything(&self) {
        let store = self.store();
        assert_holds(store, &self.model);
        Self::assert_reader_holds(&store.reader(), &self.model);
        assert_same(&walk(store), &self.model);
        // A segment that is sealed between the two walks can change its place.
        eventually("both walks have one order", || {
            let digests: Vec<Digest> = store.digests().map(Result::unwrap).collect();
            let objects = store.iter().map(|object| *object.unwrap().digest());
            digests == objects.collect::<Vec<_>>()
        });
        let stats = store.stats();
        assert_eq!(stats.objects, self.model.len() as u64);
        let bytes = self.model.values().map(|content| content.len() as u64);
        assert_eq!(stats.content_bytes, bytes.sum::<u64>());
        for (object, content) in &self.held {
            assert_eq!(&object[..], &content[..]);
            assert_eq!(object.digest(), &self.digest_of(content));
        }
    }

    /// Checks that a pinned reader sees all that existed when it was made or refreshed, and no
    /// wrong byte.
    fn assert_reader_holds(reader: &PinnedReader, contents: &Contents) {
        let digests: Vec<Digest> = contents.keys().copied().collect();
        let found = reader.get_many(&digests);
        assert_eq!(found.len(), contents.len());
        for (object, (digest, content)) in found.into_iter().zip(contents) {
            assert_eq!(object.unwrap().as_deref(), Some(&content[..]), "{digest:?}");
            let object = reader.get(digest).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]), "{digest:?}");
        }
    }

    /// Checks that a walk gives the objects that existed when it began.
    fn walk_beside(&mut self, contents: &[Content], keep: Keep) {
        let before = self.model.clone();
        let (walk, digests) = (self.store().iter(), self.store().digests());
        let mut reader = self.store().reader();
        for content in contents {
            self.put(bytes_of(*content));
        }
        self.walks += 1;
        self.compact(keep);
        self.walks -= 1;
        let walked = walk.map(|object| {
            let object = object.unwrap();
            (*object.digest(), object.to_vec())
        });
        assert_same(&walked.collect(), &before);
        let digests: BTreeSet<Digest> = digests.map(Result::unwrap).collect();
        assert_eq!(digests, before.keys().copied().collect());
        Self::assert_reader_holds(&reader, &before);
        reader.refresh();
        Self::assert_reader_holds(&reader, &self.model);
        for dropped in before.keys().filter(|d| !self.model.contains_key(d)) {
            assert!(reader.get(dropped).unwrap().is_none(), "{dropped:?}");
        }
    }

    pub fn reopen(&mut self, segment_bytes_max: u64) {
        self.store = None;
        self.flushed = self.model.keys().copied().collect();
        let options = self.manner.options().segment_bytes_max(segment_bytes_max);
        let store = options.open(self.folder.path()).unwrap();
        // Held objects keep their files, which are removed only now; this is no damage.
        if self.held.is_empty() {
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        }
        workload::assert_undamaged(&store);
        self.store = Some(store);
        self.check_everything();
    }

    /// Drops from the model what the compaction of the store has dropped.
    fn retain(&mut self, keep: impl Fn(&Digest) -> bool) -> (u64, u64) {
        let before = self.model.len();
        self.model.retain(|digest, _| keep(digest));
        let model = &self.model;
        self.flushed.retain(|digest| model.contains_key(digest));
        let live = self.model.len();
        (live as u64, (before - live) as u64)
    }

    fn compact(&mut self, keep: Keep) {
        let stats = self.store().compact(|digest| keep.keeps(digest)).unwrap();
        let counts = self.retain(|digest| keep.keeps(digest));
        assert_eq!((stats.live_objects, stats.dropped_objects), counts);
        let after = self.store().stats();
        let sealed_bytes = after.data_file_bytes + after.index_file_bytes;
        assert_eq!(stats.bytes_after, sealed_bytes);
        if self.held.is_empty() && self.walks == 0 {
            // The background thread may hold the old set for a moment longer.
            eventually("the files of dropped segments are removed", || {
                disk_bytes(self.folder.path(), &[".dat", ".idx"]) == sealed_bytes
            });
        }
    }

    fn compact_in_steps(&mut self, steps: &Steps) {
        let before: BTreeMap<Digest, bool> = self
            .model
            .keys()
            .map(|digest| (*digest, steps.keep.keeps(digest)))
            .collect();
        let compaction = self.store().begin_compaction().unwrap();
        let second = self.store().begin_compaction();
        assert!(matches!(second, Err(Error::CompactionRunning)));
        self.check_plan(&compaction, &before);
        let mut put = BTreeSet::from_iter(self.put_many(&steps.puts[..steps.puts.len() / 2]));
        for content in &steps.puts[steps.puts.len() / 2..] {
            put.insert(self.put(bytes_of(*content)));
        }
        for index in &steps.puts_again {
            if let Some((_, content)) = self.pick(*index) {
                put.insert(self.put(content));
            }
        }
        if steps.sync_between {
            self.sync();
        }
        if !steps.finish {
            drop(compaction);
            return self.check_everything();
        }
        let is_live = |digest: &Digest| steps.keep.keeps(digest);
        let stats = compaction.finish(is_live).unwrap();
        self.retain(|digest| is_live(digest) || put.contains(digest));
        let live = before.iter().filter(|(d, live)| **live || put.contains(*d));
        assert_eq!(stats.live_objects, live.count() as u64);
        assert_eq!(
            stats.live_objects + stats.dropped_objects,
            before.len() as u64
        );
        self.check_everything();
    }

    fn trim(&mut self, of_256: u64) {
        self.flush();
        let bytes_max = self.store().stats().data_file_bytes * of_256 / 256;
        let dropped = trimmed(self.folder.path(), self.store(), bytes_max);
        let trimmed = self.store().trim(bytes_max).unwrap();
        self.retain(|digest| !dropped.contains(digest));
        assert_eq!(trimmed.bytes_after, self.store().stats().data_file_bytes);
        self.check_everything();
    }

    fn check_plan(&self, compaction: &Compaction, before: &BTreeMap<Digest, bool>) {
        let live = before.values().filter(|live| **live).count() as u64;
        let plan = compaction.plan(|digest| before[digest]).unwrap();
        assert_eq!(plan.live_objects, live);
        assert_eq!(plan.dropped_objects, before.len() as u64 - live);
        let reclaimed = i128::from(plan.bytes_before) - i128::from(plan.bytes_after);
        assert_eq!(i128::from(plan.bytes_reclaimed), reclaimed);
        assert_holds(self.store(), &self.model);
    }

    /// Checks that a checkpoint is a store of its own: a change in it does not reach its origin.
    fn checkpoint(&self) {
        let folder = TempDir::new().unwrap();
        let target = folder.path().join("checkpoint");
        self.store().checkpoint(&target).unwrap();
        let again = self.store().checkpoint(&target);
        assert!(matches!(again, Err(Error::NotEmpty { .. })));
        let reader = Options::new().read_only(true).open(&target).unwrap();
        assert_same(&walk(&reader), &self.model);
        let copy = self.manner.options().open(&target).unwrap();
        assert!(copy.recovery().is_clean(), "{:?}", copy.recovery());
        assert_holds(&copy, &self.model);
        assert_verifies(&copy);
        let new = copy.put(b"put into the checkpoint").unwrap();
        copy.compact(|digest| *digest == new).unwrap();
        assert_eq!(copy.len(), 1);
        assert_holds(self.store(), &self.model);
    }

    fn open_beside(&mut self, mapped: bool) {
        let mode = if mapped {
            ReadMode::Mmap
        } else {
            ReadMode::Pread
        };
        let options = Options::new().read_only(true).read_mode(mode);
        let beside = options.open(self.folder.path()).unwrap();
        let view = self.view(&beside);
        self.beside = Some((beside, view));
    }

    /// Returns what a handle beside sees: at least all that was flushed, at most all that was put,
    /// and no wrong byte.
    fn view(&self, beside: &Store) -> Contents {
        let view = walk(beside);
        for digest in &self.flushed {
            assert!(view.contains_key(digest), "{digest:?} was flushed");
        }
        for (digest, content) in &view {
            assert_eq!(self.model.get(digest), Some(content), "{digest:?}");
        }
        view
    }

    /// Checks that a handle without a refresh sees what it saw before, whatever the writer did
    /// since.
    fn read_beside(&self, index: Index) {
        let Some((beside, view)) = &self.beside else {
            return;
        };
        assert!(matches!(beside.put(b""), Err(Error::ReadOnly)));
        let digests: BTreeSet<Digest> = beside.digests().map(Result::unwrap).collect();
        assert_eq!(digests, view.keys().copied().collect());
        if let Some((digest, content)) = view.iter().nth(index.index(view.len().max(1))) {
            let object = beside.get(digest).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    }

    fn refresh(&mut self) {
        if let Some((beside, before)) = self.beside.take() {
            let changed = beside.refresh().unwrap();
            let view = self.view(&beside);
            assert!(changed || view == before);
            assert_holds(&beside, &view);
            self.beside = Some((beside, view));
        }
    }
}
