//! A store's life with many commits, and its files before each of its operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use sealstone::{Digest, Options, Store};

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::{scratch, segments};
use crate::common::workload::{Verdict, content, seam_with_stillness};

/// The numbers of all objects are below this one.
pub const NUMBERS: u64 = 1_000;

/// The files of a folder by name. Equal versions share their bytes.
pub type Version = BTreeMap<String, Arc<Vec<u8>>>;

/// The folder between two operations.
#[derive(Clone, Default)]
pub struct Moment {
    pub files: Version,
    /// The objects that callers had declared dead until then.
    pub ever_dead: Arc<BTreeSet<Digest>>,
}

pub fn options() -> Options {
    let options = new_options().segment_bytes_max(1_500);
    options.write_block_bytes(400).set_index_minimum(3, 10)
}

pub fn object(number: u64) -> Vec<u8> {
    let len = 20 + number * 37 % 300;
    content(number, usize::try_from(len).unwrap())
}

pub fn digest(number: u64) -> Digest {
    digest_of(&object(number))
}

#[derive(Clone, Default)]
struct Recorder {
    moments: Arc<Mutex<Vec<Moment>>>,
    ever_dead: Arc<Mutex<Arc<BTreeSet<Digest>>>>,
}

impl Recorder {
    fn record(&self, root: &Path) {
        let mut moments = self.moments.lock().unwrap();
        let before = moments.last().cloned().unwrap_or_default();
        let mut files = Version::new();
        for entry in fs::read_dir(segments(root)).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let bytes = fs::read(entry.path()).unwrap();
            let same = before.files.get(&name).filter(|old| ***old == bytes);
            let bytes = same.map_or_else(|| Arc::new(bytes), Arc::clone);
            files.insert(name, bytes);
        }
        let ever_dead = Arc::clone(&self.ever_dead.lock().unwrap());
        moments.push(Moment { files, ever_dead });
    }

    fn open(&self, root: &Path) -> Store {
        let stillness: Arc<RwLock<()>> = Arc::default();
        let (recorder, still) = (self.clone(), Arc::clone(&stillness));
        let path = root.to_owned();
        let operations = seam_with_stillness(stillness, move |_| {
            let _nothing_else_goes_on = still.write().unwrap();
            recorder.record(&path);
            Verdict::Go
        });
        options().operations(operations).open(root).unwrap()
    }

    fn compact(&self, store: &Store, put: u64, is_live: impl Fn(u64) -> bool) {
        let dead = (0..put).filter(|number| !is_live(*number)).map(digest);
        Arc::make_mut(&mut *self.ever_dead.lock().unwrap()).extend(dead);
        let live: BTreeSet<Digest> = (0..put).filter(|n| is_live(*n)).map(digest).collect();
        store.compact(|digest| live.contains(digest)).unwrap();
    }
}

fn put(store: &Store, numbers: Range<u64>) {
    for number in numbers {
        store.put(object(number)).unwrap();
    }
}

/// Runs a life of seals, compactions, puts of dropped objects, checkpoints and reopenings, and
/// returns the folder before each of its operations and at the end.
pub fn record() -> Vec<Moment> {
    let folder = scratch();
    let root = folder.path();
    let recorder = Recorder::default();
    let mut next = 0;
    for round in 0..6_u64 {
        let store = recorder.open(root);
        put(&store, next..next + 25);
        store.sync().unwrap();
        put(&store, next + 25..next + 40);
        next += 40;
        // The held object keeps a retired segment until the store was opened again.
        let held = store.get(digest(next - 38)).unwrap();
        recorder.compact(&store, next, |number| number % 5 != round % 5);
        put(&store, next..next + 12);
        next += 12;
        store.sync().unwrap();
        // These are some of the dropped objects.
        for number in (round % 5..next).step_by(15) {
            store.put(object(number)).unwrap();
        }
        if round % 2 == 0 {
            let target = scratch();
            store.checkpoint(target.path().join("checkpoint")).unwrap();
        }
        store.sync().unwrap();
        if round % 3 == 2 {
            recorder.compact(&store, next, |number| number % 4 == 0 || number > next - 20);
        }
        store.close().unwrap();
        drop(held);
    }
    recorder.record(root);
    let moments = std::mem::take(&mut *recorder.moments.lock().unwrap());
    assert!(next < NUMBERS);
    moments
}

/// Returns the first moment of each manifest, in order.
pub fn commits(moments: &[Moment]) -> Vec<usize> {
    let manifest = |at: usize| moments[at].files.get("MANIFEST");
    let changes = |at: &usize| manifest(*at).is_some() && manifest(*at) != manifest(*at - 1);
    (1..moments.len()).filter(changes).collect()
}
