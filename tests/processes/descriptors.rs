//! A process with few file descriptors.

use std::env;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use sealstone::{Error, ReadMode};
use tempfile::TempDir;

use crate::common::workload::{
    Contents, EMFILE, assert_same, assert_undamaged, contents, put_all, snapshot, walk,
    without_syncing,
};
use crate::writer::{alone, options};

const FEW_DESCRIPTORS: &str = "SEALSTONE_FEW_DESCRIPTORS_STORE";

fn many_segments() -> Contents {
    let mut held = contents(0, 200, 500);
    held.extend(contents(1000, 3, 100));
    held
}

#[track_caller]
fn assert_too_many_open_files<T>(result: Result<T, Error>) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(EMFILE)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it succeeded"),
    }
}

/// The child of the next test. In an ordinary test run it does nothing.
#[test]
#[cfg(unix)]
fn opens_with_few_descriptors() {
    let Ok(folder) = env::var(FEW_DESCRIPTORS) else {
        return;
    };
    let held = many_segments();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let (mut refused, mut complete) = (0, 0);
    for free in 0..taken.len().min(90) {
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            for read_only in [false, true] {
                let options = options().operations(without_syncing());
                let options = options.read_mode(mode).read_only(read_only);
                let store = match options.open(&folder) {
                    Ok(store) => store,
                    failed => {
                        assert_too_many_open_files(failed);
                        refused += 1;
                        continue;
                    }
                };
                assert_undamaged(&store);
                let mut found = 0;
                for (digest, content) in &held {
                    match store.get(digest) {
                        Ok(object) => {
                            assert_eq!(object.as_deref(), Some(&content[..]));
                            found += 1;
                        }
                        failed => assert_too_many_open_files(failed),
                    }
                }
                complete += usize::from(found == held.len());
            }
        }
        // The next round has one more descriptor.
        let _ = (free, taken.pop());
    }
    assert!(refused > 4 && complete > 4, "{refused} {complete}");
}

#[test]
#[cfg(unix)]
fn h4_too_few_file_descriptors_are_an_error_and_nothing_is_cut() {
    let _alone = alone();
    let folder = TempDir::new().unwrap();
    let store = options()
        .segment_bytes_max(2000)
        .open(folder.path())
        .unwrap();
    let held = many_segments();
    put_all(&store, &held);
    store.close().unwrap();
    let data = |path: &Path| {
        let files = snapshot(path).into_iter();
        let data = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "dat"));
        let bytes = data.filter_map(|(path, seen)| Some((path, seen.bytes?)));
        // Segments that were not filled may be empty.
        bytes
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect::<Vec<_>>()
    };
    let before = data(folder.path());
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 150 && exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "descriptors::opens_with_few_descriptors"])
        .env(FEW_DESCRIPTORS, folder.path())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
    assert!(data(folder.path()) == before, "data files have changed");
    let store = options().open(folder.path()).unwrap();
    assert_undamaged(&store);
    assert_same(&walk(&store), &held);
}
