//! Sidecars and runs that do not belong to their data: they hide no object, and no answer relies on
//! them alone.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use sealstone::format::Manifest;
use sealstone::{Digest, Error, Options, Problem, ReadMode, Store, VerifyReads};
use tempfile::TempDir;

use crate::common::hash::digest_of;
use crate::common::layout::file;
use crate::common::workload::{
    assert_holds, content, contents, copy_store, eventually, names, put_all, settle,
};
use crate::small::{digests, edit, options, read_only};

// --- Damage ---

/// Creates three sealed segments of four objects each, and two objects in the active one.
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

/// Without the length, the sidecar could not be rebuilt from the data.
#[test]
fn h21_an_object_whose_record_has_a_damaged_length_is_repaired_by_a_put_and_a_compaction() {
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let folder = TempDir::new().unwrap();
        let all = three_sealed_segments(folder.path());
        edit(&file(folder.path(), "seg-000001.dat"), |data| data[0] ^= 1);
        let store = options().read_mode(mode).open(folder.path()).unwrap();
        let verified = || store.verify(|_| ControlFlow::Continue(())).unwrap();
        let damaged = |problem: &Problem| matches!(problem, Problem::DamagedRecordLength { .. });
        assert!(verified().problems.iter().any(damaged));
        for content in &all {
            store.put(content).unwrap();
        }
        assert_eq!(
            store.len(),
            all.len() as u64 + 1,
            "one object is stored again"
        );
        store.compact(|_| true).unwrap();
        assert!(verified().is_clean(), "{:?}", verified());
        for content in &all {
            let object = store.get(Digest::of(content)).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    }
}

fn is_in_doubt<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::CorruptIndex { segment: 1, .. }))
}

/// Checks that a walk gives each of these objects once, and reports once that the index of segment
/// 1 may lack some.
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

        let absent = digest_of(b"never put");
        assert!(is_in_doubt(&store.get(absent)));
        assert!(is_in_doubt(&store.contains(absent)));
        assert!(is_in_doubt(&store.find(&absent.to_string())));
        let damaged = if in_data == in_content { 4 } else { 5 };
        let lost = digests[damaged];
        assert!(is_in_doubt(&store.get(lost)));
        assert!(is_in_doubt(&store.contains(lost)));
        assert!(is_in_doubt(&store.find(&lost.to_string())));
        for other in &others {
            assert!(store.get(other).unwrap().is_some());
            assert_eq!(store.find(&other.to_string()).unwrap(), Some(*other));
        }

        // A walk also gives out the rest of the segment.
        let left = if in_data == in_content { 5..8 } else { 4..5 };
        let found = [&others[..], &digests[left]].concat();
        assert_walks_past_the_doubt(store.iter(), &found, |object| *object.digest());
        assert_walks_past_the_doubt(store.digests(), &found, |digest| *digest);

        if !read_only {
            // Dropping the segment would drop the objects that the index lacks.
            assert!(is_in_doubt(&store.compact(|_| true)));
            store.put(&all[damaged]).unwrap();
            let object = store.get(lost).unwrap();
            assert_eq!(object.as_deref(), Some(&all[damaged][..]));
        }
    }
}

/// Found by the fuzz target `directory`: `FirstRead` asked the sidecar alone, which lacked an
/// object that the run still located.
#[test]
fn an_object_that_a_run_locates_is_read_also_if_the_sidecar_lacks_it() {
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
    for verify in [VerifyReads::FirstRead, VerifyReads::EveryRead] {
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let folder = TempDir::new().unwrap();
            copy_store(intact.path(), folder.path());
            edit(&file(folder.path(), "seg-000001.idx"), |bytes| {
                bytes[60] ^= 0x40;
            });
            // This is the length of the second record, where a reading of the data alone ends.
            edit(&file(folder.path(), "seg-000001.dat"), |bytes| {
                bytes[404] ^= 0x40;
            });
            let options = with_runs.clone().verify_reads(verify).read_mode(mode);
            assert_holds_objects_that_only_a_run_locates(folder.path(), &options, &all[6..8]);
        }
    }
}

fn assert_holds_objects_that_only_a_run_locates(root: &Path, options: &Options, held: &[Vec<u8>]) {
    let assert_held = |store: &Store| {
        for content in held {
            let object = store.get(digest_of(content)).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    };
    let store = options.open(root).unwrap();
    assert_held(&store);
    // Found by the same target: a new run, built from the sidecars, replaced the run that still
    // located these objects.
    for number in 20..40 {
        store.put(content(number, 400)).unwrap();
    }
    store.close().unwrap();
    let store = options.open(root).unwrap();
    assert_held(&store);
    let stats = store.stats();
    assert_eq!((stats.set_index_runs, stats.uncovered_segments), (2, 0));
}

/// Found by the fuzz target `directory`: a put found the object in a run of the set index. A run
/// has only a few bits of a digest, and the forged sidecar had another digest with the same bits,
/// so a compaction did not know which object it dropped.
#[test]
fn h17_h35_an_object_put_again_is_kept_although_the_sidecar_has_another_digest() {
    let folder = TempDir::new().unwrap();
    let all = three_sealed_segments(folder.path());
    let held = &all[6];
    let digest = digest_of(held);
    edit(&file(folder.path(), "seg-000001.idx"), |bytes| {
        let is_entry = |bytes: &[u8]| bytes == digest.as_bytes();
        let at = bytes.windows(32).position(is_entry).unwrap();
        bytes[at + 31] ^= 1;
        let covered = bytes.len() - 32;
        let checksum = Digest::of(&bytes[..covered]);
        bytes[covered..].copy_from_slice(checksum.as_bytes());
    });
    // Without the manifest, nothing says which sidecar belongs here.
    fs::remove_file(file(folder.path(), "MANIFEST")).unwrap();
    let store = options()
        .set_index_minimum(1, 1)
        .open(folder.path())
        .unwrap();
    eventually("a run is built from the sidecars", || {
        let stats = store.stats();
        stats.set_index_runs > 0 && stats.uncovered_segments == 0
    });
    let found = store.get(digest).unwrap();
    assert_eq!(found.as_deref(), Some(&held[..]), "the run leads to it");
    store.put(held).unwrap();
    store.sync().unwrap();
    store.compact(|live| *live == digest).unwrap();
    let found = store.get(digest).unwrap();
    assert_eq!(found.as_deref(), Some(&held[..]));
}

fn problem_segments(store: &Store) -> Vec<Option<u32>> {
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.corrupt.is_empty(), "{report:?}");
    assert_eq!(report.is_clean(), report.problems.is_empty());
    let problems = report.problems.iter();
    problems.map(Problem::segment).collect()
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

    // The earlier reader maps the old file, so the new bytes go to a new one.
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
        // The data is right, so every object is found.
        for content in &all {
            let object = reader.get(digest_of(content)).unwrap();
            assert_eq!(object.as_deref(), Some(&content[..]));
        }
    }
}

/// Found by fuzzing: a run of the set index was given the size that the manifest named.
#[test]
fn h22_a_forged_number_of_objects_makes_no_large_index() {
    const FORGED: u32 = 1 << 22;
    let kept = contents(0, 40, 100);
    for verify in [VerifyReads::EveryRead, VerifyReads::FirstRead] {
        let folder = TempDir::new().unwrap();
        let options = options().set_index_minimum(1, 0).verify_reads(verify);
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
