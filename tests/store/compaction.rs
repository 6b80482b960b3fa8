//! Compactions copy records of every length, also where one copy has rotted.

use crate::common::hash::{digest_of, new_options};
use crate::common::workload;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::layout::{data_name, file, record, records, scratch, segments, sidecar_name};
use crate::common::workload::{
    Contents, EIO, Kind, Verdict, assert_holds, assert_lacks, assert_verifies, content, put_all,
    seam, system_error, without_syncing,
};
use sealstone::format::{Entry, Manifest, Records, Sidecar};
use sealstone::test_seam::Operations;
use sealstone::{Digest, Error, Options, Store};

fn options() -> Options {
    new_options().operations(without_syncing())
}

fn with_lengths(lengths: &[usize]) -> Contents {
    let contents = (1..).zip(lengths).map(|(n, &len)| content(n, len));
    contents.map(|c| (digest_of(&c), c)).collect()
}

/// Checks that data files of sealed segments hold whole records only and that sidecars list each.
#[track_caller]
fn assert_sidecars_tile(root: &Path, store: &Store) {
    let segments = store.stats().segments;
    let sealed = segments.iter().filter(|segment| segment.index_bytes > 0);
    let mut seen = 0;
    for segment in sealed {
        let data = fs::read(file(root, &data_name(segment.id))).unwrap();
        let sidecar = fs::read(file(root, &sidecar_name(segment.id))).unwrap();
        let index = Sidecar::parse(&sidecar).unwrap();
        assert!(index.is_sorted() && index.tiles(data.len() as u64));
        assert_eq!(Records::new(&data).count(), index.len());
        seen += 1;
    }
    assert!(seen > 0);
}

/// Records are written in blocks, which end anywhere in a record or between two records.
#[test]
fn records_of_every_length_are_moved_whole() {
    records_are_moved_whole(true, 2 << 20);
    records_are_moved_whole(false, 256 << 10);
}

fn records_are_moved_whole(huge_page_writes: bool, block_bytes: usize) {
    let lengths = [
        8, // dropped
        block_bytes - 4,
        block_bytes - 3,
        9,
        block_bytes,
        block_bytes + 1,
        10,
        3 * block_bytes + 7,
        block_bytes / 2,
        block_bytes / 2 - 4,
        11,
        block_bytes / 2 - 8,
        block_bytes / 2,
    ];
    let folder = scratch();
    let options = options().huge_page_writes(huge_page_writes);
    let store = options.open(folder.path()).unwrap();
    let mut held = with_lengths(&lengths);
    // This order ends the first copied record at the end of a block, and the next inside one.
    for (number, len) in (1..).zip(lengths) {
        store.put(content(number, len)).unwrap();
    }
    let dead = digest_of(&content(1, lengths[0]));
    let stats = store.compact(|digest| *digest != dead).unwrap();
    held.remove(&dead);
    assert_eq!((stats.live_objects, stats.dropped_objects), (12, 1));
    assert_holds(&store, &held);
    assert_lacks(&store, [&dead]);
    assert_verifies(&store);
    assert_sidecars_tile(folder.path(), &store);
    store.close().unwrap();
    let store = options.open(folder.path()).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_holds(&store, &held);
}

/// Two segments hold the same object, which happens when it is put again because it had rotted.
#[test]
fn one_verified_copy_stays_of_two_copies_of_an_object() {
    let first: Vec<Vec<u8>> = (0..4).map(|number| content(number, 100)).collect();
    let second: Vec<Vec<u8>> = (3..7).map(|number| content(number, 100)).collect();
    let held: Contents = [&first[..], &second[1..]]
        .concat()
        .into_iter()
        .map(|content| (digest_of(&content), content))
        .collect();
    for rotten in [None, Some(0), Some(1)] {
        let folder = scratch();
        let root = folder.path();
        fs::create_dir(segments(root)).unwrap();
        for (id, contents) in [(0, &first), (1, &second)] {
            let mut data: Vec<u8> = contents.iter().flat_map(|c| record(c)).collect();
            let mut entries: Vec<Entry> = Records::new(&data)
                .map(|record| Entry {
                    digest: digest_of(record.content),
                    offset: record.offset,
                    len: 100,
                })
                .collect();
            let sidecar = Sidecar::build(&mut entries).into_bytes();
            fs::write(file(root, &sidecar_name(id)), sidecar).unwrap();
            if rotten == Some(id) {
                let (offset, _) = records(&data)[if id == 0 { 3 } else { 0 }];
                data[usize::try_from(offset).unwrap() + 50] ^= 1;
            }
            fs::write(file(root, &data_name(id)), &data).unwrap();
        }
        let store = options().open(root).unwrap();
        let stats = store.compact(|_| true).unwrap();
        assert_eq!((stats.live_objects, stats.dropped_objects), (7, 0));
        let kept = store
            .stats()
            .segments
            .iter()
            .map(|s| s.objects)
            .sum::<u64>();
        assert_eq!(kept, 7, "{rotten:?}");
        assert_holds(&store, &held);
        assert_verifies(&store);
    }
}

/// A sealed copy rots after a compaction began. The object is put again, so the only whole copy is
/// one that the compaction does not copy.
#[test]
fn a_live_record_that_rots_during_a_compaction_is_taken_from_its_other_copy() {
    let folder = scratch();
    let root = folder.path();
    let store = options().open(root).unwrap();
    let held = with_lengths(&[100, 200, 300]);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    let path = file(root, &data_name(0));
    let data = fs::read(&path).unwrap();
    let (offset, rotten) = records(&data)[1];
    let (rotten, dead) = (rotten.to_vec(), digest_of(records(&data)[0].1));
    let mut damaged = data.clone();
    damaged[usize::try_from(offset).unwrap() + 50] ^= 1;
    fs::write(&path, &damaged).unwrap();
    store.put(&rotten).unwrap();

    let stats = compaction.finish(|digest| *digest != dead).unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (2, 1));
    assert_lacks(&store, [&dead]);
    let mut held = held;
    held.remove(&dead);
    assert_holds(&store, &held);
    assert_verifies(&store);
}

/// Found by fuzzing: the whole copy was written beyond the length in the sidecar, which made the
/// records after it unreadable.
#[test]
fn h35_a_forged_length_does_not_spoil_the_copies_of_a_compaction() {
    let folder = scratch();
    let root = folder.path();
    let held = with_lengths(&[100, 200, 300, 400]);
    let store = options().open(root).unwrap();
    put_all(&store, &held);
    drop(store.begin_compaction().unwrap());
    store.close().unwrap();

    let data = fs::read(file(root, &data_name(0))).unwrap();
    let contents: Vec<Vec<u8>> = records(&data).iter().map(|(_, c)| c.to_vec()).collect();
    let (dead, forged) = (digest_of(&contents[0]), digest_of(&contents[1]));
    let sidecar = fs::read(file(root, &sidecar_name(0))).unwrap();
    let mut entries: Vec<Entry> = Sidecar::parse(&sidecar[..]).unwrap().entries().collect();
    // Each record must begin where the one before ends, or the sidecar would be refused.
    entries.sort_unstable_by_key(|entry| entry.offset);
    assert_eq!(entries[1].digest, forged);
    entries[1].len -= 10;
    entries[2].offset -= 10;
    entries[2].len += 10;
    let sidecar = Sidecar::build(&mut entries);
    fs::write(file(root, &sidecar_name(0)), sidecar.as_bytes()).unwrap();
    let mut manifest = Manifest::parse(&fs::read(file(root, "MANIFEST")).unwrap()).unwrap();
    manifest.sealed.get_mut(&0).unwrap().sidecar_checksum = sidecar.checksum();
    fs::write(file(root, "MANIFEST"), manifest.encode()).unwrap();

    let store = options().open(root).unwrap();
    let compaction = store.begin_compaction().unwrap();
    store.put(&contents[1]).unwrap();
    store.put(&contents[2]).unwrap();
    compaction.finish(|digest| *digest != dead).unwrap();
    let mut held = held;
    held.remove(&dead);
    assert_holds(&store, &held);
    assert_verifies(&store);
}

/// Counts the syncs of new data files, and lets the sync with number `fails` fail.
fn syncs_of_outputs(fails: Option<usize>) -> (Arc<dyn Operations>, Arc<AtomicUsize>) {
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let operations = seam(move |step| match step.kind {
        Kind::SyncFile if step.name().ends_with(".dat.tmp") => {
            if Some(counted.fetch_add(1, Ordering::SeqCst)) == fails {
                system_error(EIO)
            } else {
                Verdict::Pretend
            }
        }
        Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
        _ => Verdict::Go,
    });
    (operations, syncs)
}

/// H9: a compaction syncs what it has written while it copies the rest. If such a sync fails, the
/// compaction stops, as it does when the last one fails.
#[test]
fn h9_a_sync_that_fails_while_a_compaction_copies_leaves_the_old_set() {
    const LEN: usize = 33 << 20;
    let held = with_lengths(&[LEN, LEN, 8]);
    let dead = digest_of(&content(3, 8));
    for fails in [None, Some(0)] {
        let folder = scratch();
        let (operations, syncs) = syncs_of_outputs(fails);
        let store = new_options().operations(operations);
        let store = store.open(folder.path()).unwrap();
        put_all(&store, &held);
        let result = store.compact(|digest| *digest != dead);
        if fails.is_none() {
            assert_eq!(result.unwrap().live_objects, 2);
            // The data file is synced when 64 MiB were written, at its end, and when it is
            // published.
            assert_eq!(syncs.load(Ordering::SeqCst), 3);
            assert_lacks(&store, [&dead]);
        } else {
            match result {
                Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(EIO)),
                other => panic!("{other:?}"),
            }
            assert_holds(&store, &held);
            assert!(matches!(store.put(b"more"), Err(Error::Poisoned { .. })));
            drop(store);
            assert_holds(&options().open(folder.path()).unwrap(), &held);
        }
    }
}

/// Each task asks for some of the digests of all segments; together the tasks ask for all, once.
#[test]
fn each_digest_is_asked_for_once_by_several_tasks() {
    const COUNT: u64 = 140_000;
    let folder = scratch();
    let options = options().segment_bytes_max(1 << 20);
    let store = options.open(folder.path()).unwrap();
    let contents: Vec<[u8; 8]> = (0..COUNT).map(u64::to_le_bytes).collect();
    let digests = store.put_many(&contents).unwrap();
    let asked = AtomicUsize::new(0);
    let is_live = |digest: &Digest| !digest.as_bytes()[31].is_multiple_of(3);
    let stats = store.compact(|digest| {
        asked.fetch_add(1, Ordering::Relaxed);
        is_live(digest)
    });
    let stats = stats.unwrap();
    let live = digests.iter().filter(|digest| is_live(digest)).count() as u64;
    assert_eq!(
        (stats.live_objects, stats.dropped_objects),
        (live, COUNT - live)
    );
    assert_eq!(asked.load(Ordering::Relaxed) as u64, COUNT);
    assert_eq!(store.len(), live);
    for digest in &digests {
        assert_eq!(store.contains(digest).unwrap(), is_live(digest));
    }
}

/// H21: a compaction that cannot write one new segment removes the others.
#[test]
fn h21_a_compaction_that_fails_in_one_segment_leaves_no_file_of_the_others() {
    let folder = scratch();
    let root = folder.path();
    let options = options().segment_bytes_max(1000);
    let store = options.open(root).unwrap();
    let held = with_lengths(&[300; 30]);
    put_all(&store, &held);
    let compaction = store.begin_compaction().unwrap();
    workload::settle(root);
    let before = workload::names(root, &[""]);
    let path = file(root, &data_name(4));
    let mut data = fs::read(&path).unwrap();
    data[100] ^= 1;
    fs::write(&path, &data).unwrap();
    let rotten = records(&data)[0].1.len();
    // The last record of each segment is dead.
    let dead: Vec<Digest> = workload::names(root, &[".dat"])
        .iter()
        .filter_map(|name| {
            let data = fs::read(file(root, name)).unwrap();
            let last = records(&data).last()?.1.to_vec();
            Some(digest_of(&last))
        })
        .collect();
    assert!(rotten == 300 && dead.len() > 8);
    match compaction.finish(|digest| !dead.contains(digest)) {
        Err(Error::Corrupt { segment, .. }) => assert_eq!(segment, 4),
        other => panic!("{other:?}"),
    }
    assert_eq!(workload::names(root, &[""]), before);
}
