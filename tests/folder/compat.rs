//! A folder that NEDB v3 has written opens here, and NEDB v3 reads what is written here.
//!
//! `common/nedb.rs` writes and reads NEDB's format, and shares no code with the library.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sealstone::{Digest, Error, Options, ReadMode, Repair, Store};

use crate::common::layout::{
    content, data_name, file, record, records, scratch, segments, sidecar_name,
};
use crate::common::nedb;

/// A few dozen objects fill several segments of this size.
const SEGMENT_BYTES_MAX: u64 = 4096;

/// Returns four segments of different objects, the empty one among them.
pub fn sample() -> Vec<Vec<Vec<u8>>> {
    (0..4_u64)
        .map(|segment| {
            (0..20_u64)
                .map(|i| {
                    content(
                        100 * segment + i,
                        usize::try_from(segment * 7 + i * i).unwrap(),
                    )
                })
                .collect()
        })
        .collect()
}

/// Returns segments of objects of one length, so that the lengths in any sidecar fit any data.
pub fn uniform_sample() -> Vec<Vec<Vec<u8>>> {
    (0..3_u64)
        .map(|segment| {
            (0..20_u64)
                .map(|i| content(1000 + 100 * segment + i, 50))
                .collect()
        })
        .collect()
}

pub fn options() -> Options {
    Options::new().segment_bytes_max(SEGMENT_BYTES_MAX)
}

/// Returns options for a writer, and for readers of both kinds.
pub fn all_options() -> [Options; 3] {
    [
        options(),
        options().read_only(true),
        options().read_only(true).read_mode(ReadMode::Pread),
    ]
}

pub fn assert_reads<'a>(store: &Store, contents: impl IntoIterator<Item = &'a Vec<u8>>) {
    for content in contents {
        let digest = Digest::from(nedb::digest(content));
        let object = store.get(digest).unwrap();
        assert_eq!(object.as_deref(), Some(&content[..]), "{digest}");
        assert!(store.contains(digest).unwrap());
    }
}

/// Checks that each read gives the right bytes, absence, or a typed error.
pub fn assert_no_wrong_bytes(store: &Store, contents: &[Vec<Vec<u8>>]) {
    for content in contents.iter().flatten() {
        match store.get(Digest::from(nedb::digest(content))) {
            Ok(Some(object)) => assert_eq!(&object[..], content),
            Ok(None) | Err(Error::Corrupt { .. } | Error::CorruptIndex { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns the number of objects that a walk gives. A run of zeros may hold one empty record, which
/// is a second copy if the empty object is in another segment already.
fn objects(store: &Store) -> usize {
    store.iter().map(Result::unwrap).count()
}

fn assert_verifies(store: &Store) {
    let report = store.verify(|_| std::ops::ControlFlow::Continue(()));
    let report = report.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// Returns what a crash can leave after the last whole record of a file that was appended to.
fn torn_tails() -> Vec<(&'static str, Vec<u8>)> {
    let whole = record(&content(9999, 300));
    vec![
        ("none", Vec::new()),
        ("one byte of a length", whole[..1].to_vec()),
        ("three bytes of a length", whole[..3].to_vec()),
        ("a length", whole[..4].to_vec()),
        ("half a content", whole[..150].to_vec()),
        ("a content without its last byte", whole[..303].to_vec()),
        ("the largest length", vec![0xff; 64]),
        ("zeros", vec![0; 4096]),
        ("zeros that are no multiple of a length", vec![0; 4095]),
        ("half a content, then zeros", {
            let mut bytes = record(&content(9999, 5000))[..150].to_vec();
            bytes.resize(4096, 0);
            bytes
        }),
    ]
}

fn append(root: &Path, name: &str, bytes: &[u8]) {
    let mut data = fs::read(file(root, name)).unwrap();
    data.extend_from_slice(bytes);
    fs::write(file(root, name), data).unwrap();
}

#[test]
fn a2_each_side_reads_the_objects_of_the_other() {
    for (kind, tail) in torn_tails() {
        println!("torn tail: {kind}");
        let folder = scratch();
        let root = folder.path();
        let old = sample();
        nedb::write(root, &old);
        append(root, &data_name(3), &tail);

        let store = options().open(root).unwrap();
        assert_reads(&store, old.iter().flatten());
        assert_eq!(objects(&store), 80);
        let new: Vec<Vec<u8>> = (0..60).map(|i| content(5000 + i, 200)).collect();
        for content in &new {
            store.put(content).unwrap();
        }
        assert_reads(&store, old.iter().flatten().chain(&new));
        assert!(
            store.stats().segments.len() >= 6,
            "the store has not begun new segments"
        );
        assert_verifies(&store);
        store.close().unwrap();

        let read = nedb::read(root);
        assert_eq!(read.len(), 140);
        for content in old.iter().flatten().chain(&new) {
            assert_eq!(read.get(&nedb::digest(content)), Some(content));
        }
        for options in all_options() {
            let store = options.open(root).unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_reads(&store, old.iter().flatten().chain(&new));
        }
    }
}

#[test]
fn a2_a_compacted_nedb_store_is_a_nedb_store() {
    let folder = scratch();
    let old = sample();
    nedb::write(folder.path(), &old);
    let is_live = |digest: &Digest| digest.as_bytes()[0] < 170;
    let store = options().open(folder.path()).unwrap();
    store.compact(is_live).unwrap();
    store.close().unwrap();

    let read = nedb::read(folder.path());
    for content in old.iter().flatten() {
        let name = nedb::digest(content);
        assert_eq!(read.contains_key(&name), is_live(&Digest::from(name)));
    }
}

#[test]
fn a2_any_of_the_sidecars_may_be_missing() {
    let old = sample();
    for present in 0..1 << old.len() {
        let folder = scratch();
        let root = folder.path();
        nedb::write(root, &old);
        for (id, contents) in (0..).zip(&old) {
            if present & (1 << id) == 0 {
                let _ = fs::remove_file(file(root, &sidecar_name(id)));
            } else {
                nedb::write_sidecar(root, id, &nedb::entries(&nedb::data(contents)));
            }
        }
        for options in all_options().into_iter().rev() {
            let store = options.open(root).unwrap();
            assert_reads(&store, old.iter().flatten());
            assert_eq!(store.len(), 80, "sidecars {present:04b}");
        }
        assert_eq!(nedb::read(root).len(), 80);
    }
}

/// Returns name, content and time of change of everything below `root`. The files first get an old
/// time, so that writing the same bytes again is noticed.
fn state(root: &Path) -> BTreeMap<PathBuf, (SystemTime, Option<Vec<u8>>)> {
    let mut state = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                state.insert(path.clone(), (changed, Some(fs::read(path).unwrap())));
            }
        }
        let changed = fs::metadata(&folder).unwrap().modified().unwrap();
        state.insert(folder, (changed, None));
    }
    state
}

fn make_old(root: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for entry in fs::read_dir(segments(root)).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path());
        file.unwrap().set_modified(long_ago).unwrap();
    }
}

#[test]
fn h3_reading_a_nedb_store_changes_nothing() {
    for (kind, tail) in torn_tails() {
        println!("torn tail: {kind}");
        let folder = scratch();
        let root = folder.path();
        let old = sample();
        nedb::write(root, &old);
        append(root, &data_name(3), &tail);
        make_old(root);
        let before = state(root);
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let store = Options::new().read_only(true).read_mode(read_mode);
            let store = store.open(root).unwrap();
            assert_reads(&store, old.iter().flatten());
            assert_eq!(objects(&store), 80);
            store.refresh().unwrap();
            assert_reads(&store, old.iter().flatten());
            assert_verifies(&store);
            store.close().unwrap();
        }
        assert!(before == state(root), "something changed");
    }
}

/// Uses a store in every way that changes files.
fn use_as_writer(root: &Path) {
    let store = options().open(root).unwrap();
    let digests: Vec<Digest> = (0..60)
        .map(|i| store.put(content(7000 + i, 200)).unwrap())
        .collect();
    store.sync().unwrap();
    store
        .compact(|digest| digests[30..].contains(digest))
        .unwrap();
    store
        .verify(|_| std::ops::ControlFlow::Continue(()))
        .unwrap();
    store.close().unwrap();
    // Without a manifest, the store uses every file that it finds.
    fs::remove_file(file(root, "MANIFEST")).unwrap();
    options().open(root).unwrap().close().unwrap();
}

#[test]
fn h25_foreign_files_are_left_alone() {
    let folder = scratch();
    let root = folder.path();
    nedb::write(root, &sample());
    let data = nedb::data(&sample()[0]);
    let mut foreign = BTreeMap::new();
    for name in [
        "seg-7.dat",
        "seg-+5.dat",
        "seg-+00005.dat",
        "seg-0000001.dat",
        "seg-99999999999.dat",
        "seg-4294967296.dat",
        "seg-7.idx",
        "seg-7.jnl",
        "seg-000001.DAT",
        "seg-000001.dat.bak",
        "seg-000001.dat.tmp.bak",
        "seg-1.dat.tmp",
        "notes.tmp",
        "LOCK.tmp",
        "manifest",
        "MANIFEST.bak",
        "notes.txt",
        ".hidden",
    ] {
        // Some of these contents would parse, and some would not.
        let bytes = if name.len() % 2 == 0 {
            &data[..]
        } else {
            b"text\n"
        };
        fs::write(file(root, name), bytes).unwrap();
        foreign.insert(name, bytes);
    }
    fs::create_dir(file(root, "folder")).unwrap();
    fs::write(file(root, "folder").join("seg-000001.dat"), b"text\n").unwrap();

    use_as_writer(root);
    let reader = Options::new().read_only(true).open(root).unwrap();
    assert_verifies(&reader);
    for (name, bytes) in foreign {
        assert_eq!(fs::read(file(root, name)).unwrap(), bytes, "{name}");
    }
    let inner = fs::read(file(root, "folder").join("seg-000001.dat"));
    assert_eq!(inner.unwrap(), b"text\n");
}

#[cfg(target_os = "linux")]
#[test]
fn h25_a_name_that_is_no_unicode_is_left_alone() {
    use std::os::unix::ffi::OsStrExt;

    let folder = scratch();
    nedb::write(folder.path(), &sample());
    let name = std::ffi::OsStr::from_bytes(b"seg-00000\xff.dat");
    let path = segments(folder.path()).join(name);
    fs::write(&path, b"text\n").unwrap();
    use_as_writer(folder.path());
    assert_eq!(fs::read(path).unwrap(), b"text\n");
}

#[test]
fn h15_a_text_file_under_a_valid_name_is_neither_cut_nor_lost() {
    let text =
        b"Notes on the segments: the one that was copied here on Monday is whole.\n".repeat(20);
    let folder = scratch();
    let root = folder.path();
    let old = sample();
    nedb::write(root, &old);
    let names = ["seg-000009.dat", "seg-000010.idx", "seg-000011.jnl"];
    for name in names {
        fs::write(file(root, name), &text).unwrap();
    }
    make_old(root);
    let before = state(root);
    let reader = Options::new().read_only(true).open(root).unwrap();
    assert_reads(&reader, old.iter().flatten());
    assert!(before == state(root), "a reader changed something");

    let store = options().open(root).unwrap();
    let path = file(root, names[0]);
    let repairs = &store.recovery().repairs;
    assert!(
        repairs.contains(&Repair::IgnoredFile { path }),
        "{repairs:?}"
    );
    assert_reads(&store, old.iter().flatten());
    assert_eq!(store.len(), 80);
    drop(store);
    use_as_writer(root);
    for name in names {
        assert_eq!(fs::read(file(root, name)).unwrap(), text, "{name}");
    }
}

/// `prefix` parses as records, the text after it does not. The store cannot know that it did not
/// write it, so it may be cut; but no byte may be lost.
#[test]
fn h15_bytes_that_are_cut_off_are_saved() {
    let text = b"and then text that is no record at all\n".to_vec();
    for prefix in [vec![0; 4], record(b"abc"), record(&content(1, 100))] {
        let folder = scratch();
        let root = folder.path();
        fs::create_dir_all(segments(root)).unwrap();
        let whole = [prefix, text.clone()].concat();
        fs::write(file(root, "seg-000009.dat"), &whole).unwrap();
        options().open(root).unwrap().close().unwrap();
        let kept = fs::read(file(root, "seg-000009.dat")).unwrap();
        let saved = fs::read(file(root, "seg-000009.torn")).unwrap();
        assert_eq!([kept, saved].concat(), whole);
    }
}

/// NEDB has no journal, so damage to a length in its last segment looks like a torn tail. The bytes
/// behind it are cut, and must be reported and saved.
#[test]
fn h5_a_flipped_length_in_the_last_segment_loses_no_byte() {
    let folder = scratch();
    let root = folder.path();
    let old = sample();
    nedb::write(root, &old);
    let mut data = nedb::data(&old[3]);
    let (offset, _) = records(&data)[10];
    let damaged = usize::try_from(offset).unwrap() - 1;
    data[damaged] ^= 0x40;
    fs::write(file(root, &data_name(3)), &data).unwrap();

    let store = options().open(root).unwrap();
    assert_reads(&store, old[..3].iter().flatten().chain(&old[3][..10]));
    let path = file(root, "seg-000003.torn");
    let cut = Repair::CutTail {
        segment: 3,
        bytes: data.len() as u64 - (offset - 4),
        saved_as: Some(path.clone()),
    };
    let repairs = &store.recovery().repairs;
    assert!(repairs.contains(&cut), "{repairs:?}");
    store.close().unwrap();
    let kept = fs::read(file(root, &data_name(3))).unwrap();
    assert_eq!([kept, fs::read(path).unwrap()].concat(), data);
}

#[test]
fn h20_sixteen_mebibytes_of_zeros_add_no_object() {
    for holds_empty in [true, false] {
        let folder = scratch();
        let root = folder.path();
        let first = u64::from(!holds_empty);
        let old = vec![
            (first..20)
                .map(|i| content(i, usize::try_from(i).unwrap()))
                .collect(),
        ];
        nedb::write(root, &old);
        append(root, &data_name(0), &vec![0; 16 << 20]);
        let objects = old[0].len() as u64;
        // One empty record may be real; a second cannot.
        let objects_max = objects + u64::from(!holds_empty);
        for options in all_options().into_iter().rev() {
            let store = options.open(root).unwrap();
            assert_reads(&store, old.iter().flatten());
            assert!(
                (objects..=objects_max).contains(&store.len()),
                "{}",
                store.len()
            );
        }
        let data = fs::metadata(file(root, &data_name(0))).unwrap();
        assert!(data.len() < 1 << 10, "the zeros are still there");
        assert!(!file(root, "seg-000000.torn").exists(), "zeros were saved");
    }
}

#[test]
fn h21_rot_in_a_nedb_segment_is_corrupt_and_not_absent() {
    let old = sample();
    let mut data = nedb::data(&old[1]);
    let (offset, rotten) = records(&data)[7];
    let digest = Digest::from(nedb::digest(rotten));
    data[usize::try_from(offset).unwrap()] ^= 1;
    for options in all_options() {
        let folder = scratch();
        nedb::write(folder.path(), &old);
        fs::write(file(folder.path(), &data_name(1)), &data).unwrap();
        let store = options.open(folder.path()).unwrap();
        let found = store.get(digest);
        assert!(
            matches!(found, Err(Error::Corrupt { digest: d, segment: 1, offset: o }) if d == digest && o == offset),
            "{found:?}"
        );
        let others = old.iter().flatten();
        assert_reads(
            &store,
            others.filter(|content| nedb::digest(content) != *digest.as_bytes()),
        );
    }
}
