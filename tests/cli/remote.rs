//! `push`, `pull` and `remote`, with a folder as the object store.

use std::fs;

use crate::help::{documented, shapes};
use crate::{DAMAGED, DONE, LOCKED_OR_IO, NOT_FOUND, Place, USAGE, hex};

/// The URL of a new folder.
pub fn bucket(place: &Place) -> String {
    let folder = place.path("bucket");
    fs::create_dir(&folder).unwrap();
    format!("file://{}", folder.display())
}

#[test]
fn what_is_pushed_is_listed_verified_and_pulled() {
    let place = Place::with(&[b"1", b"22"]);
    let url = &bucket(&place);
    let ran = place.run(&["push", url]).expect(DONE);
    assert!(
        ran.stdout.starts_with("main 2: 1 segment uploaded, "),
        "{}",
        ran.stdout
    );
    let ran = place.run(&["push", url]).expect(DONE);
    assert_eq!(ran.stdout, "main 3: 0 segments uploaded, 0 bytes\n");
    let ran = place.run(&["remote", "ls", url]).expect(DONE);
    assert_eq!(ran.stdout, "main 3: 2 objects, 11 bytes\n");
    let ran = place.run(&["remote", "verify", url]).expect(DONE);
    assert_eq!(ran.stdout, "main 3: 2 objects, no damage\n");
    let ran = place.run(&["pull", url, "copy"]).expect(DONE);
    assert_eq!(ran.stdout, "copy: main 3, 1 segment downloaded, 11 bytes\n");
    let ran = place
        .run(&["--store", "copy", "get", &hex(b"22")])
        .expect(DONE);
    assert_eq!(ran.stdout, "22");
    place.run(&["--store", "copy", "verify"]).expect(DONE);
}

#[test]
fn an_object_of_a_ref_is_written_and_the_cache_serves_it_again() {
    let place = Place::with(&[b"1", b"22"]);
    let url = &bucket(&place);
    place.run(&["push", url]).expect(DONE);
    let digest = &hex(b"22");
    let ran = place.run(&["remote", "get", url, digest]).expect(DONE);
    assert_eq!(ran.stdout, "22");
    let cached = ["remote", "get", url, digest, "--cache", "cache"];
    assert_eq!(place.run(&cached).expect(DONE).stdout, "22");
    assert!(place.path("cache/sealstone-cache/objects").is_dir());
    // What is read comes from the cache: the data file is gone.
    let files = place.path("bucket/segments/main");
    for folder in fs::read_dir(files).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "dat") {
                fs::remove_file(path).unwrap();
            }
        }
    }
    assert_eq!(place.run(&cached).expect(DONE).stdout, "22");
    let other = ["remote", "get", url, &hex(b"1"), "--cache", "cache"];
    place.run(&other).fails(DAMAGED, &["missing", ".dat"]);

    let ran = place.run(&[&cached[..], &["-o", "file", "--json"]].concat());
    let ran = ran.expect(DONE);
    assert_eq!(shapes(&ran.stdout), documented(&place, "remote get"));
    assert_eq!(fs::read(place.path("file")).unwrap(), b"22");
    let ran = place.run(&[&cached[..], &["--json"]].concat());
    ran.fails(USAGE, &["-o FILE"]);
    let ran = place.run(
        &[
            &cached[..],
            &["-o", "cache/sealstone-cache/objects/segments/MANIFEST"],
        ]
        .concat(),
    );
    ran.fails(USAGE, &["file of the cache"]);
    let ran = place.run(&["remote", "get", url, &hex(b"absent")]);
    ran.fails(NOT_FOUND, &["not in the ref main", "remote ls"]);
    let ran = place.run(&[&cached[..], &["--cache-bytes", "1000"]].concat());
    ran.fails(USAGE, &["too small", "at least"]);
}

#[test]
fn a_ref_that_cannot_be_read_is_listed_beside_the_others() {
    let place = Place::with(&[b"1"]);
    let url = &bucket(&place);
    place.run(&["push", url, "--ref", "sound"]).expect(DONE);
    place.write("bucket/refs/rotten/18446744073709551614", b"x");
    let ran = place.run(&["remote", "ls", url]);
    assert!(ran.stdout.contains("sound 2: 1 object"), "{}", ran.stdout);
    ran.fails(DAMAGED, &["1 ref cannot be read"]);
}

#[test]
fn another_store_is_refused_until_it_takes_over() {
    let place = Place::with(&[b"1"]);
    let url = &bucket(&place);
    place.run(&["push", url, "--ref", "shared"]).expect(DONE);
    place.write("new", b"new");
    place.run(&["--store", "other", "put", "new"]).expect(DONE);
    let other = ["--store", "other", "push", url, "--ref", "shared"];
    place
        .run(&other)
        .fails(LOCKED_OR_IO, &["another store", "pass --take-over"]);
    place
        .run(&[&other[..], &["--take-over"]].concat())
        .expect(DONE);
    let ran = place.run(&["push", url, "--ref", "shared"]);
    ran.fails(LOCKED_OR_IO, &["another store", "--ref"]);
}

#[test]
fn a_folder_with_other_objects_and_wrong_names_are_refused() {
    let place = Place::with(&[b"1"]);
    let url = &bucket(&place);
    place.run(&["push", url]).expect(DONE);
    place.write("new", b"new");
    place.run(&["--store", "other", "put", "new"]).expect(DONE);
    let ran = place.run(&["pull", url, "other"]);
    ran.fails(USAGE, &["other", "no manifest", "pull into a new folder"]);
    place.write("taken/file", b"2");
    place
        .run(&["pull", url, "taken"])
        .fails(USAGE, &["not empty"]);
    place
        .run(&["push", url, "--ref", "a/b"])
        .fails(USAGE, &["a/b", "lowercase letters"]);
    place
        .run(&["push", "s3://key:secret@bucket"])
        .fails(USAGE, &["password", "environment"]);
    let ran = place.run(&["pull", url, "new-folder", "--ref", "unknown"]);
    ran.fails(LOCKED_OR_IO, &["unknown", "no such ref"]);
}

#[test]
fn damage_in_the_bucket_is_named_and_not_pulled() {
    let place = Place::with(&[b"1", b"22"]);
    let url = &bucket(&place);
    place.run(&["push", url]).expect(DONE);
    let mut folder = place.path("bucket/segments/main");
    folder = fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let is_data = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "dat");
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let data = files.find(is_data).unwrap();
    let mut bytes = fs::read(&data).unwrap();
    bytes[5] ^= 1;
    fs::write(&data, bytes).unwrap();
    let name = data.file_name().unwrap().to_str().unwrap();
    place
        .run(&["pull", url, "copy"])
        .fails(DAMAGED, &[name, "damaged"]);
    let ran = place.run(&["remote", "verify", url]).expect(DAMAGED);
    assert!(ran.stdout.contains(name), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 problem"), "{}", ran.stderr);
    let ran = place
        .run(&["remote", "verify", "--json", url])
        .expect(DAMAGED);
    assert_eq!(shapes(&ran.stdout), documented(&place, "remote verify"));
}

#[test]
fn a_collection_removes_what_no_state_needs() {
    let place = Place::with(&[b"1", b"22"]);
    let url = &bucket(&place);
    place.run(&["push", url]).expect(DONE);
    place.write("list", hex(b"1").as_bytes());
    place.run(&["compact", "--live", "list"]).expect(DONE);
    place.run(&["push", url]).expect(DONE);
    let gc = |options: &[&str]| place.run(&[&["remote", "gc", url], options].concat());
    assert_eq!(gc(&[]).expect(DONE).stdout, "0 files removed, 0 bytes\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let dry = gc(&["--grace", "0", "--dry-run"]).expect(DONE).stdout;
    assert!(dry.starts_with("2 files would be removed, "), "{dry}");
    let removed = gc(&["--grace", "0"]).expect(DONE).stdout;
    assert_eq!(removed, dry.replace("would be removed", "removed"));
    place.run(&["remote", "verify", url]).expect(DONE);
}

#[test]
fn the_json_has_the_fields_that_the_help_shows() {
    let place = Place::with(&[b"1", b"22"]);
    let url = &bucket(&place)[..];
    for (command, arguments) in [
        ("push", &[url][..]),
        ("pull", &[url, "copy"]),
        ("remote ls", &[url]),
        ("remote gc", &[url]),
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--json"]).collect();
        let ran = place.run(&[&words, arguments].concat()).expect(DONE);
        assert_eq!(
            shapes(&ran.stdout),
            documented(&place, command),
            "{command}"
        );
    }
}
