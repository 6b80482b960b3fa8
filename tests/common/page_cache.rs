//! The files that the system has in memory, and reads that wait because it has not.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Drops the files of a folder from memory. Those that a process has mapped may stay.
pub fn drop_from_memory(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

/// Accesses of this process to memory that waited for a read which nobody had asked for.
pub fn major_faults() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, which may have blanks, ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(9).unwrap().parse().unwrap()
}
