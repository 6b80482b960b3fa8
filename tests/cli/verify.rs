//! `verify`: what it finds, repairs and removes.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::{DAMAGED, DONE, Place, USAGE, hex};

#[test]
fn verify_finds_no_damage_in_a_sound_store() {
    let place = Place::with(&[b"1", b"22"]);
    let ran = place.run(&["verify"]).expect(DONE);
    assert_eq!(ran.stdout, "2 objects, 3 bytes: no damage\n");
    let report = place.json(&["verify", "--json"]);
    assert_eq!(report["clean"], true);
    assert_eq!(report["objects"], 2);
}

#[test]
fn verify_names_each_damaged_object() {
    let place = Place::with(&[b"other", b"precious content"]);
    place.damage(b"precious content");
    let digest = hex(b"precious content");
    // Before it are two lengths of 4 bytes and the 5 bytes of the other object.
    let line = format!("{digest}  damaged: segment 0, offset 13, 16 bytes\n");
    let ran = place.run(&["verify"]);
    let ran = ran.fails(
        DAMAGED,
        &["1 damaged object", "put the original files again"],
    );
    assert_eq!(ran.stdout, line);

    let ran = place.run(&["verify", "--json"]).expect(DAMAGED);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["lost"], 1);
    assert_eq!(
        report["corrupt"],
        serde_json::json!([{ "digest": digest, "segment": 0, "offset": 13, "len": 16 }])
    );
    place.run(&["get", &digest]).fails(DAMAGED, &[&digest]);
    assert_eq!(place.run(&["get", &hex(b"other")]).stdout, "other");
}

#[test]
fn verify_repairs_an_index_only_with_repair() {
    let place = Place::new();
    place.put_numbers(20);
    let sound = place.files();
    let is_index = |path: &&PathBuf| path.extension().is_some_and(|end| end == "idx");
    let index = sound.keys().find(is_index).unwrap();
    let mut bytes = sound[index].clone();
    bytes[20] ^= 1;
    fs::write(index, bytes).unwrap();

    for _ in 0..2 {
        let ran = place.run(&["verify"]);
        let ran = ran.fails(DAMAGED, &["1 other problem"]);
        assert!(ran.stdout.starts_with("segment "), "{}", ran.stdout);
    }
    place.run(&["verify", "--repair"]).expect(DONE);
    place.run(&["verify"]).expect(DONE);
    assert!(fs::read(index).unwrap() == sound[index]);
}

#[test]
fn h64_torn_files_are_counted_by_stat_and_removed_by_verify_if_there_is_no_damage() {
    let place = Place::with(&[b"1", b"22"]);
    let data = place.store().join("segments/seg-000000.dat");
    let mut torn = fs::read(&data).unwrap();
    torn.extend(b"half of a record");
    fs::write(&data, torn).unwrap();
    place.run(&["verify", "--repair"]).expect(DONE);
    let stats = place.json(&["stat", "--json"]);
    assert_eq!(stats["torn_files"], 1);
    assert_eq!(stats["torn_file_bytes"], 16);
    let ran = place.run(&["stat"]).expect(DONE);
    assert!(
        ran.stdout.contains("torn         16 bytes in 1 file"),
        "{}",
        ran.stdout
    );

    place
        .run(&["verify", "--remove-torn"])
        .fails(USAGE, &["--repair"]);
    place.damage(b"22");
    let keeps = place.run(&["verify", "--repair", "--remove-torn"]);
    keeps.fails(DAMAGED, &["1 damaged object"]);
    assert_eq!(place.json(&["stat", "--json"])["torn_files"], 1);
    // The damage has made it 32; flipping the same bit mends it.
    place.damage(b"32");
    let ran = place.run(&["verify", "--repair", "--remove-torn"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout
            .ends_with("removed 1 file of bytes that were cut off\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(place.json(&["stat", "--json"])["torn_files"], 0);
}
