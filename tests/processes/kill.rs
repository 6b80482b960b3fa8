//! kill -9 at any moment: what was flushed or synced is there, dropped objects stay away.
//!
//! The test program starts itself again as the writer, which prints what it has done. The parent
//! kills it, checks the store against that, and starts the next one on the same store.
//! `SEALSTONE_KILL_ROUNDS` sets the number of rounds, and `SEALSTONE_KILL_FIRST_SEED` the seed of
//! the first, so that a long run can be cut into different pieces.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use crate::common::hash::{digest_of, new_options};
use crate::common::workload::{assert_undamaged, assert_verifies, content, names};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sealstone::{Digest, Options, Store};
use tempfile::TempDir;

const ROUNDS: u64 = 100;
const STORE: &str = "SEALSTONE_KILL_STORE";
const SEED: &str = "SEALSTONE_KILL_SEED";
const FIRST: &str = "SEALSTONE_KILL_FIRST";

/// Returns options with small blocks, so that a kill leaves files that end in the middle of a
/// record.
fn options() -> Options {
    let options = new_options().segment_bytes_max(8 << 10);
    options.write_block_bytes(1 << 10)
}

/// Returns the object of a number: mostly small, sometimes larger than a segment or than the append
/// buffer.
fn object(number: u64) -> Vec<u8> {
    let len = match number % 101 {
        7 => 270_000,
        20 | 60 => 20_000,
        of => 10 + of * 5,
    };
    content(number, usize::try_from(len).unwrap())
}

/// Returns whether compactions keep an object. The first one after a put drops most, so the store
/// stays small.
fn is_kept(number: u64) -> bool {
    number % 10 == 3
}

/// Prints a line for the parent, in one piece.
fn say(what: &str, number: u64) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\n{what} {number}\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}

/// The child. In an ordinary test run it does nothing.
#[test]
fn writes_until_it_is_killed() {
    let Ok(folder) = env::var(STORE) else { return };
    let number = |name| env::var(name).unwrap().parse::<u64>().unwrap();
    let mut rng = SmallRng::seed_from_u64(number(SEED));
    let store = options().open(folder).unwrap();
    let mut next = number(FIRST);
    loop {
        for _ in 0..rng.random_range(1..12) {
            store.put(object(next)).unwrap();
            next += 1;
        }
        // An object from before is put again; what follows covers it as well.
        let again = rng.random_range(0..next);
        let is_again = is_kept(again);
        if is_again {
            store.put(object(again)).unwrap();
        }
        if rng.random_ratio(1, 8) {
            compact(&store, next);
        }
        // The system is still there, so a flush keeps as much as a sync.
        if rng.random() {
            store.flush().unwrap();
        } else {
            store.sync().unwrap();
        }
        if is_again {
            say("again", again);
        }
        say("kept", next);
    }
}

/// Drops the objects below a number that are not to be kept.
fn compact(store: &Store, below: u64) {
    let kept: BTreeSet<Digest> = (0..below)
        .filter(|number| is_kept(*number))
        .map(|number| digest_of(&object(number)))
        .collect();
    // The promise of all or nothing concerns durable objects.
    store.sync().unwrap();
    say("kept", below);
    say("dropping", below);
    store.compact(|digest| kept.contains(digest)).unwrap();
    say("dropped", below);
}

/// What the children have said so far: the objects below these numbers were flushed or synced, were
/// about to be dropped, or are dropped.
#[derive(Debug, Default)]
struct Said {
    kept: u64,
    dropping: u64,
    dropped: u64,
}

impl Said {
    fn hear(&mut self, line: &str) -> bool {
        let Some((what, number)) = line.trim_end().split_once(' ') else {
            return false;
        };
        let Ok(number) = number.parse() else {
            return false;
        };
        match what {
            "kept" => self.kept = number,
            "dropping" => self.dropping = number,
            "dropped" => self.dropped = number,
            "again" => assert!(is_kept(number)),
            _ => return false,
        }
        true
    }
}

/// Lets a child write, and kills it a moment after it has printed a random number of lines.
fn write_and_kill(folder: &Path, seed: u64, said: &mut Said) {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::writes_until_it_is_killed", "--nocapture"])
        .env(STORE, folder)
        .env(SEED, seed.to_string())
        .env(FIRST, said.kept.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut sayings = rng.random_range(0..20);
    let mut line = String::new();
    while sayings > 0 {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "the child ended by itself"
        );
        sayings -= u64::from(said.hear(&line));
    }
    thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
    child.kill().unwrap();
    child.wait().unwrap();
    // Lines that it printed before it died count; a line without an end does not.
    line.clear();
    while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        said.hear(&line);
        line.clear();
    }
}

/// Checks the store against what was said. `digests` are those of all objects so far, by number.
fn check(folder: &Path, said: &mut Said, digests: &mut Vec<Digest>) {
    for number in digests.len() as u64..said.kept {
        digests.push(digest_of(&object(number)));
    }
    let store = options().open(folder).unwrap();
    assert_undamaged(&store);
    let holds = |number: u64, digest: &Digest| {
        let held = store.get(digest).unwrap();
        assert_eq!(held.is_some(), store.contains(digest).unwrap());
        if let Some(held) = &held {
            assert!(held[..] == object(number)[..], "wrong bytes of {number}");
        }
        held.is_some()
    };
    let mut dropping = BTreeSet::new();
    for (number, digest) in (0..said.kept).zip(&*digests) {
        let is_there = holds(number, digest);
        if is_kept(number) || number >= said.dropping {
            assert!(is_there, "{number} was to be kept: {said:?}");
        } else if number < said.dropped {
            assert!(!is_there, "{number} was dropped: {said:?}");
        } else {
            dropping.insert(is_there);
        }
    }
    // An interrupted compaction has dropped all of them or none.
    assert!(dropping.len() <= 1, "{said:?}");
    match dropping.first() {
        Some(true) => said.dropping = said.dropped,
        _ => said.dropped = said.dropping,
    }
    for object in &store {
        object.unwrap();
    }
    assert_verifies(&store);
    store.close().unwrap();
    assert_eq!(names(folder, &[".tmp"]), [""; 0]);
}

#[test]
fn acknowledged_objects_survive_kill_9() {
    let number =
        |name, default| env::var(name).map_or(default, |number| number.parse::<u64>().unwrap());
    let rounds = number("SEALSTONE_KILL_ROUNDS", ROUNDS);
    let first_seed = number("SEALSTONE_KILL_FIRST_SEED", 0);
    let folder = TempDir::new().unwrap();
    let (mut said, mut digests) = (Said::default(), Vec::new());
    for seed in first_seed..first_seed + rounds {
        write_and_kill(folder.path(), seed, &mut said);
        check(folder.path(), &mut said, &mut digests);
    }
    eprintln!("{rounds} rounds: {said:?}");
    assert!(said.kept > rounds && said.dropped > 0, "{said:?}");
}
