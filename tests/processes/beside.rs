//! Other processes at the same store, and folders in an unusual state.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, thread};

use sealstone::{Error, Object, Options, ReadMode, Store};
use tempfile::TempDir;

use crate::common::hash::{digest_of, hash_function};
use crate::common::workload::{
    Contents, assert_holds, assert_lacks, assert_same, assert_unchanged, assert_undamaged,
    assert_verifies, completes, content, contents, names, put_all, settle, snapshot, walk,
    without_syncing,
};
use crate::strange::assert_io;
use crate::writer::{OBJECT_BYTES, Writer, alone, options};

fn reader(folder: &Path, mode: ReadMode) -> Store {
    let options = Options::new().read_only(true).read_mode(mode);
    options.open(folder).unwrap()
}

#[track_caller]
fn assert_locked(folder: &Path) {
    let folder = folder.to_owned();
    let opened = completes("opening", {
        let folder = folder.clone();
        move || options().open(folder)
    });
    match opened {
        Err(Error::Locked { path }) => assert_eq!(path, folder.join("segments/LOCK")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn h2_a_second_writer_in_the_same_process_is_refused_at_once() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let first = options().open(folder.path()).unwrap();
    let held = contents(0, 100, OBJECT_BYTES);
    put_all(&first, &held);
    first.sync().unwrap();
    settle(folder.path());
    let before = snapshot(folder.path());
    assert_locked(folder.path());
    assert_unchanged(folder.path(), &before);
    let clone = first.clone();
    drop(first);
    assert_locked(folder.path());
    put_all(&clone, &contents(1000, 50, OBJECT_BYTES));
    drop(clone);
    let second = options().open(folder.path()).unwrap();
    assert!(second.recovery().is_clean(), "{:?}", second.recovery());
    assert_eq!(second.len(), 150);
    assert_holds(&second, &held);
}

#[test]
fn h2_a_second_writer_in_another_process_is_refused_at_once() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let here = options().open(folder.path()).unwrap();
    let (refused, said) = Writer::start(folder.path());
    assert!(said.starts_with("Locked"), "{said}");
    drop(refused);
    let held = contents(0, 100, OBJECT_BYTES);
    put_all(&here, &held);
    here.close().unwrap();

    let mut there = Writer::open(folder.path());
    there.tell("put 1000 100");
    assert_locked(folder.path());
    there.tell("sync");
    assert_locked(folder.path());
    there.close();
    let here = options().open(folder.path()).unwrap();
    assert_holds(&here, &held);
    assert_holds(&here, &contents(1000, 100, OBJECT_BYTES));
    drop(here);

    // The system releases the locks of a killed process.
    let mut there = Writer::open(folder.path());
    there.tell("put 2000 100");
    there.tell("sync");
    drop(there);
    let here = options().open(folder.path()).unwrap();
    assert_undamaged(&here);
    assert_holds(&here, &contents(2000, 100, OBJECT_BYTES));
    assert_eq!(here.len(), 300);
}

/// A starting process holds all files of this one for a moment, the lock file too. That must not
/// keep a dropped store locked.
#[test]
fn h2_a_dropped_store_is_unlocked_also_while_processes_are_started() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let starter = || {
            while !done.load(Ordering::Acquire) {
                let mut command = Command::new(env::current_exe().unwrap());
                command.arg("--list").stdout(Stdio::null());
                assert!(command.status().unwrap().success());
            }
        };
        let starters = [scope.spawn(starter), scope.spawn(starter)];
        let opened: Result<Vec<()>, Error> = (0..400)
            .map(|_| {
                options()
                    .operations(without_syncing())
                    .open(folder.path())
                    .map(drop)
            })
            .collect();
        done.store(true, Ordering::Release);
        for starter in starters {
            starter.join().unwrap();
        }
        opened.unwrap();
    });
}

/// Uses a read-only handle in every way.
fn use_reader(reader: &Store, held: &Contents) {
    assert_holds(reader, held);
    assert_same(&walk(reader), held);
    assert_eq!(reader.digests().count(), held.len());
    assert_eq!(reader.len(), held.len() as u64);
    let first = *held.keys().next().unwrap();
    assert_eq!(reader.find(&first.to_string()).unwrap(), Some(first));
    assert_verifies(reader);
    let _ = reader.stats();
    for refused in [
        reader.put(b"new").map(drop),
        reader.put_many(&[b"new"]).map(drop),
        reader.sync(),
        reader.begin_compaction().map(drop),
        reader.checkpoint(reader.root().join("copy")),
    ] {
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    }
}

#[test]
fn h3_a_reader_beside_a_writer_changes_no_byte() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let mut writer = Writer::open(folder.path());
    writer.tell("put 0 200");
    writer.tell("drop 0 20");
    writer.tell("put 1000 200");
    writer.tell("drop 1000 20");
    writer.tell("put 2000 10");
    writer.tell("sync");
    let mut held = contents(20, 180, OBJECT_BYTES);
    held.extend(contents(1020, 180, OBJECT_BYTES));
    held.extend(contents(2000, 10, OBJECT_BYTES));
    settle(folder.path());
    let before = snapshot(folder.path());
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let reader = reader(folder.path(), mode);
        use_reader(&reader, &held);
        assert!(!reader.refresh().unwrap());
        use_reader(&reader, &held);
    }
    assert_unchanged(folder.path(), &before);
    writer.close();
}

#[test]
fn h3_a_reader_repairs_no_trace_of_a_crash() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let mut writer = Writer::open(folder.path());
    writer.tell("put 0 100");
    writer.tell("drop 0 10");
    writer.tell("put 1000 20");
    writer.tell("sync");
    drop(writer);
    let segments = folder.path().join("segments");
    fs::write(segments.join("seg-000099.dat.tmp"), b"half").unwrap();
    fs::write(segments.join("MANIFEST.tmp"), b"half").unwrap();
    let newest = names(folder.path(), &[".jnl"]).pop().unwrap();
    let newest = segments.join(newest.replace(".jnl", ".dat"));
    // This record claims 200 bytes and ends after 3.
    let mut torn = File::options().append(true).open(newest).unwrap();
    torn.write_all(&[200, 0, 0, 0, 1, 2, 3]).unwrap();
    for sidecar in names(folder.path(), &[".idx"]).into_iter().step_by(2) {
        fs::remove_file(segments.join(sidecar)).unwrap();
    }
    let mut held = contents(10, 90, OBJECT_BYTES);
    held.extend(contents(1000, 20, OBJECT_BYTES));
    let before = snapshot(folder.path());
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let reader = reader(folder.path(), mode);
        use_reader(&reader, &held);
        reader.refresh().unwrap();
        use_reader(&reader, &held);
    }
    assert_unchanged(folder.path(), &before);
    let writer = options().open(folder.path()).unwrap();
    assert_same(&walk(&writer), &held);
}

#[test]
fn h3_a_reader_process_follows_a_writer_process_through_its_compactions() {
    let _alone = alone();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::open(folder.path());
        writer.tell("put 0 100");
        writer.tell("sync");
        let reader = reader(folder.path(), mode);
        let mut held = contents(0, 100, OBJECT_BYTES);
        assert_same(&walk(&reader), &held);

        // These objects go into the segment that the reader has open already, and into new ones.
        for (first, count) in [(1000, 1), (2000, 100), (3000, 3)] {
            writer.tell(&format!("put {first} {count}"));
            writer.tell("sync");
            assert_same(&walk(&reader), &held);
            held.extend(contents(first, count, OBJECT_BYTES));
            assert!(reader.refresh().unwrap());
            assert_same(&walk(&reader), &held);
        }

        let dropped = contents(0, 50, OBJECT_BYTES);
        let objects: Vec<Object> = dropped
            .keys()
            .map(|digest| reader.get(digest).unwrap().unwrap())
            .collect();
        writer.tell("drop 0 50");
        // The reader sees what it saw before, although the files are gone by now.
        assert_same(&walk(&reader), &held);
        assert_holds(&reader, &held);
        held.retain(|digest, _| !dropped.contains_key(digest));
        assert!(reader.refresh().unwrap());
        assert_lacks(&reader, dropped.keys());
        assert_same(&walk(&reader), &held);
        assert_holds(&reader, &held);
        for object in &objects {
            assert!(object[..] == dropped[object.digest()][..]);
        }

        // The next compaction also drops objects that the reader was never asked for.
        writer.tell("drop 2000 60");
        let gone = contents(2000, 60, OBJECT_BYTES);
        assert_holds(&reader, &gone);
        reader.refresh().unwrap();
        assert_lacks(&reader, gone.keys());
        held.retain(|digest, _| !gone.contains_key(digest));
        assert_verifies(&reader);

        // The reader follows the next writer like the one before.
        drop(writer);
        assert_holds(&reader, &held);
        let mut writer = Writer::open(folder.path());
        writer.tell("put 4000 40");
        writer.tell("sync");
        held.extend(contents(4000, 40, OBJECT_BYTES));
        reader.refresh().unwrap();
        assert_same(&walk(&reader), &held);
        writer.close();
        reader.refresh().unwrap();
        use_reader(&reader, &held);
    }
}

/// `SEALSTONE_READER_COMPACTIONS` sets the number of compactions; the writer syncs in each.
#[test]
fn h26_a_reader_that_refreshes_all_the_time_finds_every_live_object() {
    let compactions = env::var("SEALSTONE_READER_COMPACTIONS").ok();
    let compactions: u64 = compactions.map_or(15, |compactions| compactions.parse().unwrap());
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let mut writer = Writer::open(folder.path());
    writer.tell("put 0 60");
    writer.tell("sync");
    let live = contents(0, 60, OBJECT_BYTES);
    writer.tell("put 500 60");
    writer.tell("sync");
    // This reader sees until the end the objects that the first compaction drops.
    let unmoved = reader(folder.path(), ReadMode::Mmap);
    let mut seen = live.clone();
    seen.extend(contents(500, 60, OBJECT_BYTES));
    writer.tell("drop 500 60");
    let path = folder.path().to_owned();
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Acquire);
    thread::scope(|scope| {
        let readers = [ReadMode::Mmap, ReadMode::Pread].map(|mode| {
            let (live, path) = (&live, &path);
            scope.spawn(move || {
                let kept = reader(path, mode);
                let mut rounds = 0;
                while !is_done() {
                    rounds += 1;
                    kept.refresh().unwrap();
                    assert_holds(&kept, live);
                    // A reader opened now finds them as well.
                    let new = reader(path, mode);
                    assert_holds(&new, live);
                    assert_undamaged(&new);
                }
                rounds
            })
        });
        for round in 1..=compactions {
            let first = round * 1000;
            writer.tell(&format!("put {first} 60"));
            writer.tell(&format!("drop {first} 60"));
        }
        done.store(true, Ordering::Release);
        let rounds = readers.map(|reader| reader.join().unwrap());
        eprintln!("{compactions} compactions, and all live objects read {rounds:?} times");
    });
    assert_same(&walk(&unmoved), &seen);
    assert_holds(&unmoved, &seen);
    writer.close();
    let reader = reader(folder.path(), ReadMode::Mmap);
    assert_same(&walk(&reader), &live);
    // The files of all replaced segments are gone.
    assert!(names(folder.path(), &[".dat"]).len() < 10);
}

#[test]
#[cfg(unix)]
fn h3_a_folder_that_cannot_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 200, OBJECT_BYTES);
    put_all(&store, &held);
    store.close().unwrap();
    let segments = folder.path().join("segments");
    let set_mode = |mode| fs::set_permissions(&segments, PermissionsExt::from_mode(mode)).unwrap();
    set_mode(0o555);
    if File::create(segments.join("probe")).is_ok() {
        eprintln!("permissions do not bind this user, so this was not tested");
        return;
    }
    let before = snapshot(folder.path());
    let reader = reader(folder.path(), ReadMode::Mmap);
    use_reader(&reader, &held);
    assert_unchanged(folder.path(), &before);
    let manifest = segments.join("MANIFEST");
    fs::set_permissions(&manifest, PermissionsExt::from_mode(0o000)).unwrap();
    assert_io(
        Options::new().read_only(true).open(folder.path()),
        &manifest,
    );
    set_mode(0o755);
}

#[test]
fn h14_nothing_is_overwritten_after_the_last_segment_id_is_used() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("segments")).unwrap();
    let last = folder.path().join("segments/seg-4294967295.dat");
    let first = content(1, 100);
    fs::write(&last, [&[100, 0, 0, 0], &first[..]].concat()).unwrap();
    let options = options().segment_bytes_max(2000);
    let store = options.open(folder.path()).unwrap();
    let mut held = Contents::from([(digest_of(&first), first)]);
    assert_same(&walk(&store), &held);
    let mut refused = 0;
    for number in 1000..1020 {
        let content = content(number, 300);
        match store.put(&content) {
            Ok(digest) => drop(held.insert(digest, content)),
            Err(Error::SegmentIdsExhausted) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(held.len() > 4 && refused > 10);
    for _ in 0..2 {
        assert_same(&walk(&store), &held);
        store.sync().unwrap();
        let compacted = store.compact(|_| true);
        assert!(matches!(compacted, Err(Error::SegmentIdsExhausted)));
    }
    // Objects that are there can be put again.
    put_all(&store, &held);
    store.close().unwrap();
    assert_eq!(names(folder.path(), &[".dat"]), ["seg-4294967295.dat"]);
    match options.open(folder.path()) {
        Ok(store) => assert_same(&walk(&store), &held),
        Err(error) => assert!(matches!(error, Error::SegmentIdsExhausted), "{error}"),
    }
    assert_same(&walk(&reader(folder.path(), ReadMode::Mmap)), &held);
    assert_eq!(names(folder.path(), &[".dat"]), ["seg-4294967295.dat"]);
}

/// Reads 4 GiB of zeros, which takes some seconds and, where the system maps untouched memory to
/// one page, no memory. Run with `cargo test --release --test processes -- --ignored h16`.
#[test]
#[ignore = "hashes 4 GiB"]
#[cfg(target_pointer_width = "64")]
fn h16_content_of_4_gib_is_refused_before_a_byte_is_written() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    let held = contents(0, 10, OBJECT_BYTES);
    put_all(&store, &held);
    store.sync().unwrap();
    let before = snapshot(folder.path());
    let content = vec![0; 1 << 32];
    let hashed = sealstone::Hashed::with(hash_function(), &content);
    for _ in 0..2 {
        match store.put_hashed(&hashed) {
            Err(Error::TooLarge { bytes }) => assert_eq!(bytes, 1 << 32),
            other => panic!("{other:?}"),
        }
    }
    assert_unchanged(folder.path(), &before);
    assert!(!store.contains(hashed.digest()).unwrap());
    assert_holds(&store, &held);
    store.put(b"the next").unwrap();
    store.close().unwrap();
}
