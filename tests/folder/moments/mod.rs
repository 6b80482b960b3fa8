//! Folders that mix files of different moments: an older or a newer manifest beside the files of
//! another commit, and copies that were made file by file while the store was written.
//!
//! Whether such a folder opens or not, no opening takes the last copy of an object from it, unless
//! a caller declared the object dead and it lies only in segments that the manifest retires. An
//! opening that fails changes nothing. `SEALSTONE_MOMENTS=all` takes every pair of moments and
//! 1,000 copies instead of a sample, `SEALSTONE_MOMENTS_SEED` another sample.

mod life;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use crate::common::hash::digest_of;
use crate::common::layout::{Files, is_kind, records, scratch, segment_of, segments, write_files};
use crate::common::tally::Tally;
use life::{Moment, NUMBERS, Version, commits, digest, object, options, record};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sealstone::{Digest, Error, Options, Store};

const PAIRS: usize = 300;
const COPIES: usize = 50;
const COPIES_ALL: usize = 1_000;

fn is_all() -> bool {
    env::var("SEALSTONE_MOMENTS").is_ok_and(|which| which == "all")
}

fn rng() -> SmallRng {
    let seed = env::var("SEALSTONE_MOMENTS_SEED").map_or(0, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    SmallRng::seed_from_u64(seed)
}

/// Returns the numbers of the life's objects by digest.
fn numbers() -> BTreeMap<Digest, u64> {
    (0..NUMBERS)
        .map(|number| (digest(number), number))
        .collect()
}

/// Returns the objects whose whole records are in files, each with the names of the files. Saved
/// bytes that were cut off a segment count.
fn objects_of(files: &Files) -> BTreeMap<Digest, Vec<String>> {
    let mut objects: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (name, bytes) in files {
        let is_data = is_kind(name, "dat") || name.ends_with(".dat.tmp");
        if segment_of(name).is_none() || !is_data {
            continue;
        }
        let torn = files.get(&name.replace(".dat", ".torn"));
        let bytes = [&bytes[..], torn.map_or(&[], |torn| torn)].concat();
        for (_, content) in records(&bytes) {
            let names = objects.entry(digest_of(content)).or_default();
            names.push(name.clone());
        }
    }
    objects
}

/// Returns the files of a store that may be open: its background thread may remove a listed file.
fn read_files(root: &Path) -> Files {
    let names = fs::read_dir(segments(root)).unwrap();
    let files = names.filter_map(|entry| {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).ok()?;
        Some((entry.file_name().into_string().unwrap(), bytes))
    });
    files.collect()
}

/// Returns the segments that a manifest retires, whatever else its lines say.
fn retired(manifest: &[u8]) -> BTreeSet<u32> {
    let text = String::from_utf8_lossy(manifest);
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("retired "));
    let ids = lines.filter_map(|rest| rest.split(' ').next()?.parse().ok());
    ids.collect()
}

/// A folder that mixes moments, and the objects that it must keep.
struct Mixed {
    what: String,
    files: Files,
    /// The objects that must stay, each with the files that hold it.
    staying: BTreeMap<Digest, Vec<String>>,
}

impl Mixed {
    /// Mixes a version of the files; `ever_dead` holds the objects declared dead before its
    /// manifest.
    fn new(what: String, version: &Version, ever_dead: &BTreeSet<Digest>) -> Self {
        let files = version
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.to_vec()));
        let files: Files = files.collect();
        let manifest = files.get("MANIFEST");
        let retired = manifest.map_or_else(BTreeSet::new, |manifest| retired(manifest));
        let is_retired = |name: &String| {
            is_kind(name, "dat") && segment_of(name).is_some_and(|id| retired.contains(&id))
        };
        let mut staying = objects_of(&files);
        staying
            .retain(|digest, names| !(ever_dead.contains(digest) && names.iter().all(is_retired)));
        Self {
            what,
            files,
            staying,
        }
    }
}

/// The counts of failed openings, by way of opening and by error.
type Refusals = BTreeMap<(&'static str, String), u64>;

struct Check {
    numbers: BTreeMap<Digest, u64>,
    tally: Tally,
    refusals: Refusals,
    opened: u64,
}

impl Check {
    fn new() -> Self {
        Self {
            numbers: numbers(),
            tally: Tally::default(),
            refusals: Refusals::new(),
            opened: 0,
        }
    }

    fn check(&mut self, mixed: &Mixed) {
        let ways = [
            ("writer", options()),
            (
                "writer without missing segments",
                options().allow_missing_segments(true),
            ),
            ("reader", options().read_only(true)),
        ];
        for (way, options) in ways {
            let folder = scratch();
            write_files(folder.path(), &mixed.files);
            self.check_opening(mixed, way, &options, folder.path());
        }
    }

    fn check_opening(&mut self, mixed: &Mixed, way: &'static str, options: &Options, root: &Path) {
        match options.open(root) {
            Ok(store) => {
                self.opened += 1;
                self.check_reads(mixed, way, &store);
                self.check_objects(mixed, &format!("{way}, after opening"), root, Some(&store));
                if let Err(error) = store.close() {
                    let kind = format!("{way}: closings that fail");
                    self.tally.count(&kind, format!("{}: {error}", mixed.what));
                }
                self.check_objects(mixed, &format!("{way}, after closing"), root, None);
                if way == "reader" {
                    self.check_unchanged(mixed, way, root);
                }
            }
            Err(error) => {
                *self.refusals.entry((way, kind_of(&error))).or_default() += 1;
                self.check_unchanged(mixed, &format!("{way}, refused"), root);
            }
        }
    }

    fn check_unchanged(&mut self, mixed: &Mixed, way: &str, root: &Path) {
        let mut files = read_files(root);
        if !mixed.files.contains_key("LOCK") {
            files.remove("LOCK");
        }
        let names: BTreeSet<&String> = files.keys().chain(mixed.files.keys()).collect();
        let changed: Vec<&String> = names
            .into_iter()
            .filter(|name| files.get(*name) != mixed.files.get(*name))
            .collect();
        if !changed.is_empty() {
            let kind = format!("{way}: folders that changed");
            self.tally
                .count(&kind, format!("{}: {changed:?}", mixed.what));
        }
    }

    /// Checks that each object stays in a file, or can be read while the store is open.
    fn check_objects(&mut self, mixed: &Mixed, when: &str, root: &Path, store: Option<&Store>) {
        let after = objects_of(&read_files(root));
        for (digest, names) in &mixed.staying {
            let is_read = store.is_some_and(|store| matches!(store.get(digest), Ok(Some(_))));
            if after.contains_key(digest) || is_read {
                continue;
            }
            let is_temporary = names.iter().all(|name| is_kind(name, "tmp"));
            let place = if is_temporary {
                " that were in a temporary"
            } else {
                ""
            };
            let kind = format!("{when}: last copies{place} that are gone");
            self.tally
                .count(&kind, format!("{}: {digest} of {names:?}", mixed.what));
        }
    }

    /// Checks that reads give the right bytes, absence, or a typed error.
    fn check_reads(&mut self, mixed: &Mixed, way: &str, store: &Store) {
        for (digest, number) in &self.numbers {
            if let Ok(Some(found)) = store.get(digest)
                && found[..] != object(*number)[..]
            {
                self.tally.count(
                    &format!("{way}: wrong bytes"),
                    format!("{}: {number}", mixed.what),
                );
            }
        }
    }

    fn finish(self) {
        let refused: u64 = self.refusals.values().sum();
        println!("{} openings, {refused} refused:", self.opened + refused);
        for ((way, kind), count) in &self.refusals {
            println!("{count:>8}  {way}: {kind}");
        }
        self.tally.assert_empty();
    }
}

/// Returns the text of an error without the file and the numbers.
fn kind_of(error: &Error) -> String {
    let debug = format!("{error:?}");
    let variant = debug.split([' ', '(', '{']).next().unwrap_or_default();
    let text: String = error
        .to_string()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let text: String = text
        .chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect();
    format!("{variant}: {text}")
}

/// The manifest of one commit stands beside the files of another, or no manifest beside each.
#[test]
fn h53_h55_a_manifest_beside_the_files_of_another_moment_loses_no_last_copy() {
    let moments = record();
    let commits = commits(&moments);
    println!("{} commits in {} operations", commits.len(), moments.len());
    assert!(commits.len() >= 40, "{}", commits.len());
    let manifests = commits.iter().map(|commit| Some(*commit)).chain([None]);
    let pairs = manifests.flat_map(|i| commits.iter().map(move |j| (i, *j)));
    let mut pairs: Vec<(Option<usize>, usize)> = pairs.collect();
    let mut rng = rng();
    pairs.shuffle(&mut rng);
    if !is_all() {
        pairs.truncate(PAIRS);
    }
    let mut check = Check::new();
    for (i, j) in pairs {
        let mut files = moments[j].files.clone();
        files.remove("MANIFEST");
        let nobody = Arc::default();
        let dead = i.map_or(&nobody, |i| {
            files.insert(
                "MANIFEST".to_owned(),
                Arc::clone(&moments[i].files["MANIFEST"]),
            );
            &moments[i].ever_dead
        });
        let what = format!("manifest of operation {i:?}, files of {j}");
        check.check(&Mixed::new(what, &files, dead));
    }
    check.finish();
}

/// Copies a folder like a program that knows nothing of the store: it lists the folder, copies the
/// files one by one in some order, and may list it again for new ones. The files come from the
/// recorded moments, so each run on the same life makes the same copy.
fn copy(moments: &[Moment], rng: &mut SmallRng) -> Mixed {
    let begin = rng.random_range(0..moments.len());
    let longest = [5, 50, moments.len()][rng.random_range(0..3)];
    let end = (begin + rng.random_range(1..=longest)).min(moments.len() - 1);
    let mut names: Vec<&String> = moments[begin].files.keys().collect();
    names.shuffle(rng);
    if rng.random() {
        let new = moments[end]
            .files
            .keys()
            .filter(|name| !moments[begin].files.contains_key(*name));
        names.extend(new);
    }
    let mut times: Vec<usize> = names
        .iter()
        .map(|_| rng.random_range(begin..=end))
        .collect();
    times.sort_unstable();
    let (mut files, mut dead) = (Version::new(), Arc::default());
    for (name, time) in names.into_iter().zip(times) {
        // A file that is gone by now cannot be copied; a file of the second listing is copied at
        // the end.
        let is_new = !moments[begin].files.contains_key(name);
        let time = if is_new { end } else { time };
        if let Some(bytes) = moments[time].files.get(name) {
            files.insert(name.clone(), Arc::clone(bytes));
            if name == "MANIFEST" {
                dead = Arc::clone(&moments[time].ever_dead);
            }
        }
    }
    let what = format!("copied from operation {begin} to {end}");
    Mixed::new(what, &files, &dead)
}

#[test]
fn h53_h55_a_copy_made_file_by_file_loses_no_last_copy() {
    let moments = record();
    let copies = if is_all() { COPIES_ALL } else { COPIES };
    let (mut check, mut rng) = (Check::new(), rng());
    for _ in 0..copies {
        check.check(&copy(&moments, &mut rng));
    }
    check.finish();
}
