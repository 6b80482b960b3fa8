//! NEDB v3 and Sealstone take turns at one folder, and are killed meanwhile.
//!
//! A ledger keeps what the two were told; after every turn, both must find each object that is
//! synced and not dropped since. `SEALSTONE_TURNS` sets the number of histories of 14 turns, and
//! `SEALSTONE_TURNS_SEED` the seed of the first one.

mod handover;
mod kill;
mod ledger;

use crate::common::{layout, nedb};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::{env, fs};

use crate::common::layout::{data_name, is_kind, read_files, records, scratch, segments};
use crate::common::nedb_writer::{Killed, Nedb};
use crate::common::tally::Tally;
use crate::common::workload::{copy_store, without_syncing};
use kill::Kill;
use ledger::{Ledger, State, any_number, digest, live_set, object};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sealstone::{Digest, Error, Object, Options, SegmentState, Store};
use tempfile::TempDir;

const HISTORIES: u64 = 60;
const TURNS: usize = 14;
/// NEDB's and Sealstone's segment sizes; histories take them in turn.
const ROLLOVER_BYTES: [u64; 3] = [1_000, 4_000, 30_000];

struct History {
    seed: u64,
    rng: SmallRng,
    rollover_bytes: u64,
    folder: TempDir,
    ledger: Ledger,
    /// The turns so far, which a failure prints.
    log: Vec<String>,
    kills: u64,
}

impl History {
    fn options(&self) -> Options {
        let options = Options::new().segment_bytes_max(self.rollover_bytes);
        let options = options.write_block_bytes(512).set_index_minimum(3, 10);
        options.operations(without_syncing())
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn turn(&mut self, tally: &mut Tally) {
        let steps_max = if self.rng.random() { 20 } else { 200 };
        let steps = self.rng.random_range(0..steps_max);
        let steps = self.rng.random::<bool>().then_some(steps);
        if self.rng.random::<bool>() {
            self.nedb_turn(steps, tally);
        } else {
            self.sealstone_turn(steps, tally);
        }
        self.check(tally);
    }

    // --- NEDB's turn ---

    fn nedb_turn(&mut self, steps: Option<u64>, tally: &mut Tally) {
        let before = read_files(self.root());
        let outcome = self.nedb_life(steps, tally);
        let is_killed = outcome.is_err();
        self.log
            .push(format!("NEDB, steps {steps:?}, killed {is_killed}"));
        self.kills += u64::from(is_killed);
        self.ledger.note_killed();
        let after = read_files(self.root());
        self.ledger
            .nedb_files
            .retain(|name, _| after.contains_key(name));
        for (name, data) in after.iter().filter(|(name, _)| is_kind(name, "dat")) {
            if before.get(name) != Some(data) {
                let whole = records(data).last().map_or(0, |(offset, content)| {
                    usize::try_from(*offset).unwrap() + content.len()
                });
                let whole = data[..whole].to_vec();
                self.ledger.nedb_files.insert(name.clone(), whole);
            }
        }
        let is_gone = |id: &&u32| !after.contains_key(&data_name(**id));
        let gone = self.ledger.sealed.iter().filter(is_gone);
        self.ledger.gone = gone.copied().collect();
    }

    fn nedb_life(&mut self, steps: Option<u64>, tally: &mut Tally) -> Result<(), Killed> {
        let mut nedb = Nedb::open(self.folder.path(), self.rollover_bytes, steps)?;
        self.check_nedb(&nedb, "when NEDB opened it", tally);
        for _ in 0..self.rng.random_range(1..6) {
            match self.rng.random_range(0..8) {
                0 => self.nedb_compacts(&mut nedb)?,
                1 | 2 => {
                    nedb.sync()?;
                    self.ledger.note_synced();
                }
                _ => {
                    for _ in 0..self.rng.random_range(1..30) {
                        let number = any_number(&mut self.ledger, &mut self.rng);
                        let is_appended = nedb.put(&object(number))?;
                        self.ledger.note_nedb_put(number, is_appended);
                    }
                }
            }
        }
        nedb.sync()?;
        self.ledger.note_synced();
        Ok(())
    }

    fn nedb_compacts(&mut self, nedb: &mut Nedb) -> Result<(), Killed> {
        let live = live_set(&self.ledger, &mut self.rng);
        let held: Vec<u64> = (0..self.ledger.next)
            .filter(|number| live.contains(number) && nedb.contains(digest(*number).as_bytes()))
            .collect();
        self.ledger.note_dropping(|number| live.contains(&number));
        let names: BTreeSet<nedb::Name> = live.iter().map(|n| *digest(*n).as_bytes()).collect();
        let mut shuffled = self.rng.random::<bool>().then(|| self.rng.clone());
        nedb.compact(|name| names.contains(name), shuffled.as_mut())?;
        self.log.push(format!("NEDB compacted to {}", held.len()));
        for number in held {
            self.ledger.note_nedb_put(number, true);
        }
        self.ledger.note_synced();
        Ok(())
    }

    /// Checks that NEDB reads every synced object: its next compaction drops all others.
    fn check_nedb(&mut self, nedb: &Nedb, when: &str, tally: &mut Tally) {
        let readable = nedb.readable();
        let is_lost = |number: &u64| !readable.contains(digest(*number).as_bytes());
        let lost: Vec<u64> = self.ledger.synced().filter(is_lost).collect();
        self.count_lost(
            &format!("objects that NEDB does not read {when}"),
            &lost,
            tally,
        );
    }

    // --- Sealstone's turn ---

    fn sealstone_turn(&mut self, kill_at: Option<u64>, tally: &mut Tally) {
        self.ledger.sealed.clear();
        self.ledger.gone.clear();
        let kill = Kill::new(self.folder.path(), &self.ledger, kill_at);
        let store = kill.watch(self.options()).open(self.folder.path());
        let what = kill_at.map_or_else(String::new, |at| format!(", killed at operation {at}"));
        self.log.push(format!("Sealstone{what}"));
        match store {
            Ok(store) => {
                self.check_files(self.folder.path(), "that Sealstone has just opened", tally);
                if let Err(error) = self.sealstone_life(store, &kill) {
                    tally.count("operations of a writer that fail", self.says(&error));
                }
            }
            Err(error) => tally.count("openings that are refused to a writer", self.says(&error)),
        }
        self.ledger.note_killed();
        if let Some((folder, ledger)) = kill.copy.lock().unwrap().take() {
            self.kills += 1;
            (self.folder, self.ledger) = (folder, ledger);
            self.ledger.note_killed();
        }
    }

    fn sealstone_life(&mut self, store: Store, kill: &Kill) -> Result<(), Error> {
        let mut held: Vec<Object> = Vec::new();
        for _ in 0..self.rng.random_range(1..7) {
            match self.rng.random_range(0..10) {
                0 => store.checkpoint(scratch().path().join("checkpoint"))?,
                1 | 2 => {
                    let some: Vec<u64> = self.ledger.synced().take(2).collect();
                    for number in some {
                        held.extend(store.get(digest(number))?);
                    }
                    self.compact(&store, kill)?;
                }
                3 | 4 => {
                    store.sync()?;
                    self.ledger.note_synced();
                }
                _ => {
                    for _ in 0..self.rng.random_range(1..30) {
                        let number = any_number(&mut self.ledger, &mut self.rng);
                        store.put(object(number))?;
                        self.ledger.note_put(number);
                    }
                }
            }
            kill.tell(&self.ledger);
        }
        let segments = store.stats().segments.into_iter();
        let sealed = segments.filter(|segment| segment.state == SegmentState::Sealed);
        let sealed = sealed.map(|segment| segment.id).collect();
        // An object that outlives the store must not disturb the next side.
        if self.rng.random() {
            held.clear();
        }
        store.close()?;
        self.ledger.note_synced();
        self.ledger.sealed = sealed;
        Ok(())
    }

    fn compact(&mut self, store: &Store, kill: &Kill) -> Result<(), Error> {
        let live = live_set(&self.ledger, &mut self.rng);
        self.ledger.note_dropping(|number| live.contains(&number));
        self.ledger.nedb_files.clear();
        kill.tell(&self.ledger);
        let live: BTreeSet<Digest> = live.into_iter().map(digest).collect();
        store.compact(|digest| live.contains(digest))?;
        self.log
            .push(format!("Sealstone compacted to {}", live.len()));
        Ok(())
    }

    // --- After each turn ---

    /// Checks the folder. A reader opens the folder itself; a writer opens a copy.
    fn check(&mut self, tally: &mut Tally) {
        match self.options().read_only(true).open(self.root()) {
            Ok(store) => self.check_reads(&store, "a reader", tally),
            Err(error) => tally.count("openings that are refused to a reader", self.says(&error)),
        }
        let copy = scratch();
        copy_store(self.root(), copy.path());
        let store = match self.options().open(copy.path()) {
            Ok(store) => store,
            Err(error) => {
                tally.count("openings that are refused to a writer", self.says(&error));
                return self.mend(tally);
            }
        };
        if !self.ledger.gone.is_empty() && store.recovery().is_clean() {
            let what = format!("segments {:?}", self.ledger.gone);
            tally.count("removals by NEDB that are not reported", self.says(&what));
        }
        self.check_reads(&store, "a writer", tally);
        store.close().unwrap();
        self.check_files(copy.path(), "after opening and closing", tally);
        if let Some(id) = handover::listed_highest(copy.path()) {
            let what = "highest segments that the manifest lists after a close";
            tally.count(what, self.says(&id));
        }
        self.check_again(copy.path(), tally);
        if let Ok(nedb) = Nedb::open(copy.path(), self.rollover_bytes, None) {
            self.check_nedb(&nedb, "after Sealstone closed it", tally);
        }
    }

    /// Checks that an opening after a close finds nothing to repair or to complain of.
    fn check_again(&self, root: &Path, tally: &mut Tally) {
        let store = match self.options().read_only(true).open(root) {
            Ok(store) => store,
            Err(error) => {
                return tally.count("openings that are refused after a close", self.says(&error));
            }
        };
        let repairs = &store.recovery().repairs;
        if !repairs.is_empty() {
            let what = format!("{repairs:?}");
            tally.count("repairs that a close leaves to the next", self.says(&what));
        }
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        if !report.is_clean() {
            let what = format!("{report:?}");
            tally.count(
                "verifications that are not clean after a close",
                self.says(&what),
            );
        }
    }

    fn check_reads(&mut self, store: &Store, who: &str, tally: &mut Tally) {
        let mut lost = Vec::new();
        for number in self.ledger.objects.keys().copied().collect::<Vec<_>>() {
            match store.get(digest(number)) {
                Ok(Some(found)) => assert!(found[..] == object(number)[..], "wrong bytes"),
                Ok(None) => lost.push(number),
                Err(error) => {
                    tally.count(&format!("reads that fail for {who}"), self.says(&error));
                    lost.push(number);
                }
            }
        }
        lost.retain(|number| self.ledger.objects[number] == State::Synced);
        if who == "a reader" {
            // A writer may still find the object.
            for number in lost {
                tally.count(
                    "synced objects that a reader does not find",
                    self.says(&number),
                );
            }
            return;
        }
        self.count_lost("synced objects that a writer does not find", &lost, tally);
    }

    /// Counts each lost object once, however long the history goes on.
    fn count_lost(&mut self, kind: &str, lost: &[u64], tally: &mut Tally) {
        for number in lost {
            tally.count(kind, self.says(&format!("object {number}")));
            let state = State::Loose { was_dropped: true };
            self.ledger.objects.insert(*number, state);
        }
    }

    fn check_files(&self, root: &Path, when: &str, tally: &mut Tally) {
        for (name, whole) in &self.ledger.nedb_files {
            match fs::read(layout::file(root, name)) {
                Ok(data) if data.starts_with(whole) => {}
                Ok(_) => tally.count(
                    &format!("files of NEDB's replaced, {when}"),
                    self.says(name),
                ),
                Err(_) => tally.count(&format!("files of NEDB's removed, {when}"), self.says(name)),
            }
        }
    }

    /// Goes on after a refused opening, so that losses behind it are counted too: the folder keeps
    /// only what NEDB reads of it.
    fn mend(&mut self, tally: &mut Tally) {
        if let Ok(nedb) = Nedb::open(self.folder.path(), self.rollover_bytes, None) {
            self.check_nedb(&nedb, "after an opening was refused", tally);
        }
        let folder = scratch();
        fs::create_dir_all(segments(folder.path())).unwrap();
        for (name, bytes) in read_files(self.root()) {
            if is_kind(&name, "dat") || is_kind(&name, "idx") {
                fs::write(layout::file(folder.path(), &name), bytes).unwrap();
            }
        }
        self.folder = folder;
        self.ledger.sealed.clear();
        self.ledger.gone.clear();
    }

    fn says(&self, what: &(impl std::fmt::Display + ?Sized)) -> String {
        let Self { seed, log, .. } = self;
        format!("{what} (seed {seed}, after {})", log.join("; "))
    }
}

fn play(seed: u64, tally: &mut Tally) -> u64 {
    let folder = scratch();
    fs::create_dir_all(segments(folder.path())).unwrap();
    let size = usize::try_from(seed).unwrap() % ROLLOVER_BYTES.len();
    let mut history = History {
        seed,
        rng: SmallRng::seed_from_u64(seed),
        rollover_bytes: ROLLOVER_BYTES[size],
        folder,
        ledger: Ledger::default(),
        log: Vec::new(),
        kills: 0,
    };
    for _ in 0..TURNS {
        history.turn(tally);
    }
    history.kills
}

#[test]
fn h54_h55_h56_turns_of_nedb_and_sealstone_lose_nothing() {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let histories: u64 = number("SEALSTONE_TURNS", HISTORIES);
    let first_seed = number("SEALSTONE_TURNS_SEED", 0);
    let (mut tally, mut kills) = (Tally::default(), 0);
    for seed in first_seed..first_seed + histories {
        kills += play(seed, &mut tally);
    }
    println!("{histories} histories of {TURNS} turns from seed {first_seed}, {kills} kills");
    tally.assert_empty();
}
