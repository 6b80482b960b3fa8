//! Explores lives: each gives images, and each image gets a verdict.

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sealstone::HashFunction;
use tempfile::TempDir;

use crate::check::{Checking, message};
use crate::common::hash::hash_function;
use crate::disk::{Disk, Policy};
use crate::image::{Image, Shown};
use crate::known::Known;
use crate::log::{Event, Mark};
use crate::workload::{self, Lived};

#[derive(Debug)]
pub struct Plan {
    pub function: HashFunction,
    /// The number of the first life.
    pub first_seed: u64,
    /// The number of different images to check, including those of nested crashes.
    pub images: u64,
    /// The site of a sync that does nothing.
    pub unsynced: Option<String>,
    /// Whether each sync is recorded with its site, which costs time.
    pub with_sites: bool,
    /// One of this many moments of a life is explored: many lives show more than all moments of a
    /// few.
    pub moments_every: u32,
    /// The number of random images for each moment.
    pub random_images: u64,
    /// One of this many images begins another life, which crashes again.
    pub nested_every: u32,
}

/// How much more often nested lives begin with an image whose recovery has something to remove or
/// to cut off, or at a moment when a process can be killed between the rename of a manifest and the
/// sync of its folder.
const FAVOURED: u32 = 16;

#[derive(Debug, Default)]
pub struct Counts {
    /// Images that were made.
    pub made: AtomicU64,
    /// Images that were different from all before, and checked.
    pub checked: AtomicU64,
    /// Checked images of a crash after a crash.
    pub nested: AtomicU64,
    pub lives: AtomicU64,
    pub events: AtomicU64,
    /// Images with garbage in a data file.
    pub with_garbage: AtomicU64,
    /// Objects that nobody put, from unsynced bytes that did not reach the disk.
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

/// One moment at which the power may fail.
struct Moment<'a> {
    lived: &'a Lived,
    known: &'a Known,
    known_hash: u64,
    /// Whether an earlier crash left garbage.
    had_garbage: bool,
    is_nested: bool,
    history: &'a dyn Fn() -> String,
}

impl Moment<'_> {
    fn hash(known: &Known) -> u64 {
        let mut hasher = DefaultHasher::new();
        known.hash(&mut hasher);
        hasher.finish()
    }
}

/// The folders of one thread.
struct Place {
    folder: TempDir,
    shown: Shown,
}

impl Exploration {
    /// Explores on all cores until the planned number of images is reached, or a promise is broken.
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
        let shown = Shown::new(&folder.path().join("image")).unwrap();
        let mut place = Place { folder, shown };
        // Each thread has a pool of its own, so that work in parallel stays in this thread.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread();
        let pool = pool.build().unwrap();
        pool.install(|| {
            while !self.is_over.load(Relaxed) {
                let seed = self.next_seed.fetch_add(1, Relaxed);
                let exploring = || self.explore_life(&mut place, seed);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(exploring)) {
                    self.violated(format!("life {seed}: {}", message(&*panic)));
                }
            }
        });
    }

    fn explore_life(&self, place: &mut Place, seed: u64) {
        let root = place.folder.path().join("life");
        Image::default().write(&root).unwrap();
        let lived = workload::live(&root, self.plan.function, seed, self.plan.with_sites);
        self.counts.lives.fetch_add(1, Relaxed);
        let events = lived.events.len() as u64;
        self.counts.events.fetch_add(events, Relaxed);
        let mut disk = Disk::default();
        let mut known = Known::default();
        let mut rng = SmallRng::seed_from_u64(seed);
        let is_opened = |event: &Event| matches!(event, Event::Mark(Mark::Opened));
        // Until the first opening returns, nobody has synced the files that NEDB left.
        let opened_at = lived.events.iter().position(is_opened);
        let first = opened_at.filter(|_| lived.shape.begins_with_nedb);
        for at in 0..=lived.events.len() {
            if self.is_over.load(Relaxed) {
                return;
            }
            let is_looked_at =
                rng.random_ratio(1, self.plan.moments_every) || disk.has_unsynced_manifest();
            if is_looked_at && first.is_none_or(|first| at > first) {
                let history = || {
                    let shape = lived.shape;
                    let events = list(&lived.events[..at]);
                    format!("life {seed}, {shape:?}, after event {at}:\n{events}")
                };
                let moment = Moment {
                    lived: &lived,
                    known: &known,
                    known_hash: Moment::hash(&known),
                    had_garbage: false,
                    is_nested: false,
                    history: &history,
                };
                self.explore_moment(place, &moment, &disk, &mut rng);
            }
            if let Some(event) = lived.events.get(at) {
                known.apply(event, &disk);
                disk.apply(event, self.plan.unsynced.as_deref());
            }
        }
    }

    fn explore_moment(
        &self,
        place: &mut Place,
        moment: &Moment<'_>,
        disk: &Disk,
        rng: &mut SmallRng,
    ) {
        let policies = disk.policies((0..self.plan.random_images).map(|_| rng.random()));
        let every = self.plan.nested_every;
        for policy in policies {
            let image = disk.image(policy);
            if !self.check_image(place, moment, policy, &image) {
                continue;
            }
            // The power fails, and fails again while the image is recovered.
            let favour = if image.has_retired() || image.has_garbage {
                FAVOURED
            } else {
                1
            };
            if rng.random_ratio(favour, every) {
                self.explore_nested(place, moment, policy, &image, &Disk::of(&image), rng);
            }
        }
        // The process is killed and the system goes on, until the power fails.
        let favour = if disk.has_unsynced_manifest() {
            2 * FAVOURED
        } else {
            2
        };
        if rng.random_ratio(favour, every) {
            let image = disk.image(Policy::Everything);
            self.explore_nested(place, moment, Policy::Everything, &image, disk, rng);
        }
    }

    /// Goes on with an image for another life, and crashes that.
    fn explore_nested(
        &self,
        place: &mut Place,
        moment: &Moment<'_>,
        first: Policy,
        image: &Image,
        disk: &Disk,
        rng: &mut SmallRng,
    ) {
        let root = place.folder.path().join("nested");
        image.write(&root).unwrap();
        let seed = rng.random_range(0..1 << 40);
        let lived = moment.lived;
        let with_sites = self.plan.with_sites;
        let going_on = || workload::live_on(&root, lived.shape, with_sites, seed, &lived.contents);
        let events = match catch_unwind(AssertUnwindSafe(going_on)) {
            Ok(events) => events,
            Err(panic) => {
                let history = (moment.history)();
                self.violated(format!("{}: {first:?} of {history}", message(&*panic)));
                return;
            }
        };
        let mut disk = disk.clone();
        let mut known = moment.known.after_crash();
        for at in 0..=events.len() {
            let history = || {
                let before = (moment.history)();
                let events = list(&events[..at]);
                format!("nested life {seed} of {first:?} of {before}then:\n{events}")
            };
            let nested = Moment {
                lived,
                known: &known,
                known_hash: Moment::hash(&known),
                had_garbage: image.has_garbage,
                is_nested: true,
                history: &history,
            };
            for policy in disk.policies((0..2).map(|_| rng.random())) {
                self.check_image(place, &nested, policy, &disk.image(policy));
            }
            if let Some(event) = events.get(at) {
                known.apply(event, &disk);
                disk.apply(event, self.plan.unsynced.as_deref());
            }
        }
    }

    /// Checks an image. Returns false if there is nothing more to find here.
    fn check_image(
        &self,
        place: &mut Place,
        moment: &Moment<'_>,
        policy: Policy,
        image: &Image,
    ) -> bool {
        if self.is_over.load(Relaxed) {
            return false;
        }
        self.counts.made.fetch_add(1, Relaxed);
        let hash = image.hash_with(moment.known_hash);
        if !self.seen.lock().unwrap().insert(hash) {
            return false;
        }
        place.shown.show(image).unwrap();
        let may_hold_garbage = moment.had_garbage || image.has_garbage;
        let checking = Checking {
            root: place.shown.root(),
            operations: place.shown.operations(),
            shape: moment.lived.shape,
            known: moment.known,
            image,
            may_hold_garbage,
        };
        let checked = checking.check(hash);
        self.count(moment.is_nested, may_hold_garbage);
        match checked {
            Ok(strangers) => {
                self.counts.strangers.fetch_add(strangers as u64, Relaxed);
                true
            }
            Err(what) => {
                let history = (moment.history)();
                let image = list_image(image);
                self.violated(format!("{what}\n{policy:?} of {history}\n{image}"));
                false
            }
        }
    }

    fn count(&self, is_nested: bool, has_garbage: bool) {
        let counts = &self.counts;
        let count = counts.checked.fetch_add(1, Relaxed) + 1;
        counts.nested.fetch_add(u64::from(is_nested), Relaxed);
        counts
            .with_garbage
            .fetch_add(u64::from(has_garbage), Relaxed);
        if count >= self.plan.images {
            self.is_over.store(true, Relaxed);
        }
    }

    fn violated(&self, what: String) {
        self.violation.lock().unwrap().get_or_insert(what);
        self.is_over.store(true, Relaxed);
    }
}

/// Passes on the events of a life, and of lives that go on with images of it.
pub fn sample(folder: &Path, seed: u64, note: &mut impl FnMut(&[Event])) {
    let root = folder.join("sample");
    Image::default().write(&root).unwrap();
    let lived = workload::live(&root, hash_function(), seed, true);
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
    for (path, bytes) in &image.files {
        let bytes = bytes.as_ref().map_or(0, |bytes| bytes.len());
        writeln!(text, "      {} {bytes}", path.display()).unwrap();
    }
    text
}

/// Returns a folder in memory where the system has such a place.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match std::env::var_os("SEALSTONE_CRASH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    };
    folder.unwrap()
}
