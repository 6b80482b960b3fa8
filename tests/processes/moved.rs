//! The folder of an open store is moved, replaced or removed, or the process changes its directory.
//!
//! Each of these happens between any two operations of a life with puts, syncs, seals, compactions,
//! a checkpoint and a closing. From then on the store writes into the folder that it opened, or
//! fails; it changes nothing elsewhere. Lives run in processes of their own, since a process has
//! one working directory. `SEALSTONE_MOVED=all` takes every operation instead of every seventh.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::{env, fmt, fs};

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::scratch;
use crate::common::tally::Tally;
use crate::common::workload::{Verdict, completes, content, seam_with_stillness};
use sealstone::{Digest, Error, Object, Options, Store, VerifyReport};
use tempfile::TempDir;

const CASE: &str = "SEALSTONE_MOVED_CASE";
const EVERY: u64 = 7;
const STORE: &str = "store";
/// The objects that are sealed in the store before the life begins.
const BASE: Range<u64> = 0..40;
/// The numbers of the objects of other stores begin here.
const FOREIGN: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The folder gets another name, and another store gets the old one.
    Replaced,
    /// The folder gets another name.
    Moved,
    /// The folder is removed with everything in it.
    Removed,
    /// The process changes into a folder where another store has the same relative path.
    ChangedDirectory,
}

const EVENTS: [Event; 4] = [
    Event::Replaced,
    Event::Moved,
    Event::Removed,
    Event::ChangedDirectory,
];

fn options() -> Options {
    let options = new_options().segment_bytes_max(1_000);
    options.write_block_bytes(256).set_index_minimum(3, 10)
}

fn object(number: u64) -> Vec<u8> {
    content(number, 150)
}

fn digest(number: u64) -> Digest {
    digest_of(&object(number))
}

/// Creates a store of the base objects, with numbers from `first` on.
fn make_store(root: &Path, first: u64) {
    let store = options().open(root).unwrap();
    for number in BASE {
        store.put(object(first + number)).unwrap();
    }
    store.close().unwrap();
}

/// The bytes of files by path; a folder has none.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Returns everything below a folder, and nothing if the folder does not exist.
fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Two folders side by side that can each hold a store, and an event that concerns them.
struct Scene {
    event: Event,
    outer: TempDir,
    /// The operation at which the event came, and the files then that are not the store's own.
    happened: Mutex<Option<(String, Tree)>>,
}

impl Scene {
    fn new(event: Event) -> Self {
        let outer = scratch();
        for folder in ["here", "there"] {
            fs::create_dir(outer.path().join(folder)).unwrap();
        }
        make_store(&outer.path().join("here").join(STORE), 0);
        if matches!(event, Event::Replaced | Event::ChangedDirectory) {
            make_store(&outer.path().join("there").join(STORE), FOREIGN);
        }
        env::set_current_dir(outer.path().join("here")).unwrap();
        let happened = Mutex::default();
        Self {
            event,
            outer,
            happened,
        }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("here").join(STORE)
    }

    /// Returns the path of the store's folder after the event.
    fn moved_root(&self) -> PathBuf {
        match self.event {
            Event::Replaced | Event::Moved => self.outer.path().join("moved"),
            Event::Removed | Event::ChangedDirectory => self.root(),
        }
    }

    fn happen(&self, operation: String) {
        match self.event {
            Event::Replaced => {
                fs::rename(self.root(), self.moved_root()).unwrap();
                fs::rename(self.outer.path().join("there").join(STORE), self.root()).unwrap();
            }
            Event::Moved => fs::rename(self.root(), self.moved_root()).unwrap(),
            Event::Removed => fs::remove_dir_all(self.root()).unwrap(),
            Event::ChangedDirectory => {
                env::set_current_dir(self.outer.path().join("there")).unwrap();
            }
        }
        *self.happened.lock().unwrap() = Some((operation, self.others()));
    }

    /// Returns everything but the folder of the store and its checkpoint elsewhere.
    fn others(&self) -> Tree {
        let mut others = tree(self.outer.path());
        let checkpoint = self.checkpoint();
        let own = match self.event {
            Event::Removed => None,
            _ => Some(self.moved_root()),
        };
        others.retain(|path, _| {
            !path.starts_with(&checkpoint) && !own.as_ref().is_some_and(|own| path.starts_with(own))
        });
        others
    }

    fn checkpoint(&self) -> PathBuf {
        self.outer.path().join("checkpoint")
    }

    fn has_happened(&self) -> bool {
        self.happened.lock().unwrap().is_some()
    }
}

/// The promises to a life, and the complaints about broken ones.
#[derive(Default)]
struct Life {
    synced: BTreeSet<u64>,
    /// Objects that were put but not synced yet.
    put: BTreeSet<u64>,
    /// The objects that a successful checkpoint must hold.
    checkpoint: Option<BTreeSet<u64>>,
    complaints: Vec<(&'static str, String)>,
}

impl Life {
    fn complain(&mut self, kind: &'static str, example: impl fmt::Display) {
        self.complaints.push((kind, example.to_string()));
    }

    fn live(&mut self, store: Store, scene: &Scene) {
        self.synced.extend(BASE);
        self.read(&store);
        self.put(&store, 40..60);
        self.sync(&store, scene);
        self.put(&store, 60..80);
        self.sync(&store, scene);
        let held = self.hold(&store, 1);
        self.compact(&store, |number| number % 2 == 0);
        self.put(&store, 1..9);
        self.sync(&store, scene);
        let result = store.checkpoint(scene.checkpoint());
        self.checkpoint = result.is_ok().then(|| self.synced.clone());
        self.read(&store);
        let outlives = self.hold(&store, 2);
        self.let_go(held, 1);
        self.put(&store, 80..100);
        self.compact(&store, |number| number % 3 != 2);
        self.put(&store, 100..110);
        self.read(&store);
        let is_removed = scene.has_happened() && matches!(scene.event, Event::Removed);
        match store.close() {
            Ok(()) if is_removed && !self.put.is_empty() => {
                self.complain(
                    "closings without an error",
                    format!("{} objects", self.put.len()),
                );
            }
            Ok(()) => self.note_synced(),
            Err(_) => {}
        }
        self.let_go(outlives, 2);
    }

    fn put(&mut self, store: &Store, numbers: Range<u64>) {
        for number in numbers {
            if store.put(object(number)).is_ok() && !self.synced.contains(&number) {
                self.put.insert(number);
            }
        }
        self.read(store);
    }

    fn note_synced(&mut self) {
        self.synced.append(&mut self.put);
    }

    /// Syncs the store. Unless the puts before failed, a sync in a removed folder must fail.
    fn sync(&mut self, store: &Store, scene: &Scene) {
        let is_removed = scene.has_happened() && matches!(scene.event, Event::Removed);
        let result = store.sync();
        if result.is_ok() && is_removed && !self.put.is_empty() {
            self.complain(
                "syncs without an error",
                format!("{} objects", self.put.len()),
            );
        }
        if result.is_ok() {
            self.note_synced();
        }
        self.read(store);
    }

    fn compact(&mut self, store: &Store, is_live: impl Fn(u64) -> bool) {
        self.synced.retain(|number| is_live(*number));
        self.put.retain(|number| is_live(*number));
        let live: BTreeSet<Digest> = (0..FOREIGN).filter(|n| is_live(*n)).map(digest).collect();
        // If the compaction fails, the old set is left, and the objects to drop may be there or
        // not.
        let _ = store.compact(|digest| live.contains(digest));
        self.read(store);
    }

    fn hold(&mut self, store: &Store, number: u64) -> Option<Object> {
        match store.get(digest(number)) {
            Ok(Some(object)) => Some(object),
            other => {
                self.complain("reads that fail", format!("{number}: {other:?}"));
                None
            }
        }
    }

    /// Drops an object that may be the last one of a retired segment.
    fn let_go(&mut self, held: Option<Object>, number: u64) {
        if held.is_some_and(|held| held[..] != object(number)[..]) {
            self.complain("objects that have changed", number);
        }
    }

    /// Reads all promised objects. The first half of the base was sealed and mapped before the life
    /// began.
    fn read(&mut self, store: &Store) {
        for number in 0..20 {
            if !self.synced.contains(&number) {
                continue;
            }
            match store.get(digest(number)) {
                Ok(Some(found)) if found[..] == object(number)[..] => {}
                other => self.complain("reads that fail", format!("{number}: {other:?}")),
            }
        }
        for number in FOREIGN..FOREIGN + 40 {
            if !matches!(store.get(digest(number)), Ok(None)) {
                self.complain("objects of another store", number);
            }
        }
    }

    /// Compares the store that is in a folder now with the promises.
    fn check(&mut self, root: &Path, promised: &BTreeSet<u64>, kind: &'static str) {
        let store = match Options::new().create(false).open(root) {
            Ok(store) => store,
            Err(error) => return self.complain("folders that do not open", error),
        };
        for number in promised {
            match store.get(digest(*number)) {
                Ok(Some(found)) if found[..] == object(*number)[..] => {}
                other => self.complain(kind, format!("{number}: {other:?}")),
            }
        }
        let has_foreign = |number: &u64| !matches!(store.get(digest(*number)), Ok(None));
        for number in (FOREIGN..FOREIGN + 40).filter(has_foreign) {
            self.complain("objects of another store", number);
        }
        let report = store.verify(|_| ControlFlow::Continue(()));
        if !report.as_ref().is_ok_and(VerifyReport::is_clean) {
            self.complain("folders that do not verify", format!("{report:?}"));
        }
    }
}

/// Runs a life in which the event comes at operation `at`, and returns the operation and the
/// complaints, or `None` if the life has no such operation.
fn live_once(event: Event, is_relative: bool, at: u64) -> Option<(String, Life)> {
    let scene = Arc::new(Scene::new(event));
    let store = watched_store(&scene, is_relative, at);
    let mut life = Life::default();
    life.live(store.unwrap(), &scene);
    let Some((operation, before)) = scene.happened.lock().unwrap().take() else {
        assert!(life.complaints.is_empty(), "{:?}", life.complaints);
        return None;
    };
    let after = scene.others();
    if after != before {
        let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
        let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&PathBuf> = paths.into_iter().filter(differs).collect();
        life.complain("changes in another folder", format!("{changed:?}"));
    }
    if !matches!(event, Event::Removed) {
        let promised = life.synced.clone();
        life.check(
            &scene.moved_root(),
            &promised,
            "synced objects that are lost",
        );
    }
    if let Some(promised) = life.checkpoint.clone() {
        life.check(
            &scene.checkpoint(),
            &promised,
            "objects that a checkpoint lacks",
        );
    }
    Some((operation, life))
}

/// Opens the store so that the event comes before the operation with this number, counted from the
/// end of the opening.
fn watched_store(scene: &Arc<Scene>, is_relative: bool, at: u64) -> Result<Store, Error> {
    let stillness: Arc<RwLock<()>> = Arc::default();
    // The count never gets this far, so the opening does not count.
    let operations = Arc::new(AtomicU64::new(u64::MAX / 2));
    let watched = {
        let (scene, still) = (Arc::clone(scene), Arc::clone(&stillness));
        let operations = Arc::clone(&operations);
        seam_with_stillness(stillness, move |step| {
            if operations.fetch_add(1, Ordering::SeqCst) == at {
                let _nothing_else_goes_on = still.write().unwrap();
                scene.happen(step.to_string());
            }
            Verdict::Go
        })
    };
    let root = if is_relative {
        PathBuf::from(STORE)
    } else {
        scene.root()
    };
    let store = options().operations(watched).open(root);
    operations.store(0, Ordering::SeqCst);
    store
}

/// The child. In an ordinary test run it does nothing.
#[test]
fn runs_lives_in_a_process_of_its_own() {
    let Ok(case) = env::var(CASE) else { return };
    let (event, path) = case.split_once(' ').unwrap();
    let event = EVENTS[event.parse::<usize>().unwrap()];
    let is_all = env::var("SEALSTONE_MOVED").is_ok_and(|which| which == "all");
    let (mut tally, mut at, mut lives) = (Tally::default(), 0, 0);
    let is_relative = path == "relative";
    while let Some((operation, life)) =
        completes("a life", move || live_once(event, is_relative, at))
    {
        for (kind, example) in life.complaints {
            tally.count(kind, format!("operation {at}, {operation}: {example}"));
        }
        at += if is_all { 1 } else { EVERY };
        lives += 1;
    }
    println!("{event:?}, {path} path: {lives} lives");
    assert!(lives > 10, "the event hardly ever came");
    tally.assert_empty();
}

/// Lets a child run all lives with this event.
fn live_all(event: Event) {
    let paths: &[&str] = match event {
        Event::ChangedDirectory => &["relative"],
        _ => &["relative", "absolute"],
    };
    let mut is_right = true;
    for path in paths {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "moved::runs_lives_in_a_process_of_its_own"])
            .arg("--nocapture")
            .env(CASE, format!("{} {path}", event as usize))
            .output()
            .unwrap();
        println!("{event:?}, {path} path:");
        println!("{}", String::from_utf8_lossy(&child.stdout));
        println!("{}", String::from_utf8_lossy(&child.stderr));
        is_right &= child.status.success();
    }
    assert!(is_right, "{event:?}: the failures are printed above");
}

#[test]
fn h52_a_folder_replaced_under_a_store_loses_nothing_in_either_store() {
    live_all(Event::Replaced);
}

#[test]
fn h52_a_folder_moved_under_a_store_keeps_synced_objects() {
    live_all(Event::Moved);
}

#[test]
fn h52_a_folder_removed_under_a_store_fails_writes_and_not_reads() {
    live_all(Event::Removed);
}

#[test]
fn h51_a_store_opened_by_a_relative_path_stays_where_it_was() {
    live_all(Event::ChangedDirectory);
}
