//! A bucket that an earlier build wrote must be read for ever. It has a ref that was pushed to twice, with a
//! compaction in between, collected, and pushed to again. A change of the format changes its version and
//! `FORMAT.md`, and this bucket stays as a further fixture.
//!
//! `cargo test --features remote --test remote make_the_fixture_bucket -- --ignored` writes it if it is
//! missing.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealstone::remote::{GcOptions, PushOptions, Remote};
use sealstone::{Digest, Store};
use tempfile::TempDir;

use crate::{indexed, open};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bucket-v1")
}

fn content(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) * 7 % 300]
}

/// What the newest state holds: each third of what was put at first was dropped.
fn contents() -> impl Iterator<Item = Vec<u8>> {
    let is_kept = |number: &u8| *number >= 20 || !number.is_multiple_of(3);
    (0..30).filter(is_kept).map(content)
}

fn digests() -> BTreeSet<Digest> {
    contents().map(Digest::of).collect()
}

fn remote(folder: &Path) -> Remote {
    Remote::open(&format!("file://{}", folder.display())).unwrap()
}

fn go_on<P>(_: &P) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
#[ignore = "writes the fixture"]
fn make_the_fixture_bucket() {
    let folder = fixture();
    if folder.exists() {
        return;
    }
    fs::create_dir(&folder).unwrap();
    let (local, remote) = (indexed(20), remote(&folder));
    local
        .store
        .put_many(&(0..20).map(content).collect::<Vec<_>>())
        .unwrap();
    remote.push(&local.store, "main").unwrap();
    let compaction = local.store.begin_compaction().unwrap();
    compaction
        .finish(|digest| digests().contains(digest))
        .unwrap();
    remote.push(&local.store, "main").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let at_once = GcOptions::new().grace(Duration::ZERO);
    assert!(remote.gc(&at_once, go_on).unwrap().files > 0);
    local
        .store
        .put_many(&(20..30).map(content).collect::<Vec<_>>())
        .unwrap();
    remote.push(&local.store, "main").unwrap();
}

/// Copies the fixture, so that nothing can change it.
fn copy() -> TempDir {
    let target = TempDir::new().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(fixture().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            let (from, to) = (fixture().join(&path), target.path().join(&path));
            if from.is_dir() {
                fs::create_dir(to).unwrap();
                folders.push(path);
            } else {
                fs::copy(from, to).unwrap();
            }
        }
    }
    target
}

#[test]
fn the_fixture_bucket_is_listed_verified_pulled_and_taken_over() {
    let bucket = copy();
    let remote = remote(bucket.path());
    let refs = remote.list().unwrap();
    assert_eq!((refs.len(), refs[0].number, refs[0].epoch), (1, 5, 1));
    assert_eq!(refs[0].objects, digests().len() as u64);
    assert!(remote.verify("main", go_on).unwrap().is_clean());

    let cache = TempDir::new().unwrap();
    let reader = remote.reader("main", cache.path(), 4 << 20).unwrap();
    for content in contents() {
        let found = reader.get(Digest::of(&content)).unwrap();
        assert_eq!(found.unwrap(), content[..]);
    }
    let index = cache.path().join("sealstone-cache/index/segments");
    let is_run = |entry: fs::DirEntry| entry.path().extension().is_some_and(|own| own == "run");
    let mut entries = fs::read_dir(index)
        .unwrap()
        .map(std::result::Result::unwrap);
    assert!(entries.any(is_run), "a run was read");

    let root = TempDir::new().unwrap();
    let report = remote.pull("main", root.path()).unwrap();
    assert_eq!(report.number, 5);
    let store = Store::open(root.path()).unwrap();
    assert_eq!(store.len(), digests().len() as u64);
    for content in contents() {
        assert_eq!(
            store.get(Digest::of(&content)).unwrap().unwrap(),
            content[..]
        );
    }
    drop(store);
    let store = open(&root);
    store.put("more").unwrap();
    let options = PushOptions::new().take_over(true);
    let pushed = remote.push_with(&store, "main", &options, go_on).unwrap();
    assert_eq!(
        (pushed.number, pushed.uploaded_segments),
        (6, pushed.segments)
    );
    std::thread::sleep(Duration::from_millis(20));
    let at_once = GcOptions::new().grace(Duration::ZERO);
    remote.gc(&at_once, go_on).unwrap();
    let report = remote.verify("main", go_on).unwrap();
    assert!(report.is_clean() && report.objects == 1 + digests().len() as u64);
}
