//! Stores whose objects are named by each of the hash functions.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use sealstone::{
    Digest, Error, HashFunction, Hashed, Options, ReadMode, Repair, Store, VerifyReads,
};

use crate::common::layout::{content, read_files, scratch, segments};

fn options(function: HashFunction) -> Options {
    Options::new()
        .hash_function(function)
        .segment_bytes_max(4096)
}

fn contents() -> Vec<Vec<u8>> {
    (0..60)
        .map(|number: u32| content(number.into(), number as usize * 13))
        .collect()
}

/// Puts all contents one by one and together, and returns their digests.
fn put_all(store: &Store) -> Vec<Digest> {
    let contents = contents();
    let (first, second) = contents.split_at(20);
    let mut digests: Vec<Digest> = first
        .iter()
        .map(|content| store.put(content).unwrap())
        .collect();
    digests.extend(store.put_many(second).unwrap());
    store.sync().unwrap();
    digests
}

fn assert_reads_all(store: &Store, function: HashFunction, is_dropped: impl Fn(usize) -> bool) {
    assert_eq!(store.hash_function(), function);
    assert_eq!(store.stats().hash_function, function);
    let contents = contents();
    let digests = function.digest_many(&contents);
    let found = store.get_many(&digests);
    for (at, ((digest, content), found)) in digests.iter().zip(&contents).zip(found).enumerate() {
        let expected = (!is_dropped(at)).then_some(&content[..]);
        assert_eq!(store.get(digest).unwrap().as_deref(), expected);
        assert_eq!(found.unwrap().as_deref(), expected);
        assert_eq!(store.contains(digest).unwrap(), expected.is_some());
    }
    let mut listed = 0;
    for object in store {
        object.unwrap();
        listed += 1;
    }
    assert_eq!(
        listed,
        (0..contents.len()).filter(|&at| !is_dropped(at)).count()
    );
}

fn assert_holds_all(store: &Store, function: HashFunction, is_dropped: impl Fn(usize) -> bool) {
    assert_reads_all(store, function, is_dropped);
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn every_operation_names_objects_by_the_function_of_the_store() {
    for &function in HashFunction::ALL {
        let (folder, copy) = (scratch(), scratch());
        let store = options(function).open(folder.path()).unwrap();
        let digests = put_all(&store);
        assert_eq!(digests, function.digest_many(&contents()));
        assert_holds_all(&store, function, |_| false);
        // Everything is there already.
        assert_eq!(put_all(&store), digests);
        assert_eq!(store.len(), digests.len() as u64);
        store.close().unwrap();

        // No option names the function from now on.
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            for verify in [VerifyReads::EveryRead, VerifyReads::FirstRead] {
                let reading = Options::new().read_mode(mode).verify_reads(verify);
                let reader = reading.clone().read_only(true).open(folder.path()).unwrap();
                assert_holds_all(&reader, function, |_| false);
                let writer = reading.open(folder.path()).unwrap();
                assert!(writer.recovery().is_clean(), "{:?}", writer.recovery());
                assert_holds_all(&writer, function, |_| false);
                assert!(reader.refresh().is_ok());
            }
        }
        let store = Store::open(folder.path()).unwrap();
        store.checkpoint(copy.path()).unwrap();
        let dropped = &digests[7];
        store.compact(|digest| digest != dropped).unwrap();
        assert_holds_all(&store, function, |at| at == 7);
        store.close().unwrap();
        assert_holds_all(&Store::open(folder.path()).unwrap(), function, |at| at == 7);
        assert_holds_all(&Store::open(copy.path()).unwrap(), function, |_| false);
    }
}

#[test]
fn a_store_keeps_its_function() {
    for &function in HashFunction::ALL {
        for &other in HashFunction::ALL {
            let folder = scratch();
            // The store knows its function before it holds anything.
            options(function)
                .open(folder.path())
                .unwrap()
                .close()
                .unwrap();
            for reading in [false, true] {
                let opened = options(other).read_only(reading).open(folder.path());
                match opened {
                    Ok(store) => assert_eq!((other, store.hash_function()), (function, function)),
                    Err(Error::HashFunction { store, given }) => {
                        assert_eq!((store, given), (function, other));
                        assert_ne!(function, other);
                    }
                    unexpected => panic!("{unexpected:?}"),
                }
            }
            if function != other {
                let opened = Store::open(folder.path()).unwrap();
                assert_eq!(opened.hash_function(), function);
                let hashed = Hashed::with(other, b"content");
                let put = opened.put_hashed(&hashed);
                assert!(matches!(
                    put,
                    Err(Error::HashFunction { store, given }) if (store, given) == (function, other)
                ));
                assert!(opened.is_empty());
                assert!(
                    opened
                        .put_hashed(&Hashed::with(function, b"content"))
                        .unwrap()
                );
            }
        }
    }
}

/// A store with objects that are sealed, and objects that only a journal names.
fn write_store(root: &Path, function: HashFunction) {
    let store = options(function).open(root).unwrap();
    put_all(&store);
    store.close().unwrap();
}

fn remove(root: &Path, extension: &str) {
    for name in read_files(root)
        .keys()
        .filter(|name| name.ends_with(extension))
    {
        fs::remove_file(segments(root).join(name)).unwrap();
    }
}

/// By the wrong function every object would count as damaged.
#[test]
fn a_lost_or_damaged_manifest_loses_no_object_whatever_the_function() {
    let damage_manifest = |root: &Path| {
        let path = segments(root).join("MANIFEST");
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let remove_manifest = |root: &Path| remove(root, "MANIFEST");
    for &function in HashFunction::ALL {
        for damage in [&damage_manifest as &dyn Fn(&Path), &remove_manifest] {
            let folder = scratch();
            write_store(folder.path(), function);
            damage(folder.path());
            let reader = Options::new().read_only(true).open(folder.path()).unwrap();
            assert_reads_all(&reader, function, |_| false);
            let wrong = HashFunction::ALL
                .iter()
                .find(|&&other| other != function)
                .unwrap();
            let opened = options(*wrong).open(folder.path());
            assert!(matches!(opened, Err(Error::HashFunction { .. })));
            let store = Store::open(folder.path()).unwrap();
            assert_holds_all(&store, function, |_| false);
            store.close().unwrap();
            assert_holds_all(&Store::open(folder.path()).unwrap(), function, |_| false);
        }
        // Only the journal of the active segment is left to tell the function.
        let folder = scratch();
        let store = Options::new()
            .hash_function(function)
            .open(folder.path())
            .unwrap();
        put_all(&store);
        drop(store);
        remove(folder.path(), "MANIFEST");
        assert_holds_all(&Store::open(folder.path()).unwrap(), function, |_| false);
    }
}

/// Leaves the data files alone.
fn remove_manifest_and_indexes(root: &Path) {
    for extension in ["MANIFEST", ".idx", ".jnl", ".run"] {
        remove(root, extension);
    }
}

/// Opens the store with each function in the options and without one, for reading and for writing, and
/// expects only `accepted` to open it. The writer of `accepted` comes last, since it may repair.
fn assert_opens_only_with(root: &Path, accepted: &[Option<HashFunction>]) {
    let wishes = HashFunction::ALL.iter().copied().map(Some).chain([None]);
    for wish in wishes.filter(|wish| !accepted.contains(wish)) {
        for reading in [true, false] {
            let before = read_files(root);
            let opening = wish.map_or_else(Options::new, options);
            let opened = opening.read_only(reading).open(root);
            let is_refused = matches!(
                opened,
                Err(Error::HashFunction { .. } | Error::HashFunctionUnknown { .. })
            );
            assert!(is_refused, "{wish:?}: {opened:?}");
            assert_eq!(read_files(root), before, "{wish:?}");
        }
    }
    for wish in accepted {
        for reading in [true, false] {
            let opening = wish.map_or_else(Options::new, options);
            opening.read_only(reading).open(root).unwrap();
        }
    }
}

/// A folder without a manifest is one of NEDB, or of a store of the default function before its first
/// seal. A power failure can leave it without a journal, which is never synced.
#[test]
fn data_without_manifest_and_index_has_the_default_function_whatever_is_wished() {
    let folder = scratch();
    write_store(folder.path(), HashFunction::default());
    remove_manifest_and_indexes(folder.path());
    assert_opens_only_with(folder.path(), &[None, Some(HashFunction::default())]);
    let store = Store::open(folder.path()).unwrap();
    assert_holds_all(&store, HashFunction::default(), |_| false);
}

/// The same for objects that take too long to hash at each opening.
#[test]
fn a_store_of_one_huge_object_keeps_its_function() {
    let folder = scratch();
    let store = Store::open(folder.path()).unwrap();
    let digest = store.put(vec![7; 65 << 20]).unwrap();
    store.close().unwrap();
    assert_opens_only_with(folder.path(), &[None, Some(HashFunction::default())]);
    assert!(
        Store::open(folder.path())
            .unwrap()
            .get(digest)
            .unwrap()
            .is_some()
    );
}

/// Where nothing is left to tell the function, the manifest of an empty store tells it.
#[test]
fn data_alone_is_recovered_with_the_manifest_of_an_empty_store() {
    for &function in HashFunction::ALL {
        let (folder, empty) = (scratch(), scratch());
        write_store(folder.path(), function);
        remove_manifest_and_indexes(folder.path());
        options(function)
            .open(empty.path())
            .unwrap()
            .close()
            .unwrap();
        let manifest = |root: &Path| segments(root).join("MANIFEST");
        fs::copy(manifest(empty.path()), manifest(folder.path())).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_holds_all(&store, function, |_| false);
    }
}

/// A manifest that is damaged beyond recognition may have named any function. A writer that guessed
/// would name all objects anew.
#[test]
fn a_damaged_manifest_over_data_alone_is_refused_until_the_function_is_said() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        write_store(folder.path(), function);
        remove_manifest_and_indexes(folder.path());
        fs::write(segments(folder.path()).join("MANIFEST"), b"rubbish").unwrap();
        for reading in [true, false] {
            let opened = Options::new().read_only(reading).open(folder.path());
            assert!(matches!(opened, Err(Error::HashFunctionUnknown { .. })));
        }
        let store = options(function).open(folder.path()).unwrap();
        assert_holds_all(&store, function, |_| false);
    }
}

/// The first two lines of a manifest whose checksum does not hold tell the function where no index
/// is left.
#[test]
fn the_beginning_of_a_damaged_manifest_tells_the_function() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        write_store(folder.path(), function);
        let path = segments(folder.path()).join("MANIFEST");
        let mut manifest = fs::read(&path).unwrap();
        remove_manifest_and_indexes(folder.path());
        manifest.truncate(manifest.len() - 10);
        fs::write(path, manifest).unwrap();
        assert_opens_only_with(folder.path(), &[None, Some(function)]);
        let store = Store::open(folder.path()).unwrap();
        assert_holds_all(&store, function, |_| false);
    }
}

/// Damage to the shortest objects, which are hashed first, does not hide the function.
#[test]
fn damaged_objects_do_not_hide_the_function() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        let store = options(function).open(folder.path()).unwrap();
        let objects: Vec<Vec<u8>> = (10..40).map(|len| vec![len; len.into()]).collect();
        store.put_many(&objects).unwrap();
        store.close().unwrap();
        let path = segments(folder.path()).join("seg-000000.dat");
        let mut bytes = fs::read(&path).unwrap();
        // The first eight records: each has a header of four bytes.
        let mut at = 0;
        for object in &objects[..8] {
            bytes[at + 4] ^= 1;
            at += 4 + object.len();
        }
        fs::write(path, bytes).unwrap();
        fs::write(segments(folder.path()).join("MANIFEST"), b"rubbish").unwrap();
        assert_opens_only_with(folder.path(), &[None, Some(function)]);
        let digests = function.digest_many(&objects);
        let store = Store::open(folder.path()).unwrap();
        let is_damaged = |digest| matches!(store.get(digest), Err(Error::Corrupt { .. }));
        assert!(digests[..8].iter().all(is_damaged));
        assert!(
            digests[8..]
                .iter()
                .all(|digest| store.get(digest).unwrap().is_some())
        );
    }
}

/// A reader that was opened before the store had a function learns it with the first refresh.
#[test]
fn a_reader_of_an_empty_folder_learns_the_function() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        Store::open(folder.path()).unwrap().close().unwrap();
        let reader = Options::new().read_only(true).open(folder.path()).unwrap();
        let store = options(function).open(folder.path()).unwrap();
        let digest = store.put(b"content").unwrap();
        store.sync().unwrap();
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.hash_function(), function);
        assert_eq!(
            reader.get(digest).unwrap().as_deref(),
            Some(&b"content"[..])
        );
    }
}

#[test]
fn damage_is_found_and_repaired_whatever_the_function() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        write_store(folder.path(), function);
        let path = segments(folder.path()).join("seg-000000.dat");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        remove(folder.path(), "seg-000001.idx");
        let store = Store::open(folder.path()).unwrap();
        let is_rebuilt =
            |repair: &Repair| matches!(repair, Repair::RebuiltSidecar { segment: 1, .. });
        assert!(
            store.recovery().repairs.iter().any(is_rebuilt),
            "{:?}",
            store.recovery()
        );
        let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
        let [damaged] = &report.corrupt[..] else {
            panic!("{report:?}");
        };
        assert!(matches!(
            store.get(damaged.digest),
            Err(Error::Corrupt { .. })
        ));
        let digests = function.digest_many(&contents());
        let at = digests
            .iter()
            .position(|digest| *digest == damaged.digest)
            .unwrap();
        store.put(&contents()[at]).unwrap();
        assert_eq!(
            store.get(damaged.digest).unwrap().as_deref(),
            Some(&contents()[at][..])
        );
        store.compact(|_| true).unwrap();
        assert_holds_all(&store, function, |_| false);
    }
}
