//! H57, H63: symbolic links in the place of files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sealstone::{Error, Store};
use tempfile::TempDir;

use super::{closed_store, names_of, options, segment_file};
use crate::common::layout;
use crate::common::workload::{assert_same, content, contents, put_all, walk};

const PRIVATE: &[u8] = b"\x28\x00\x00\x00a file of somebody else that nobody may read";

/// Creates a file outside of the store that only its owner may read.
fn private_file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("private");
    fs::write(&path, PRIVATE).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    (folder, path)
}

/// Puts, seals, compacts and closes, until a step fails.
fn live(root: &Path) -> Result<(), Error> {
    let store = options().open(root)?;
    for number in 100..130 {
        store.put(content(number, 500))?;
    }
    store.sync()?;
    store.compact(|digest| digest.as_bytes()[0].is_multiple_of(2))?;
    store.close()
}

/// Returns whether a file of the folder, links apart, has bytes of the private file.
fn holds_private_bytes(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("segments")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let own = files.filter(|path| path.symlink_metadata().unwrap().is_file());
    own.map(|path| fs::read(path).unwrap())
        .any(|bytes| bytes.windows(20).any(|part| part == &PRIVATE[4..24]))
}

#[test]
fn h57_links_to_a_private_file_neither_change_nor_copy_it() {
    let (folder, _) = closed_store();
    let active = names_of(folder.path(), ".jnl").pop().unwrap();
    let active = active.trim_end_matches(".jnl");
    let names = [
        format!("{active}.dat"),
        format!("{active}.jnl"),
        format!("{active}.idx"),
        format!("{active}.torn"),
        format!("{active}.dat.tmp"),
        "seg-000000.dat".to_owned(),
        "seg-000000.idx".to_owned(),
        "seg-000000.jnl".to_owned(),
        "seg-000000.idx.tmp".to_owned(),
        "seg-000099.dat".to_owned(),
        "seg-000099.dat.tmp".to_owned(),
        "set-000000.run".to_owned(),
        "set-000099.run.tmp".to_owned(),
        "MANIFEST".to_owned(),
        "MANIFEST.tmp".to_owned(),
        "MANIFEST.damaged".to_owned(),
        "LOCK".to_owned(),
    ];
    for name in names {
        let (folder, _) = closed_store();
        let (_outside, private) = private_file();
        let path = segment_file(folder.path(), &name);
        let _ = fs::remove_file(&path);
        symlink(&private, &path).unwrap();
        // The torn end makes recovery cut bytes off and save them.
        let data = segment_file(folder.path(), &format!("{active}.dat"));
        if layout::is_kind(&name, "torn") {
            let bytes = fs::read(&data).unwrap();
            fs::write(&data, [&bytes[..], &[9, 0, 0, 0, 1, 2]].concat()).unwrap();
        }
        match live(folder.path()) {
            // A sealed segment is read through a link, and fails to verify.
            Ok(())
            | Err(
                Error::MissingSegment { .. } | Error::Corrupt { .. } | Error::CorruptIndex { .. },
            ) => {}
            Err(error) => assert!(error.to_string().contains(&name), "{name}: {error}"),
        }
        let before = fs::read(&private).unwrap();
        assert!(before == PRIVATE, "{name} let the store change it");
        assert!(!holds_private_bytes(folder.path()), "{name} was copied");
    }
}

#[test]
fn h57_saved_bytes_have_the_mode_of_their_source() {
    let (folder, _) = closed_store();
    let active = names_of(folder.path(), ".jnl").pop().unwrap();
    let data = segment_file(folder.path(), &active.replace(".jnl", ".dat"));
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, [&bytes[..], &[9, 0, 0, 0, 1, 2]].concat()).unwrap();
    fs::set_permissions(&data, PermissionsExt::from_mode(0o600)).unwrap();
    options().open(folder.path()).unwrap().close().unwrap();
    let torn = segment_file(folder.path(), &active.replace(".jnl", ".torn"));
    let mode = fs::metadata(torn).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// One segment was moved to another disk, another is a link relative to the folder.
#[test]
fn h63_a_checkpoint_of_a_store_with_linked_segments_holds_all_objects() {
    let (folder, held) = closed_store();
    let moved = folder.path().join("moved.dat");
    let linked = segment_file(folder.path(), "seg-000000.dat");
    fs::rename(&linked, &moved).unwrap();
    symlink("../moved.dat", &linked).unwrap();
    let target = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    store.checkpoint(target.path()).unwrap();
    drop(store);
    fs::remove_file(moved).unwrap();
    let copy = Store::open(target.path()).unwrap();
    assert_same(&walk(&copy), &held);
}

/// A new file system looks like this.
#[test]
fn h63_a_checkpoint_goes_into_a_folder_with_only_lost_and_found() {
    let (folder, held) = closed_store();
    let target = TempDir::new().unwrap();
    fs::create_dir(target.path().join("lost+found")).unwrap();
    let store = options().open(folder.path()).unwrap();
    store.checkpoint(target.path()).unwrap();
    let copy = Store::open(target.path()).unwrap();
    assert_same(&walk(&copy), &held);
    fs::write(target.path().join("other"), "").unwrap();
    let again = store.checkpoint(target.path());
    assert!(matches!(again, Err(Error::NotEmpty { .. })));
}

/// NEDB v3 appends to the segment with the highest id.
#[test]
fn h54_the_highest_segment_of_a_checkpoint_is_not_shared_with_its_source() {
    let (folder, _) = closed_store();
    let target = TempDir::new().unwrap();
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &contents(200, 3, 100));
    store.checkpoint(target.path()).unwrap();
    let highest = names_of(target.path(), ".dat").pop().unwrap();
    let bytes = fs::metadata(segment_file(target.path(), &highest))
        .unwrap()
        .len();
    assert_eq!(bytes, 0);
}

/// `cp -al`, and backups that link unchanged files, leave two stores that share files.
#[test]
fn h57_a_store_does_not_write_into_a_file_that_another_folder_shares() {
    let (folder, held) = closed_store();
    let copy = TempDir::new().unwrap();
    fs::create_dir(copy.path().join("segments")).unwrap();
    for name in names_of(folder.path(), "") {
        // A shared lock file would keep the second store out.
        if name != "LOCK" {
            let linked = segment_file(copy.path(), &name);
            fs::hard_link(segment_file(folder.path(), &name), linked).unwrap();
        }
    }
    let stores = [&folder, &copy].map(|folder| options().open(folder.path()).unwrap());
    let mut expected = [held.clone(), held];
    for number in 1000..1030 {
        for (own, (store, expected)) in stores.iter().zip(&mut expected).enumerate() {
            let content = content(number + 500 * own as u64, 400);
            expected.insert(store.put(&content).unwrap(), content);
            store.sync().unwrap();
        }
    }
    for store in stores {
        store.close().unwrap();
    }
    for (folder, expected) in [folder, copy].iter().zip(&expected) {
        let walked = walk(&options().open(folder.path()).unwrap());
        assert!(
            expected
                .iter()
                .all(|(digest, content)| walked.get(digest) == Some(content))
        );
    }
}

#[test]
fn h57_a_file_of_torn_bytes_with_other_names_is_not_appended_to() {
    let (folder, held) = closed_store();
    let (_outside, private) = private_file();
    let active = names_of(folder.path(), ".jnl").pop().unwrap();
    let data = segment_file(folder.path(), &active.replace(".jnl", ".dat"));
    fs::hard_link(&private, data.with_extension("torn")).unwrap();
    let mut torn = fs::read(&data).unwrap();
    torn.extend_from_slice(b"half of a record");
    fs::write(&data, torn).unwrap();
    let store = options().open(folder.path()).unwrap();
    assert_same(&walk(&store), &held);
    assert_eq!(fs::read(private).unwrap(), PRIVATE);
}
