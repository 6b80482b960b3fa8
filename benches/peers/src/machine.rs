//! The machine that was measured on; without it, figures say nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::disk::Disk;

/// Describes the machine, one fact a line.
pub fn describe(folder: &Path) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let gibibytes = field("/proc/meminfo", "MemTotal")
        .and_then(|memory| memory.split_whitespace().next()?.parse::<f64>().ok())
        .map_or("unknown".into(), |kib| format!("{:.0}", kib / 1_048_576.0));
    vec![
        format!(
            "CPU: {}, {cores} cores",
            field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into())
        ),
        format!("memory: {gibibytes} GiB"),
        format!("kernel: {} {}", std::env::consts::OS, kernel.trim()),
        format!("file system: {}", file_system(folder)),
        format!("date: {}", today()),
    ]
}

/// Returns the value of the first line `name: value` in a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// Returns the type of the file system that a folder is on.
pub fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, mount, kind) = (words.next()?, words.next()?, words.next()?);
            folder.starts_with(mount).then_some((mount, kind))
        })
        .max_by_key(|(mount, _)| mount.len())
        .map_or("unknown".into(), |(_, kind)| kind.into())
}

/// Says how far ahead the kernel reads on the device that a folder is on.
pub fn read_ahead(folder: &Path) -> String {
    let kibibytes = Disk::of(folder).and_then(|disk| disk.read_ahead_kibibytes());
    let kibibytes = kibibytes.map_or("unknown".into(), |number| format!("{number} KiB"));
    format!("read-ahead of the disk: {kibibytes}")
}

fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}

/// Waits until everything that was written is on disk, so that one store does not leave writes
/// behind that slow down the next.
pub fn quiet_disk() {
    let status = Command::new("sync").status();
    assert!(status.is_ok_and(|status| status.success()), "sync failed");
}
