//! The set index is found, kept up to date and done without, and no answer depends on it.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::hash::{digest_of, new_options};
use crate::common::layout::{content, scratch, segments};
use sealstone::{Advice, Digest, Options, ReadMode, Repair, Store, VerifyReads};

const SEGMENT_BYTES_MAX: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns options with small segments, each of which is covered as soon as it is sealed.
fn options() -> Options {
    new_options()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .set_index_minimum(1, 0)
}

/// Returns the paths of the runs on disk.
fn runs(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(segments(root)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut runs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "run"))
        .collect();
    runs.sort();
    runs
}

fn remove_runs(root: &Path) {
    for run in runs(root) {
        fs::remove_file(run).unwrap();
    }
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::yield_now();
    }
}

#[track_caller]
fn eventually_covered(store: &Store) {
    eventually("every sealed segment is covered", || {
        let stats = store.stats();
        stats.uncovered_segments == 0 && stats.set_index_runs > 0
    });
}

fn contents(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|seed| content(seed, 300)).collect()
}

/// Closes a store of many sealed segments that runs cover, and returns its contents.
fn filled(root: &Path, count: u64) -> Vec<Vec<u8>> {
    let contents = contents(count);
    let store = options().open(root).unwrap();
    store.put_many(&contents).unwrap();
    store.close().unwrap();
    let store = options().open(root).unwrap();
    eventually_covered(&store);
    store.close().unwrap();
    contents
}

#[track_caller]
fn assert_holds(store: &Store, contents: &[Vec<u8>]) {
    let digests: Vec<Digest> = contents.iter().map(|content| digest_of(content)).collect();
    let reader = store.reader();
    for (content, digest) in contents.iter().zip(&digests) {
        assert_eq!(store.get(digest).unwrap().as_deref(), Some(&content[..]));
        assert_eq!(reader.get(digest).unwrap().as_deref(), Some(&content[..]));
        assert!(store.contains(digest).unwrap());
    }
    for found in [store.get_many(&digests), reader_get_many(store, &digests)] {
        for (content, found) in contents.iter().zip(found) {
            assert_eq!(found.unwrap().as_deref(), Some(&content[..]));
        }
    }
    for absent in (1 << 40..(1 << 40) + 100).map(|seed| digest_of(&content(seed, 40))) {
        assert!(store.get(absent).unwrap().is_none());
        assert!(!store.contains(absent).unwrap());
    }
    let walked = store.iter().map(|object| object.unwrap().to_vec());
    let (mut walked, mut expected): (Vec<_>, _) = (walked.collect(), contents.to_vec());
    walked.sort();
    expected.sort();
    assert!(walked == expected, "the walk differs from what was put");
}

fn reader_get_many(
    store: &Store,
    digests: &[Digest],
) -> Vec<sealstone::Result<Option<sealstone::Object>>> {
    let reader = store.reader();
    let found = reader.get_many(digests).into_iter();
    found
        .map(|found| Ok(found?.map(sealstone::PinnedObject::into_object)))
        .collect()
}

#[test]
fn every_sealed_segment_is_covered_by_few_runs() {
    let folder = scratch();
    let contents = filled(folder.path(), 1000);
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        for verify in [VerifyReads::EveryRead, VerifyReads::FirstRead] {
            let options = options().read_mode(read_mode).verify_reads(verify);
            let store = options.clone().read_only(true).open(folder.path()).unwrap();
            let stats = store.stats();
            assert!(stats.segments.len() > 50);
            assert_eq!(stats.uncovered_segments, 0);
            assert!((1..=8).contains(&stats.set_index_runs), "{stats:?}");
            assert_holds(&store, &contents);
            assert_holds(&store, &contents);
            let store = options.open(folder.path()).unwrap();
            assert!(store.recovery().is_clean());
            assert_holds(&store, &contents);
        }
    }
}

#[test]
fn a_store_without_runs_gives_right_answers_and_builds_them() {
    let folder = scratch();
    let contents = filled(folder.path(), 300);
    remove_runs(folder.path());
    let reader = options().read_only(true).open(folder.path()).unwrap();
    assert_eq!(reader.stats().set_index_runs, 0);
    assert_holds(&reader, &contents);
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
    eventually_covered(&store);
    assert_holds(&store, &contents);
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.stats().uncovered_segments, 0);
    assert_holds(&reader, &contents);
}

/// A run that was opened once is mapped and its pages are checked; its replacement is another run.
#[test]
fn a_reader_keeps_runs_that_still_exist_and_opens_new_ones() {
    let folder = scratch();
    let held = filled(folder.path(), 300);
    let reader = options().read_only(true).open(folder.path()).unwrap();
    assert_eq!(reader.stats().uncovered_segments, 0);
    assert_holds(&reader, &held);
    assert!(!reader.refresh().unwrap());

    let first = runs(folder.path());
    let all = filled(folder.path(), 600);
    assert!(runs(folder.path()).iter().any(|run| !first.contains(run)));
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.stats().uncovered_segments, 0);
    assert_holds(&reader, &all);
    assert!(!reader.refresh().unwrap());

    remove_runs(folder.path());
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.stats().set_index_runs, 0);
    assert_holds(&reader, &all);
}

#[test]
fn every_flipped_byte_of_a_run_leaves_every_answer_right() {
    let folder = scratch();
    let contents = filled(folder.path(), 60);
    let paths = runs(folder.path());
    for path in &paths {
        let whole = fs::read(path).unwrap();
        for at in (0..whole.len()).filter(|at| at % 7 == 0 || *at < 200) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            fs::write(path, &damaged).unwrap();
            let store = options().read_only(true).open(folder.path()).unwrap();
            for content in &contents {
                let digest = digest_of(content);
                assert_eq!(store.get(digest).unwrap().as_deref(), Some(&content[..]));
            }
            assert!(store.get(digest_of(b"absent")).unwrap().is_none());
        }
        for len in (0..whole.len()).step_by(97) {
            fs::write(path, &whole[..len]).unwrap();
            let store = options().read_only(true).open(folder.path()).unwrap();
            let digest = digest_of(&contents[len % contents.len()]);
            assert!(store.get(digest).unwrap().is_some());
        }
        fs::write(path, &whole).unwrap();
    }
}

#[test]
fn a_run_with_a_damaged_header_is_removed_and_one_with_a_damaged_page_replaced() {
    let folder = scratch();
    let contents = filled(folder.path(), 300);
    let path = runs(folder.path()).remove(0);
    let whole = fs::read(&path).unwrap();

    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    fs::write(&path, damaged).unwrap();
    let store = options().open(folder.path()).unwrap();
    let repairs = &store.recovery().repairs;
    assert!(
        matches!(repairs[..], [Repair::RemovedSetIndex { .. }]),
        "{repairs:?}"
    );
    eventually_covered(&store);
    assert_holds(&store, &contents);
    store.close().unwrap();

    let path = runs(folder.path()).remove(0);
    let mut damaged = fs::read(&path).unwrap();
    let reader = options().read_only(true).open(folder.path()).unwrap();
    let verify = |store: &Store| store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(verify(&reader).is_clean());
    for byte in &mut damaged[4096..8192] {
        *byte ^= 0xff;
    }
    fs::write(&path, damaged).unwrap();
    let report = verify(&options().read_only(true).open(folder.path()).unwrap());
    assert_eq!(
        (report.problems.len(), report.corrupt.len()),
        (1, 0),
        "{report:?}"
    );
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
    assert_holds(&store, &contents);
    eventually("the damaged run is gone", || !path.exists());
    eventually_covered(&store);
    assert_holds(&store, &contents);
}

#[test]
fn h23_the_run_of_another_store_covers_nothing() {
    let (one, other) = (scratch(), scratch());
    let contents_of_one = filled(one.path(), 100);
    let store = options().open(other.path()).unwrap();
    let others: Vec<Vec<u8>> = (5000..5100).map(|seed| content(seed, 300)).collect();
    store.put_many(&others).unwrap();
    store.close().unwrap();
    remove_runs(other.path());
    for run in runs(one.path()) {
        fs::copy(&run, segments(other.path()).join(run.file_name().unwrap())).unwrap();
    }
    let reader = options().read_only(true).open(other.path()).unwrap();
    assert_eq!(reader.stats().set_index_runs, 0);
    assert_holds(&reader, &others);
    let foreign = runs(other.path());
    let store = options().open(other.path()).unwrap();
    for run in foreign {
        assert!(
            !run.exists(),
            "a run that covers nothing is removed when the store is opened"
        );
    }
    assert_holds(&store, &others);
    assert!(store.get(digest_of(&contents_of_one[0])).unwrap().is_none());
}

#[test]
fn a_compaction_leaves_only_runs_of_current_segments() {
    let folder = scratch();
    let contents = filled(folder.path(), 400);
    let store = options().open(folder.path()).unwrap();
    let (live, dead) = contents.split_at(200);
    let live_digests: Vec<Digest> = live.iter().map(|content| digest_of(content)).collect();
    store
        .compact(|digest| live_digests.contains(digest))
        .unwrap();
    for content in dead {
        assert!(store.get(digest_of(content)).unwrap().is_none());
    }
    assert_holds(&store, live);
    eventually_covered(&store);
    assert_holds(&store, live);
    store.close().unwrap();
    let store = options().open(folder.path()).unwrap();
    assert_holds(&store, live);
    assert_eq!(
        runs(folder.path()).len() as u64,
        store.stats().set_index_runs
    );
}

#[test]
fn h21_rot_in_a_record_that_a_run_locates_is_reported() {
    let folder = scratch();
    let contents = filled(folder.path(), 200);
    let victim = digest_of(&contents[77]);
    let mut hit = None;
    for entry in fs::read_dir(segments(folder.path())).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "dat")
            && let Some(at) = bytes.windows(300).position(|window| window == contents[77])
        {
            bytes[at + 150] ^= 1;
            fs::write(&path, &bytes).unwrap();
            hit = Some(at as u64);
        }
    }
    for verify in [VerifyReads::EveryRead, VerifyReads::FirstRead] {
        let options = options().read_only(true).verify_reads(verify);
        let store = options.open(folder.path()).unwrap();
        assert_eq!(store.stats().uncovered_segments, 0);
        for found in [store.get(victim), store.get_many(&[victim]).remove(0)] {
            match found {
                Err(sealstone::Error::Corrupt { digest, offset, .. }) => {
                    assert_eq!((digest, Some(offset)), (victim, hit));
                }
                other => panic!("{other:?}"),
            }
        }
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.corrupt.len(), 1);
    }
    // Putting the object again repairs it: the new copy is found behind the damaged one.
    let store = options().open(folder.path()).unwrap();
    store.put(&contents[77]).unwrap();
    assert_eq!(
        store.get(victim).unwrap().as_deref(),
        Some(&contents[77][..])
    );
    store.close().unwrap();
}

#[test]
fn first_read_verifies_each_record_once() {
    let folder = scratch();
    let contents = filled(folder.path(), 50);
    let store = options()
        .read_only(true)
        .verify_reads(VerifyReads::FirstRead)
        .open(folder.path())
        .unwrap();
    let digest = digest_of(&contents[3]);
    assert!(store.get(digest).unwrap().is_some());
    // A change under the mapping between two reads is, as documented, not noticed.
    for entry in fs::read_dir(segments(folder.path())).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(300).position(|window| window == contents[3]);
        if let Some(at) = found.filter(|_| path.extension().is_some_and(|e| e == "dat")) {
            let file = fs::File::options().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"changed", at as u64).unwrap();
        }
    }
    let again = store.get(digest).unwrap().unwrap();
    assert_eq!(&again[..7], b"changed");
    let strict = options().read_only(true).open(folder.path()).unwrap();
    assert!(strict.get(digest).is_err());
}

#[test]
fn a_pinned_reader_keeps_its_view_beyond_compaction_and_store() {
    let folder = scratch();
    let contents = filled(folder.path(), 100);
    let store = options().open(folder.path()).unwrap();
    let mut reader = store.reader();
    store.compact(|_| false).unwrap();
    let digest = digest_of(&contents[0]);
    assert!(store.get(digest).unwrap().is_none());
    assert_eq!(
        reader.get(digest).unwrap().as_deref(),
        Some(&contents[0][..])
    );
    store.close().unwrap();
    let object = reader.get(digest).unwrap().unwrap().into_object();
    assert_eq!(&object[..], &contents[0][..]);
    assert!(reader.refresh());
    assert!(reader.get(digest).unwrap().is_none());
    assert_eq!(&object[..], &contents[0][..]);
}

/// Batches mix hits, misses, lengths and repetitions, in any number.
#[test]
fn a_batch_equals_single_lookups_in_the_order_of_the_caller() {
    let folder = scratch();
    let store = options().open(folder.path()).unwrap();
    let lengths = [0, 1, 127, 128, 129, 300, 1000, 5000, 70_000];
    let contents: Vec<Vec<u8>> = (0..200)
        .map(|seed| {
            content(
                seed,
                lengths[usize::try_from(seed).unwrap() % lengths.len()],
            )
        })
        .collect();
    store.put_many(&contents).unwrap();
    let digests: Vec<Digest> = (0..1500_u64)
        .map(|number| {
            let number = number * 7919 % 260;
            match contents.get(usize::try_from(number).unwrap()) {
                Some(content) => digest_of(content),
                None => digest_of(&number.to_le_bytes()),
            }
        })
        .collect();
    let same = |store: &Store| {
        for count in [0, 1, 2, 3, 31, 32, 33, 64, 100, 1500] {
            let found = store.get_many(&digests[..count]);
            assert_eq!(found.len(), count);
            for (found, digest) in found.into_iter().zip(&digests) {
                let single = store.get(digest).unwrap();
                assert_eq!(found.unwrap().as_deref(), single.as_deref());
            }
        }
    };
    same(&store);
    store.close().unwrap();
    for verify in [VerifyReads::EveryRead, VerifyReads::FirstRead] {
        let store = options().verify_reads(verify).open(folder.path()).unwrap();
        eventually_covered(&store);
        same(&store);
    }
}

#[test]
fn a_checkpoint_includes_its_runs() {
    let (folder, target) = (scratch(), scratch());
    let contents = filled(folder.path(), 200);
    let copy = target.path().join("copy");
    let store = options().open(folder.path()).unwrap();
    store.checkpoint(&copy).unwrap();
    let copy = options().read_only(true).open(&copy).unwrap();
    assert!(copy.stats().set_index_runs > 0);
    assert_holds(&copy, &contents);
}

#[test]
fn advice_changes_no_answer() {
    let folder = scratch();
    let contents = filled(folder.path(), 60);
    for bits in 0..4_u8 {
        let is_set = |bit: u8| bits & 1 << bit != 0;
        let advice = Advice::new()
            .populate_data(is_set(0))
            .populate_index(is_set(1));
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            for is_read_only in [true, false] {
                let options = options().read_mode(read_mode).advice(advice);
                let store = options.read_only(is_read_only).open(folder.path()).unwrap();
                assert!(store.recovery().is_clean(), "{advice:?}");
                assert_holds(&store, &contents);
                let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
                assert!(report.is_clean(), "{advice:?}: {report:?}");
            }
        }
    }
}

/// Returns the file and offset of the one copy of this content.
fn place_of(root: &Path, content: &[u8]) -> (PathBuf, usize) {
    for entry in fs::read_dir(segments(root)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = bytes
            .windows(content.len())
            .position(|window| window == content);
        if let Some(at) = found.filter(|_| path.extension().is_some_and(|e| e == "dat")) {
            return (path, at);
        }
    }
    panic!("the content is not there");
}

/// Flips a bit; a second flip restores it.
fn flip((path, at): &(PathBuf, usize)) {
    let mut bytes = fs::read(path).unwrap();
    bytes[*at] ^= 1;
    fs::write(path, &bytes).unwrap();
}

#[test]
fn a_walk_beside_damaged_runs_gives_each_object_once() {
    let folder = scratch();
    let contents = filled(folder.path(), 100);
    // One object has two whole copies, the second of which is not sealed yet.
    let place = place_of(folder.path(), &contents[7]);
    flip(&place);
    let store = options().open(folder.path()).unwrap();
    store.put(&contents[7]).unwrap();
    store.close().unwrap();
    flip(&place);
    let walk = || {
        let store = options().read_only(true).open(folder.path()).unwrap();
        assert_eq!(store.len(), 101);
        store.iter().map(Result::unwrap).count()
    };
    assert_eq!(walk(), 100);
    for run in runs(folder.path()) {
        let mut bytes = fs::read(&run).unwrap();
        bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0xff);
        fs::write(&run, bytes).unwrap();
    }
    assert_eq!(walk(), 100);
}
