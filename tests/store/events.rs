//! The counts of slow events: each moves with its event and with nothing else.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::{file, scratch, sidecar_name};
use crate::common::workload::{EIO, Kind, Verdict, content, eventually, names, seam, system_error};
use sealstone::{EventCounts, Hashed, Options, Store};

/// Nothing is sealed or indexed in the background unless a test asks for it.
fn open(root: &Path) -> Store {
    new_options().open(root).unwrap()
}

fn events(store: &Store) -> EventCounts {
    store.stats().events
}

/// Seals all objects that were put.
fn seal_all(store: &Store) {
    drop(store.begin_compaction().unwrap());
}

/// Writes in place: a file that the store has mapped must not become shorter, even for a moment.
fn overwrite(path: &Path, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path);
    file.unwrap().write_all(bytes).unwrap();
}

/// The counts without those of the disk, which sealing, indexing and compacting move too.
fn above_the_disk(store: &Store) -> EventCounts {
    let mut events = events(store);
    events.data_syncs = 0;
    events.data_sync_nanoseconds = 0;
    events.bytes_written = 0;
    events
}

#[test]
fn a_new_store_has_counted_only_the_bytes_of_its_first_files() {
    let folder = scratch();
    let mut counts = events(&open(folder.path()));
    assert!(counts.bytes_written > 0);
    counts.bytes_written = 0;
    assert_eq!(counts, EventCounts::default());
}

#[test]
fn contents_that_are_held_already_are_dedup_hits() {
    let folder = scratch();
    let store = open(folder.path());
    let mut expected = events(&store);
    let [held, new] = [content(1, 100), content(2, 100)];
    store.put(&held).unwrap();
    assert_eq!(events(&store), expected);

    store.put(&held).unwrap();
    expected.dedup_hits = 1;
    assert_eq!(events(&store), expected);
    let hashed = Hashed::with(store.hash_function(), &held);
    store.put_hashed(&hashed).unwrap();
    expected.dedup_hits = 2;
    assert_eq!(events(&store), expected);
    // The second copy of the new content is a hit too, and in the other batch all are.
    store.put_many(&[&new, &held, &new]).unwrap();
    expected.dedup_hits = 4;
    assert_eq!(events(&store), expected);
    store.put_many(&[&held, &new]).unwrap();
    expected.dedup_hits = 6;
    assert_eq!(events(&store), expected);
}

#[test]
fn reads_and_puts_that_are_refused_count_nothing() {
    let folder = scratch();
    let store = open(folder.path());
    let held = content(1, 100);
    let digest = store.put(&held).unwrap();
    let absent = digest_of(b"absent");
    let before = events(&store);
    store.get(digest).unwrap();
    store.get(absent).unwrap();
    store.contains(digest).unwrap();
    assert_eq!(store.get_many(&[digest, absent]).len(), 2);
    store.reader().get(digest).unwrap();
    assert_eq!(store.iter().count(), 1);
    let reader = Options::new().read_only(true).open(folder.path()).unwrap();
    reader.put(&held).unwrap_err();
    assert_eq!(events(&store), before);
    assert_eq!(events(&reader), EventCounts::default());
}

/// A sync that takes a millisecond of the clock, whatever the disk does.
const SYNC_TIME: Duration = Duration::from_millis(1);

#[test]
fn a_sync_counts_one_fsync_of_data_and_its_time() {
    let folder = scratch();
    let operations = seam(|step| {
        let begin = Instant::now();
        while step.is(Kind::SyncFile, ".dat") && begin.elapsed() < SYNC_TIME {}
        Verdict::Go
    });
    let store = new_options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let before = events(&store);
    store.put(content(1, 100)).unwrap();
    assert_eq!(events(&store), before);
    store.sync().unwrap();
    let after = events(&store);
    assert_eq!(after.data_syncs, before.data_syncs + 1);
    let time = after.data_sync_nanoseconds - before.data_sync_nanoseconds;
    assert!(u128::from(time) >= SYNC_TIME.as_nanos(), "{time}");
    // There is nothing left to sync.
    store.sync().unwrap();
    assert_eq!(events(&store), after);
}

#[test]
fn a_sync_that_fails_is_counted() {
    let folder = scratch();
    let operations = seam(|step| {
        if step.is(Kind::SyncFile, ".dat") {
            system_error(EIO)
        } else {
            Verdict::Go
        }
    });
    let store = new_options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    store.put(content(1, 100)).unwrap();
    store.sync().unwrap_err();
    assert_eq!(events(&store).data_syncs, 1);
}

#[test]
fn every_byte_that_is_written_is_counted() {
    let folder = scratch();
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let operations = seam(move |step| {
        if step.kind == Kind::Write && step.name() != "LOCK" {
            counted.fetch_add(step.len as u64, Ordering::AcqRel);
        }
        Verdict::Go
    });
    let store = new_options()
        .operations(operations)
        .open(folder.path())
        .unwrap();
    let check = || {
        let counted = events(&store).bytes_written;
        assert_eq!(counted, written.load(Ordering::Acquire));
    };
    check();
    let (before, record_bytes) = (events(&store).bytes_written, 4 + 100);
    store.put(content(1, 100)).unwrap();
    assert_eq!(events(&store).bytes_written, before);
    store.flush().unwrap();
    assert!(events(&store).bytes_written > before + record_bytes);
    check();
    store.put(content(2, 100)).unwrap();
    seal_all(&store);
    check();
}

#[test]
fn a_segment_that_is_sealed_is_a_seal() {
    let folder = scratch();
    let store = open(folder.path());
    let mut expected = above_the_disk(&store);
    for seals in 1..=3 {
        store.put(content(seals, 100)).unwrap();
        store.sync().unwrap();
        assert_eq!(above_the_disk(&store), expected);
        seal_all(&store);
        expected.seals = seals;
        assert_eq!(above_the_disk(&store), expected);
    }
}

#[test]
fn a_run_that_takes_the_place_of_another_is_a_merge() {
    let folder = scratch();
    let store = new_options()
        .set_index_minimum(1, 0)
        .open(folder.path())
        .unwrap();
    for segments in 1..=2 {
        store.put(content(segments, 100)).unwrap();
        seal_all(&store);
        eventually("every sealed segment is covered", || {
            let stats = store.stats();
            stats.uncovered_segments == 0 && stats.set_index_runs == 1
        });
        // The second run covers both segments.
        assert_eq!(events(&store).run_merges, segments - 1);
    }
}

#[test]
fn only_a_compaction_that_changes_the_segments_is_counted() {
    let folder = scratch();
    let store = open(folder.path());
    let live = store.put(content(1, 100)).unwrap();
    store.put(content(2, 100)).unwrap();
    seal_all(&store);
    let mut expected = above_the_disk(&store);
    store.compact(|_| true).unwrap();
    store.begin_compaction().unwrap().plan(|_| false).unwrap();
    assert_eq!(above_the_disk(&store), expected);
    store.compact(|digest| *digest == live).unwrap();
    expected.compactions = 1;
    assert_eq!(above_the_disk(&store), expected);
}

#[test]
fn only_a_trim_that_drops_a_segment_is_counted() {
    let folder = scratch();
    let store = open(folder.path());
    store.put(content(1, 100)).unwrap();
    seal_all(&store);
    let mut expected = above_the_disk(&store);
    store.trim(u64::MAX).unwrap();
    assert_eq!(above_the_disk(&store), expected);
    store.trim(0).unwrap();
    expected.trims = 1;
    assert_eq!(above_the_disk(&store), expected);
}

#[test]
fn repairs_of_the_opening_and_of_a_verification_are_counted() {
    let folder = scratch();
    let store = open(folder.path());
    store.put(content(1, 100)).unwrap();
    seal_all(&store);
    store.close().unwrap();
    fs::write(file(folder.path(), "seg-000009.idx.tmp"), "unfinished").unwrap();

    let store = open(folder.path());
    assert_eq!(store.recovery().repairs.len(), 1);
    assert_eq!(events(&store).repairs, 1);
    let verify = || {
        store
            .verify(|_| std::ops::ControlFlow::Continue(()))
            .unwrap()
    };
    assert!(verify().is_clean());
    assert_eq!(events(&store).repairs, 1);

    let sidecar = file(folder.path(), &sidecar_name(0));
    let mut bytes = fs::read(&sidecar).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    overwrite(&sidecar, &bytes);
    assert!(!verify().is_clean());
    assert_eq!(events(&store).repairs, 2);
}

#[test]
fn a_damaged_run_that_is_built_anew_is_a_repair_and_no_merge() {
    let folder = scratch();
    let store = new_options()
        .set_index_minimum(1, 0)
        .open(folder.path())
        .unwrap();
    let digest = store.put(content(1, 100)).unwrap();
    seal_all(&store);
    let is_covered = || store.stats().set_index_runs == 1;
    eventually("the segment is covered", is_covered);
    let before = above_the_disk(&store);
    let [run] = &names(folder.path(), &[".run"])[..] else {
        panic!("there is one run");
    };
    let path = file(folder.path(), run);
    let mut bytes = fs::read(&path).unwrap();
    // Every byte but the header, so that the get meets the damage.
    bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0xff);
    overwrite(&path, &bytes);

    let object = store.get(digest).unwrap();
    assert_eq!(object.unwrap(), content(1, 100));
    eventually("the run is built anew", || {
        events(&store).repairs == before.repairs + 1 && is_covered()
    });
    assert_eq!(events(&store).run_merges, before.run_merges);
}
