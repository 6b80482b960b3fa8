//! Faults that a review found. Each test fails where its fault is back.

#[path = "common/workload.rs"]
mod workload;

use std::fs::{self, File};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use sealstone::dir::{Operations, System};
use sealstone::format::{Journal, Manifest, Records};
use sealstone::{Digest, Error, Object, Options, ReadMode, Repair, Store, Verify};
use tempfile::TempDir;
use workload::{
    Contents, EIO, ENOSPC, Kind, PATIENCE, Step, Verdict, assert_holds, assert_lacks, assert_same,
    assert_unchanged, assert_undamaged, assert_verifies, completes, content, contents, copy_store,
    eventually, names, put_all, seam, seam_with_stillness, settle, snapshot, system_error, walk,
    without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 2000;

fn options() -> Options {
    Options::new()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

fn read_only(root: &Path) -> Store {
    options().read_only(true).open(root).unwrap()
}

/// A path in the folder that holds the store's files.
fn file(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("segments").join(name)
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn digests(contents: &[Vec<u8>]) -> Vec<Digest> {
    contents.iter().map(|content| Digest::of(content)).collect()
}

/// Whole records only, the empty object once: what recovery does not take for a tear.
#[track_caller]
fn assert_data_is_whole(root: &Path) {
    for name in names(root, &[".dat"]) {
        // The background thread may have removed it since it was listed.
        let Ok(bytes) = fs::read(file(root, &name)) else {
            continue;
        };
        let mut records = Records::new(&bytes);
        let empty = records.by_ref().filter(|record| record.content.is_empty());
        assert!(empty.count() <= 1, "{name}");
        assert_eq!(records.position(), bytes.len(), "{name}");
    }
}

/// What the operations of a store asked, in order.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Step>>>);

impl Record {
    fn operations(&self) -> Arc<dyn Operations> {
        let record = self.clone();
        seam(move |step| {
            record.0.lock().unwrap().push(step.clone());
            Verdict::Go
        })
    }

    fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A gate that is open at first.
#[derive(Default)]
struct Gate {
    /// Whether it is shut, and how many wait at it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn shut(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    /// Waits until it is open. Gives up before the test does, so that the test can end.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let waiting = self
            .changed
            .wait_timeout_while(state, 2 * PATIENCE, |state| state.0);
        waiting.unwrap().0.1 -= 1;
    }

    /// Whether so many come to wait.
    fn awaits(&self, count: usize, patience: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let waiting = self
            .changed
            .wait_timeout_while(state, patience, |state| state.1 < count);
        !waiting.unwrap().1.timed_out()
    }
}

// --- Recovery after a failed fsync ---

/// What is done to the data files, with the position of each write.
#[derive(Debug, Default)]
struct DataLog(Mutex<Vec<DataStep>>);

#[derive(Debug)]
enum DataStep {
    Write(String, Range<u64>),
    Sync,
}

impl DataLog {
    fn note(&self, path: &Path, step: impl FnOnce(String) -> DataStep) {
        if path.extension().is_some_and(|extension| extension == "dat") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            self.0.lock().unwrap().push(step(name));
        }
    }
}

impl Operations for DataLog {
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = System.write_at(file, path, bytes, offset)?;
        let range = offset..offset + written as u64;
        self.note(path, |name| DataStep::Write(name, range));
        Ok(written)
    }

    fn sync_file(&self, file: &File, path: &Path, fast: bool) -> io::Result<()> {
        self.note(path, |_| DataStep::Sync);
        System.sync_file(file, path, fast)
    }
}

/// The files of a store as they lie there after some objects were synced and the fsync of others
/// has failed.
struct FailedSync {
    folder: TempDir,
    synced: Contents,
    unsynced: Contents,
}

impl FailedSync {
    fn new(unsynced_len: usize) -> Self {
        let live = TempDir::new().unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let operations = seam(move |step| {
            if step.is(Kind::SyncFile, ".dat") && failing.load(Ordering::Acquire) {
                return system_error(EIO);
            }
            Verdict::Go
        });
        let store = Options::new().operations(operations);
        let store = store.open(live.path()).unwrap();
        let synced = contents(0, 3, 1000);
        put_all(&store, &synced);
        store.sync().unwrap();
        fails.store(true, Ordering::Release);
        let unsynced = contents(100, 3, unsynced_len);
        put_all(&store, &unsynced);
        store.sync().unwrap_err();
        let folder = TempDir::new().unwrap();
        copy_store(live.path(), folder.path());
        Self {
            folder,
            synced,
            unsynced,
        }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The sync mark, and the end of the data.
    fn unsynced_range(&self) -> Range<u64> {
        let journal = fs::read(file(self.root(), "seg-000000.jnl")).unwrap();
        let mark = Journal::parse(&journal, 0).unwrap().synced_bytes;
        let end = fs::metadata(file(self.root(), "seg-000000.dat"))
            .unwrap()
            .len();
        assert!(0 < mark && mark < end, "{mark} {end}");
        mark..end
    }
}

#[test]
fn recovery_writes_the_unsynced_tail_again_before_it_is_synced() {
    // Less than one piece that recovery writes at a time, and several.
    for unsynced_len in [1000, 900_000] {
        let failed = FailedSync::new(unsynced_len);
        let unsynced = failed.unsynced_range();
        let before = fs::read(file(failed.root(), "seg-000000.dat")).unwrap();

        let log = Arc::new(DataLog::default());
        let operations: Arc<dyn Operations> = Arc::<DataLog>::clone(&log);
        let store = Options::new().operations(operations);
        let store = store.open(failed.root()).unwrap();
        assert!(
            fs::read(file(failed.root(), "seg-000000.dat")).unwrap() == before,
            "the bytes have changed"
        );
        store.sync().unwrap();

        let steps = log.0.lock().unwrap();
        let mut covered = unsynced.start;
        for step in steps.iter() {
            match step {
                DataStep::Write(name, range) => {
                    assert_eq!(name, "seg-000000.dat");
                    assert!(range.start >= unsynced.start, "{steps:?}");
                    if range.start <= covered {
                        covered = covered.max(range.end);
                    }
                }
                DataStep::Sync => break,
            }
        }
        assert_eq!(covered, unsynced.end, "{steps:?}");
        let synced = |step: &DataStep| matches!(step, DataStep::Sync);
        assert!(steps.iter().any(synced), "{steps:?}");
        drop(steps);
        assert_holds(&store, &failed.synced);
        assert_holds(&store, &failed.unsynced);
    }
}

#[test]
fn after_a_clean_close_nothing_is_written_again() {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 20, 1000);
    let store = Store::open(folder.path()).unwrap();
    put_all(&store, &held);
    store.close().unwrap();
    let log = Arc::new(DataLog::default());
    let operations: Arc<dyn Operations> = Arc::<DataLog>::clone(&log);
    let store = Options::new().operations(operations);
    let store = store.open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
    assert_holds(&store, &held);
    store.close().unwrap();
    let steps = log.0.lock().unwrap();
    let writes = |step: &DataStep| matches!(step, DataStep::Write(..));
    assert!(!steps.iter().any(writes), "{steps:?}");
}

#[test]
fn a_reader_does_not_call_a_record_corrupt_that_was_never_synced() {
    type Damage = fn(&mut Vec<u8>, Range<usize>);
    let damages: [Damage; 3] = [
        // The record with its length, its content, and where the file is short.
        |bytes, record| bytes[record].fill(0),
        |bytes, record| bytes[record.start + 4..record.end].fill(0),
        |bytes, record| bytes.truncate(record.start + 7),
    ];
    for damage in damages {
        let failed = FailedSync::new(1000);
        let path = file(failed.root(), "seg-000000.dat");
        let end = usize::try_from(failed.unsynced_range().end).unwrap();
        edit(&path, |bytes| damage(bytes, end - 1004..end));
        // In the order in which they were put.
        let mut whole = failed.unsynced.clone();
        let (torn, _) = whole.pop_last().unwrap();
        whole.extend(failed.synced.clone());

        let before = snapshot(failed.root());
        let reader = read_only(failed.root());
        assert_eq!(reader.get(&torn).unwrap(), None);
        assert_holds(&reader, &whole);
        assert_same(&walk(&reader), &whole);
        assert_verifies(&reader);
        drop(reader);
        assert_unchanged(failed.root(), &before);

        let writer = options().open(failed.root()).unwrap();
        assert_lacks(&writer, [&torn]);
        assert_holds(&writer, &whole);
        assert_verifies(&writer);
    }
}

/// Found by a review: `contains` was true where `get` was `None`.
#[test]
fn h69_a_reader_gives_one_answer_about_a_record_that_a_crash_has_torn() {
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let failed = FailedSync::new(1000);
        let path = file(failed.root(), "seg-000000.dat");
        let end = usize::try_from(failed.unsynced_range().end).unwrap();
        edit(&path, |bytes| bytes[end - 1000..].fill(0));
        let mut whole = failed.unsynced.clone();
        let (torn, content) = whole.pop_last().unwrap();
        let whole: Vec<Digest> = whole
            .into_keys()
            .chain(failed.synced.keys().copied())
            .collect();

        let options = options().read_only(true).read_mode(mode);
        let store = options.open(failed.root()).unwrap();
        let reader = store.reader();
        let answers = |digest: &Digest| {
            [
                store.get(digest).unwrap().is_some(),
                reader.get(digest).unwrap().is_some(),
                store.get_many(&[*digest, torn])[0]
                    .as_ref()
                    .unwrap()
                    .is_some(),
                reader.get_many(&[*digest, torn])[0]
                    .as_ref()
                    .unwrap()
                    .is_some(),
                store.contains(digest).unwrap(),
                reader.contains(digest).unwrap(),
                store.find(&digest.to_string()).unwrap().is_some(),
                store.digests().any(|found| found.unwrap() == *digest),
                store.iter().any(|found| found.unwrap().digest() == digest),
            ]
        };
        assert_eq!(answers(&torn), [false; 9]);
        for digest in &whole {
            assert_eq!(answers(digest), [true; 9]);
        }
        // The index alone says how many there are.
        assert_eq!(store.len(), whole.len() as u64 + 1);
        assert_eq!(store.digests().count(), whole.len());

        // The writer that opens it next finds out as well, and it can be put again.
        let writer = Options::new().open(failed.root()).unwrap();
        assert_eq!(writer.len(), whole.len() as u64);
        assert_eq!(writer.put(&content).unwrap(), torn);
        writer.sync().unwrap();
        store.refresh().unwrap();
        assert!(store.contains(&torn).unwrap() && store.get(&torn).unwrap().is_some());
    }
}

// --- Retired segments ---

/// A store that was closed while an object of a segment was held that a compaction had replaced.
fn closed_with_a_held_object(root: &Path) -> (Object, Contents) {
    let store = options().open(root).unwrap();
    let dead = store.put(b"dead").unwrap();
    let live = contents(0, 30, 300);
    put_all(&store, &live);
    // Sealed, so that the object is one of a sealed segment.
    drop(store.begin_compaction().unwrap());
    let object = store.get(&dead).unwrap().unwrap();
    store.compact(|digest| *digest != dead).unwrap();
    store.close().unwrap();
    (object, live)
}

#[test]
fn opening_removes_retired_files_only_after_the_directory_is_synced() {
    let folder = TempDir::new().unwrap();
    let (_object, live) = closed_with_a_held_object(folder.path());
    let record = Record::default();
    let store = options().operations(record.operations());
    let store = store.open(folder.path()).unwrap();
    let steps = record.take();
    let removed = steps.iter().position(|step| step.kind == Kind::Remove);
    let synced = steps
        .iter()
        .position(|step| step.is(Kind::SyncDir, "segments"));
    assert!(removed.is_some() && synced.is_some(), "{steps:?}");
    assert!(synced < removed, "{steps:?}");
    assert_holds(&store, &live);
}

/// A program that knows no manifest can have used an id after its files were removed.
#[test]
fn h55_a_segment_that_is_not_the_one_that_a_retired_line_means_is_kept() {
    for (has_same_length, has_old_sidecar) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let folder = TempDir::new().unwrap();
        let (_object, live) = closed_with_a_held_object(folder.path());
        let data = file(folder.path(), "seg-000000.dat");
        let retired_bytes = fs::metadata(&data).unwrap().len();
        let other_bytes = retired_bytes + if has_same_length { 0 } else { 100 };
        let other = vec![7; usize::try_from(other_bytes - 4).unwrap()];
        let header = u32::try_from(other.len()).unwrap().to_le_bytes();
        fs::write(&data, [&header[..], &other].concat()).unwrap();
        if !has_old_sidecar {
            fs::remove_file(data.with_extension("idx")).unwrap();
        }
        let digest = Digest::of(&other);
        // A reader, which removes nothing, does not look into the data for this.
        let is_told_apart = read_only(folder.path()).contains(&digest).unwrap();
        assert!(is_told_apart || has_same_length);
        let store = options().open(folder.path()).unwrap();
        let kept = Repair::KeptRetired { segment: 0 };
        assert!(store.recovery().repairs.contains(&kept));
        assert_eq!(store.get(&digest).unwrap().as_deref(), Some(&other[..]));
        assert_holds(&store, &live);
        store.close().unwrap();
        let store = options().open(folder.path()).unwrap();
        assert!(store.contains(&digest).unwrap());
    }
}

#[test]
fn an_object_that_outlives_the_store_removes_nothing() {
    let folder = TempDir::new().unwrap();
    let (object, live) = closed_with_a_held_object(folder.path());
    let retired = file(folder.path(), "seg-000000.dat");
    assert!(retired.exists());
    let before = snapshot(folder.path());
    assert_eq!(&object[..], b"dead");
    drop(object);
    assert_unchanged(folder.path(), &before);

    let store = options().open(folder.path()).unwrap();
    let repairs = &store.recovery().repairs;
    let removed = Repair::RemovedRetired { segment: 0 };
    assert!(repairs.contains(&removed), "{repairs:?}");
    assert!(!retired.exists());
    assert_same(&walk(&store), &live);
    drop(store);
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
}

#[test]
fn a_walk_that_outlives_the_store_removes_nothing() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(0, 30, 300));
    drop(store.begin_compaction().unwrap());
    let walk = store.iter();
    store.compact(|_| false).unwrap();
    store.close().unwrap();
    let before = snapshot(folder.path());
    assert_eq!(walk.map(Result::unwrap).count(), 30);
    assert_unchanged(folder.path(), &before);
}

// --- The manifest ---

#[test]
fn the_next_id_is_beyond_the_active_segment_also_when_puts_roll_during_a_commit() {
    let (folder, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let putting: Arc<Mutex<Option<Store>>> = Arc::default();
    let manifests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    // 1 from the rename of the first output on, 2 once the manifest has its name, 3 then, and 4 when
    // the files are copied.
    let stage = Arc::new(AtomicUsize::new(0));
    let advances = |stage: &AtomicUsize, from: usize| {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let advanced = stage.compare_exchange(from, from + 1, success, failure);
        advanced.is_ok()
    };
    let new = contents(1000, 20, 500);
    let stillness: Arc<RwLock<()>> = Arc::default();
    let operations = {
        let (putting, manifests) = (Arc::clone(&putting), Arc::clone(&manifests));
        let still = Arc::clone(&stillness);
        let (stage, new) = (Arc::clone(&stage), new.clone());
        let (root, target) = (folder.path().to_owned(), crashed.path().to_owned());
        seam_with_stillness(stillness, move |step| {
            if step.is(Kind::Rename, "MANIFEST.tmp") {
                manifests
                    .lock()
                    .unwrap()
                    .push(fs::read(&step.path).unwrap());
                advances(&stage, 1);
            } else if step.is(Kind::Rename, ".dat.tmp") {
                let store = putting.lock().unwrap().take();
                if let Some(store) = store {
                    let new = new.clone();
                    completes("puts while outputs are renamed", move || {
                        put_all(&store, &new);
                    });
                    advances(&stage, 0);
                }
            } else if step.is(Kind::SyncDir, "segments") && advances(&stage, 2) {
                let _nothing_else_goes_on = still.write().unwrap();
                copy_store(&root, &target);
                advances(&stage, 3);
            }
            Verdict::Go
        })
    };
    let store = options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    let held = contents(0, 40, 300);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    let segments = store.stats().segments.len();
    *putting.lock().unwrap() = Some(store.clone());
    let live: Contents = held.into_iter().step_by(2).collect();
    compaction
        .finish(|digest| live.contains_key(digest))
        .unwrap();
    // The thread that seals in the background may have come first, and still be copying.
    eventually("the files are copied", || {
        stage.load(Ordering::Acquire) == 4
    });
    assert!(segments > 3);

    let manifests = manifests.lock().unwrap().clone();
    for bytes in &manifests {
        let manifest = Manifest::parse(bytes);
        let manifest = manifest.unwrap_or_else(|error| {
            panic!("{error}:\n{}", String::from_utf8_lossy(bytes));
        });
        let beyond = manifest.active.map_or(0, |active| u64::from(active) + 1);
        assert!(manifest.next_id >= beyond, "{manifest:?}");
    }
    let reopened = options().open(crashed.path()).unwrap();
    assert_undamaged(&reopened);
    assert_holds(&reopened, &live);
    drop(reopened);
    let mut all = live;
    all.extend(new);
    assert_same(&walk(&store), &all);
    store.close().unwrap();
    let reopened = options().open(folder.path()).unwrap();
    assert_undamaged(&reopened);
    assert_same(&walk(&reopened), &all);
}

// --- Damage ---

/// Three sealed segments of four objects each, and two objects in the active one.
fn three_sealed_segments(root: &Path) -> Vec<Vec<u8>> {
    let store = options().open(root).unwrap();
    let all: Vec<Vec<u8>> = (0..14).map(|number| content(number, 400)).collect();
    for content in &all {
        store.put(content).unwrap();
    }
    settle(root);
    store.close().unwrap();
    assert_eq!(names(root, &[".idx"]).len(), 3);
    all
}

fn is_in_doubt<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::CorruptIndex { segment: 1, .. }))
}

/// All these objects once, and once that the index of segment 1 may lack some.
#[track_caller]
fn assert_walks_past_the_doubt<T>(
    walk: impl Iterator<Item = Result<T, Error>>,
    expected: &[Digest],
    digest: impl Fn(&T) -> Digest,
) {
    let (found, failed): (Vec<_>, Vec<_>) = walk.partition(Result::is_ok);
    assert!(failed.len() == 1 && is_in_doubt(&failed[0]));
    let found: Vec<Digest> = found
        .into_iter()
        .flatten()
        .map(|item| digest(&item))
        .collect();
    for expected in expected {
        let times = found.iter().filter(|digest| *digest == expected).count();
        assert_eq!(times, 1, "{expected:?}");
    }
}

#[test]
fn a_segment_whose_index_is_in_doubt_hides_nothing_and_does_not_stop_a_walk() {
    let intact = TempDir::new().unwrap();
    let all = three_sealed_segments(intact.path());
    let digests = digests(&all);
    let others = [&digests[..4], &digests[8..]].concat();
    let (in_body, in_checksum) = (60, 12 + 4 * 44 + 3);
    let (in_content, in_length) = (4 + 10, 404);
    for (in_sidecar, in_data, read_only) in [
        (in_body, in_content, false),
        (in_body, in_content, true),
        (in_body, in_length, false),
        (in_body, in_length, true),
        (in_checksum, in_content, false),
        (in_checksum, in_length, true),
    ] {
        let folder = TempDir::new().unwrap();
        copy_store(intact.path(), folder.path());
        edit(&file(folder.path(), "seg-000001.idx"), |bytes| {
            bytes[in_sidecar] ^= 0x40;
        });
        edit(&file(folder.path(), "seg-000001.dat"), |bytes| {
            bytes[in_data] ^= 0x40;
        });
        let store = options().read_only(read_only).open(folder.path()).unwrap();

        let absent = Digest::of(b"never put");
        assert!(is_in_doubt(&store.get(&absent)));
        assert!(is_in_doubt(&store.contains(&absent)));
        assert!(is_in_doubt(&store.find(&absent.to_string())));
        let damaged = if in_data == in_content { 4 } else { 5 };
        let lost = digests[damaged];
        assert!(is_in_doubt(&store.get(&lost)));
        assert!(is_in_doubt(&store.contains(&lost)));
        assert!(is_in_doubt(&store.find(&lost.to_string())));
        for other in &others {
            assert!(store.get(other).unwrap().is_some());
            assert_eq!(store.find(&other.to_string()).unwrap(), Some(*other));
        }

        // What is left of the segment is given out, too.
        let left = if in_data == in_content { 5..8 } else { 4..5 };
        let found = [&others[..], &digests[left]].concat();
        assert_walks_past_the_doubt(store.iter(), &found, |object| *object.digest());
        assert_walks_past_the_doubt(store.digests(), &found, |digest| *digest);

        if !read_only {
            // Dropping the segment would drop what the index lacks.
            assert!(is_in_doubt(&store.compact(|_| true)));
            store.put(&all[damaged]).unwrap();
            let object = store.get(&lost).unwrap();
            assert_eq!(object.as_deref(), Some(&all[damaged][..]));
        }
    }
}

/// Found by the fuzz target `directory`: `FirstRead` asked the sidecar alone, which lacked what the run
/// led to.
#[test]
fn what_a_run_leads_to_is_read_also_when_the_sidecar_lacks_it() {
    let intact = TempDir::new().unwrap();
    let with_runs = options().set_index_minimum(1, 1);
    let store = with_runs.open(intact.path()).unwrap();
    let all: Vec<Vec<u8>> = (0..14).map(|number| content(number, 400)).collect();
    for content in &all {
        store.put(content).unwrap();
    }
    settle(intact.path());
    eventually("a run covers the sealed segments", || {
        store.stats().set_index_runs > 0
    });
    store.close().unwrap();
    for verify in [Verify::FirstRead, Verify::EveryRead] {
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let folder = TempDir::new().unwrap();
            copy_store(intact.path(), folder.path());
            edit(&file(folder.path(), "seg-000001.idx"), |bytes| {
                bytes[60] ^= 0x40;
            });
            // The length of the second record: what is read from the data alone ends there.
            edit(&file(folder.path(), "seg-000001.dat"), |bytes| {
                bytes[404] ^= 0x40;
            });
            let options = with_runs.clone().verify(verify).read_mode(mode);
            assert_holds_what_only_a_run_leads_to(folder.path(), &options, &all[6..8]);
        }
    }
}

fn assert_holds_what_only_a_run_leads_to(root: &Path, options: &Options, held: &[Vec<u8>]) {
    let assert_held = |store: &Store| {
        for content in held {
            let object = store.get(&Digest::of(content)).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    };
    let store = options.open(root).unwrap();
    assert_held(&store);
    // Found by the same target: a new run, built from what the sidecars know, took the place of the
    // one that led there.
    for number in 20..40 {
        store.put(&content(number, 400)).unwrap();
    }
    store.close().unwrap();
    let store = options.open(root).unwrap();
    assert_held(&store);
    let stats = store.stats();
    assert_eq!((stats.set_index_runs, stats.uncovered_segments), (2, 0));
}

/// Found by the fuzz target `directory`: a put found the object held by what a run of the set index led
/// to. The run has a few bits of a digest, the forged sidecar another digest with the same ones, so a
/// compaction did not know what it dropped.
#[test]
fn h17_h35_what_is_put_again_is_kept_also_where_the_sidecar_has_another_digest_for_it() {
    let folder = TempDir::new().unwrap();
    let all = three_sealed_segments(folder.path());
    let held = &all[6];
    let digest = Digest::of(held);
    edit(&file(folder.path(), "seg-000001.idx"), |bytes| {
        let is_entry = |bytes: &[u8]| bytes == digest.as_bytes();
        let at = bytes.windows(32).position(is_entry).unwrap();
        bytes[at + 31] ^= 1;
        let covered = bytes.len() - 32;
        let checksum = Digest::of(&bytes[..covered]);
        bytes[covered..].copy_from_slice(checksum.as_bytes());
    });
    // So that nothing says which sidecar it was.
    fs::remove_file(file(folder.path(), "MANIFEST")).unwrap();
    let store = options()
        .set_index_minimum(1, 1)
        .open(folder.path())
        .unwrap();
    eventually("a run is built from what the sidecars say", || {
        let stats = store.stats();
        stats.set_index_runs > 0 && stats.uncovered_segments == 0
    });
    let found = store.get(&digest).unwrap();
    assert_eq!(found.as_deref(), Some(&held[..]), "the run leads to it");
    store.put(held).unwrap();
    store.sync().unwrap();
    store.compact(|live| *live == digest).unwrap();
    let found = store.get(&digest).unwrap();
    assert_eq!(found.as_deref(), Some(&held[..]));
}

fn problem_segments(store: &Store) -> Vec<Option<u32>> {
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.corrupt.is_empty(), "{report:?}");
    assert_eq!(report.is_clean(), report.problems.is_empty());
    let problems = report.problems.iter();
    problems.map(|problem| problem.segment).collect()
}

#[test]
fn verify_names_a_sidecar_that_belongs_to_another_segment() {
    let folder = TempDir::new().unwrap();
    let all = three_sealed_segments(folder.path());
    let earlier = read_only(folder.path());
    assert_eq!(problem_segments(&earlier), []);
    let path = |segment: u32| file(folder.path(), &format!("seg-00000{segment}.idx"));
    let sidecars = [0, 1, 2].map(|segment| fs::read(path(segment)).unwrap());
    assert!(
        sidecars
            .iter()
            .all(|bytes| bytes.len() == sidecars[0].len())
    );

    // As a new file, since the earlier reader has the old one mapped.
    let replace = |segment: u32, bytes: &[u8]| {
        fs::remove_file(path(segment)).unwrap();
        fs::write(path(segment), bytes).unwrap();
    };
    replace(1, &sidecars[2]);
    for reader in [&earlier, &read_only(folder.path())] {
        assert_eq!(problem_segments(reader), [Some(1)]);
    }
    replace(2, &sidecars[1]);
    for reader in [&earlier, &read_only(folder.path())] {
        assert_eq!(problem_segments(reader), [Some(1), Some(2)]);
        // The data says what there is.
        for content in &all {
            let object = reader.get(&Digest::of(content)).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    }
}

// --- Readers beside a writer ---

#[test]
fn a_reader_sees_what_was_synced_also_when_the_journal_cannot_be_written() {
    // Nothing of it is written, or a part.
    for part in [0, 20] {
        let folder = TempDir::new().unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let operations = {
            let (fails, writes) = (Arc::clone(&fails), AtomicUsize::new(0));
            seam(move |step| {
                if !step.is(Kind::Write, ".jnl") || !fails.load(Ordering::Acquire) {
                    return Verdict::Go;
                }
                let is_first = writes.fetch_add(1, Ordering::AcqRel) % 2 == 0;
                if part > 0 && is_first {
                    Verdict::Short(part)
                } else {
                    system_error(ENOSPC)
                }
            })
        };
        let writer = Options::new().operations(operations);
        let writer = writer.open(folder.path()).unwrap();
        let mut held = contents(0, 3, 100);
        put_all(&writer, &held);
        writer.sync().unwrap();
        let reader = read_only(folder.path());
        assert_same(&walk(&reader), &held);

        fails.store(true, Ordering::Release);
        for round in 1..4 {
            let new = contents(100 * round, 3, 100);
            put_all(&writer, &new);
            writer.sync().unwrap();
            held.extend(new);
            assert!(reader.refresh().unwrap(), "round {round}");
            for reader in [&reader, &read_only(folder.path())] {
                assert_holds(reader, &held);
                assert_same(&walk(reader), &held);
                assert_eq!(reader.len(), held.len() as u64);
                assert_verifies(reader);
            }
            assert!(!reader.refresh().unwrap(), "round {round}");
        }

        fails.store(false, Ordering::Release);
        let new = contents(1000, 3, 100);
        put_all(&writer, &new);
        writer.sync().unwrap();
        held.extend(new);
        assert!(reader.refresh().unwrap());
        for reader in [&reader, &read_only(folder.path())] {
            assert_same(&walk(reader), &held);
            assert_eq!(reader.len(), held.len() as u64);
        }
    }
}

#[test]
fn what_a_read_only_handle_is_given_is_not_even_looked_at() {
    struct Unread;
    impl AsRef<[u8]> for Unread {
        fn as_ref(&self) -> &[u8] {
            panic!("the content was read")
        }
    }

    let folder = TempDir::new().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let reader = read_only(folder.path());
    let is_refused = |error: Error| matches!(error, Error::ReadOnly);
    assert!(is_refused(reader.put(b"content").unwrap_err()));
    assert!(is_refused(reader.put_many(&[Unread]).unwrap_err()));
    assert!(is_refused(reader.sync().unwrap_err()));
    assert!(is_refused(reader.compact(|_| panic!("asked")).unwrap_err()));
}

// --- Waiting ---

/// Threads of the pool that wait for a sidecar cannot help to rebuild it.
#[test]
fn gets_in_all_threads_of_the_pool_and_beside_it_rebuild_a_sidecar_without_a_deadlock() {
    let folder = TempDir::new().unwrap();
    // So many that checking the damaged sidecar takes longer than what is waited for below.
    let held = contents(0, 40_000, 60);
    let store = Options::new().open(folder.path()).unwrap();
    put_all(&store, &held);
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();
    edit(&file(folder.path(), "seg-000000.idx"), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let held = Arc::new(held);
    for _ in 0..3 {
        let reader = read_only(folder.path());
        let held = Arc::clone(&held);
        completes("gets", move || {
            let in_pool = rayon::current_num_threads();
            let together = Barrier::new(in_pool + 1);
            let get_some = |first: usize| {
                for (digest, content) in held.iter().skip(first).step_by(997) {
                    let object = reader.get(digest).unwrap();
                    assert_eq!(object.as_deref(), Some(&content[..]));
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    get_some(0);
                });
                for number in 0..6 {
                    let get_some = &get_some;
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(1));
                        get_some(number);
                    });
                }
                rayon::broadcast(|context| {
                    together.wait();
                    thread::sleep(Duration::from_micros(200));
                    get_some(context.index());
                });
            });
        });
    }
}

#[test]
fn puts_go_on_while_a_compaction_copies() {
    let folder = TempDir::new().unwrap();
    let gate = Arc::new(Gate::default());
    let operations = {
        let gate = Arc::clone(&gate);
        seam(move |step| {
            if step.is(Kind::Write, ".dat.tmp") {
                gate.pass();
            }
            Verdict::Go
        })
    };
    let store = options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    let threads = rayon::current_num_threads();
    let held = contents(0, 40 * threads as u64, 300);
    put_all(&store, &held);
    let live: Contents = held.into_iter().step_by(2).collect();
    let compaction = store.begin_compaction().unwrap();
    gate.shut();
    let keeps = live.clone();
    let finishing = thread::spawn(move || compaction.finish(|digest| keeps.contains_key(digest)));
    assert!(gate.awaits(1, PATIENCE));
    // As many as there are threads to hash, if the store copies in so many.
    gate.awaits(threads, Duration::from_secs(1));

    let many: Vec<Vec<u8>> = (0..100).map(|number| content(5000 + number, 50)).collect();
    let new = contents(6000, 10, 50);
    let (putting, putting_many, putting_new) = (store.clone(), many.clone(), new.clone());
    completes("put_many and puts while outputs are written", move || {
        putting.put_many(&putting_many).unwrap();
        put_all(&putting, &putting_new);
        putting.sync().unwrap();
    });
    assert!(!finishing.is_finished());
    gate.open();
    finishing.join().unwrap().unwrap();

    let mut all = live;
    all.extend(new);
    all.extend(
        many.into_iter()
            .map(|content| (Digest::of(&content), content)),
    );
    assert_same(&walk(&store), &all);
}

#[test]
fn puts_go_on_while_a_compaction_asks_what_is_live() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 40, 300);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    let gate = Arc::new(Gate::default());
    gate.shut();
    let passing = Arc::clone(&gate);
    let finishing = thread::spawn(move || {
        compaction.finish(|_| {
            passing.pass();
            false
        })
    });
    assert!(gate.awaits(1, PATIENCE));
    let many: Vec<Vec<u8>> = (0..100).map(|number| content(5000 + number, 50)).collect();
    let (putting, putting_many) = (store.clone(), many.clone());
    completes("put_many while the caller is asked", move || {
        putting.put_many(&putting_many).unwrap();
        putting.sync().unwrap();
    });
    assert!(!finishing.is_finished());
    gate.open();
    finishing.join().unwrap().unwrap();
    let pairs = many
        .into_iter()
        .map(|content| (Digest::of(&content), content));
    assert_same(&walk(&store), &pairs.collect());
}

// --- Resources ---

#[cfg(target_os = "linux")]
#[test]
fn objects_of_active_segments_keep_no_file_descriptors() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 50, 1500);
    let objects: Vec<Object> = held
        .iter()
        .map(|(digest, content)| {
            store.put(content).unwrap();
            // Flushed, so that it is not read from the buffer.
            store.sync().unwrap();
            store.get(digest).unwrap().unwrap()
        })
        .collect();
    settle(folder.path());
    assert_eq!(names(folder.path(), &[".idx"]).len(), 49);
    let segments = folder.path().canonicalize().unwrap().join("segments");
    let open_files = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap();
        let mut open: Vec<String> = descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok())
            .filter_map(|path| Some(path.strip_prefix(&segments).ok()?.display().to_string()))
            .collect();
        open.sort();
        open
    };
    // The folder is held open, and once more to be locked. The background thread lets go of outdated sets
    // in its own time.
    eventually("sealed segments are closed", || {
        open_files() == ["", "", "LOCK", "seg-000049.dat", "seg-000049.jnl"]
    });
    for (object, content) in objects.iter().zip(held.values()) {
        assert!(&object[..] == content);
    }
}

// --- The empty object ---

/// A straggler that the compaction has looked for in vain waits for the append lock, and a put of
/// the same content, here in the thread that gives up the lock, comes first.
#[test]
fn a_straggler_that_is_put_at_the_same_time_is_stored_once() {
    for _ in 0..5 {
        let folder = TempDir::new().unwrap();
        let (pinning, overtaking) = (Arc::default(), Arc::default());
        let flush = Arc::new(Gate::default());
        let operations = {
            let pinning: Arc<Mutex<Option<Store>>> = Arc::clone(&pinning);
            let overtaking: Arc<Mutex<Option<Store>>> = Arc::clone(&overtaking);
            let flush = Arc::clone(&flush);
            seam(move |step| {
                if step.is(Kind::Write, ".dat") {
                    flush.pass();
                } else if step.is(Kind::SyncFile, ".dat") {
                    // The first that comes is that of the sync below, just after its flush.
                    let store = overtaking.lock().unwrap().take();
                    if let Some(store) = store {
                        store.put(b"").unwrap();
                    }
                } else if step.is(Kind::SyncFile, ".idx.tmp") {
                    // The last step before the compaction closes. What is live was marked before.
                    let store = pinning.lock().unwrap().take();
                    if let Some(store) = store {
                        store.put(b"").unwrap();
                        store.put(b"keeps the appender busy").unwrap();
                        flush.shut();
                        thread::spawn(move || store.sync().unwrap());
                        assert!(flush.awaits(1, PATIENCE));
                    }
                }
                Verdict::Go
            })
        };
        let store = Options::new().operations(operations);
        let store = store.open(folder.path()).unwrap();
        let empty = store.put(b"").unwrap();
        let live = store.put(b"live").unwrap();
        let compaction = store.begin_compaction().unwrap();
        *pinning.lock().unwrap() = Some(store.clone());
        let finishing = thread::spawn(move || compaction.finish(|digest| *digest == live));
        assert!(flush.awaits(1, PATIENCE));
        // Time for the compaction to come to the append lock.
        thread::sleep(Duration::from_millis(100));
        assert!(!finishing.is_finished());
        *overtaking.lock().unwrap() = Some(store.clone());
        flush.open();
        finishing.join().unwrap().unwrap();
        assert!(overtaking.lock().unwrap().is_none());

        let after = store.put(b"after the empty object").unwrap();
        store.sync().unwrap();
        assert_data_is_whole(folder.path());
        let crashed = TempDir::new().unwrap();
        copy_store(folder.path(), crashed.path());
        let reopened = Store::open(crashed.path()).unwrap();
        assert_undamaged(&reopened);
        for digest in [empty, live, after] {
            assert!(reopened.get(&digest).unwrap().is_some(), "{digest:?}");
        }
    }
}

#[test]
fn the_empty_object_survives_puts_beside_compactions_that_drop_it() {
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let empty = store.put(b"").unwrap();
    let mut kept = Contents::new();
    for round in 0..300 {
        let compaction = store.begin_compaction().unwrap();
        // Put after the beginning, so it stays this time.
        kept = contents(round << 8, 3, 100);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        store.put(b"").unwrap();
                        if done.load(Ordering::Acquire) {
                            break;
                        }
                    }
                });
            }
            scope.spawn(|| put_all(&store, &kept));
            compaction.finish(|_| false).unwrap();
            done.store(true, Ordering::Release);
        });
        kept.insert(empty, Vec::new());
        assert_holds(&store, &kept);
        store.sync().unwrap();
        assert_data_is_whole(folder.path());
    }
    let crashed = TempDir::new().unwrap();
    copy_store(folder.path(), crashed.path());
    let reopened = options().open(crashed.path()).unwrap();
    assert_undamaged(&reopened);
    assert_same(&walk(&reopened), &kept);
    let cut = |repair: &Repair| matches!(repair, Repair::CutTail { .. });
    assert!(!reopened.recovery().repairs.iter().any(cut));
}

/// Found by fuzzing: a run of the set index was made as large as the manifest said.
#[test]
fn h22_a_forged_number_of_objects_makes_no_large_index() {
    const FORGED: u32 = 1 << 22;
    let kept = contents(0, 40, 100);
    for verify in [Verify::EveryRead, Verify::FirstRead] {
        let folder = TempDir::new().unwrap();
        let options = options().set_index_minimum(1, 0).verify(verify);
        let store = options.open(folder.path()).unwrap();
        put_all(&store, &kept);
        store.close().unwrap();
        edit(&file(folder.path(), "MANIFEST"), |bytes| {
            let mut manifest = Manifest::parse(bytes).unwrap();
            let segment = manifest.sealed.values_mut().next().unwrap();
            segment.objects = FORGED;
            segment.data_bytes = 4 * u64::from(FORGED);
            *bytes = manifest.encode().into_bytes();
        });
        let store = options.open(folder.path()).unwrap();
        assert!(!store.recovery().is_clean());
        for _ in 0..2 {
            assert_holds(&store, &kept);
        }
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        assert!(report.corrupt.is_empty(), "{report:?}");
        store.close().unwrap();
        for name in names(folder.path(), &[""]) {
            let bytes = fs::metadata(file(folder.path(), &name)).unwrap().len();
            assert!(bytes < 1 << 16, "{name}: {bytes} bytes");
        }
    }
}
