//! Objects that were put but not synced when the machine went down: recovery writes them again
//! before it confirms them, and a reader never calls them corrupt.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sealstone::format::Journal;
use sealstone::test_seam::{Operations, System};
use sealstone::{Digest, ReadMode};
use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::layout::file;
use crate::common::workload::{
    Contents, EIO, ENOSPC, Kind, Verdict, assert_holds, assert_lacks, assert_same,
    assert_unchanged, assert_verifies, contents, copy_store, put_all, seam, snapshot, system_error,
    walk,
};
use crate::small::{edit, options, read_only};

// --- Recovery after a failed fsync ---

/// The writes and syncs of data files, with the position of each write.
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

/// The files of a store after some objects were synced and the fsync of others has failed.
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
        let store = new_options().operations(operations);
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

    /// Returns the range from the sync mark to the end of the data.
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
    // The unsynced tail is shorter than one piece that recovery writes, or has several.
    for unsynced_len in [1000, 900_000] {
        let failed = FailedSync::new(unsynced_len);
        let unsynced = failed.unsynced_range();
        let before = fs::read(file(failed.root(), "seg-000000.dat")).unwrap();

        let log = Arc::new(DataLog::default());
        let operations: Arc<dyn Operations> = Arc::<DataLog>::clone(&log);
        let store = new_options().operations(operations);
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
fn opening_after_a_clean_close_writes_nothing_again() {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 20, 1000);
    let store = new_options().open(folder.path()).unwrap();
    put_all(&store, &held);
    store.close().unwrap();
    let log = Arc::new(DataLog::default());
    let operations: Arc<dyn Operations> = Arc::<DataLog>::clone(&log);
    let store = new_options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
    assert_holds(&store, &held);
    store.close().unwrap();
    let steps = log.0.lock().unwrap();
    let writes = |step: &DataStep| matches!(step, DataStep::Write(..));
    assert!(!steps.iter().any(writes), "{steps:?}");
}

#[test]
fn a_record_that_was_never_synced_is_not_called_corrupt() {
    type Damage = fn(&mut Vec<u8>, Range<usize>);
    let damages: [Damage; 3] = [
        // The damage lies in the record's length, in its content, or where the file is short.
        |bytes, record| bytes[record].fill(0),
        |bytes, record| bytes[record.start + 4..record.end].fill(0),
        |bytes, record| bytes.truncate(record.start + 7),
    ];
    for damage in damages {
        let failed = FailedSync::new(1000);
        let path = file(failed.root(), "seg-000000.dat");
        let end = usize::try_from(failed.unsynced_range().end).unwrap();
        edit(&path, |bytes| damage(bytes, end - 1004..end));
        // The objects stand in the order in which they were put.
        let mut whole = failed.unsynced.clone();
        let (torn, _) = whole.pop_last().unwrap();
        whole.extend(failed.synced.clone());

        let before = snapshot(failed.root());
        let reader = read_only(failed.root());
        assert_eq!(reader.get(torn).unwrap(), None);
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
        // The sidecar alone says how many records there are.
        assert_eq!(store.len(), whole.len() as u64 + 1);
        assert_eq!(store.digests().count(), whole.len());

        // The writer that opens the store next finds out as well, and the object can be put again.
        let writer = new_options().open(failed.root()).unwrap();
        assert_eq!(writer.len(), whole.len() as u64);
        assert_eq!(writer.put(&content).unwrap(), torn);
        writer.sync().unwrap();
        store.refresh().unwrap();
        assert!(store.contains(torn).unwrap() && store.get(torn).unwrap().is_some());
    }
}

// --- Readers beside a writer ---

#[test]
fn a_reader_sees_synced_objects_also_if_the_journal_cannot_be_written() {
    // Nothing of the journal is written, or only a part.
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
        let writer = new_options().operations(operations);
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
