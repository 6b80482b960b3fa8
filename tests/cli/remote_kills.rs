//! Pushes and collections that are killed. `SEALSTONE_REMOTE_KILLS` is the number of rounds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::remote::bucket;
use crate::{DONE, Place};

/// The files below a folder, but for those that the client of a local bucket hides.
fn files(folder: &Path, below: &str) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder.join(below)).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            files.extend(self::files(folder, &name));
        } else if !name.contains('#') {
            files.insert(name);
        }
    }
    files
}

/// The files that the newest manifest lists, by its text.
fn listed(folder: &Path) -> BTreeSet<String> {
    let manifests = files(folder, "refs/main");
    let text = fs::read_to_string(folder.join(manifests.first().unwrap())).unwrap();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let names = words.flat_map(|words| match words.as_slice() {
        ["sealed", .., sidecar, "in", folder] => ["dat", "idx"]
            .map(|ending| format!("segments/main/{folder}/{sidecar}.{ending}"))
            .to_vec(),
        ["run", digest, .., "in", folder] => vec![format!("segments/main/{folder}/{digest}.run")],
        _ => Vec::new(),
    });
    names.collect()
}

#[test]
fn h70_h74_after_a_kill_at_any_moment_a_push_completes_and_a_collection_leaves_what_is_listed() {
    let rounds = std::env::var("SEALSTONE_REMOTE_KILLS");
    let rounds = rounds.map_or(6, |rounds| rounds.parse().unwrap());
    let place = Place::with(&[b"first"]);
    let url = &bucket(&place);
    place.run(&["push", url]).expect(DONE);
    let mut random = StdRng::seed_from_u64(5);
    let mut killed = 0;
    for round in 0..rounds {
        let mut content = vec![0; random.random_range(0..3 << 20)];
        random.fill(&mut content[..]);
        place.write("file", &content);
        place.run(&["put", "file"]).expect(DONE);
        if round % 5 == 4 {
            let kept = place.run(&["ls"]).expect(DONE).stdout;
            let kept: Vec<&str> = kept.lines().skip(1).collect();
            place.write("live", (kept.join("\n") + "\n").as_bytes());
            place.run(&["compact", "--live", "live"]).expect(DONE);
        }
        let arguments: &[&str] = if round % 3 == 2 {
            &["remote", "gc", "--grace", "0", url]
        } else {
            &["push", url]
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealstone"))
            .args(arguments)
            .env("SEALSTONE_STORE", place.store())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());

        place.run(&["push", url]).expect(DONE);
        place.run(&["remote", "verify", url]).expect(DONE);
        let stored = place.run(&["ls"]).expect(DONE).stdout;
        let pulled = format!("pulled{round}");
        place.run(&["pull", url, &pulled]).expect(DONE);
        let ran = place.run(&["--store", &pulled, "ls"]).expect(DONE);
        let sorted = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
        assert_eq!(sorted(&ran.stdout), sorted(&stored));
        fs::remove_dir_all(place.path(&pulled)).unwrap();
        // The bucket's clock counts in ticks of the system's.
        std::thread::sleep(Duration::from_millis(20));
        place
            .run(&["remote", "gc", "--grace", "0", url])
            .expect(DONE);
        let bucket = place.path("bucket");
        assert_eq!(files(&bucket, "segments"), listed(&bucket), "round {round}");
    }
    println!("{killed} of {rounds} were killed before they ended");
}
