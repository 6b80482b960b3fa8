//! What a reader follows, and does without, while files come and go.

use std::fs;

use sealstone::format::journal;
use sealstone::{Digest, Error, Repair};

use crate::common::layout::{data_name, file, scratch};
use crate::common::workload::{self, assert_holds, content, contents, put_all};
use crate::recovery::{JOURNAL, data_of, entries_of, listed, options, write};

/// A reader reads on in a journal; a writer that was started again may have replaced it.
#[test]
fn h3_a_reader_notices_that_a_journal_was_replaced() {
    for syncs in [1, 2, 50] {
        let folder = scratch();
        let root = folder.path();
        let store = options().open(root).unwrap();
        let held = contents(0, syncs, 100);
        for content in held.values() {
            store.put(content).unwrap();
            store.sync().unwrap();
        }
        store.close().unwrap();
        let reader = options().read_only(true).open(root).unwrap();
        assert_holds(&reader, &held);

        fs::remove_file(file(root, JOURNAL)).unwrap();
        let writer = options().open(root).unwrap();
        let more = contents(100, 3, 100);
        put_all(&writer, &more);
        writer.sync().unwrap();
        reader.refresh().unwrap();
        assert_holds(&reader, &held);
        assert_holds(&reader, &more);
        let last = contents(200, 3, 100);
        put_all(&writer, &last);
        writer.sync().unwrap();
        reader.refresh().unwrap();
        assert_holds(&reader, &last);
        assert_eq!(reader.len(), syncs + 6);
    }
}

/// A crash can take the journal, and from the data what was put last.
#[test]
fn a_reader_whose_journal_was_lost_sees_what_is_in_the_data() {
    let folder = scratch();
    let root = folder.path();
    let (first, lost, second) = (
        contents(0, 3, 100),
        contents(10, 3, 100),
        contents(20, 3, 100),
    );
    let store = options().open(root).unwrap();
    put_all(&store, &first);
    put_all(&store, &lost);
    store.close().unwrap();
    let reader = options().read_only(true).open(root).unwrap();
    assert_holds(&reader, &lost);

    fs::remove_file(file(root, JOURNAL)).unwrap();
    let held = [&first, &second].map(|contents| contents.values().cloned());
    let held: Vec<Vec<u8>> = held.into_iter().flatten().collect();
    write(root, &data_name(0), &data_of(&held));
    assert!(reader.refresh().unwrap());
    assert_holds(&reader, &listed(&held));
    workload::assert_lacks(&reader, lost.keys());
}

/// The data of NEDB v3 has no journal; what comes to be in its place is looked at all the same.
#[test]
fn a_reader_that_goes_on_names_a_journal_that_cannot_be_read() {
    let folder = scratch();
    let root = folder.path();
    let held: Vec<Vec<u8>> = (0..3).map(|number| content(number, 100)).collect();
    write(root, &data_name(0), &data_of(&held));
    let reader = options().read_only(true).open(root).unwrap();
    assert!(!reader.refresh().unwrap());
    fs::create_dir(file(root, JOURNAL)).unwrap();
    match reader.refresh() {
        Err(Error::Io { path, .. }) => assert_eq!(path, file(root, JOURNAL)),
        other => panic!("{other:?}"),
    }
    assert_holds(&reader, &listed(&held));
}

/// Who follows a writer looks again only where `refresh` says so. What was synced meanwhile is from then
/// on damaged if it does not verify, where before it could be what a crash had left.
#[test]
fn a_refresh_says_whether_more_was_written_or_became_durable() {
    let folder = scratch();
    let root = folder.path();
    let held: Vec<Vec<u8>> = (0..6).map(|number| content(number, 100)).collect();
    let data = data_of(&held);
    let entries = entries_of(&data);
    let mut noted = journal::Encoder::new(0);
    noted.entries(&entries[..3], 312);
    write(root, &data_name(0), &data[..312]);
    write(root, JOURNAL, noted.as_bytes());
    let reader = options().read_only(true).open(root).unwrap();
    assert_holds(&reader, &listed(&held[..3]));
    assert!(!reader.refresh().unwrap());

    noted.entries(&entries[3..], 624);
    write(root, &data_name(0), &data);
    write(root, JOURNAL, noted.as_bytes());
    assert!(reader.refresh().unwrap());
    assert_holds(&reader, &listed(&held));
    assert!(!reader.refresh().unwrap());

    noted.sync_mark(624);
    write(root, JOURNAL, noted.as_bytes());
    assert!(reader.refresh().unwrap());
    assert!(!reader.refresh().unwrap());
    let mut damaged = data;
    *damaged.last_mut().unwrap() ^= 1;
    write(root, &data_name(0), &damaged);
    let found = reader.get(&Digest::of(&held[5]));
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
    assert_holds(&reader, &listed(&held[..5]));
}

/// Behind the journal's end a reader takes what is whole: the empty object once, wherever it is noted,
/// and no zeros for more of it.
#[test]
fn a_reader_finds_one_empty_object_on_either_side_of_the_journals_end() {
    let mut held: Vec<Vec<u8>> = (0..5).map(|number| content(number, 100)).collect();
    held.insert(2, Vec::new());
    let data = data_of(&held);
    let entries = entries_of(&data);
    for noted in 0..=held.len() {
        let folder = scratch();
        let root = folder.path();
        let mut journal = journal::Encoder::new(0);
        let end = entries[..noted]
            .last()
            .map_or(0, |entry| entry.end().unwrap());
        journal.entries(&entries[..noted], end);
        write(root, &data_name(0), &[&data[..], &[0; 4096]].concat());
        write(root, JOURNAL, journal.as_bytes());
        let reader = options().read_only(true).open(root).unwrap();
        assert_eq!(reader.len(), 6, "{noted}");
        assert_holds(&reader, &listed(&held));
    }
}

/// The writer can seal a segment and compact it away, and merge a run with others, after a reader has
/// listed their names. A link that leads nowhere is such a name.
#[cfg(unix)]
#[test]
fn a_reader_does_without_what_is_gone_since_its_name_was_listed() {
    use std::os::unix::fs::symlink;
    let folder = scratch();
    let root = folder.path();
    let held: Vec<Vec<u8>> = (0..3).map(|number| content(number, 100)).collect();
    write(root, &data_name(0), &data_of(&held));
    let early = options().read_only(true).open(root).unwrap();
    symlink("nowhere", file(root, &data_name(1))).unwrap();
    symlink("nowhere", file(root, "set-000000.run")).unwrap();
    early.refresh().unwrap();
    let late = options().read_only(true).open(root).unwrap();
    for reader in [early, late] {
        assert_holds(&reader, &listed(&held));
        assert_eq!(reader.len(), 3);
    }
}

/// What is loaded while the manifest is replaced is loaded again, but not without end.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_whose_manifest_never_stands_still_opens_all_the_same() {
    let folder = scratch();
    let root = folder.path().to_owned();
    let held: Vec<Vec<u8>> = (0..3).map(|number| content(number, 100)).collect();
    write(&root, &data_name(0), &data_of(&held));
    // Each time that it is read it says something else.
    let other = "/proc/sys/kernel/random/uuid";
    std::os::unix::fs::symlink(other, file(&root, "MANIFEST")).unwrap();
    let open = move || options().read_only(true).open(root).unwrap();
    let reader = workload::completes("opening beside a manifest that changes", open);
    assert!(matches!(
        reader.recovery().repairs[..],
        [Repair::IgnoredManifest { .. }]
    ));
    assert_holds(&reader, &listed(&held));
}
