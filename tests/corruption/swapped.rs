//! Files of one segment under the name of another, of the same size and of different ones, as if
//! somebody had copied them back in the wrong order.

use std::collections::BTreeSet;
use std::fs;

use sealstone::{Digest, Error, Store};

use super::{Placed, Sample, all_options, objects_of, options, verify};
use crate::common::hash::{digest_of, hash_function};
use crate::common::layout::{Files, content, data_name, file, scratch, segment_of, sidecar_name};
use crate::common::layout::{is_kind, read_files, write_files};

/// Creates four sealed segments, three of them of one size, and an active one.
fn sample() -> Sample {
    let folder = scratch();
    let store = options().open(folder.path()).unwrap();
    for seed in 0..24 {
        // Four of these contents fill a segment; the last ones differ.
        let len = if seed < 12 { 1000 } else { 700 };
        store.put(content(seed, len)).unwrap();
    }
    store.close().unwrap();
    let files = read_files(folder.path());
    let objects = objects_of(&files, hash_function());
    assert_eq!(objects.len(), 24);
    Sample { files, objects }
}

fn sealed(files: &Files) -> Vec<u32> {
    let sidecars = files.keys().filter(|name| is_kind(name, "idx"));
    sidecars.map(|name| segment_of(name).unwrap()).collect()
}

fn pairs(segments: &[u32]) -> Vec<(u32, u32)> {
    let pair = |(position, one): (usize, &u32)| {
        let others = segments[position + 1..].iter();
        others.map(|other| (*one, *other)).collect::<Vec<_>>()
    };
    segments.iter().enumerate().flat_map(pair).collect()
}

fn swap(files: &mut Files, one: &str, other: &str) {
    let bytes = files.insert(one.to_owned(), files[other].clone());
    files.insert(other.to_owned(), bytes.unwrap());
}

fn assert_same_and_other_sizes(sample: &Sample, name: impl Fn(u32) -> String) {
    let len = |segment| sample.files[&name(segment)].len();
    let pairs = pairs(&sealed(&sample.files));
    assert!(pairs.iter().any(|&(one, other)| len(one) == len(other)));
    assert!(pairs.iter().any(|&(one, other)| len(one) != len(other)));
}

#[test]
fn h23_swapped_sidecars_are_reported_and_every_answer_is_right() {
    let sample = sample();
    assert_same_and_other_sizes(&sample, sidecar_name);
    for (one, other) in pairs(&sealed(&sample.files)) {
        for options in all_options() {
            let folder = scratch();
            let mut files = sample.files.clone();
            swap(&mut files, &sidecar_name(one), &sidecar_name(other));
            write_files(folder.path(), &files);
            let store = options.open(folder.path()).unwrap();
            for object in &sample.objects {
                let read = store.get(object.digest).unwrap();
                assert_eq!(read.as_deref(), Some(&object.content[..]));
                assert!(store.contains(object.digest).unwrap());
            }
            assert_eq!(store.iter().flatten().count(), sample.objects.len());
            let report = verify(&store);
            assert!(report.corrupt.is_empty(), "{report:?}");
            let is_noticed = !store.recovery().repairs.is_empty() || !report.problems.is_empty();
            assert!(is_noticed, "{one} and {other}");
        }
    }
}

/// Checks that each object whose bytes are not in their place gives an error that names it, and
/// that `verify` reports exactly these objects.
fn assert_reports_hit_objects(store: &Store, sample: &Sample, files: &Files) {
    let is_hit = |object: &Placed| {
        let data = &files[&data_name(object.segment)];
        data.get(object.offset..object.end()) != Some(&object.content)
    };
    let mut hit = BTreeSet::new();
    for object in &sample.objects {
        match store.get(object.digest) {
            // An object in the place of others is found where recovery took it over.
            Ok(Some(read)) => {
                assert_eq!(&read[..], object.content);
                assert!(!is_hit(object) || !store.recovery().is_clean());
            }
            Err(Error::Corrupt { digest, .. }) => {
                assert!(is_hit(object));
                assert_eq!(digest, object.digest);
                hit.insert(digest);
            }
            unexpected => panic!("{unexpected:?} for {:?}", object.digest),
        }
    }
    assert!(!hit.is_empty() || !store.recovery().is_clean());
    let report = verify(store);
    let named: BTreeSet<Digest> = report.corrupt.iter().map(|found| found.digest).collect();
    assert!(hit.is_subset(&named), "{report:?}");
    let objects = sample.objects.iter().filter(|object| is_hit(object));
    let hit_anywhere: BTreeSet<Digest> = objects.map(|object| object.digest).collect();
    assert!(named.is_subset(&hit_anywhere), "{report:?}");
    for object in store.iter().flatten() {
        assert_eq!(digest_of(&object), *object.digest());
    }
}

#[test]
fn h21_h23_h30_swapped_data_is_reported_and_never_given_out() {
    let sample = sample();
    assert_same_and_other_sizes(&sample, data_name);
    for (one, other) in pairs(&sealed(&sample.files)) {
        for options in all_options() {
            let folder = scratch();
            let mut files = sample.files.clone();
            swap(&mut files, &data_name(one), &data_name(other));
            write_files(folder.path(), &files);
            // The first opening may have repaired the store; the second checks that this made
            // nothing worse.
            for _ in 0..2 {
                let store = options.open(folder.path()).unwrap();
                assert_reports_hit_objects(&store, &sample, &files);
            }
            for segment in [one, other] {
                let name = data_name(segment);
                let kept = fs::read(file(folder.path(), &name)).unwrap();
                assert!(kept == files[&name], "{name} was changed");
            }
            // Once the files are back in order, nothing is lost.
            write_files(folder.path(), &sample.files);
            let store = options.open(folder.path()).unwrap();
            assert!(verify(&store).is_clean());
        }
    }
}

/// The files of two segments change places together: each pair fits, and the manifest fits neither.
#[test]
fn h23_segments_that_are_swapped_as_a_whole_give_no_wrong_bytes() {
    let sample = sample();
    for (one, other) in pairs(&sealed(&sample.files)) {
        for options in all_options() {
            let folder = scratch();
            let mut files = sample.files.clone();
            swap(&mut files, &data_name(one), &data_name(other));
            swap(&mut files, &sidecar_name(one), &sidecar_name(other));
            write_files(folder.path(), &files);
            let store = options.open(folder.path()).unwrap();
            for object in &sample.objects {
                match store.get(object.digest) {
                    Ok(Some(read)) => assert_eq!(&read[..], object.content),
                    // No file says any more what these two segments held.
                    Err(Error::CorruptIndex { segment, .. } | Error::Corrupt { segment, .. }) => {
                        assert!([one, other].contains(&segment));
                    }
                    unexpected => panic!("{unexpected:?} for {:?}", object.digest),
                }
            }
            let report = verify(&store);
            let is_noticed = !store.recovery().repairs.is_empty() || !report.is_clean();
            assert!(is_noticed, "{one} and {other}");
        }
    }
}
