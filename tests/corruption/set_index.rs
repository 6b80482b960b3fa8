//! Rot in runs of the set index, which a store of this size has only on request.

use std::fs;
use std::path::Path;

use sealstone::format::set_index::{PAGE_BYTES, SetIndex};
use sealstone::{Digest, Options, ReadMode, Repair, Store};

use super::{Damage, Placed, Sample, Steps, cuts, flips, for_each, options, reader, verify};
use crate::common::hash::digest_of;
use crate::common::layout::{Files, content, file, is_kind, read_files, scratch, write_files};

/// The step is odd, so the sample meets every bit of a byte.
const SAMPLE_STEP: usize = 101;

fn covering(options: Options) -> Options {
    options.set_index_minimum(1, 0)
}

/// Returns a closed store whose sealed segments are all covered by runs.
fn covered_sample() -> Sample {
    let folder = scratch();
    let store = covering(options()).open(folder.path()).unwrap();
    let contents: Vec<Vec<u8>> = (0..24).map(|seed| content(seed, 600)).collect();
    store.put_many(&contents).unwrap();
    store.close().unwrap();
    let files = read_files(folder.path());
    assert!(files.keys().any(|name| is_kind(name, "run")), "{files:?}");
    // The offsets of the objects do not matter: none is hit.
    let placed = contents.into_iter().map(|content| Placed {
        digest: digest_of(&content),
        content,
        segment: 0,
        offset: 0,
    });
    Sample {
        files,
        objects: placed.collect(),
    }
}

fn runs(files: &Files) -> Files {
    let runs = files.iter().filter(|(name, _)| is_kind(name, "run"));
    runs.map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect()
}

fn assert_all_right(store: &Store, sample: &Sample) {
    let digests: Vec<Digest> = sample.objects.iter().map(|object| object.digest).collect();
    let batch = store.get_many(&digests);
    for (object, in_batch) in sample.objects.iter().zip(batch) {
        let alone = store.get(object.digest).unwrap();
        assert_eq!(alone.as_deref(), Some(&object.content[..]));
        assert_eq!(in_batch.unwrap().as_deref(), Some(&object.content[..]));
        assert!(store.contains(object.digest).unwrap());
    }
    let absent = digest_of(b"absent");
    assert!(store.get(absent).unwrap().is_none());
    assert!(!store.contains(absent).unwrap());
    assert_eq!(store.iter().flatten().count(), sample.objects.len());
}

/// Returns whether the damage hit the zeros that fill the header's page: no checksum covers them,
/// and nobody reads them.
fn hits_padding(damage: &Damage, files: &Files) -> bool {
    let header = SetIndex::parse(&files[damage.name()][..]).unwrap();
    let end = 44 + 48 * header.header().segments.len() + 32;
    match *damage {
        Damage::Flip { bit, .. } => (end..end.next_multiple_of(PAGE_BYTES)).contains(&(bit / 8)),
        Damage::Cut { .. } => false,
    }
}

/// Checks that every answer is right and that the damage is reported: a reader's `verify` names a
/// page, and a writer reports that a run with a wrong header or length was removed.
fn check(root: &Path, sample: &Sample, damage: &Damage, read_mode: ReadMode) {
    let mut files = sample.files.clone();
    files.insert(damage.name().to_owned(), damage.bytes(&sample.files));
    write_files(root, &files);
    let store = covering(reader(read_mode)).open(root).unwrap();
    assert_all_right(&store, sample);
    let report = verify(&store);
    assert!(report.corrupt.is_empty(), "{report:?}");
    drop(store);
    assert!(read_files(root) == files, "a reader changed something");

    let options = covering(options()).read_mode(read_mode);
    let store = options.open(root).unwrap();
    let repairs = &store.recovery().repairs;
    let is_removed = repairs
        .iter()
        .any(|repair| matches!(repair, Repair::RemovedSetIndex { .. }));
    let is_named = is_removed || !report.problems.is_empty();
    assert!(
        is_named != hits_padding(damage, &sample.files),
        "{repairs:?} {report:?}"
    );
    assert_all_right(&store, sample);
    drop(store);
    let store = options.open(root).unwrap();
    assert_all_right(&store, sample);
    drop(store);
    for (name, bytes) in sample.files.iter().filter(|(name, _)| is_kind(name, "dat")) {
        let kept = fs::read(file(root, name)).unwrap();
        assert!(kept == *bytes, "{name} was changed");
    }
}

#[test]
fn a_flipped_bit_of_a_run_leaves_every_answer_right_and_is_reported() {
    let sample = covered_sample();
    let damages = flips(&runs(&sample.files), &Steps::ALL).into_iter();
    let damages: Vec<Damage> = damages.step_by(SAMPLE_STEP).collect();
    for_each(&sample, &damages, |root, sample, damage| {
        check(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn a_cut_of_a_run_leaves_every_answer_right_and_is_reported() {
    let sample = covered_sample();
    let damages = cuts(&runs(&sample.files)).into_iter();
    let damages: Vec<Damage> = damages.step_by(SAMPLE_STEP).collect();
    for_each(&sample, &damages, |root, sample, damage| {
        check(root, sample, damage, ReadMode::Pread);
    });
}

fn check_each(damages: impl Fn(&Files) -> Vec<Damage>) {
    let sample = covered_sample();
    let damages = damages(&runs(&sample.files));
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        for_each(&sample, &damages, |root, sample, damage| {
            check(root, sample, damage, read_mode);
        });
    }
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn every_flipped_bit_of_a_run_leaves_every_answer_right() {
    check_each(|runs| flips(runs, &Steps::ALL));
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn every_cut_of_a_run_leaves_every_answer_right() {
    check_each(cuts);
}
