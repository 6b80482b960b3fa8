//! Stores that an earlier build wrote must open for ever, and the same operations must give the same
//! bytes. There is one for each hash function; the default one has the manifest of version 1, the
//! others that of version 3. A change of the format changes `FORMAT.md`, the version in the
//! manifest, and the fixtures together; the stores of the earlier version then stay as further
//! fixtures.
//!
//! This command writes those anew that are missing: `SEALSTONE_REGENERATE=1 cargo test
//! --all-features --test folder regenerate_fixtures -- --ignored`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::common::hash::options_of;
use crate::common::layout::{Files, content, is_kind, read_files, scratch, segments, write_files};
use sealstone::format::Manifest;
use sealstone::{
    Error, HashFunction, Options, ParseHashFunctionError, ReadMode, SegmentState, Store,
};

const SEGMENT_BYTES_MAX: u64 = 4096;

/// The hash functions of the fixtures, by name: a build may lack some.
const NAMES: [&str; 4] = ["blake2b", "blake2b-256", "sha256", "blake3"];

/// Returns the folder of the fixture whose hash function has this name.
fn fixture_of(name: &str) -> PathBuf {
    let version = match name {
        "blake2b" => "v1".to_owned(),
        _ => format!("v3-{name}"),
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(version)
}

fn fixture(function: HashFunction) -> PathBuf {
    fixture_of(function.name())
}

/// Returns options that leave it to the store by which function its objects are named.
fn options() -> Options {
    Options::new().segment_bytes_max(SEGMENT_BYTES_MAX)
}

/// Returns the objects in the order in which they are put.
fn contents() -> Vec<Vec<u8>> {
    // These are the empty object, short ones, one of nearly a segment, one that is larger than a
    // segment, and some more.
    let lengths = [
        0, 1, 2, 4, 44, 255, 256, 1000, 700, 3, 4000, 6000, 10, 500, 65, 64, 900,
    ];
    (0..)
        .zip(lengths)
        .map(|(seed, len)| content(seed, len))
        .collect()
}

/// Writes the store of the fixture: it is opened several times, synced in between, and one object
/// is put twice.
fn write_store(root: &Path, function: HashFunction) {
    let contents = contents();
    let (first, second) = contents.split_at(9);
    let creating = options_of(function).segment_bytes_max(SEGMENT_BYTES_MAX);
    let store = creating.open(root).unwrap();
    for (position, content) in first.iter().enumerate() {
        store.put(content).unwrap();
        if position == 4 {
            store.sync().unwrap();
        }
    }
    store.close().unwrap();
    let store = options().open(root).unwrap();
    for (position, content) in second.iter().enumerate() {
        store.put(content).unwrap();
        // The journal of the active segment gets several frames.
        if position >= 4 {
            store.sync().unwrap();
        }
    }
    store.put(&contents[6]).unwrap();
    store.close().unwrap();
    // The store is opened once more without a put.
    options().open(root).unwrap().close().unwrap();
}

/// Returns the files whose bytes the format fixes, without derived files that may be laid out anew.
fn files_of_the_format(root: &Path) -> Files {
    let mut files = read_files(root);
    files.retain(|name, _| {
        ["dat", "idx", "jnl"].iter().any(|kind| is_kind(name, kind))
            || name == "MANIFEST"
            || name == "LOCK"
    });
    files
}

fn assert_holds_everything(store: &Store, function: HashFunction) {
    assert_eq!(store.hash_function(), function);
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    let contents = contents();
    assert_eq!(store.len(), contents.len() as u64);
    for content in &contents {
        let object = store.get(function.digest(content)).unwrap();
        assert_eq!(object.as_deref(), Some(&content[..]));
    }
    let in_file_order: Vec<Vec<u8>> = store
        .iter()
        .map(|object| object.unwrap().to_vec())
        .collect();
    assert!(in_file_order == contents);
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.objects, contents.len() as u64);
}

/// Runs a check for each function that is compiled in.
fn for_each(check: impl Fn(HashFunction)) {
    for &function in HashFunction::ALL {
        println!("{function}");
        check(function);
    }
}

#[test]
fn a_store_of_each_version_opens_and_holds_its_objects() {
    for_each(|function| {
        let folder = scratch();
        write_files(folder.path(), &read_files(&fixture(function)));
        let before = read_files(folder.path());
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let options = options().read_mode(read_mode).read_only(true);
            assert_holds_everything(&options.open(folder.path()).unwrap(), function);
            assert!(
                read_files(folder.path()) == before,
                "a reader changed something"
            );
        }
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let store = options().read_mode(read_mode).open(folder.path()).unwrap();
            assert_holds_everything(&store, function);
            store.close().unwrap();
        }
    });
}

#[test]
fn a_store_of_each_version_takes_new_objects() {
    for_each(|function| {
        let folder = scratch();
        write_files(folder.path(), &read_files(&fixture(function)));
        let store = options().open(folder.path()).unwrap();
        let new: Vec<Vec<u8>> = (100..120).map(|seed| content(seed, 500)).collect();
        store.put_many(&new).unwrap();
        let dead = function.digest(&contents()[3]);
        store.compact(|digest| *digest != dead).unwrap();
        store.close().unwrap();

        let store = options().open(folder.path()).unwrap();
        for content in contents().iter().chain(&new) {
            let digest = function.digest(content);
            let expected = (digest != dead).then_some(&content[..]);
            assert_eq!(store.get(digest).unwrap().as_deref(), expected);
        }
    });
}

/// A build that lacks the hash function of a store says so, and changes nothing.
#[test]
fn a_store_of_a_function_that_is_not_compiled_in_is_refused() {
    for name in NAMES {
        let missing = match name.parse::<HashFunction>() {
            Ok(_) => continue,
            Err(ParseHashFunctionError::NotCompiledIn { feature }) => feature,
            Err(error) => panic!("{error}"),
        };
        let folder = scratch();
        write_files(folder.path(), &read_files(&fixture_of(name)));
        let before = read_files(folder.path());
        for read_only in [true, false] {
            let opened = options().read_only(read_only).open(folder.path());
            match opened {
                Err(Error::HashFunctionNotCompiledIn { feature, .. }) => {
                    assert_eq!(feature, missing);
                }
                other => panic!("{other:?}"),
            }
            assert!(read_files(folder.path()) == before);
        }
        // Its objects have no digest that this build can compute, which is no reason to name them anew.
        for manifest in [None, Some(&before["MANIFEST"][..30]), Some(b"rubbish")] {
            let path = segments(folder.path()).join("MANIFEST");
            match manifest {
                Some(damaged) => fs::write(path, damaged).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let before = read_files(folder.path());
            for read_only in [true, false] {
                let opened = options().read_only(read_only).open(folder.path());
                assert!(matches!(opened, Err(Error::HashFunctionUnknown { .. })));
                assert!(read_files(folder.path()) == before);
            }
        }
    }
}

/// The fixtures must have the properties that the tests above rely on.
#[test]
fn each_fixture_holds_every_kind_of_file_and_is_small() {
    for_each(|function| {
        let files = read_files(&fixture(function));
        assert!(files.values().map(Vec::len).sum::<usize>() < 20 << 10);
        assert!(files["LOCK"].is_empty());
        let manifest = str::from_utf8(&files["MANIFEST"]).unwrap();
        let beginning = match function {
            HashFunction::Blake2b => "sealstone 1\nnext ".to_owned(),
            _ => format!("sealstone 3\nhash {function}\nnext "),
        };
        assert!(manifest.starts_with(&beginning), "{manifest}");
        let store = options().read_only(true).open(fixture(function)).unwrap();
        let segments = store.stats().segments;
        let active: Vec<u32> = segments
            .iter()
            .filter(|segment| segment.state != SegmentState::Sealed)
            .map(|segment| segment.id)
            .collect();
        let last = segments.last().unwrap().id;
        assert_eq!(active, [last]);
        assert!(segments.len() >= 3);
        assert!(
            segments
                .iter()
                .any(|segment| segment.objects == 1 && segment.data_bytes > SEGMENT_BYTES_MAX)
        );
        let journal = files.get(&format!("seg-{last:06}.jnl"));
        assert!(journal.is_some_and(|bytes| bytes.len() > 100));
        let expected = 3 + segments.len() * 2;
        assert_eq!(files.len(), expected - 1, "{:?}", files.keys());
    });
}

#[test]
fn the_same_operations_give_the_same_bytes() {
    for_each(|function| {
        let expected = read_files(&fixture(function));
        for _ in 0..10 {
            let folder = scratch();
            write_store(folder.path(), function);
            let written = files_of_the_format(folder.path());
            let names: Vec<&String> = written.keys().collect();
            assert_eq!(names, expected.keys().collect::<Vec<_>>());
            let manifest = |files: &Files| Manifest::parse(&files["MANIFEST"]).unwrap();
            assert_eq!(manifest(&written).sealed, manifest(&expected).sealed);
            // The lock file names its own file, and the manifest says how much of an unsealed
            // segment was durable, which depends on the moment.
            let varies = |name: &str| name == "LOCK" || name == "MANIFEST";
            for (name, bytes) in expected.iter().filter(|(name, _)| !varies(name)) {
                assert!(
                    written[name] == *bytes,
                    "{name} has other bytes than the fixture"
                );
            }
        }
    });
}

#[test]
#[ignore = "writes into tests/fixtures, and only with SEALSTONE_REGENERATE=1"]
fn regenerate_fixtures() {
    if std::env::var_os("SEALSTONE_REGENERATE").is_none_or(|value| value != "1") {
        return;
    }
    for_each(|function| {
        let fixture = fixture(function);
        if fixture.exists() {
            return;
        }
        let folder = scratch();
        write_store(folder.path(), function);
        fs::create_dir_all(segments(&fixture)).unwrap();
        let mut files = files_of_the_format(folder.path());
        // What the lock file says is right for one file only.
        files.insert("LOCK".to_owned(), Vec::new());
        write_files(&fixture, &files);
    });
}
