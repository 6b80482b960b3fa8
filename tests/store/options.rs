//! Every number in the options, from the least to the largest: a store works rightly with it, or
//! opening fails before anything is written.

use std::fs;
use std::path::Path;

use crate::common::layout::scratch;
use crate::common::workload::{
    Contents, assert_holds, assert_lacks, assert_same, assert_undamaged, assert_verifies, content,
    walk, without_syncing,
};
use sealstone::{Digest, Options, ReadMode, Store};

/// Returns the ends of the range, and numbers around the powers of two that matter to a page, a
/// block, a length in 32 bits, an address or a sign.
fn extremes() -> Vec<u64> {
    let around = [12, 16, 21, 31, 32, 47, 63].map(|bits| 1_u64 << bits);
    let around = around.iter().flat_map(|&power| power - 1..=power + 1);
    let ends = [0, 1, 2, u64::MAX - 1, u64::MAX];
    around.chain(ends).collect()
}

/// Sets one number of the options.
type Set = fn(Options, u64) -> Options;

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const NUMBERS: [(&str, Set); 5] = [
    ("segment_bytes_max", Options::segment_bytes_max),
    ("write_block_bytes", |options, number| {
        options.write_block_bytes(count(number))
    }),
    ("set_index_minimum, segments", |options, number| {
        options.set_index_minimum(count(number), u64::MAX)
    }),
    ("set_index_minimum, objects", |options, number| {
        options.set_index_minimum(usize::MAX, number)
    }),
    ("all of them", |options, number| {
        let options = options.segment_bytes_max(number);
        let options = options.write_block_bytes(count(number));
        options.set_index_minimum(count(number), number)
    }),
];

/// Lengths around those of a page, of a buffered block, and of a record that is not buffered.
const LENGTHS: [usize; 10] = [0, 1, 9, 100, 4092, 4093, 70_000, 262_140, 262_141, 300_000];

/// Returns contents of all lengths, which differ between batches of another `first` but for the
/// shortest.
fn batch(first: u64) -> Vec<Vec<u8>> {
    let numbered = (first..).zip(LENGTHS);
    numbered.map(|(number, len)| content(number, len)).collect()
}

fn check(store: &Store, held: &Contents) {
    assert_holds(store, held);
    assert_same(&walk(store), held);
    assert_verifies(store);
}

fn reopen(options: &Options, root: &Path, held: &Contents) -> Store {
    let reader = options.clone().read_only(true).open(root).unwrap();
    check(&reader, held);
    let store = options.open(root).unwrap();
    assert_undamaged(&store);
    check(&store, held);
    store
}

/// Puts, seals, compacts with half of the objects live, checkpoints and opens again.
fn live_with(options: &Options, root: &Path) {
    let mut held = Contents::new();
    let store = options.open(root).unwrap();
    for content in batch(0) {
        let digest = store.put(&content).unwrap();
        held.insert(digest, content);
    }
    store.sync().unwrap();
    check(&store, &held);
    let more = batch(1000);
    let digests = store.put_many(&more).unwrap();
    held.extend(digests.into_iter().zip(more));
    store.close().unwrap();

    let store = reopen(options, root, &held);
    let is_live = |digest: &Digest| digest.as_bytes()[0].is_multiple_of(2);
    let (live, dead): (Contents, Contents) = held.into_iter().partition(|(d, _)| is_live(d));
    assert!(live.len() > 3 && dead.len() > 3);
    let stats = store.compact(is_live).unwrap();
    assert_eq!(stats.live_objects, live.len() as u64);
    assert_eq!(stats.dropped_objects, dead.len() as u64);
    check(&store, &live);
    assert_lacks(&store, dead.keys());

    let last = content(2000, 5000);
    store.put(&last).unwrap();
    let held: Contents = live
        .into_iter()
        .chain([(Digest::of(&last), last)])
        .collect();
    let checkpoint = root.join("checkpoint");
    store.checkpoint(&checkpoint).unwrap();
    check(&store, &held);
    store.close().unwrap();
    reopen(options, root, &held).close().unwrap();
    reopen(options, &checkpoint, &held).close().unwrap();
}

#[test]
fn h50_extreme_numbers_in_options_keep_live_objects_and_drop_dead_ones() {
    for (name, set) in NUMBERS {
        for number in extremes() {
            for mode in [ReadMode::Mmap, ReadMode::Pread] {
                eprintln!("{name} {number} {mode:?}");
                let options = Options::new().operations(without_syncing());
                let options = set(options.read_mode(mode), number);
                let folder = scratch();
                live_with(&options, folder.path());
                fs::remove_dir_all(folder.path()).unwrap();
            }
        }
    }
}

/// The segment size may differ at each opening, also while a compaction is unfinished.
#[test]
fn h50_a_store_is_compacted_with_another_segment_size_than_it_was_written_with() {
    let sizes = [0, 1, 4096, 1 << 20, u64::MAX - 1, u64::MAX];
    for written in sizes {
        for compacted in sizes {
            let folder = scratch();
            let options = |bytes| {
                let options = Options::new().operations(without_syncing());
                options.segment_bytes_max(bytes)
            };
            let store = options(written).open(folder.path()).unwrap();
            let contents = batch(0);
            let digests = store.put_many(&contents).unwrap();
            store.close().unwrap();
            let store = options(compacted).open(folder.path()).unwrap();
            let dead = digests[3];
            store.compact(|digest| *digest != dead).unwrap();
            let mut held: Contents = digests.into_iter().zip(contents).collect();
            held.remove(&dead);
            check(&store, &held);
            assert_lacks(&store, [&dead]);
        }
    }
}
