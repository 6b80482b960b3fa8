//! H65: files that claim to be longer than their stored data.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;
use std::{env, fs, process};

use crate::common::hash::digest_of;
use sealstone::format::Manifest;
use sealstone::{Digest, ReadMode};

use super::{closed_store, names_of, options, segment_file};

const FOLDER: &str = "SEALSTONE_HOSTILE_FOLDER";
const MANNER: &str = "SEALSTONE_HOSTILE_MANNER";
/// The allowance beside the stored data.
const PEAK_BYTES_MAX: u64 = 64 << 20;

/// The child of the next test: opens the folder, reads every object and prints its peak of memory.
/// In an ordinary test run it does nothing.
#[test]
fn opens_a_hostile_folder() {
    let (Ok(folder), Ok(manner)) = (env::var(FOLDER), env::var(MANNER)) else {
        return;
    };
    let options = match &*manner {
        "reader" => options().read_only(true),
        "reader by position" => options().read_only(true).read_mode(ReadMode::Pread),
        "writer" => options(),
        _ => options().read_mode(ReadMode::Pread),
    };
    let begun = Instant::now();
    let outcome = options.open(folder).map_or_else(
        |error| error.to_string(),
        |store| {
            // Asking for an absent object examines every sidecar.
            let absent = store.get(digest_of(b"absent")).map(drop);
            let walked = store.iter().flatten().count();
            format!("opens, {absent:?}, {walked} objects")
        },
    );
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let mapped = status
        .lines()
        .find_map(|line| line.strip_prefix("RssFile:"))
        .unwrap();
    let kib = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    println!(
        "peak {} file {} {:?} {outcome}",
        kib(peak) << 10,
        kib(mapped) << 10,
        begun.elapsed()
    );
}

fn make_longer(path: &Path, len: u64) {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap();
    file.set_len(len).unwrap();
}

/// A change of a folder.
type Hostility = Box<dyn Fn(&Path)>;

/// Returns changes of a folder, by name.
fn hostilities() -> Vec<(&'static str, Hostility)> {
    let longer = |name: &'static str, len: u64| -> Hostility {
        Box::new(move |root| {
            let active = names_of(root, ".jnl").pop().unwrap();
            let name = name.replace("ACTIVE", active.trim_end_matches(".jnl"));
            make_longer(&segment_file(root, &name), len);
        })
    };
    vec![
        ("a journal of a terabyte", longer("ACTIVE.jnl", 1 << 40)),
        (
            "the data of the active segment of a terabyte",
            longer("ACTIVE.dat", 1 << 40),
        ),
        (
            "the data of a sealed segment of a terabyte",
            longer("seg-000000.dat", 1 << 40),
        ),
        (
            "data that nothing lists of a terabyte",
            longer("seg-000099.dat", 1 << 40),
        ),
        (
            "a listed sidecar of 40 GiB",
            longer("seg-000000.idx", 40 << 30),
        ),
        ("a manifest of 4 GiB", longer("MANIFEST", 4 << 30)),
        ("a lock file of a terabyte", longer("LOCK", 1 << 40)),
        (
            "a run of the set index of a terabyte",
            longer("set-000099.run", 1 << 40),
        ),
        (
            "a sidecar of 40 GiB that nothing lists",
            Box::new(|root| {
                fs::write(segment_file(root, "seg-000099.dat"), b"\x01\0\0\0a").unwrap();
                let sidecar = segment_file(root, "seg-000099.idx");
                let count = ((40_u64 << 30) - 44) / 44;
                let header = [b"NIX1", &count.to_le_bytes()[..]].concat();
                fs::write(&sidecar, header).unwrap();
                make_longer(&sidecar, count * 44 + 44);
            }),
        ),
        (
            "a sidecar of 16 GiB of holes that a forged manifest binds",
            Box::new(|root| {
                let count = ((16_u64 << 30) - 44) / 44;
                let header = [b"NIX1", &count.to_le_bytes()[..]].concat();
                let sidecar = segment_file(root, "seg-000000.idx");
                fs::write(&sidecar, header).unwrap();
                make_longer(&sidecar, count * 44 + 44);
                let path = segment_file(root, "MANIFEST");
                let mut manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
                let line = manifest.sealed.get_mut(&0).unwrap();
                line.objects = u32::try_from(count).unwrap();
                line.sidecar_checksum = Digest::from([0; 32]);
                // No segment has more objects than its data has room for.
                line.data_bytes = 4 * count;
                make_longer(&segment_file(root, "seg-000000.dat"), 4 * count);
                fs::write(path, manifest.encode()).unwrap();
            }),
        ),
        (
            "records over holes",
            Box::new(|root| {
                let file = File::create(segment_file(root, "seg-000099.dat")).unwrap();
                for at in 0..64_u64 {
                    let begin = at * ((1 << 30) + 4);
                    file.write_all_at(&(1_u32 << 30).to_le_bytes(), begin)
                        .unwrap();
                }
            }),
        ),
        (
            "a journal that claims 2^32 entries in a hole",
            Box::new(|root| {
                let name = names_of(root, ".jnl").pop().unwrap();
                let file = File::options()
                    .write(true)
                    .open(segment_file(root, &name))
                    .unwrap();
                let frame = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
                let end = file.metadata().unwrap().len();
                file.write_all_at(&frame, end).unwrap();
                file.set_len(1 << 40).unwrap();
            }),
        ),
    ]
}

#[cfg(target_os = "linux")]
#[test]
fn h65_bytes_that_are_not_stored_cost_no_memory() {
    let mut failures = Vec::new();
    for (what, make) in hostilities() {
        for manner in [
            "reader",
            "writer",
            "reader by position",
            "writer by position",
        ] {
            let (folder, _) = closed_store();
            make(folder.path());
            let child = process::Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "hostile::sizes::opens_a_hostile_folder",
                    "--nocapture",
                ])
                .env(FOLDER, folder.path())
                .env(MANNER, manner)
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&child.stdout).into_owned();
            let Some(line) = printed.lines().find(|line| line.contains("peak ")) else {
                failures.push(format!("{what}, {manner}: {printed} {:?}", child.status));
                continue;
            };
            println!("{what}, {manner}: {line}");
            let word = line
                .split_once("peak ")
                .unwrap()
                .1
                .split(' ')
                .next()
                .unwrap();
            if word.parse::<u64>().unwrap() > PEAK_BYTES_MAX {
                failures.push(format!("{what}, {manner}: {line}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
