//! Paths that are too long.

use std::fs;
use std::path::{Path, PathBuf};

use sealstone::Error;
use tempfile::TempDir;

use crate::life::options;

const ENAMETOOLONG: i32 = 36;

/// Returns a path of this many bytes below a folder, of which nothing exists.
fn path_of(len: usize, folder: &Path) -> PathBuf {
    let mut path = folder.to_owned();
    while path.as_os_str().len() + 1 < len {
        let left = len - path.as_os_str().len() - 1;
        path.push("d".repeat(if left > 202 { 200 } else { left }));
    }
    path
}

/// While the system accepts the names of all files, opening creates a store; with longer paths it
/// is an error that names the path, and creates neither file nor folder.
#[test]
#[cfg(target_os = "linux")]
fn a_root_with_too_long_paths_for_its_files_is_an_error_with_the_path() {
    let (mut opened, mut refused) = (0, 0);
    for len in (4000..4110).chain([5000, 100_000]) {
        let folder = TempDir::new().unwrap();
        let root = path_of(len, folder.path());
        match options().open(&root) {
            Ok(store) => {
                let digest = store.put(b"content").unwrap();
                // Sealing and compacting use the longest names.
                store.compact(|_| true).unwrap();
                let dead = store.put(b"dead").unwrap();
                store.compact(|other| *other != dead).unwrap();
                assert!(store.get(digest).unwrap().is_some());
                opened += 1;
            }
            Err(Error::Io { path, source }) => {
                assert_eq!(source.raw_os_error(), Some(ENAMETOOLONG));
                assert!(path.starts_with(folder.path()), "{}", path.display());
                assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(opened > 10 && refused > 10, "{opened} {refused}");
}
