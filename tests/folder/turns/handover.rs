//! H54: NEDB v3 appends to the segment with the highest id, whoever wrote it.
//!
//! So Sealstone leaves an unsealed segment as the highest. Where that failed, because a file was
//! lost or an earlier version closed the store, records that NEDB appends to a sealed segment are
//! found.

use std::fs;
use std::io::Write;
use std::path::Path;

use sealstone::format::Manifest;
use sealstone::{Options, Repair, Store};

use crate::common::hash::is_skipped;
use crate::common::layout::{data_name, file, record, scratch, segment_of, sidecar_name};
use crate::common::nedb_writer::Nedb;
use crate::common::workload::{
    Contents, assert_holds, assert_verifies, contents, copy_store, names, put_all, without_syncing,
};

const SEGMENT_BYTES_MAX: u64 = 4000;

fn options() -> Options {
    Options::new()
        .segment_bytes_max(SEGMENT_BYTES_MAX)
        .operations(without_syncing())
}

fn highest(root: &Path) -> u32 {
    let names = names(root, &[".dat"]).into_iter();
    names.filter_map(|name| segment_of(&name)).max().unwrap()
}

/// Returns the highest segment, if the manifest lists it as sealed or retired.
pub fn listed_highest(root: &Path) -> Option<u32> {
    let bytes = fs::read(file(root, "MANIFEST")).ok()?;
    let manifest = Manifest::parse(&bytes).unwrap();
    let id = highest(root);
    (manifest.sealed.contains_key(&id) || manifest.retired.contains_key(&id)).then_some(id)
}

fn close(store: Store, root: &Path, after: &str) {
    assert_eq!(listed_highest(root), None, "open, after {after}");
    store.close().unwrap();
    assert_eq!(listed_highest(root), None, "closed, after {after}");
}

#[test]
fn h54_the_highest_segment_is_never_sealed_or_retired() {
    if is_skipped("NEDB knows BLAKE2b only") {
        return;
    }
    let folder = scratch();
    let root = folder.path();
    let open = || options().open(root).unwrap();
    let held = contents(0, 40, 300);
    for (round, what) in ["all", "half", "none"].into_iter().enumerate() {
        let store = open();
        put_all(&store, &held);
        store
            .compact(|digest| round == 0 || round == 1 && digest.as_bytes()[0] < 128)
            .unwrap();
        close(store, root, what);
        close(open(), root, "an opening");
    }

    // These are more objects than a segment that stays unsealed may have.
    let store = options().segment_bytes_max(64 << 20).open(root).unwrap();
    put_all(&store, &contents(1000, 33_000, 9));
    close(store, root, "33,000 small objects");

    // Another program's segment is the highest, with a sidecar.
    let store = open();
    put_all(&store, &contents(100, 3, 50));
    store.close().unwrap();
    let (from, above) = (highest(root), highest(root) + 7);
    let data = fs::read(file(root, &data_name(from))).unwrap();
    fs::write(file(root, &data_name(above)), &data).unwrap();
    let sidecar = crate::common::nedb::sidecar(&crate::common::nedb::entries(&data));
    fs::write(file(root, &sidecar_name(above)), sidecar).unwrap();
    let store = open();
    let adopted = |repair: &Repair| matches!(repair, Repair::AdoptedSegment { segment, .. } if *segment == above);
    assert!(store.recovery().repairs.iter().any(adopted));
    close(store, root, "an adoption");
}

/// Creates a store whose highest segment is sealed, and returns its objects.
fn sealed_to_the_top(root: &Path) -> Contents {
    let held = contents(0, 30, 300);
    let store = options().open(root).unwrap();
    put_all(&store, &held);
    store.compact(|_| true).unwrap();
    store.close().unwrap();
    let above = file(root, &data_name(highest(root)));
    assert_eq!(fs::metadata(&above).unwrap().len(), 0);
    fs::remove_file(above.with_extension("jnl")).unwrap();
    fs::remove_file(above).unwrap();
    assert_eq!(listed_highest(root), Some(highest(root)));
    held
}

#[test]
fn h54_records_appended_to_a_sealed_segment_are_found_and_kept() {
    if is_skipped("NEDB knows BLAKE2b only") {
        return;
    }
    for (rolls, is_torn) in [(false, false), (false, true), (true, false)] {
        let folder = scratch();
        let root = folder.path();
        let mut held = sealed_to_the_top(root);
        let sealed = highest(root);
        let rollover_bytes = if rolls { SEGMENT_BYTES_MAX } else { u64::MAX };
        let mut nedb = Nedb::open(root, rollover_bytes, None).unwrap();
        let appended = contents(100, 50, 90);
        for content in appended.values() {
            assert!(nedb.put(content).unwrap());
        }
        nedb.sync().unwrap();
        assert_eq!(highest(root) > sealed, rolls);
        held.extend(appended);
        if is_torn {
            let path = file(root, &data_name(sealed));
            let mut data = fs::File::options().append(true).open(path).unwrap();
            data.write_all(&record(&[5; 99])[..60]).unwrap();
        }

        let reader = options().read_only(true).open(root).unwrap();
        assert_holds(&reader, &held);
        drop(reader);
        let copy = scratch();
        copy_store(root, copy.path());
        // One compaction runs at once, the other after another opening.
        for (root, is_closed_before) in [(copy.path(), false), (root, true)] {
            let mut store = options().open(root).unwrap();
            assert!(!store.recovery().is_clean());
            assert_holds(&store, &held);
            if is_closed_before {
                store.close().unwrap();
                store = options().open(root).unwrap();
                assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            }
            store.compact(|_| true).unwrap();
            assert_holds(&store, &held);
            assert_verifies(&store);
            close(store, root, "NEDB has appended");
            assert_holds(&options().open(root).unwrap(), &held);
        }
    }
}
