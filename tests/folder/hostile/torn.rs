//! H64: how much is kept of torn ends.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sealstone::format::Manifest;
use sealstone::{Options, Repair};
use tempfile::TempDir;

use super::{closed_store, names_of, options, segment_file};
use crate::common::workload::{
    ENOSPC, Kind, Verdict, assert_holds, assert_same, assert_verifies, contents, put_all, seam,
    system_error, walk,
};

/// Returns the data file of the active segment.
fn active_data(root: &Path) -> std::path::PathBuf {
    let journal = names_of(root, ".jnl").pop().unwrap();
    segment_file(root, &journal.replace(".jnl", ".dat"))
}

fn append(path: &Path, parts: &[&[u8]]) {
    let mut file = File::options().append(true).open(path).unwrap();
    for part in parts {
        file.write_all(part).unwrap();
    }
}

#[test]
fn h64_large_puts_that_are_cut_off_again_and_again_leave_little() {
    let (folder, held) = closed_store();
    let data = active_data(folder.path());
    let header = (128_u32 << 20).to_le_bytes();
    for kill in 0..6_u8 {
        append(&data, &[&header, &vec![kill + 1; 16 << 20]]);
        let store = options().open(folder.path()).unwrap();
        assert_same(&walk(&store), &held);
        store.close().unwrap();
    }
    let torn = data.with_extension("torn");
    assert!(fs::metadata(torn).unwrap().len() <= 6 * (64 << 10));
}

/// There may be whole records behind a damaged length, unless our journal excludes that.
#[test]
fn h5_h64_records_of_another_program_behind_a_damaged_length_are_saved_whole() {
    for is_in_a_segment_of_ours in [true, false] {
        let (folder, held) = closed_store();
        let data = active_data(folder.path());
        if !is_in_a_segment_of_ours {
            fs::remove_file(data.with_extension("jnl")).unwrap();
        }
        let record = [&100_000_u32.to_le_bytes()[..], &vec![7; 100_000]].concat();
        let damaged = [&(1_u32 << 30).to_le_bytes()[..], &record[4..], &record].concat();
        append(&data, &[&record, &damaged]);
        let store = options().open(folder.path()).unwrap();
        assert_eq!(walk(&store).len(), held.len() + 1);
        let torn = fs::read(data.with_extension("torn")).unwrap();
        if is_in_a_segment_of_ours {
            assert_eq!(torn, damaged[..64 << 10]);
        } else {
            assert_eq!(torn, damaged);
        }
    }
}

/// Nothing more is saved once the bound is reached, and the report says so.
#[test]
fn h64_saved_bytes_grow_to_a_bound() {
    let (folder, held) = closed_store();
    let data = active_data(folder.path());
    let torn = data.with_extension("torn");
    let mut saved = File::create(&torn).unwrap();
    saved.seek(SeekFrom::Start((64 << 20) - 1)).unwrap();
    saved.write_all(b"x").unwrap();
    append(
        &data,
        &[&500_u32.to_le_bytes(), b"the beginning of one record"],
    );
    let store = options().open(folder.path()).unwrap();
    let is_unsaved = |repair: &Repair| matches!(repair, Repair::UnsavedTail { .. });
    assert!(store.recovery().repairs.iter().any(is_unsaved));
    assert_same(&walk(&store), &held);
    assert_eq!(fs::metadata(torn).unwrap().len(), 64 << 20);
}

/// An end that may hold whole records stays in the data file if it cannot be saved.
#[test]
fn h64_h69_a_torn_end_that_cannot_be_saved_stays_unless_it_is_worthless() {
    let (folder, held) = closed_store();
    let data = active_data(folder.path());
    let before = fs::read(&data).unwrap();
    let torn = data.with_extension("torn");
    File::create(&torn).unwrap().set_len(64 << 20).unwrap();
    // A second empty record ends the valid data, and a whole record follows.
    let end: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c'];
    append(&data, &[end]);
    let store = options().open(folder.path()).unwrap();
    let is_uncut = |repair: &Repair| matches!(repair, Repair::UncutTail { .. });
    assert!(store.recovery().repairs.iter().any(is_uncut));
    let walked = walk(&store);
    assert!(
        held.iter()
            .all(|(digest, content)| walked.get(digest) == Some(content))
    );
    let new = store.put(b"goes into another segment").unwrap();
    store.close().unwrap();
    let kept = fs::read(&data).unwrap();
    assert!(kept.starts_with(&before) && kept.ends_with(b"abc"));
    let store = options().open(folder.path()).unwrap();
    assert!(store.contains(new).unwrap());
}

/// The kinds of room that a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Room only for overwriting the same bytes of a data file, as an opening does.
    Overwriting,
    Nothing,
    Everything,
}

fn disk_with(room: &Arc<Mutex<Room>>) -> Options {
    let room = Arc::clone(room);
    options().operations(seam(move |step| {
        let room = *room.lock().unwrap();
        match step.kind {
            Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
            Kind::Create if step.path.exists() || room == Room::Everything => Verdict::Go,
            Kind::Write if room == Room::Overwriting && step.is(Kind::Write, ".dat") => Verdict::Go,
            Kind::Create | Kind::Write if room != Room::Everything => system_error(ENOSPC),
            _ => Verdict::Go,
        }
    }))
}

/// A put that a full disk interrupts leaves a torn end and no room to save it, nor for any other
/// write of an opening.
#[test]
fn h69_a_store_opens_on_a_full_disk_with_any_torn_end() {
    type Make = fn(&Path);
    let states: [(&str, Make, bool); 8] = [
        ("whole", |_| (), true),
        (
            "the front of a record",
            |data| append(data, &[&[200, 0, 0, 0, b'a', b'b', b'c']]),
            true,
        ),
        (
            "possible records",
            |data| append(data, &[&[0; 8], &[3, 0, 0, 0, b'a', b'b', b'c']]),
            false,
        ),
        (
            "a torn journal",
            |data| append(&data.with_extension("jnl"), &[b"torn"]),
            false,
        ),
        (
            "no journal",
            |data| fs::remove_file(data.with_extension("jnl")).unwrap(),
            false,
        ),
        (
            "a sidecar that does not fit",
            |data| fs::write(data.with_extension("idx"), b"torn").unwrap(),
            false,
        ),
        (
            "a sealed segment without its sidecar",
            |data| fs::remove_file(data.with_file_name("seg-000000.idx")).unwrap(),
            true,
        ),
        (
            "a manifest that lists a missing segment as retired",
            |data| {
                let path = data.with_file_name("MANIFEST");
                let mut manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
                manifest.next_id += 1;
                let gone = u32::try_from(manifest.next_id - 1).unwrap();
                manifest.retired.insert(gone, None);
                fs::write(path, manifest.encode()).unwrap();
            },
            true,
        ),
    ];
    for (what, make, takes_puts) in states {
        let (folder, held) = closed_store();
        let data = active_data(folder.path());
        make(&data);
        let before = fs::read(&data).unwrap();
        let room = Arc::new(Mutex::new(Room::Overwriting));
        let store = disk_with(&room).open(folder.path());
        let store = store.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let repairs = &store.recovery().repairs;
        let is_unsaved = |repair: &Repair| matches!(repair, Repair::UnsavedTail { .. });
        let is_uncut = |repair: &Repair| matches!(repair, Repair::UncutTail { .. });
        assert_eq!(
            repairs.iter().any(is_unsaved),
            what == "the front of a record"
        );
        assert_eq!(repairs.iter().any(is_uncut), what == "possible records");
        assert_holds(&store, &held);

        *room.lock().unwrap() = Room::Nothing;
        // A small put needs no room before it is written.
        let first = store.put(b"put on a full disk");
        assert_eq!(first.is_ok(), takes_puts, "{what}: {first:?}");
        assert!(!takes_puts || store.sync().is_err());
        let after = fs::read(&data).unwrap();
        let is_cut = what == "the front of a record";
        assert!(
            after == before || is_cut && before.starts_with(&after),
            "{what}"
        );

        *room.lock().unwrap() = Room::Everything;
        let second = store.put(b"there is room again").unwrap();
        store.sync().unwrap();
        store.close().unwrap();
        let after = fs::read(&data).unwrap();
        assert!(is_cut || after.starts_with(&before), "{what}");
        let store = options().open(folder.path()).unwrap();
        assert_holds(&store, &held);
        assert_verifies(&store);
        for put in first.into_iter().chain([second]) {
            assert!(store.contains(put).unwrap(), "{what}");
        }
    }
}

/// A store closes a segment of many objects early; a full disk has no room for the next one.
#[test]
fn h69_a_store_of_many_objects_opens_on_a_full_disk() {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 33_000, 9);
    let room = Arc::new(Mutex::new(Room::Everything));
    let options = disk_with(&room).segment_bytes_max(64 << 20);
    let store = options.open(folder.path()).unwrap();
    put_all(&store, &held);
    store.sync().unwrap();
    *room.lock().unwrap() = Room::Nothing;
    store.close().unwrap();
    let store = options.open(folder.path()).unwrap();
    assert_holds(&store, &held);
    let put = store.put([7; 10_000]).unwrap();
    assert!(store.sync().is_err());
    *room.lock().unwrap() = Room::Everything;
    store.sync().unwrap();
    store.close().unwrap();
    let store = options.open(folder.path()).unwrap();
    assert_holds(&store, &held);
    assert!(store.contains(put).unwrap());
}
