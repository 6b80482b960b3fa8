//! Every flipped bit and every cut, or a sample of them.

use sealstone::ReadMode;

use crate::{Sample, check_as_reader, check_as_writer, cuts, flips, for_each};

/// The step is odd, so the sample meets every bit of a byte.
const SAMPLE_STEP: usize = 13;

#[test]
fn h5_h17_h21_a_writer_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, SAMPLE_STEP);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_writer(root, sample, damage, ReadMode::Mmap);
    });
}

#[test]
fn h5_h21_h31_a_reader_survives_a_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, SAMPLE_STEP);
    for_each(&sample, &damages, |root, sample, damage| {
        check_as_reader(root, sample, damage, ReadMode::Pread);
    });
}

#[test]
#[ignore = "takes minutes; run with --release"]
fn h5_h17_h21_h31_a_store_survives_every_flipped_bit() {
    let sample = Sample::new();
    let damages = flips(&sample.files, 1);
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
