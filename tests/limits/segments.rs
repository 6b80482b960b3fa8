//! Many segments.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sealstone::format::{Entry, Sidecar};
use sealstone::{Digest, Error, Options, ReadMode, Store};
use tempfile::TempDir;

use crate::common::hash::digest_of;
use crate::common::workload::{
    Contents, assert_holds, assert_same, assert_undamaged, assert_verifies, content, contents,
    put_all, walk,
};
use crate::life::options;
use crate::{child, is_long};

/// Writes sealed segments of one object each, as NEDB v3 leaves them, without a manifest: sealing
/// them one by one would write the manifest as often.
fn write_segments(root: &Path, count: u32) -> Contents {
    let segments = root.join("segments");
    fs::create_dir_all(&segments).unwrap();
    let mut held = Contents::new();
    for id in 0..count {
        let content = content(u64::from(id), 20);
        let digest = digest_of(&content);
        let entry = Entry {
            digest,
            offset: 4,
            len: 20,
        };
        let data = [&20_u32.to_le_bytes()[..], &content].concat();
        fs::write(segments.join(format!("seg-{id:06}.dat")), data).unwrap();
        let index = Sidecar::build(&mut [entry]);
        fs::write(segments.join(format!("seg-{id:06}.idx")), index.as_bytes()).unwrap();
        held.insert(digest, content);
    }
    held
}

/// Returns how many maps of files in this folder the process has.
fn maps_of(root: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let root = root.to_str().unwrap();
    maps.lines().filter(|line| line.contains(root)).count()
}

/// Runs the closure and prints how long it took.
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = run();
    println!("\nfound: {what}: {:.2} s", begin.elapsed().as_secs_f64());
    result
}

/// Opens, reads and compacts a store of `count` segments. `options` are asked for each opening.
fn assert_works_with(count: u32, options: &impl Fn() -> Options, maps_max: usize) {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let mut held = write_segments(root, count);
    let store = timed(&format!("{count} segments of NEDB opened"), || {
        options().open(root).unwrap()
    });
    assert_undamaged(&store);
    assert_eq!(store.stats().segments.len(), count as usize + 1);
    timed("read by the writer", || assert_holds(&store, &held));
    let maps = maps_of(root);
    println!("\nfound: {maps} maps");
    assert!(maps <= maps_max, "{maps}");
    timed("closed", || store.close().unwrap());
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let reader = options().read_only(true).read_mode(mode);
        let reader = timed(&format!("{mode:?}: opened by a reader"), || {
            reader.open(root).unwrap()
        });
        timed("walked", || assert_same(&walk(&reader), &held));
        let digests: Vec<Digest> = held.keys().copied().collect();
        let read = timed("read at once", || reader.get_many(&digests));
        assert!(read.into_iter().all(|object| object.unwrap().is_some()));
        timed("idle refresh", || assert!(!reader.refresh().unwrap()));
        assert!(maps_of(root) <= maps_max);
    }
    let store = timed("opened again", || options().open(root).unwrap());
    held.retain(|digest, _| !digest.as_bytes()[0].is_multiple_of(4));
    let live: HashSet<Digest> = held.keys().copied().collect();
    let compact = || store.compact(|digest| live.contains(digest)).unwrap();
    let stats = timed("compacted", compact);
    assert_eq!(stats.live_objects, held.len() as u64);
    // Segments without a dead object stay as they are, however small.
    assert!(stats.segments_after <= stats.segments_before);
    assert_same(&walk(&store), &held);
    timed("verified", || assert_verifies(&store));
    assert!(maps_of(root) <= maps_max);
    let new = store.put(b"new").unwrap();
    store.sync().unwrap();
    assert!(store.contains(new).unwrap());
}

#[test]
fn a_store_of_many_segments_opens_and_is_read_and_compacted() {
    assert_works_with(if is_long() { 12_000 } else { 400 }, &options, usize::MAX);
}

/// Limits the number of descriptors of the process.
fn limit_descriptors(count: u64) {
    let limit = Rlimit {
        current: Some(count),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// The child of the next tests: works with fewer maps and descriptors than there are segments. In
/// an ordinary test run it does nothing.
#[test]
fn lives_with_more_segments_than_maps_and_descriptors() {
    if child::folder_of_child().is_none() {
        return;
    }
    limit_descriptors(64);
    for maps_max in [0, 1, 100] {
        let options = || options().maps_max(maps_max).set_index_minimum(1, 1);
        // The active segment needs one more, and so does the one before while it is sealed.
        assert_works_with(400, &options, maps_max + 2);
    }
}

#[test]
fn h60_more_segments_than_maps_and_descriptors_are_read_by_system_calls() {
    let folder = TempDir::new().unwrap();
    let test = "segments::lives_with_more_segments_than_maps_and_descriptors";
    child::assert_success(&child::run(&[], "exec \"$0\" \"$@\"", test, folder.path()));
}

/// The child of the next test: a reader whose files are opened for each read, beside a writer that
/// compacts. In an ordinary test run it does nothing.
#[test]
fn reads_files_that_are_gone() {
    if child::folder_of_child().is_none() {
        return;
    }
    limit_descriptors(64);
    let folder = TempDir::new().unwrap();
    let held = write_segments(folder.path(), 100);
    let writing = || options().maps_max(0);
    let store = writing().open(folder.path()).unwrap();
    let reader = writing().read_only(true).open(folder.path()).unwrap();
    assert_holds(&reader, &held);
    let pinned = store.reader();
    let is_live = |digest: &Digest| digest.as_bytes()[0].is_multiple_of(2);
    store.compact(is_live).unwrap();
    // This process keeps the files that its handles still read.
    for (digest, content) in &held {
        let object = pinned.get(digest).unwrap();
        assert_eq!(object.as_deref(), Some(&content[..]));
    }
    drop(pinned);
    let gone = |store: &Store| {
        let reads = held
            .iter()
            .map(|(digest, content)| match store.get(digest) {
                Ok(object) => {
                    assert_eq!(object.as_deref(), Some(&content[..]));
                    false
                }
                Err(Error::Io { path, source }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
                    assert!(source.to_string().contains("refresh"), "{source}");
                    assert!(path.extension().is_some_and(|extension| extension == "dat"));
                    true
                }
                Err(error) => panic!("{error:?}"),
            });
        reads.filter(|is_gone| *is_gone).count()
    };
    crate::common::workload::eventually("the files are gone", || gone(&reader) > 20);
    assert!(reader.refresh().unwrap());
    for (digest, content) in &held {
        let expected = is_live(digest).then_some(&content[..]);
        assert_eq!(reader.get(digest).unwrap().as_deref(), expected);
    }
}

#[test]
fn h60_a_file_removed_before_it_is_reopened_is_an_error_until_the_next_refresh() {
    let folder = TempDir::new().unwrap();
    let test = "segments::reads_files_that_are_gone";
    child::assert_success(&child::run(&[], "exec \"$0\" \"$@\"", test, folder.path()));
}

/// The child of the next test: opens more segments than the system allows maps, in one store and in
/// several. In an ordinary test run it does nothing.
#[test]
fn lives_with_more_segments_than_the_system_has_maps() {
    if child::folder_of_child().is_none() {
        return;
    }
    let maps_max = 65_530 / 2;
    for count in [33_000, 70_000] {
        assert_works_with(count, &options, maps_max);
    }
    let folders = [16_000, 17_000].map(|count| {
        let folder = TempDir::new().unwrap();
        let held = write_segments(folder.path(), count);
        (folder, held)
    });
    let open = |(folder, _): &(TempDir, _)| options().open(folder.path()).unwrap();
    let stores = timed("two stores of 16,000 and 17,000 opened", || {
        folders.each_ref().map(open)
    });
    let maps: usize = folders
        .iter()
        .map(|(folder, _)| maps_of(folder.path()))
        .sum();
    println!("\nfound: {maps} maps");
    assert!(maps <= maps_max, "{maps}");
    for (store, (_, held)) in stores.iter().zip(&folders) {
        assert_holds(store, held);
        let new = contents(1 << 32, 10, 300);
        put_all(store, &new);
        assert_holds(store, &new);
    }
}

/// Only the long version runs this: it makes half a million files.
#[test]
#[cfg(target_os = "linux")]
fn h60_more_segments_than_the_system_has_maps_are_opened_read_and_compacted() {
    if is_long() {
        let folder = TempDir::new().unwrap();
        let test = "segments::lives_with_more_segments_than_the_system_has_maps";
        child::assert_success(&child::run(&[], "exec \"$0\" \"$@\"", test, folder.path()));
    }
}

/// Times are printed, not compared;
/// `h67_what_concerns_all_segments_takes_work_in_proportion_to_their_number` counts the work.
#[test]
fn a_refresh_that_finds_nothing_new_is_timed() {
    if !is_long() {
        return;
    }
    for count in [1000, 8000, 32_000] {
        let folder = TempDir::new().unwrap();
        write_segments(folder.path(), count);
        options().open(folder.path()).unwrap().close().unwrap();
        let reader = Options::new().read_only(true).open(folder.path()).unwrap();
        let begin = Instant::now();
        for _ in 0..5 {
            assert!(!reader.refresh().unwrap());
        }
        let mean = begin.elapsed() / 5;
        eprintln!("found: an idle refresh of {count} segments: {mean:.1?}");
    }
}
