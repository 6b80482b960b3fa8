//! Content that has rotted, and how a put, a compaction and a read treat it.

use std::fs::{self, File};

use crate::common::layout::{data_name, file, is_kind, read_files, segment_of};
use sealstone::{Error, ReadMode};

use crate::{ACTIVE, Damage, Placed, Sample, all_options, assert_reads, options, reader, verify};

/// Flips a bit in the content of `object`, in its place in the files.
fn rot(sample: &Sample, object: &Placed) -> (Damage, tempfile::TempDir) {
    let damage = Damage::Flip {
        name: data_name(object.segment),
        bit: 8 * (object.offset + object.content.len() / 2) + 3,
    };
    let folder = sample.folder();
    fs::write(
        file(folder.path(), damage.name()),
        damage.bytes(&sample.files),
    )
    .unwrap();
    (damage, folder)
}

/// Returns a large object of each segment.
fn one_of_each_segment(sample: &Sample) -> impl Iterator<Item = &Placed> {
    (0..=ACTIVE).map(|segment| {
        let largest = sample
            .of_segment(segment)
            .max_by_key(|object| object.content.len());
        largest.unwrap()
    })
}

#[test]
fn h17_an_object_put_again_stays_and_a_compaction_removes_the_damage() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (_, folder) = rot(&sample, object);
        let store = options().open(folder.path()).unwrap();
        store.put(&object.content).unwrap();
        assert_eq!(
            verify(&store).corrupt.len(),
            1,
            "the damaged copy is still there"
        );
        store.close().unwrap();

        let store = options().open(folder.path()).unwrap();
        let stats = store.compact(|_| true).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (24, 0));
        for store in [
            store.clone(),
            reader(ReadMode::Mmap).open(folder.path()).unwrap(),
        ] {
            for object in &sample.objects {
                assert_eq!(
                    &store.get(object.digest).unwrap().unwrap()[..],
                    object.content
                );
            }
            assert!(verify(&store).is_clean());
            assert_eq!(store.len(), 24);
        }
    }
}

#[test]
fn h21_a_compaction_refuses_to_keep_a_rotten_object_and_changes_nothing() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (damage, folder) = rot(&sample, object);
        let root = folder.path();
        let store = options().open(root).unwrap();
        // Another object in the same segment is dead, or the segment would be kept as it is.
        let dead = sample
            .of_segment(object.segment)
            .find(|o| o.digest != object.digest);
        let dead = dead.unwrap().digest;
        let result = store.compact(|digest| *digest != dead);
        let Err(Error::Corrupt {
            digest,
            segment,
            offset,
        }) = result
        else {
            panic!("{result:?}");
        };
        let named = (digest, segment, offset);
        assert_eq!(named, (object.digest, object.segment, object.offset as u64));
        assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        drop(store);

        let files = read_files(root);
        for (name, bytes) in &sample.files {
            if is_kind(name, "dat") && name != damage.name() {
                assert!(files[name] == *bytes, "{name} was changed");
            }
        }
        assert!(files[damage.name()] == damage.bytes(&sample.files));
        assert!(
            !files.keys().any(|name| is_kind(name, "tmp")),
            "{:?}",
            files.keys()
        );
        for options in all_options() {
            let store = options.open(root).unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        }
    }
}

#[test]
fn h21_a_compaction_drops_a_rotten_object_only_if_it_is_dead() {
    let sample = Sample::new();
    for object in one_of_each_segment(&sample) {
        let (damage, folder) = rot(&sample, object);
        let store = options().open(folder.path()).unwrap();
        // All objects are live, so the segment stays as it is, and its damage stays known.
        store.compact(|_| true).unwrap();
        assert_reads(&store, &sample, |o| damage.hits(o), &damage);
        let stats = store.compact(|digest| *digest != object.digest).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (23, 1));
        assert!(store.get(object.digest).unwrap().is_none());
        assert!(verify(&store).is_clean());
    }
}

#[test]
fn h31_a_file_cut_while_it_is_open_is_an_error_with_positional_reads() {
    let sample = Sample::new();
    for is_read_only in [false, true] {
        let options = options().read_mode(ReadMode::Pread).read_only(is_read_only);
        for name in sample
            .files
            .keys()
            .filter(|name| segment_of(name).is_some())
        {
            let folder = sample.folder();
            let store = options.open(folder.path()).unwrap();
            let len = 3 * sample.files[name].len() / 5;
            let open = File::options().write(true).open(file(folder.path(), name));
            open.unwrap().set_len(len as u64).unwrap();
            let cut = Damage::Cut {
                name: name.clone(),
                len,
            };
            for object in &sample.objects {
                match store.get(object.digest) {
                    Ok(Some(read)) => {
                        assert_eq!(&read[..], object.content);
                        assert!(!cut.hits(object));
                    }
                    Err(Error::Corrupt { .. } | Error::Io { .. }) => assert!(cut.hits(object)),
                    unexpected => panic!("{unexpected:?}"),
                }
            }
        }
    }
}
