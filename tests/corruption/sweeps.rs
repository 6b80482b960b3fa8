//! Every flipped bit and every cut, or a sample of them.

use sealstone::{HashFunction, ReadMode};

use crate::common::hash::hash_function;
use crate::{Damage, Sample, Steps, check_as_reader, check_as_writer, cuts, flips, for_each};

/// The steps are odd, so the sample meets every bit of a byte.
const SAMPLE: Steps = Steps {
    data: 13,
    others: 3,
};
/// One of this many damages is tried with each other hash function.
const STEP_OF_OTHERS: usize = 11;

#[test]
fn h5_h17_h21_a_writer_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, &SAMPLE);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn h5_h21_h31_a_reader_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, &SAMPLE);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_reader(root, sample, damage, ReadMode::Pread);
    });
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn h5_h17_h21_h31_a_store_survives_every_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, &Steps::ALL);
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        for_each(&sample, &damages, |root, sample, damage| {
            check_as_writer(root, sample, damage, read_mode);
            check_as_reader(root, sample, damage, read_mode);
        });
    }
}

#[test]
fn h5_h17_h30_a_writer_survives_every_cut() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn h30_h31_a_reader_survives_every_cut() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_reader(root, sample, damage, ReadMode::Pread);
    });
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn h5_h30_a_store_survives_every_cut_in_the_other_ways_of_reading() {
    let sample = Sample::new();
    for_each(&sample, &cuts(&sample.files), |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Pread);
        check_as_reader(root, sample, damage, ReadMode::Mmap);
    });
}

/// Opening names no function: where the manifest is damaged, the objects must tell it.
#[test]
fn h5_h21_h30_a_store_of_each_hash_function_survives_flips_and_cuts() {
    for &function in HashFunction::ALL {
        if function == hash_function() {
            continue;
        }
        let sample = Sample::of(function);
        let all = [flips(&sample.files, &SAMPLE), cuts(&sample.files)].concat();
        let damages: Vec<Damage> = all.into_iter().step_by(STEP_OF_OTHERS).collect();
        for_each(&sample, &damages, |root, sample, damage| {
            check_as_writer(root, sample, damage, ReadMode::Mmap);
            check_as_reader(root, sample, damage, ReadMode::Mmap);
        });
    }
}
