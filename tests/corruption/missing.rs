//! Files that are missing, or hold garbage or zeros.

use std::fs::{self, File};

use crate::common::hash::digest_of;
use crate::common::layout::{content, data_name, file, is_kind, read_files, sidecar_name};
use sealstone::{Error, HashFunction, Options, ReadMode, Repair};

use crate::{ACTIVE, Sample, all_options, options, reader, verify};

#[test]
fn h20_sixteen_mebibytes_of_zeros_behind_the_mark_are_cut_and_not_parsed() {
    const ZEROS: usize = 16 << 20;
    let sample = Sample::new();
    let name = data_name(ACTIVE);
    for options in all_options().into_iter().rev() {
        let folder = sample.folder();
        let path = file(folder.path(), &name);
        let whole = sample.files[&name].len() as u64;
        let data = File::options().write(true).open(&path).unwrap();
        data.set_len(whole + ZEROS as u64).unwrap();
        let store = options.open(folder.path()).unwrap();
        for object in &sample.objects {
            assert_eq!(
                &store.get(object.digest).unwrap().unwrap()[..],
                object.content
            );
        }
        assert_eq!(store.iter().count(), sample.objects.len());
        assert!(verify(&store).corrupt.is_empty());
        let is_writer = store.put(b"more").is_ok();
        let repairs = store.recovery().repairs.clone();
        store.close().unwrap();
        if is_writer {
            // One empty record may be real. Recovery reads no more, and is fast for this reason.
            let cut = repairs.iter().find_map(|repair| match repair {
                Repair::CutTail {
                    segment: ACTIVE,
                    bytes,
                    saved_as: None,
                } => Some(*bytes),
                _ => None,
            });
            assert!(
                cut.is_some_and(|bytes| bytes >= ZEROS as u64 - 4),
                "{repairs:?}"
            );
            let rehashed = repairs.iter().find_map(|repair| match repair {
                Repair::RehashedTail { bytes, .. } => Some(*bytes),
                _ => None,
            });
            assert!(rehashed.is_none_or(|bytes| bytes <= 4), "{repairs:?}");
            assert!(fs::metadata(path).unwrap().len() < whole + 100);
        }
    }
}

#[test]
fn h24_a_missing_sealed_segment_is_named() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        let folder = sample.folder();
        let path = file(folder.path(), &data_name(missing));
        fs::remove_file(&path).unwrap();
        for options in all_options() {
            let result = options.open(folder.path());
            let Err(Error::MissingSegment { segment, path: p }) = result else {
                panic!("{result:?}");
            };
            assert_eq!((segment, &p), (missing, &path));
        }
        let mut files = sample.files.clone();
        files.remove(&data_name(missing));
        assert!(
            read_files(folder.path()) == files,
            "the refusal changed something"
        );
    }
}

#[test]
fn h24_a_store_works_without_a_missing_segment_and_takes_it_back() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        for lost in [
            &[data_name(missing)][..],
            &[data_name(missing), sidecar_name(missing)],
        ] {
            let folder = sample.folder();
            let root = folder.path();
            for name in lost {
                fs::remove_file(file(root, name)).unwrap();
            }
            let without = |options: Options| options.allow_missing_segments(true).open(root);
            for options in all_options() {
                let store = without(options).unwrap();
                let repair = Repair::MissingSegment { segment: missing };
                assert!(
                    store.recovery().repairs.contains(&repair),
                    "{:?}",
                    store.recovery()
                );
                for object in &sample.objects {
                    let read = store.get(object.digest).unwrap();
                    let expected = (object.segment != missing).then_some(&object.content[..]);
                    assert_eq!(read.as_deref(), expected);
                }
            }
            // Every writer of a manifest must go on listing the missing segment.
            let store = without(options()).unwrap();
            let new: Vec<Vec<u8>> = (0..30).map(|i| content(500 + i, 300)).collect();
            let digests = store.put_many(&new).unwrap();
            store.sync().unwrap();
            store.compact(|digest| *digest != digests[3]).unwrap();
            store.put(&new[3]).unwrap();
            store.close().unwrap();
            let refused = options().open(root);
            assert!(
                matches!(refused, Err(Error::MissingSegment { segment, .. }) if segment == missing),
                "{refused:?}"
            );

            for name in lost {
                fs::write(file(root, name), &sample.files[name]).unwrap();
            }
            for options in all_options() {
                let store = options.open(root).unwrap();
                assert!(store.recovery().is_clean(), "{:?}", store.recovery());
                for content in sample
                    .objects
                    .iter()
                    .map(|object| &object.content)
                    .chain(&new)
                {
                    let read = store.get(digest_of(content)).unwrap();
                    assert_eq!(read.as_deref(), Some(&content[..]));
                }
                assert!(verify(&store).is_clean());
            }
        }
    }
}

#[test]
fn h24_verify_names_a_missing_segment() {
    let sample = Sample::new();
    for options in all_options() {
        let folder = sample.folder();
        fs::remove_file(file(folder.path(), &data_name(1))).unwrap();
        let store = options
            .allow_missing_segments(true)
            .open(folder.path())
            .unwrap();
        let report = verify(&store);
        assert!(
            report.problems.iter().any(|p| p.segment() == Some(1)),
            "{report:?}"
        );
    }
}

/// The journal says that the active segment held synced data.
#[test]
fn h24_a_missing_active_segment_is_named() {
    let sample = Sample::new();
    for options in all_options() {
        let folder = sample.folder();
        fs::remove_file(file(folder.path(), &data_name(ACTIVE))).unwrap();
        match options.open(folder.path()) {
            Err(Error::MissingSegment { segment, .. }) => assert_eq!(segment, ACTIVE),
            Err(error) => panic!("{error}"),
            Ok(store) => {
                for object in sample.of_segment(ACTIVE) {
                    let read = store.get(object.digest);
                    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
                }
            }
        }
    }
}

#[test]
fn h24_a_missing_sidecar_is_rebuilt_bit_for_bit() {
    let sample = Sample::new();
    for missing in 0..ACTIVE {
        let folder = sample.folder();
        let root = folder.path();
        let name = sidecar_name(missing);
        fs::remove_file(file(root, &name)).unwrap();
        let mut files = sample.files.clone();
        files.remove(&name);
        for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
            let store = reader(read_mode).open(root).unwrap();
            for object in &sample.objects {
                assert_eq!(
                    &store.get(object.digest).unwrap().unwrap()[..],
                    object.content
                );
            }
            assert!(read_files(root) == files, "a reader changed something");
        }
        let store = options().open(root).unwrap();
        let repairs = &store.recovery().repairs;
        assert_eq!(repairs[..], [Repair::RebuiltSidecar { segment: missing }]);
        assert!(fs::read(file(root, &name)).unwrap() == sample.files[&name]);
    }
}

/// Only the data itself is authoritative.
#[test]
fn h6_files_derived_from_the_data_can_be_missing_or_garbage() {
    let sample = Sample::new();
    let derived: Vec<&String> = sample
        .files
        .keys()
        .filter(|name| !is_kind(name, "dat"))
        .collect();
    for lost in 0_usize..1 << derived.len() {
        for garbage in [None, Some(content(1, 500)), Some(Vec::new())] {
            for options in all_options() {
                let folder = sample.folder();
                for (position, name) in derived.iter().enumerate() {
                    let path = file(folder.path(), name);
                    match &garbage {
                        _ if lost & (1 << position) == 0 => {}
                        None => fs::remove_file(path).unwrap(),
                        Some(bytes) => fs::write(path, bytes).unwrap(),
                    }
                }
                // Garbage may have named any hash function, so it has to be said where no index is left.
                let options = options.hash_function(HashFunction::default());
                let store = options.open(folder.path()).unwrap();
                for object in &sample.objects {
                    let read = store.get(object.digest).unwrap();
                    assert_eq!(read.as_deref(), Some(&object.content[..]));
                }
                assert_eq!(store.len(), 24);
                assert!(verify(&store).corrupt.is_empty());
            }
        }
    }
}
