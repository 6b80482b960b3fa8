//! Folders that other programs made or wrote to: links, files of any length, ever more torn ends.
#![cfg(unix)]

mod checkpoints;
mod links;
mod locks;
mod sizes;
mod torn;

use crate::common::hash::new_options;
use crate::common::workload;
use std::path::Path;

use crate::common::workload::{contents, put_all};
use sealstone::Options;
use tempfile::TempDir;

fn options() -> Options {
    new_options()
        .segment_bytes_max(4096)
        .operations(workload::without_syncing())
}

/// Creates a closed store of some sealed segments and an active one with a journal.
fn closed_store() -> (TempDir, workload::Contents) {
    let folder = TempDir::new().unwrap();
    let held = contents(0, 30, 500);
    let store = options().open(folder.path()).unwrap();
    put_all(&store, &held);
    store.close().unwrap();
    (folder, held)
}

fn segment_file(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("segments").join(name)
}

/// Returns the names of the store's files with this ending, sorted.
fn names_of(root: &Path, ending: &str) -> Vec<String> {
    let mut names = workload::names(root, &[ending]);
    names.sort();
    names
}
