//! Decisions of an opening: which segment goes on, which sidecar is believed, which files are
//! written anew.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sealstone::format::{Entry, Journal, Manifest, Records, Sidecar, journal};
use sealstone::{Digest, Error, Leftover, Options, Repair, SegmentState, Store};

use crate::common::hash::{digest_of, hash_function, new_options};
use crate::common::layout::{data_name, file, read_files, record, scratch, segments, sidecar_name};
use crate::common::workload::{
    self, Contents, Kind, Verdict, assert_holds, assert_verifies, content, contents, put_all, seam,
    without_syncing,
};

pub const JOURNAL: &str = "seg-000000.jnl";

pub fn options() -> Options {
    new_options().operations(without_syncing())
}

/// Returns options for a folder whose indexes match no content, so that only a build with every hash
/// function knows that the function is none of the others.
fn options_of_mismatches() -> Options {
    options().hash_function(hash_function())
}

/// Returns the data file that holds these contents, in their order.
pub fn data_of(contents: &[Vec<u8>]) -> Vec<u8> {
    contents
        .iter()
        .flat_map(|content| record(content))
        .collect()
}

pub fn entries_of(data: &[u8]) -> Vec<Entry> {
    let entry = |record: sealstone::format::Record<'_>| Entry {
        digest: digest_of(record.content),
        offset: record.offset,
        len: u32::try_from(record.content.len()).unwrap(),
    };
    Records::new(data).map(entry).collect()
}

fn sidecar_of(data: &[u8]) -> Vec<u8> {
    Sidecar::build(&mut entries_of(data)).into_bytes()
}

/// Writes a file of a store as another program would, without a manifest and without journals.
pub fn write(root: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(segments(root)).unwrap();
    fs::write(file(root, name), bytes).unwrap();
}

pub fn listed(contents: &[Vec<u8>]) -> Contents {
    let contents = contents.iter().cloned();
    contents
        .map(|content| (digest_of(&content), content))
        .collect()
}

fn manifest(root: &Path) -> Manifest {
    Manifest::parse(&fs::read(file(root, "MANIFEST")).unwrap()).unwrap()
}

fn active(store: &Store) -> u32 {
    let segments = store.stats().segments;
    let active = segments.iter().find(|s| s.state == SegmentState::Active);
    active.unwrap().id
}

#[test]
fn a_manifest_of_a_newer_version_is_refused_and_nothing_is_changed() {
    let folder = scratch();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(0, 3, 100));
    store.close().unwrap();
    let body = "sealstone 4\nnext 1\nactive 0\n";
    let text = format!("{body}checksum {}\n", Digest::of(body.as_bytes()));
    write(folder.path(), "MANIFEST", text.as_bytes());
    let before = read_files(folder.path());
    for read_only in [false, true] {
        match options().read_only(read_only).open(folder.path()) {
            Err(Error::UnsupportedVersion { path }) => {
                assert_eq!(path, file(folder.path(), "MANIFEST"));
            }
            other => panic!("{other:?}"),
        }
        assert!(read_files(folder.path()) == before);
    }
}

#[test]
fn an_unsealed_segment_is_appended_to_if_it_has_room() {
    let held: Vec<Vec<u8>> = (0..4).map(|number| content(number, 500)).collect();
    for (segment_bytes_max, expected) in [(1 << 20, 0), (2100, 0), (2000, 1), (100, 1)] {
        let folder = scratch();
        let root = folder.path();
        write(root, &data_name(0), &data_of(&held));
        let options = options().segment_bytes_max(segment_bytes_max);
        let store = options.open(root).unwrap();
        assert_eq!(active(&store), expected, "{segment_bytes_max}");
        assert_holds(&store, &listed(&held));
    }
}

/// If the data grew, another reader of the format would meet a sidecar that does not fit.
#[test]
fn a_segment_with_a_sidecar_that_does_not_fit_is_sealed_and_not_appended_to() {
    let (first, second, third): (Vec<_>, Vec<_>, Vec<_>) = (
        (0..5).map(|number| content(number, 300)).collect(),
        (10..15).map(|number| content(number, 300)).collect(),
        (20..25).map(|number| content(number, 300)).collect(),
    );
    for damaged in [0, 1] {
        let folder = scratch();
        let root = folder.path();
        write(root, &data_name(0), &data_of(&first));
        write(root, &data_name(1), &data_of(&second));
        write(root, &sidecar_name(damaged), &sidecar_of(&data_of(&third)));
        let held = listed(&[first.clone(), second.clone()].concat());
        let store = options_of_mismatches().open(root).unwrap();
        // The active segment has the highest id of all unsealed ones.
        assert_eq!(active(&store), if damaged == 0 { 1 } else { 2 });
        store.put(&third[0]).unwrap();
        assert_holds(&store, &held);
        store.close().unwrap();
        let data = fs::read(file(root, &data_name(damaged))).unwrap();
        assert!(data == data_of(if damaged == 0 { &first } else { &second }));
        workload::eventually("the segment is sealed", || {
            fs::read(file(root, &sidecar_name(damaged))).unwrap() == sidecar_of(&data)
        });
        let store = options().open(root).unwrap();
        assert_holds(&store, &held);
        assert_holds(&store, &listed(&third[..1]));
        assert_verifies(&store);
    }
}

/// Opens a store, and counts how often its manifest was replaced meanwhile.
fn replaced_manifests(root: &Path) -> (usize, Store) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let operations = seam(move |step| match step.kind {
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        _ => {
            let is_manifest = step.is(Kind::Rename, "MANIFEST.tmp");
            counted.fetch_add(usize::from(is_manifest), Ordering::SeqCst);
            Verdict::Go
        }
    });
    let store = new_options().operations(operations).open(root).unwrap();
    (count.load(Ordering::SeqCst), store)
}

#[test]
fn a_manifest_is_written_only_when_its_text_changes() {
    let folder = scratch();
    let root = folder.path();
    let sealed: Vec<Vec<u8>> = (0..5).map(|number| content(number, 300)).collect();
    write(root, &data_name(0), &data_of(&sealed));
    write(root, &sidecar_name(0), &sidecar_of(&data_of(&sealed)));
    let (replaced, store) = replaced_manifests(root);
    assert_eq!(replaced, 1);
    assert!(matches!(
        store.recovery().repairs[..],
        [Repair::AdoptedSegment {
            segment: 0,
            objects: 5
        }]
    ));
    assert!(manifest(root).sealed.contains_key(&0));
    store.close().unwrap();
    let (replaced, store) = replaced_manifests(root);
    assert_eq!(replaced, 0);
    assert!(store.recovery().is_clean());
    assert_holds(&store, &listed(&sealed));
}

#[test]
fn a_damaged_manifest_is_reported_once_and_replaced() {
    let folder = scratch();
    let root = folder.path();
    let store = options().open(root).unwrap();
    let held = contents(0, 3, 100);
    put_all(&store, &held);
    store.close().unwrap();
    write(root, "MANIFEST", b"sealstone 1\nnext 1\n");
    let (replaced, store) = replaced_manifests(root);
    assert_eq!(replaced, 1);
    assert!(matches!(
        store.recovery().repairs[..],
        [Repair::IgnoredManifest { .. }, Repair::KeptManifest { .. }]
    ));
    store.close().unwrap();
    let (replaced, store) = replaced_manifests(root);
    assert_eq!(replaced, 0);
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_holds(&store, &held);
}

#[test]
fn verify_lists_what_is_no_part_of_the_store_and_what_was_kept_can_be_removed() {
    let folder = scratch();
    let root = folder.path();
    let store = options().open(root).unwrap();
    put_all(&store, &contents(0, 3, 100));
    store.close().unwrap();
    write(root, "MANIFEST", b"sealstone 1\nnext 1\n");
    options().open(root).unwrap().close().unwrap();
    write(root, "MANIFEST.tmp", b"seal");
    write(root, "seg-000000.torn", b"half");
    write(root, "notes.txt", b"of the user");
    let store = options().read_only(true).open(root).unwrap();
    let stats = store.stats();
    assert_eq!((stats.torn_files, stats.foreign_files), (1, 1));
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    match &report.leftovers[..] {
        [
            Leftover::DamagedManifest { path: kept },
            Leftover::Temporary { path },
            Leftover::Torn { path: torn },
            Leftover::Foreign { path: notes },
        ] => {
            assert!(kept.ends_with("MANIFEST.damaged"), "{kept:?}");
            assert!(path.ends_with("MANIFEST.tmp"), "{path:?}");
            assert!(torn.ends_with("seg-000000.torn"), "{torn:?}");
            assert!(notes.ends_with("notes.txt"), "{notes:?}");
        }
        others => panic!("{others:?}"),
    }
    assert!(matches!(store.remove_leftovers(), Err(Error::ReadOnly)));

    let store = options().open(root).unwrap();
    let removed = store.remove_leftovers().unwrap();
    match &removed[..] {
        [
            Leftover::DamagedManifest { path },
            Leftover::Torn { path: torn },
        ] => {
            assert!(!path.exists() && !torn.exists());
        }
        others => panic!("{others:?}"),
    }
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(matches!(report.leftovers[..], [Leftover::Foreign { .. }]));
    assert_eq!(store.remove_leftovers().unwrap(), []);
    assert_holds(&store, &contents(0, 3, 100));
}

/// Damage to less than half of the objects counts as rot; more means that the sidecar belongs to
/// other data.
#[test]
fn h21_a_sidecar_is_believed_while_most_of_its_digests_match_the_data() {
    let held: Vec<Vec<u8>> = (0..20).map(|number| content(number, 100)).collect();
    for damaged in [1, 9, 10, 20] {
        let folder = scratch();
        let root = folder.path();
        let mut data = data_of(&held);
        let sidecar = sidecar_of(&data);
        for number in 0..damaged {
            data[number * 104 + 50] ^= 1;
        }
        write(root, &data_name(0), &data);
        write(root, &sidecar_name(0), &sidecar);
        let store = options_of_mismatches().open(root).unwrap();
        assert_holds(&store, &listed(&held[damaged..]));
        for lost in &held[..damaged] {
            let found = store.get(digest_of(lost));
            if damaged < 10 {
                assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
            } else {
                assert!(matches!(found, Ok(None)), "{found:?}");
            }
        }
    }
}

/// A crash right after a segment was created leaves this state.
#[test]
fn an_empty_data_file_without_a_journal_becomes_the_active_segment() {
    let folder = scratch();
    let root = folder.path();
    write(root, &data_name(0), b"");
    let store = options().open(root).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(active(&store), 0);
    let held = contents(0, 3, 100);
    put_all(&store, &held);
    store.close().unwrap();
    assert_holds(&options().open(root).unwrap(), &held);
}

/// H43: after a journal was lost once, it is not missed a second time.
#[test]
fn h43_a_journal_that_was_lost_is_written_anew() {
    let folder = scratch();
    let root = folder.path();
    let store = options().open(root).unwrap();
    let held = contents(0, 5000, 20);
    store.put_many(&held.values().collect::<Vec<_>>()).unwrap();
    store.close().unwrap();
    fs::remove_file(file(root, JOURNAL)).unwrap();
    let store = options().open(root).unwrap();
    assert!(matches!(
        store.recovery().repairs[..],
        [Repair::RehashedTail {
            segment: 0,
            bytes: 120_000
        }]
    ));
    store.close().unwrap();
    let store = options().open(root).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_holds(&store, &held);
}

/// A journal can note records that a power failure took from the data. Records appended in their
/// place follow them in the journal unless it is replaced first, and a reader that has seen the old
/// records must notice that.
#[test]
fn h5_objects_put_behind_a_lost_tail_are_kept() {
    let folder = scratch();
    let root = folder.path();
    let store = options().open(root).unwrap();
    let (first, lost, third) = (
        contents(0, 3, 100),
        contents(10, 3, 100),
        contents(20, 3, 100),
    );
    put_all(&store, &first);
    store.sync().unwrap();
    let (data, journal) = (
        fs::read(file(root, &data_name(0))).unwrap(),
        fs::read(file(root, JOURNAL)).unwrap(),
    );
    put_all(&store, &lost);
    store.close().unwrap();
    // The last frame is the sync mark, so these frames note everything but the sync.
    let noted = fs::read(file(root, JOURNAL)).unwrap();
    let mark = journal::FRAME_BYTES;
    assert!(noted.len() > journal.len() + mark && noted.starts_with(&journal));
    write(root, JOURNAL, &noted[..noted.len() - mark]);
    let reader = options().read_only(true).open(root).unwrap();
    assert_holds(&reader, &lost);
    write(root, &data_name(0), &data);

    let store = options().open(root).unwrap();
    assert_holds(&store, &first);
    put_all(&store, &third);
    store.sync().unwrap();
    reader.refresh().unwrap();
    assert_holds(&reader, &first);
    assert_holds(&reader, &third);
    store.close().unwrap();
    let store = options().open(root).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_holds(&store, &first);
    assert_holds(&store, &third);
}

/// A journal is never synced, so a crash may leave its end and not its middle. If the middle is
/// written again as it was, the old end follows it and describes bytes that have changed by then:
/// after another crash, synced objects were taken for torn. Found by the crash states.
#[test]
fn h5_h18_no_old_frame_stays_behind_the_frames_of_a_resumed_journal() {
    let folder = scratch();
    let root = folder.path();
    // Each put ends a block, and so notes its records.
    let options = options().write_block_bytes(90);
    let store = options.open(root).unwrap();
    let first = contents(0, 6, 80);
    put_all(&store, &first);
    let path = file(root, JOURNAL);
    let bytes = fs::read(&path).unwrap();
    let data = fs::read(file(root, &data_name(0))).unwrap();
    store.close().unwrap();

    let valid = |len: usize| Journal::parse(&bytes[..len], 0).map_or(0, |j| j.valid_bytes);
    let mut ends: Vec<u64> = (0..=bytes.len()).map(valid).collect();
    ends.dedup();
    let ends: Vec<usize> = ends
        .iter()
        .map(|&end| usize::try_from(end).unwrap())
        .collect();
    assert!(ends.len() > 5, "{ends:?}");
    let mut torn = bytes.clone();
    torn[ends[2]..ends[3]].fill(0);
    fs::write(&path, &torn).unwrap();
    let noted = Journal::parse(&bytes[..ends[3]], 0).unwrap();
    let kept_bytes = usize::try_from(noted.covered_bytes).unwrap();
    fs::write(file(root, &data_name(0)), &data[..kept_bytes]).unwrap();

    let store = options.open(root).unwrap();
    let second = contents(100, 3, 80);
    put_all(&store, &second);
    let after = fs::read(&path).unwrap();
    let journal = Journal::parse(&after, 0).unwrap();
    assert_eq!(journal.valid_bytes, after.len() as u64);
    assert_holds(&store, &second);
}

/// An application that often opens a store to read a little does no finished work again.
#[test]
fn opening_a_cleanly_closed_store_changes_no_file() {
    let folder = scratch();
    let root = folder.path();
    let held = contents(0, 20, 100);
    let store = options().open(root).unwrap();
    put_all(&store, &held);
    store.close().unwrap();
    let before = read_files(root);
    let changes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&changes);
    let operations = seam(move |step| {
        let is_change = matches!(step.kind, Kind::Write | Kind::Cut | Kind::Rename);
        counted.fetch_add(usize::from(is_change), Ordering::SeqCst);
        Verdict::Go
    });
    let store = new_options().operations(operations).open(root).unwrap();
    assert_holds(&store, &held);
    store.close().unwrap();
    assert_eq!(changes.load(Ordering::SeqCst), 0);
    assert!(read_files(root) == before);
}

/// H30: whichever file became shorter, the report says by how much, and the rest is read.
#[test]
fn h30_data_that_became_shorter_is_reported_with_its_missing_bytes() {
    let held: Vec<Vec<u8>> = (0..5).map(|number| content(number, 100)).collect();
    let whole = data_of(&held);
    for is_sealed in [true, false] {
        let folder = scratch();
        let root = folder.path();
        write(root, &data_name(0), &whole);
        if is_sealed {
            write(root, &sidecar_name(0), &sidecar_of(&whole));
        }
        options().open(root).unwrap().close().unwrap();
        write(root, &data_name(0), &whole[..whole.len() - 110]);
        for _ in 0..2 {
            let store = options().open(root).unwrap();
            let short = Repair::ShortData {
                segment: 0,
                missing_bytes: 110,
            };
            assert_eq!(store.recovery().repairs, [short]);
            assert_holds(&store, &listed(&held[..3]));
            for lost in &held[3..] {
                let found = store.get(digest_of(lost));
                assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
            }
        }
    }
}

/// H34: a file that cannot be read is an error with its path, and neither missing nor left out.
#[test]
fn h34_a_folder_in_the_place_of_any_file_is_an_error_with_its_path() {
    let sealed: Vec<Vec<u8>> = (0..5).map(|number| content(number, 100)).collect();
    let torn = [&data_of(&sealed)[..], b"torn"].concat();
    for name in [
        "seg-000000.dat",
        "seg-000000.idx",
        "seg-000001.dat",
        "seg-000001.jnl",
        "seg-000001.torn",
        "set-000000.run",
        "MANIFEST",
    ] {
        let folder = scratch();
        let root = folder.path();
        write(root, &data_name(0), &data_of(&sealed));
        write(root, &sidecar_name(0), &sidecar_of(&data_of(&sealed)));
        options().open(root).unwrap().close().unwrap();
        if name.ends_with("torn") {
            write(root, &data_name(1), &torn);
        }
        let path = file(root, name);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        for read_only in [true, false] {
            // A reader does not examine bytes that were cut off, nor a sidecar that a manifest
            // binds before it needs it.
            if read_only && (name.ends_with("torn") || name.ends_with("idx")) {
                continue;
            }
            match options().read_only(read_only).open(root) {
                Err(Error::Io { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
