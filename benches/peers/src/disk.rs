//! The disk below a folder: what it was asked for, how to make it be asked, and the limit of memory
//! above it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{major, minor};

use crate::machine;

/// The block device that a folder is on, as a folder of `/sys`.
pub struct Disk(PathBuf);

impl Disk {
    /// `None` if the folder is not on one block device, as with btrfs and overlays.
    pub fn of(folder: &Path) -> Option<Self> {
        let device = fs::metadata(folder).ok()?.dev();
        let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        fs::canonicalize(link).ok().map(Self)
    }

    /// Returns how many reads the device completed since the machine started, whoever asked.
    pub fn requests(&self) -> Option<u64> {
        let counts = fs::read_to_string(self.0.join("stat")).ok()?;
        counts.split_whitespace().next()?.parse().ok()
    }

    /// A partition has the queue of its disk, whose folder it is in.
    pub fn read_ahead_kibibytes(&self) -> Option<u64> {
        let queues = ["queue", "../queue"].map(|queue| self.0.join(queue));
        let queue = queues.iter().find(|queue| queue.is_dir())?;
        let number = fs::read_to_string(queue.join("read_ahead_kb")).ok()?;
        number.trim().parse().ok()
    }
}

/// Returns how many bytes the disk read for this process.
pub fn bytes_read() -> u64 {
    let counts = fs::read_to_string("/proc/self/io").expect("Linux counts reads");
    let bytes = counts
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    bytes
        .and_then(|bytes| bytes.parse().ok())
        .expect("Linux counts reads")
}

/// Drops all of the page cache that no process has mapped.
pub fn drop_page_cache() -> io::Result<()> {
    machine::quiet_disk(); // pages that are not on disk yet would stay
    fs::write("/proc/sys/vm/drop_caches", "1")
}

/// A control group whose processes have together no more than so much memory, page cache included.
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Makes a group that is removed when this is dropped. `None` if that is not permitted.
    pub fn new(bytes: u64) -> Option<Self> {
        let name = format!("sealstone-peers-{}", process::id());
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        versions.into_iter().find_map(|(root, limit)| {
            // Version 2 has no such folder, and version 1 no group right in the root.
            let is_there = Path::new(root).join("cgroup.procs").exists();
            let group = Path::new(root).join(&name);
            if !is_there || fs::create_dir(&group).is_err() {
                return None;
            }
            let group = Self(group);
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// Returns the file that a process writes its number into to join.
    pub fn members(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
