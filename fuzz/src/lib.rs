//! Code that the targets that open a store share. The targets of the parsers use
//! `sealstone::format` alone, but for the checksums of pages that `set_index` takes from [`forge`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use sealstone::Options;
use sealstone::test_seam::{Folder, Operations};
use tempfile::TempDir;

pub mod forge;

/// The files of one folder by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Flushes nothing: power does not fail here, and a flush can take milliseconds.
#[derive(Debug)]
struct Unflushed;

impl Operations for Unflushed {
    fn sync_file(&self, _: &File, _: &Path, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Folder) -> io::Result<()> {
        Ok(())
    }
}

/// Returns options with small segments and blocks. The set index covers each segment as soon as it
/// is sealed, or a few at a time.
#[must_use]
pub fn options(is_indexed_at_once: bool) -> Options {
    let segments = if is_indexed_at_once { 1 } else { 4 };
    Options::new()
        .segment_bytes_max(512)
        .write_block_bytes(100)
        .set_index_minimum(segments, u64::MAX)
        .operations(Arc::new(Unflushed))
}

/// Makes a temporary folder, in memory if the system has `/dev/shm`.
#[must_use]
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a temporary folder can be made")
}

/// Returns content that depends only on its number and length.
#[must_use]
pub fn content(number: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|position| number ^ position.to_le_bytes()[0].wrapping_mul(31))
        .collect()
}

/// Reads all files of a store.
#[must_use]
pub fn read_files(root: &Path) -> Files {
    let entries = fs::read_dir(root.join("segments")).expect("the store has its folder");
    entries
        .map(|entry| {
            let entry = entry.expect("the folder can be listed");
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, fs::read(entry.path()).expect("it can be read"))
        })
        .collect()
}

/// Writes these files into a fresh folder.
pub fn write_files(root: &Path, files: &Files) {
    let segments = root.join("segments");
    fs::create_dir_all(&segments).expect("a folder can be made");
    for (name, bytes) in files {
        fs::write(segments.join(name), bytes).expect("a file can be written");
    }
}

/// Returns the contents of [`sample`].
#[must_use]
pub fn sample_contents() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 3, 40, 200, 150, 90, 300, 7, 120, 260, 33, 180, 64];
    (0..).zip(lengths).map(|(n, len)| content(n, len)).collect()
}

/// Returns the files of a store that was closed: a few sealed segments, most of them covered by a
/// run of the set index, and an active segment with a journal. Everything in it was synced.
#[must_use]
pub fn sample() -> Files {
    let folder = scratch();
    for contents in sample_contents().chunks(5) {
        let store = options(true)
            .open(folder.path())
            .expect("the store is sound");
        for content in contents {
            store.put(content).expect("there is room");
            store.sync().expect("nothing is flushed");
        }
        store.close().expect("nothing is flushed");
    }
    let mut files = read_files(folder.path());
    files.retain(|name, _| name != "LOCK");
    files
}
