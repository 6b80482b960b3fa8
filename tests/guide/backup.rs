//! The backup tool.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::backup_tool::Backups;

/// Writes files, and returns their names.
fn write<'a>(root: &Path, files: &[(&'a str, &[u8])]) -> Vec<&'a str> {
    for (name, content) in files {
        fs::write(root.join(name), content).unwrap();
    }
    files.iter().map(|(name, _)| *name).collect()
}

fn restored(backups: &Backups, backup: &str, path: &str) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let is_there = backups.restore(backup, path, &mut content).unwrap();
    is_there.then_some(content)
}

#[test]
fn files_come_back_from_each_backup_until_it_is_forgotten() {
    let (folder, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut backups = Backups::open(folder.path()).unwrap();
    let files = write(
        root.path(),
        &[("a", b"same"), ("b", b"old"), ("c", b"same")],
    );
    assert_eq!(backups.back_up("monday", root.path(), &files).unwrap(), 2);
    let files = write(root.path(), &[("a", b"same"), ("b", b"new")]);
    assert_eq!(backups.back_up("tuesday", root.path(), &files).unwrap(), 1);
    drop(backups);

    let mut backups = Backups::open(folder.path()).unwrap();
    assert_eq!(restored(&backups, "monday", "b").unwrap(), b"old");
    assert_eq!(restored(&backups, "tuesday", "b").unwrap(), b"new");
    assert_eq!(restored(&backups, "tuesday", "c"), None);
    assert!(backups.damaged().unwrap().is_empty());

    let stats = backups.forget("monday").unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (2, 1));
    assert_eq!(stats.live_missing, 0);
    assert_eq!(restored(&backups, "monday", "b"), None);
    assert_eq!(restored(&backups, "tuesday", "a").unwrap(), b"same");
}

#[test]
fn a_backup_that_fails_is_not_in_the_catalogue_and_its_contents_are_dropped() {
    let (folder, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut backups = Backups::open(folder.path()).unwrap();
    let mut files = write(root.path(), &[("a", b"1"), ("b", b"2")]);
    backups.back_up("first", root.path(), &files[..1]).unwrap();
    files.push("gone");
    assert!(backups.back_up("second", root.path(), &files).is_err());
    assert_eq!(restored(&backups, "second", "a"), None);
    let stats = backups.forget("third").unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (1, 1));
}
