//! Stores that are larger than memory: how long reading takes where it waits for the disk, and what
//! it asks the disk for.
//!
//! - Each measurement is a process of its own. It starts with an empty page cache and has 1 GiB of
//!   memory, including the page cache that it fills; then come gets that are not counted, until what
//!   can stay in memory of the index is there. What reads the whole store begins with nothing.
//! - In each round all stores do the same, one after the other, with the same digests.
//! - Bytes are those that the kernel read for the process, including what it read ahead. Requests are
//!   those of the whole device: others should leave it alone.
//! - Objects are put in slices, so that content for all of a store need not be in memory. The trees
//!   get a transaction for each slice.

mod raw_reads;

use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sealstone::Digest;

use crate::child;
use crate::contents::{Contents, Size};
use crate::disk::{self, Disk, MemoryLimit};
use crate::figures::Scale;
use crate::kinds::{disk_bytes, kinds, new_folder, writers};
use crate::machine;
use crate::operations::{BATCH_OBJECTS, Operation, Picks, microseconds_each};
use crate::peer::Peer;
use crate::peers::Sealstone;
use crate::results::Results;
use crate::workload::DISK;

/// The part of the results.
pub const PART: &str = "larger than memory";

/// The word that starts a child of this part.
pub const CHILD: &str = "larger-than-memory";

const ROUNDS_MAX: usize = 3;
const MEMORY_BYTES: f64 = 1_073_741_824.0;
const MEMORY_BYTES_MIN: u64 = 256 << 20;
/// A cache of a store's own has this part of the memory, as the documentation of fjall recommends.
const CACHE_PART: u64 = 4;
const SLICES: u64 = 8;

/// Reads one record from the data files without an index, which bounds a get from below.
const ONE_READ: &str = "one pread of that length";
/// Reads all data files in order, which bounds a scan from below.
const READ_ALL: &str = "cat of the data files";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The operation, and the number of gets in each round.
    Gets(Operation, u32),
    Scan,
    Verify,
}

const TASKS_SMALL: &[Task] = &[
    Task::Gets(Operation::Checked, 4_000),
    Task::Gets(Operation::Batch(BATCH_OBJECTS), 12_800),
    Task::Gets(Operation::Batch(256), 25_600),
    Task::Gets(Operation::Threads(8), 16_000),
    Task::Scan,
    Task::Verify,
];

const TASKS_LARGE: &[Task] = &[
    Task::Gets(Operation::Checked, 500),
    Task::Gets(Operation::Batch(BATCH_OBJECTS), 1_600),
];

/// The objects in the stores, the gets that bring in the index, and what is measured then.
struct Load {
    size: Size,
    objects: f64,
    gets_before: f64,
    tasks: &'static [Task],
}

const LOADS: [Load; 2] = [
    Load {
        size: Size::Fixed(1 << 10),
        objects: 4e6,
        gets_before: 20e3,
        tasks: TASKS_SMALL,
    },
    Load {
        size: Size::Fixed(64 << 10),
        objects: 30e3,
        gets_before: 300.0,
        tasks: TASKS_LARGE,
    },
];

impl Task {
    fn name(self) -> String {
        match self {
            Self::Gets(operation, _) => operation.name(),
            Self::Scan => Operation::Scan.name(),
            Self::Verify => "verify".into(),
        }
    }

    /// Returns the stores that do this, and what else does for comparison.
    fn contenders(self) -> Vec<&'static str> {
        let mut stores: Vec<_> = writers().iter().map(|kind| kind.name()).collect();
        match self {
            Self::Gets(Operation::Checked, _) => stores.push(ONE_READ),
            Self::Gets(..) => {}
            Self::Scan => stores.push(READ_ALL),
            Self::Verify => stores = vec![Sealstone::NAME, READ_ALL],
        }
        stores
    }
}

/// The work of one child. The parent passes all of it as words on the command line.
struct Job {
    contender: String,
    task: String,
    size: Size,
    objects: u64,
    gets: u64,
    gets_before: u64,
    round: u64,
}

/// The result of one child, for an object.
struct Sample {
    microseconds: f64,
    kibibytes: f64,
    requests: Option<f64>,
}

/// Measures everything, and returns lines about how it was measured, or why it was not.
pub fn run(scale: Scale, rounds: usize, folder: &Path, results: &mut Results) -> Vec<String> {
    eprintln!("{PART}");
    if machine::file_system(folder) == "tmpfs" {
        let reason = "the folder is in memory, so nothing would be read from a disk: give a \
                      `--folder` that is on one";
        return vec![format!("{PART}: not measured: {reason}")];
    }
    if let Err(error) = disk::drop_page_cache() {
        let reason = format!("the page cache cannot be dropped: {error}");
        return vec![format!("{PART}: not measured: {reason}")];
    }
    let memory_bytes = scale.of(MEMORY_BYTES, MEMORY_BYTES_MIN);
    let limit = MemoryLimit::new(memory_bytes);
    let memory = match limit {
        Some(_) => format!("{} MiB for each measurement", memory_bytes >> 20),
        None => "without a limit, as no control group for memory can be made".into(),
    };
    let place = Place {
        folder: folder.join(CHILD),
        limit,
        cache_bytes: memory_bytes / CACHE_PART,
    };
    for load in &LOADS {
        let objects = scale.of(load.objects, 1_000);
        place.build(load.size, objects, results);
        for &task in load.tasks {
            for round in 0..rounds.min(ROUNDS_MAX) {
                for contender in task.contenders() {
                    let (gets, gets_before) = match task {
                        Task::Gets(_, gets) => (f64::from(gets), load.gets_before),
                        _ => (0.0, 0.0),
                    };
                    let job = Job {
                        contender: contender.into(),
                        task: task.name(),
                        size: load.size,
                        objects,
                        gets: scale.of(gets, 0),
                        gets_before: scale.of(gets_before, 0),
                        round: round as u64,
                    };
                    place.measure(&job).add_to(results, &job);
                }
            }
        }
        fs::remove_dir_all(&place.folder).expect("the folder can be removed");
    }
    vec![
        machine::read_ahead(folder),
        format!("{PART}: memory: {memory}"),
    ]
}

/// Where the stores are and what a child gets.
struct Place {
    folder: PathBuf,
    limit: Option<MemoryLimit>,
    cache_bytes: u64,
}

impl Place {
    /// Puts everything into each store, settles it and closes it.
    fn build(&self, size: Size, objects: u64, results: &mut Results) {
        let step = objects.div_ceil(SLICES);
        for kind in writers() {
            eprintln!("  {size}: build {}", kind.name());
            let path = self.folder.join(kind.folder());
            new_folder(&path);
            let mut bytes = 0;
            let firsts = (0..objects).step_by(usize::try_from(step).expect("64 bits"));
            let mut slices = firsts.map(|first| {
                let contents = Contents::generate(size, first, step.min(objects - first));
                bytes += contents.bytes();
                contents
            });
            kind.build_in_slices(&path, &mut slices);
            kind.settle(&path);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ratio = disk_bytes(&path) as f64 / bytes as f64;
            let name = format!("{size}: {DISK}");
            results.add(PART, &name, kind.name(), "of the content", ratio);
        }
    }

    /// Lets a child do a job after everything was dropped from the page cache.
    fn measure(&self, job: &Job) -> Sample {
        eprintln!("  {}: {}: {}", job.size, job.task, job.contender);
        let group = self.limit.as_ref().map(MemoryLimit::members);
        let group = group.unwrap_or_default();
        let group = group.to_str().expect("its name is ASCII");
        let cache_bytes = self.cache_bytes.to_string();
        let words = job.words();
        let mut arguments = vec![CHILD, group, &cache_bytes];
        arguments.extend(words.iter().map(String::as_str));
        disk::drop_page_cache().expect("it could be dropped before");
        let output = child::command(&arguments, &self.folder)
            .output()
            .expect("a child starts");
        assert!(output.status.success(), "the child failed");
        let printed = String::from_utf8(output.stdout).expect("numbers");
        Sample::parse(&printed).expect("numbers")
    }
}

impl Job {
    fn words(&self) -> Vec<String> {
        let numbers = [self.objects, self.gets, self.gets_before, self.round];
        let mut words = vec![self.contender.clone(), self.task.clone(), self.size.key()];
        words.extend(numbers.map(|number| number.to_string()));
        words
    }

    fn parse(words: &[String]) -> Option<Self> {
        let [contender, task, size, numbers @ ..] = words else {
            return None;
        };
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        let &[objects, gets, gets_before, round] = &numbers[..] else {
            return None;
        };
        Some(Self {
            contender: contender.clone(),
            task: task.clone(),
            size: size.parse().ok()?,
            objects,
            gets,
            gets_before,
            round,
        })
    }

    fn task(&self) -> Task {
        let mut tasks = LOADS.iter().flat_map(|load| load.tasks);
        let task = tasks.find(|task| task.name() == self.task);
        *task.expect("the parent knows the names")
    }

    fn content_bytes(&self) -> usize {
        match self.size {
            Size::Fixed(bytes) => bytes,
            Size::Mix => unreachable!("all objects of a store have one size"),
        }
    }

    /// Draws objects. Their content is made again, and nothing is read.
    fn draw(&self, rng: &mut SmallRng, count: u64) -> Vec<Digest> {
        let numbers = (0..count).map(|_| rng.random_range(0..self.objects));
        numbers
            .flat_map(|number| Contents::generate(self.size, number, 1).digests())
            .collect()
    }

    fn rng(&self) -> SmallRng {
        SmallRng::seed_from_u64(!self.round)
    }
}

impl Sample {
    /// Prints it for [`parse`](Self::parse).
    fn print(&self) {
        let requests = self.requests.map(|requests| requests.to_string());
        let requests = requests.unwrap_or_default();
        println!("{} {} {requests}", self.microseconds, self.kibibytes);
    }

    fn parse(printed: &str) -> Option<Self> {
        let mut numbers = printed.split_whitespace().map(str::parse);
        Some(Self {
            microseconds: numbers.next()?.ok()?,
            kibibytes: numbers.next()?.ok()?,
            requests: numbers.next().and_then(Result::ok),
        })
    }

    fn add_to(&self, results: &mut Results, job: &Job) {
        let name = format!("{}: {}", job.size, job.task);
        let mut add = |name: &str, unit, sample| {
            results.add(PART, name, &job.contender, unit, sample);
        };
        if job.task() == Task::Verify {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let bytes = job.content_bytes() as f64;
            add(&name, "MB/s of content", bytes / self.microseconds);
        } else {
            add(&name, "us", self.microseconds);
        }
        add(&format!("{name}: read"), "KiB an object", self.kibibytes);
        if let Some(requests) = self.requests {
            add(&format!("{name}: requests"), "an object", requests);
        }
    }
}

/// Does what [`Place::measure`] asks for.
pub fn run_in_child(arguments: &[String], folder: &Path) {
    let [group, cache_bytes, words @ ..] = arguments else {
        panic!("{arguments:?}: the parent gives more");
    };
    if !group.is_empty() {
        // Before anything takes memory, since that is not moved into the group.
        fs::write(group, std::process::id().to_string()).expect("a child may join");
    }
    let cache_bytes = cache_bytes.parse().expect("the parent wrote it");
    let job = Job::parse(words).expect("the parent wrote it");
    let sample = match &job.contender[..] {
        ONE_READ => raw_reads::at_random(&job, folder),
        READ_ALL => raw_reads::in_order(&job, folder),
        _ if job.task() == Task::Verify => verify(&job, folder, cache_bytes),
        _ => use_store(&job, folder, cache_bytes),
    };
    sample.print();
}

/// Does `work`, which returns the microseconds for each of the `objects`.
fn measured(folder: &Path, objects: u64, work: impl FnOnce() -> f64) -> Sample {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = |number: u64| number as f64 / objects as f64;
    let device = Disk::of(folder);
    let requests = || device.as_ref().and_then(Disk::requests);
    let (requests_before, bytes_before) = (requests(), disk::bytes_read());
    let microseconds = work();
    let bytes = disk::bytes_read() - bytes_before;
    let requests = requests().zip(requests_before);
    Sample {
        microseconds,
        kibibytes: each(bytes) / 1024.0,
        requests: requests.map(|(after, before)| each(after - before)),
    }
}

fn microseconds_each_of(start: Instant, objects: u64) -> f64 {
    microseconds_each(start, usize::try_from(objects).expect("64 bits"))
}

fn use_store(job: &Job, folder: &Path, cache_bytes: u64) -> Sample {
    let mut rng = job.rng();
    let mut draw = |count| Picks {
        held: job.draw(&mut rng, count),
        absent: Vec::new(),
    };
    let (before, picks) = (draw(job.gets_before), draw(job.gets));
    let kinds = kinds();
    let kind = kinds.iter().find(|kind| kind.name() == job.contender);
    let kind = kind.expect("the parent knows the names");
    let store = kind.open_larger_than_memory(&folder.join(kind.folder()), cache_bytes);
    let (operation, objects) = match job.task() {
        Task::Gets(operation, _) => {
            black_box(store.measure(Operation::Checked, &before));
            (operation, job.gets)
        }
        _ => (Operation::Scan, job.objects),
    };
    let measure = || store.measure(operation, &picks);
    measured(folder, objects, || measure().expect("it takes part"))
}

fn verify(job: &Job, folder: &Path, cache_bytes: u64) -> Sample {
    let folder = folder.join(Sealstone::FOLDER);
    let Sealstone(store) = Sealstone::open_larger_than_memory(&folder, cache_bytes);
    measured(&folder, job.objects, || {
        let start = Instant::now();
        let report = store.verify(|_| ControlFlow::Continue(()));
        assert!(report.expect("Sealstone verifies").is_clean());
        microseconds_each_of(start, job.objects)
    })
}
