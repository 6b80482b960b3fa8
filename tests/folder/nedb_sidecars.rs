//! Sidecars that NEDB v3, or a forger in its name, left beside data that they do not fit.

use std::fs;

use sealstone::{Digest, Error};

use crate::common::layout::{content, data_name, file, records, scratch, sidecar_name};
use crate::common::nedb;
use crate::compat::{
    all_options, assert_no_wrong_bytes, assert_reads, options, sample, uniform_sample,
};

/// Opens a NEDB store with this sidecar beside segment 1, in every way, and expects every object.
fn assert_sidecar_is_refused(old: &[Vec<Vec<u8>>], sidecar: &[u8]) {
    for options in all_options() {
        let folder = scratch();
        let root = folder.path();
        nedb::write(root, old);
        fs::write(file(root, &sidecar_name(1)), sidecar).unwrap();
        let store = options.open(root).unwrap();
        assert_reads(&store, old.iter().flatten());
        assert_eq!(store.len(), old.iter().flatten().count() as u64);
        let is_writer = store.put(b"more").is_ok();
        store.close().unwrap();
        if is_writer {
            assert_eq!(nedb::read(root).len(), old.iter().flatten().count() + 1);
        }
    }
}

#[test]
fn h22_an_absurd_count_with_a_valid_checksum_is_refused() {
    for count in [
        1,
        19,
        21,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 62,
        u64::MAX,
    ] {
        let header = [&b"NIX1"[..], &count.to_le_bytes()].concat();
        let sidecar = nedb::with_checksum(header);
        assert_eq!(sidecar.len(), 44);
        assert_sidecar_is_refused(&sample(), &sidecar);
    }
}

type Change = fn(&mut Vec<nedb::Entry>);

#[test]
fn h35_entries_that_do_not_tile_the_data_are_refused_despite_a_valid_checksum() {
    let old = sample();
    let whole = nedb::entries(&nedb::data(&old[1]));
    let changes: [(&str, Change); 10] = [
        ("one is missing", |entries| _ = entries.pop()),
        ("one is there twice", |entries| entries.push(entries[3])),
        ("one stands for another", |entries| entries[4] = entries[3]),
        ("an offset too high", |entries| entries[5].1 += 1),
        ("an offset too low", |entries| entries[5].1 -= 1),
        ("the highest offset", |entries| entries[5].1 = u64::MAX),
        ("an end beyond u64", |entries| entries[5].1 = u64::MAX - 2),
        ("the largest length", |entries| entries[5].2 = u32::MAX),
        ("a length too large", |entries| entries[5].2 += 1),
        ("no entry", Vec::clear),
    ];
    for (what, change) in changes {
        println!("{what}");
        let mut entries = whole.clone();
        change(&mut entries);
        assert_sidecar_is_refused(&old, &nedb::sidecar(&entries));
    }
}

#[test]
fn h35_digests_that_are_swapped_give_no_wrong_bytes() {
    let old = uniform_sample();
    let mut entries = nedb::entries(&nedb::data(&old[1]));
    for pair in entries.chunks_exact_mut(2) {
        (pair[0].0, pair[1].0) = (pair[1].0, pair[0].0);
    }
    for options in all_options() {
        let folder = scratch();
        nedb::write(folder.path(), &old);
        nedb::write_sidecar(folder.path(), 1, &entries);
        let store = options.open(folder.path()).unwrap();
        assert_no_wrong_bytes(&store, &old);
        assert_reads(&store, old[0].iter().chain(&old[2]));
    }
}

#[test]
fn h23_the_sidecar_of_another_segment_is_refused_without_a_manifest() {
    let old = uniform_sample();
    let of_another = nedb::sidecar(&nedb::entries(&nedb::data(&old[0])));
    assert_sidecar_is_refused(&old, &of_another);
}

#[test]
fn h23_the_sidecar_of_another_segment_is_refused_by_the_manifest() {
    let old = uniform_sample();
    let folder = scratch();
    let root = folder.path();
    nedb::write(root, &old);
    options().open(root).unwrap().close().unwrap();
    let right = fs::read(file(root, &sidecar_name(1))).unwrap();
    for options in all_options().into_iter().rev() {
        fs::copy(file(root, &sidecar_name(0)), file(root, &sidecar_name(1))).unwrap();
        let store = options.open(root).unwrap();
        assert_reads(&store, old.iter().flatten());
        assert_eq!(store.len(), 60);
    }
    assert!(fs::read(file(root, &sidecar_name(1))).unwrap() == right);
}

#[test]
fn h6_a_sidecar_of_an_earlier_use_of_the_id_is_refused() {
    let old = uniform_sample();
    let fewer = nedb::entries(&nedb::data(&old[1][..15]));
    let more = {
        let contents: Vec<_> = (0..25).map(|i| content(8000 + i, 50)).collect();
        nedb::entries(&nedb::data(&contents))
    };
    let others = nedb::entries(&nedb::data(&contents_of_lengths(&[49, 50])));
    for (what, stale) in [
        ("the data has grown since", fewer),
        ("it lists more than there is", more),
        ("its records have other lengths", others),
    ] {
        println!("{what}");
        assert_sidecar_is_refused(&old, &nedb::sidecar(&stale));
    }
}

/// Returns twenty objects of these lengths in turn.
fn contents_of_lengths(lengths: &[usize]) -> Vec<Vec<u8>> {
    let lengths = lengths.iter().cycle().take(20);
    (8000..)
        .zip(lengths)
        .map(|(seed, &len)| content(seed, len))
        .collect()
}

/// Only the data shows that the sidecar is wrong: its entries tile as many bytes as there are.
#[test]
fn h6_a_sidecar_of_an_earlier_use_of_the_id_is_refused_even_if_the_lengths_fit() {
    for lengths in [&[49, 51][..], &[50]] {
        println!("lengths {lengths:?}");
        let stale = nedb::entries(&nedb::data(&contents_of_lengths(lengths)));
        assert_sidecar_is_refused(&uniform_sample(), &nedb::sidecar(&stale));
    }
}

#[test]
fn h30_a_file_shorter_than_its_sidecar_says_is_corrupt_without_a_manifest() {
    let old = sample();
    let data = nedb::data(&old[1]);
    let (offset, _) = records(&data)[15];
    for cut in [offset + 3, offset - 4, offset - 2] {
        for options in all_options() {
            let folder = scratch();
            let root = folder.path();
            nedb::write(root, &old);
            let short = &data[..usize::try_from(cut).unwrap()];
            fs::write(file(root, &data_name(1)), short).unwrap();
            let store = options.open(root).unwrap();
            let others = [&old[0], &old[2], &old[3]].into_iter().flatten();
            assert_reads(&store, others.chain(&old[1][..15]));
            for lost in &old[1][15..] {
                let found = store.get(Digest::from(nedb::digest(lost)));
                assert!(
                    matches!(found, Err(Error::Corrupt { segment: 1, .. })),
                    "{found:?}"
                );
            }
        }
    }
}
