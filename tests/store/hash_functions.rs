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
            let is_default = function == HashFunction::default();
            for reading in [false, true] {
                let opened = options(other).read_only(reading).open(folder.path());
                match opened {
                    Ok(store) if store.hash_function() == other => {
                        assert!(other == function || is_default);
                    }
                    Err(Error::HashFunction { store, given }) => {
                        assert_eq!((store, given), (function, other));
                        assert_ne!(function, other);
                    }
                    unexpected => panic!("{unexpected:?}"),
                }
            }
            if function != other && !is_default {
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

/// Where nothing names an object, the caller is asked.
#[test]
fn data_alone_is_recovered_by_the_function_in_the_options() {
    for &function in HashFunction::ALL {
        let folder = scratch();
        write_store(folder.path(), function);
        for extension in ["MANIFEST", ".idx", ".jnl", ".run"] {
            remove(folder.path(), extension);
        }
        let store = options(function).open(folder.path()).unwrap();
        assert_holds_all(&store, function, |_| false);
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
            store.get(&damaged.digest),
            Err(Error::Corrupt { .. })
        ));
        let digests = function.digest_many(&contents());
        let at = digests
            .iter()
            .position(|digest| *digest == damaged.digest)
            .unwrap();
        store.put(&contents()[at]).unwrap();
        assert_eq!(
            store.get(&damaged.digest).unwrap().as_deref(),
            Some(&contents()[at][..])
        );
        store.compact(|_| true).unwrap();
        assert_holds_all(&store, function, |_| false);
    }
}
