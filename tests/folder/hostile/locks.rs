//! H62, H69: locks of other programs, a damaged manifest, and a lack of descriptors.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use super::{closed_store, options, segment_file};
use crate::common::hash::new_options;
use crate::common::workload::{assert_same, walk};

/// Everybody who may read a folder can lock it.
#[test]
fn h69_a_lock_on_the_folder_does_not_refuse_a_writer() {
    let (folder, held) = closed_store();
    for is_shared in [true, false] {
        let nuisance = File::open(folder.path().join("segments")).unwrap();
        if is_shared {
            nuisance.lock_shared().unwrap();
        } else {
            nuisance.lock().unwrap();
        }
        let store = options().open(folder.path()).unwrap();
        assert_same(&walk(&store), &held);
        store.close().unwrap();
    }
}

/// Whoever can open a file can lock it, so only writers may open the lock file.
#[test]
fn h69_only_those_who_may_write_can_open_the_lock_file() {
    let (folder, _) = closed_store();
    let path = segment_file(folder.path(), "LOCK");
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!((mode & 0o222) << 1, mode & 0o444, "{mode:o}");
}

#[test]
fn h69_damaged_manifests_are_kept() {
    let (folder, held) = closed_store();
    let manifest = segment_file(folder.path(), "MANIFEST");
    for (damaged, kept) in [("one", "MANIFEST.damaged"), ("two", "MANIFEST.damaged-2")] {
        fs::write(&manifest, damaged).unwrap();
        let store = options().open(folder.path()).unwrap();
        assert_same(&walk(&store), &held);
        store.close().unwrap();
        let kept = fs::read_to_string(segment_file(folder.path(), kept)).unwrap();
        assert_eq!(kept, damaged);
    }
    let store = options().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean());
}

const CHILD: &str = "SEALSTONE_WITHOUT_DESCRIPTORS";

/// The child of the next test, with few file descriptors. In an ordinary test run it does nothing.
#[test]
fn syncs_without_descriptors() {
    let Ok(folder) = env::var(CHILD) else { return };
    let store = new_options().open(&folder).unwrap();
    let first = store.put(b"put before").unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() < 200);
    store.sync().unwrap();
    let second = store.put(b"put without descriptors").unwrap();
    store.sync().unwrap();
    // A call that needs another file is an error, after which everything works again.
    assert!(store.checkpoint(format!("{folder}-copy")).is_err());
    store.sync().unwrap();
    drop(taken);
    store.put(b"put after").unwrap();
    store.sync().unwrap();
    assert!(store.contains(first).unwrap() && store.contains(second).unwrap());
    store.close().unwrap();
}

#[test]
fn h62_a_shortage_of_descriptors_does_not_count_as_a_failed_fsync() {
    let folder = TempDir::new().unwrap();
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "hostile::locks::syncs_without_descriptors"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && printed.contains("1 passed"),
        "{printed}"
    );
}
