//! H64: what is kept of torn ends.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use sealstone::Repair;

use crate::workload::{assert_same, walk};
use crate::{closed_store, names_of, options, segment_file};

/// The data file of the active segment.
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

/// Behind a damaged length there may be whole records, unless our journal says that there are none.
#[test]
fn h5_h64_what_another_program_wrote_behind_a_damaged_length_is_saved_whole() {
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

/// Nothing more is saved once there is as much as may be, and the report says so.
#[test]
fn h64_what_was_saved_grows_to_a_bound() {
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

/// What may hold whole records stays where it is if it cannot be saved.
#[test]
fn h64_h69_an_end_that_cannot_be_saved_stays_unless_it_is_worthless() {
    let (folder, held) = closed_store();
    let data = active_data(folder.path());
    let before = fs::read(&data).unwrap();
    let torn = data.with_extension("torn");
    File::create(&torn).unwrap().set_len(64 << 20).unwrap();
    // A second empty record ends what is good, and something whole follows.
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
    assert!(store.contains(&new).unwrap());
}
