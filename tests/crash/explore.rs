//! From lives to images to verdicts.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::check::{check, message};
use crate::disk::{Disk, Image, Policy};
use crate::known::Known;
use crate::log::Event;
use crate::workload::{self, Lived};

#[derive(Debug)]
pub struct Plan {
    /// Lives are numbered from here.
    pub first_seed: u64,
    /// How many different images are to be checked, those of nested crashes included.
    pub images: u64,
    /// The site of a sync that is left out.
    pub unsynced: Option<String>,
    /// Whether each sync is recorded with its site, which costs time.
    pub with_sites: bool,
    /// Random images for each point of a log.
    pub random_images: u64,
    /// Of so many images one is used as the beginning of another life, and crashed again.
    pub nested_every: u64,
}

#[derive(Debug, Default)]
pub struct Counts {
    /// Images that were made.
    pub made: AtomicU64,
    /// Those that were different from all before, and checked.
    pub checked: AtomicU64,
    /// Of these, after a crash of what came after a crash.
    pub nested: AtomicU64,
    pub lives: AtomicU64,
    pub events: AtomicU64,
    /// Objects that nobody put, of unsynced bytes that did not reach the disk.
    pub strangers: AtomicU64,
}

pub struct Exploration {
    plan: Plan,
    pub counts: Counts,
    seen: Mutex<HashSet<u64>>,
    pub violation: Mutex<Option<String>>,
    is_over: AtomicBool,
    next_seed: AtomicU64,
}

/// What one crash is made of.
struct Crash<'a> {
    lived: &'a Lived,
    known: &'a Known,
    history: &'a dyn Fn() -> String,
}

impl Exploration {
    /// Explores on all cores until there are as many images as planned, or a violation.
    pub fn run(plan: Plan) -> Self {
        let exploration = Self {
            next_seed: AtomicU64::new(plan.first_seed),
            plan,
            counts: Counts::default(),
            seen: Mutex::default(),
            violation: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| exploration.explore_lives());
            }
        });
        exploration
    }

    fn explore_lives(&self) {
        let folder = scratch();
        // A pool of its own, so that what is done in parallel stays in this thread.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread();
        let pool = pool.build().unwrap();
        pool.install(|| {
            while !self.is_over.load(Relaxed) {
                let seed = self.next_seed.fetch_add(1, Relaxed);
                let exploring = || self.explore_life(folder.path(), seed);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(exploring)) {
                    self.violated(format!("life {seed}: {}", message(&*panic)));
                }
            }
        });
    }

    fn explore_life(&self, folder: &Path, seed: u64) {
        let root = folder.join("life");
        Image(BTreeMap::new()).write(&root).unwrap();
        let lived = workload::live(&root, seed, self.plan.with_sites);
        self.counts.lives.fetch_add(1, Relaxed);
        self.counts
            .events
            .fetch_add(lived.events.len() as u64, Relaxed);
        let mut disk = Disk::default();
        let mut known = Known::default();
        let mut rng = SmallRng::seed_from_u64(seed);
        for at in 0..=lived.events.len() {
            if self.is_over.load(Relaxed) {
                return;
            }
            let history = || {
                let shape = lived.shape;
                let events = list(&lived.events[..at]);
                format!("life {seed}, {shape:?}, after event {at}:\n{events}")
            };
            let crash = Crash {
                lived: &lived,
                known: &known,
                history: &history,
            };
            self.explore_point(folder, &crash, &disk, &mut rng);
            if let Some(event) = lived.events.get(at) {
                disk.apply(event, self.plan.unsynced.as_deref());
                known.apply(event);
            }
        }
    }

    fn explore_point(&self, folder: &Path, crash: &Crash<'_>, disk: &Disk, rng: &mut SmallRng) {
        let random = (0..self.plan.random_images).map(|_| Policy::Random(rng.random()));
        let policies: Vec<Policy> = Policy::EXTREMES.into_iter().chain(random).collect();
        for policy in policies {
            let image = disk.image(policy);
            if !self.check_image(folder, crash, policy, &image, false) {
                continue;
            }
            if rng.random_ratio(1, u32::try_from(self.plan.nested_every).unwrap()) {
                // The power fails, or the process is killed and the system goes on.
                self.explore_nested(folder, crash, policy, &image, &Disk::of(&image), rng);
                let everything = disk.image(Policy::Everything);
                self.explore_nested(folder, crash, Policy::Everything, &everything, disk, rng);
            }
        }
    }

    /// Lives on with an image, and crashes that.
    fn explore_nested(
        &self,
        folder: &Path,
        crash: &Crash<'_>,
        first: Policy,
        image: &Image,
        disk: &Disk,
        rng: &mut SmallRng,
    ) {
        let root = folder.join("nested");
        image.write(&root).unwrap();
        let seed = rng.random_range(0..1 << 40);
        let lived = crash.lived;
        let going_on = || {
            workload::live_on(
                &root,
                lived.shape,
                self.plan.with_sites,
                seed,
                &lived.contents,
            )
        };
        let events = match catch_unwind(AssertUnwindSafe(going_on)) {
            Ok(events) => events,
            Err(panic) => {
                let history = (crash.history)();
                self.violated(format!("{}: {first:?} of {history}", message(&*panic)));
                return;
            }
        };
        let mut disk = disk.clone();
        let mut known = crash.known.after_crash();
        for at in 0..=events.len() {
            let history = || {
                let before = (crash.history)();
                let events = list(&events[..at]);
                format!("nested life {seed} of {first:?} of {before}then:\n{events}")
            };
            let nested = Crash {
                lived,
                known: &known,
                history: &history,
            };
            for _ in 0..3 {
                let policy = if rng.random_ratio(1, 3) {
                    Policy::EXTREMES[rng.random_range(0..Policy::EXTREMES.len())]
                } else {
                    Policy::Random(rng.random())
                };
                let image = disk.image(policy);
                // What is random in the first crash is in the second as well.
                let policy = if first.is_random() { first } else { policy };
                self.check_image(folder, &nested, policy, &image, true);
            }
            if let Some(event) = events.get(at) {
                disk.apply(event, self.plan.unsynced.as_deref());
                known.apply(event);
            }
        }
    }

    /// False if there is nothing more to find here.
    fn check_image(
        &self,
        folder: &Path,
        crash: &Crash<'_>,
        policy: Policy,
        image: &Image,
        is_nested: bool,
    ) -> bool {
        if self.is_over.load(Relaxed) {
            return false;
        }
        self.counts.made.fetch_add(1, Relaxed);
        let hash = image.hash_with(crash.known);
        if !self.seen.lock().unwrap().insert(hash) {
            return false;
        }
        let root = folder.join("image");
        image.write(&root).unwrap();
        let shape = crash.lived.shape;
        let checked = check(&root, shape, crash.known, policy.is_random(), hash);
        let count = self.counts.checked.fetch_add(1, Relaxed) + 1;
        self.counts.nested.fetch_add(u64::from(is_nested), Relaxed);
        if count >= self.plan.images {
            self.is_over.store(true, Relaxed);
        }
        match checked {
            Ok(strangers) => {
                self.counts.strangers.fetch_add(strangers as u64, Relaxed);
                true
            }
            Err(what) => {
                let history = (crash.history)();
                let image = list_image(image);
                self.violated(format!("{what}\n{policy:?} of {history}\n{image}"));
                false
            }
        }
    }

    fn violated(&self, what: String) {
        self.violation.lock().unwrap().get_or_insert(what);
        self.is_over.store(true, Relaxed);
    }
}

/// The events of a life, and of lives that go on with images of it.
pub fn sample(folder: &Path, seed: u64, note: &mut impl FnMut(&[Event])) {
    let root = folder.join("sample");
    Image(BTreeMap::new()).write(&root).unwrap();
    let lived = workload::live(&root, seed, true);
    note(&lived.events);
    let mut disk = Disk::default();
    for (at, event) in lived.events.iter().enumerate() {
        disk.apply(event, None);
        if at % 8 == 0 {
            disk.image(Policy::Random(at as u64)).write(&root).unwrap();
            let seed = seed + at as u64;
            note(&workload::live_on(
                &root,
                lived.shape,
                true,
                seed,
                &lived.contents,
            ));
        }
    }
}

fn list(events: &[Event]) -> String {
    let mut text = String::new();
    for (number, event) in events.iter().enumerate() {
        writeln!(text, "{number:5} {event}").unwrap();
    }
    text
}

fn list_image(image: &Image) -> String {
    let mut text = String::from("left on the disk:\n");
    for (path, bytes) in &image.0 {
        let bytes = bytes.as_ref().map_or(0, |bytes| bytes.len());
        writeln!(text, "      {} {bytes}", path.display()).unwrap();
    }
    text
}

/// A folder in memory where the system has such a place.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match std::env::var_os("SEALSTONE_CRASH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    };
    folder.unwrap()
}
