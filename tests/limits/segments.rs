//! Many segments.

use std::fs;
use std::path::Path;

use sealstone::format::{Entry, Index};
use sealstone::{Digest, Options, ReadMode};
use tempfile::TempDir;

use crate::is_long;
use crate::life::options;
use crate::workload::{
    Contents, assert_holds, assert_same, assert_undamaged, assert_verifies, content, walk,
};

/// Sealed segments of one object each, as NEDB v3 left them: without a manifest. Sealing them one by
/// one would write the manifest as often.
fn write_segments(root: &Path, count: u32) -> Contents {
    let segments = root.join("segments");
    fs::create_dir_all(&segments).unwrap();
    let mut held = Contents::new();
    for id in 0..count {
        let content = content(u64::from(id), 20);
        let digest = Digest::of(&content);
        let entry = Entry {
            digest,
            offset: 4,
            len: 20,
        };
        let data = [&20_u32.to_le_bytes()[..], &content].concat();
        fs::write(segments.join(format!("seg-{id:06}.dat")), data).unwrap();
        let index = Index::build(&mut [entry]);
        fs::write(segments.join(format!("seg-{id:06}.idx")), index.as_bytes()).unwrap();
        held.insert(digest, content);
    }
    held
}

/// Opens, reads and compacts a store of so many segments.
fn assert_works_with(count: u32) {
    let folder = TempDir::new().unwrap();
    let mut held = write_segments(folder.path(), count);
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_eq!(store.stats().segments.len(), count as usize + 1);
    assert_holds(&store, &held);
    store.close().unwrap();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let reader = Options::new().read_only(true).read_mode(mode);
        if mode == ReadMode::Mmap || !is_long() {
            assert_same(&walk(&reader.open(folder.path()).unwrap()), &held);
        }
    }
    let store = options().open(folder.path()).unwrap();
    held.retain(|digest, _| !digest.as_bytes()[0].is_multiple_of(4));
    let live = held.clone();
    let stats = store.compact(|digest| live.contains_key(digest)).unwrap();
    assert_eq!(stats.live_objects, held.len() as u64);
    // Segments without a dead object stay as they are, however small.
    assert!(stats.segments_after <= stats.segments_before);
    assert_same(&walk(&store), &held);
    assert_verifies(&store);
    let new = store.put(b"new").unwrap();
    store.sync().unwrap();
    assert!(store.contains(&new).unwrap());
}

#[test]
fn a_store_of_many_segments_opens_and_is_read_and_compacted() {
    assert_works_with(if is_long() { 12_000 } else { 400 });
}
