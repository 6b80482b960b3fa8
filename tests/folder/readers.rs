//! How a reader follows files that come, and copes with files that go.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;

use sealstone::format::journal;
use sealstone::{Error, HashFunction, Options, Repair, Store};

use crate::common::hash::digest_of;
use crate::common::layout::{content as long_content, data_name, file, scratch, segments};
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

/// A crash can take the journal, and the last objects from the data.
#[test]
fn a_reader_without_a_journal_sees_the_records_of_the_data() {
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

/// The data of NEDB v3 has no journal; the reader still examines one that appears later.
#[test]
fn a_refresh_reports_a_journal_that_cannot_be_read() {
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

/// By an empty folder, everything would be absent.
#[test]
fn a_refresh_after_the_store_was_removed_fails_and_the_reader_keeps_its_objects() {
    let folder = scratch();
    let root = folder.path().join("store");
    let store = options().open(&root).unwrap();
    let held = contents(0, 30, 500);
    put_all(&store, &held);
    store.close().unwrap();
    let reader = options().read_only(true).open(&root).unwrap();
    fs::remove_dir_all(&root).unwrap();
    match reader.refresh() {
        Err(Error::NoStore { path }) => assert_eq!(path, root),
        other => panic!("{other:?}"),
    }
    assert_holds(&reader, &held);
}

/// A reader that follows a writer examines files again only when `refresh` is called. Objects that
/// were synced meanwhile then count as damaged if they do not verify, while before a crash could
/// explain it.
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
    let found = reader.get(digest_of(&held[5]));
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
    assert_holds(&reader, &listed(&held[..5]));
}

/// Behind the journal's end, a reader takes whole records: the empty object once, on whichever side
/// it is noted, and no zeros as more of it.
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

/// After a reader has listed their names, the writer can compact a sealed segment away, and merge a
/// run with others. A dangling link stands for such a name.
#[cfg(unix)]
#[test]
fn a_reader_ignores_files_that_are_gone_since_their_names_were_listed() {
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

/// Files loaded while the manifest is replaced are loaded again, but not without end.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_opens_although_the_manifest_changes_all_the_time() {
    let folder = scratch();
    let root = folder.path().to_owned();
    let held: Vec<Vec<u8>> = (0..3).map(|number| content(number, 100)).collect();
    write(&root, &data_name(0), &data_of(&held));
    // The manifest says something else each time that it is read.
    let other = "/proc/sys/kernel/random/uuid";
    std::os::unix::fs::symlink(other, file(&root, "MANIFEST")).unwrap();
    let reading = options().read_only(true);
    let reading = reading.hash_function(HashFunction::default());
    let open = move || reading.open(root).unwrap();
    let reader = workload::completes("opening beside a manifest that changes", open);
    assert!(matches!(
        reader.recovery().repairs[..],
        [Repair::IgnoredManifest { .. }]
    ));
    assert_holds(&reader, &listed(&held));
}

/// H31: a walk opens files once more by their names, to read ahead. Others may have taken the names.
#[test]
fn h31_a_walk_reads_what_was_opened_when_other_files_take_the_names_and_are_cut() {
    let folder = scratch();
    let store = Store::open(folder.path()).unwrap();
    let contents: Vec<Vec<u8>> = (0..3000).map(|seed| long_content(seed, 1000)).collect();
    store.put_many(&contents).unwrap();
    store.compact(|_| true).unwrap();
    store.close().unwrap();
    let reader = Options::new().read_only(true).open(folder.path()).unwrap();
    let mut taken = Vec::new();
    for entry in fs::read_dir(segments(folder.path())).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|found| found == "dat" || found == "idx")
        {
            let copy = folder.path().join("copy");
            fs::copy(&path, &copy).unwrap();
            fs::rename(&copy, &path).unwrap();
            taken.push(path);
        }
    }
    let mut objects = reader.iter().map(|object| object.unwrap().to_vec());
    let first = objects.next();
    for path in taken {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(5).unwrap();
    }
    let objects = first.into_iter().chain(objects);
    assert_eq!(
        objects.collect::<HashSet<_>>(),
        contents.into_iter().collect()
    );
    let report = reader.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(
        report.corrupt.is_empty() && !report.problems.is_empty(),
        "{report:?}"
    );
}
