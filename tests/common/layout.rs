//! Shared by the tests that damage files: the files of a store as values, the records of a data
//! file found without the library's parsers, and contents that are the same in every run.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The files of one folder by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Returns the folder of a store that holds its files.
pub fn segments(root: &Path) -> PathBuf {
    root.join("segments")
}

pub fn file(root: &Path, name: &str) -> PathBuf {
    segments(root).join(name)
}

pub fn data_name(segment: u32) -> String {
    format!("seg-{segment:06}.dat")
}

pub fn sidecar_name(segment: u32) -> String {
    format!("seg-{segment:06}.idx")
}

/// Returns the segment that a file name belongs to.
pub fn segment_of(name: &str) -> Option<u32> {
    let (digits, _) = name.strip_prefix("seg-")?.split_once('.')?;
    digits.parse().ok()
}

/// Returns whether the name ends in this extension.
pub fn is_kind(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

/// Returns all files of a store.
pub fn read_files(root: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(segments(root)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, fs::read(entry.path()).unwrap());
    }
    files
}

/// Makes the folder of a store hold exactly these files.
pub fn write_files(root: &Path, files: &Files) {
    fs::create_dir_all(segments(root)).unwrap();
    for entry in fs::read_dir(segments(root)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| files.contains_key(name)) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for (name, bytes) in files {
        fs::write(file(root, name), bytes).unwrap();
    }
}

/// Creates a folder that is removed at the end, in memory where the system has such a place: these
/// tests open stores by the hundred thousand, and none is about the medium.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Copies this test program to `copy`, to be started from there. Another program does it: while this one
/// has the copy open for writing, another test may start a process, which inherits the open file for a
/// moment, and a file that is open for writing cannot be started ("text file busy").
#[cfg(unix)]
pub fn copy_this_program(copy: &Path) {
    let program = std::env::current_exe().unwrap();
    let copied = std::process::Command::new("cp")
        .arg(program)
        .arg(copy)
        .status();
    assert!(copied.unwrap().success());
}

/// Returns `len` bytes that look random and depend on `seed` only. This is `SplitMix64`, written
/// out because the streams of the `rand` crate change from version to version and the fixture may
/// not.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Returns a record: `u32 len`, then the content.
pub fn record(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    [&len.to_le_bytes(), content].concat()
}

/// Returns the whole records of a data file, each as the offset of its content and the content.
pub fn records(data: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    let mut position = 0;
    while let Some((header, rest)) = data[position..].split_first_chunk::<4>() {
        let Some(content) = rest.get(..u32::from_le_bytes(*header) as usize) else {
            break;
        };
        found.push((position as u64 + 4, content));
        position += 4 + content.len();
    }
    found
}
