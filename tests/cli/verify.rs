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
    // What this run cuts off, nobody has looked at.
    let ran = place.run(&["verify", "--repair", "--remove-leftovers"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout
            .ends_with("removed 0 files that openings had kept\n")
    );
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
        .run(&["verify", "--remove-leftovers"])
        .fails(USAGE, &["--repair"]);
    place.damage(b"22");
    let keeps = place.run(&["verify", "--repair", "--remove-leftovers"]);
    keeps.fails(DAMAGED, &["1 damaged object"]);
    assert_eq!(place.json(&["stat", "--json"])["torn_files"], 1);
    // The damage has made it 32; flipping the same bit mends it.
    place.damage(b"32");
    let ran = place.run(&["verify", "--repair", "--remove-leftovers"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout
            .ends_with("removed 1 file that openings had kept\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(place.json(&["stat", "--json"])["torn_files"], 0);
}

/// Each file of the store but those with the data is damaged in turn. What cannot be made again is the
/// data alone.
#[test]
fn verify_makes_every_file_again_that_follows_from_the_data() {
    let place = Place::new();
    place.put_numbers(200);
    place.run(&["verify"]).expect(DONE);
    let listed = place.run(&["ls", "--long"]).expect(DONE).stdout;
    let sound = place.files();
    let end = |path: &PathBuf| path.extension().map(|end| end.to_str().unwrap().to_owned());
    let mut ends = std::collections::BTreeSet::new();
    for (path, bytes) in &sound {
        let file_name = path.file_name().unwrap().to_str().unwrap();
        if bytes.is_empty() || file_name == "LOCK" || end(path).is_some_and(|end| end == "dat") {
            continue;
        }
        // One file of a kind is enough, and the first of them are sealed.
        if !ends.insert(end(path)) {
            continue;
        }
        for damage in 0..2 {
            let mut bytes = bytes.clone();
            match damage {
                0 => bytes[20] ^= 1,
                _ => bytes.truncate(20),
            }
            fs::write(path, bytes).unwrap();
            place.run(&["verify", "--repair"]).expect(DONE);
            let report = place.json(&["verify", "--json"]);
            assert_eq!(report["clean"], true, "{file_name}: {report}");
            let now = place.run(&["ls", "--long"]).expect(DONE).stdout;
            assert_eq!(now, listed, "{file_name}");
        }
    }
    let expected = [None, Some("idx"), Some("run")].map(|end| end.map(str::to_owned));
    assert!(expected.iter().all(|end| ends.contains(end)), "{ends:?}");
}

#[test]
fn verify_with_repair_names_a_foreign_file_and_leaves_it() {
    let place = Place::with(&[b"1"]);
    for (name, content) in [
        ("store/segments/notes.txt", "of the user"),
        (
            "store/segments/seg-1.dat",
            "not spelled as the store spells it",
        ),
        ("store/segments/folder/file", "in a folder"),
        ("store/segments/seg-000000.idx.tmp", "interrupted"),
        ("store/segments/MANIFEST.damaged", "kept"),
        ("store/segments/seg-000000.torn", "cut off"),
    ] {
        place.write(name, content.as_bytes());
    }
    assert_eq!(place.json(&["stat", "--json"])["foreign_files"], 3);
    let ran = place.run(&["stat"]).expect(DONE);
    let line = "foreign      3 files (not the store's; `verify` names them)\n";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
    let found = place.json(&["verify", "--json"]);
    assert_eq!(found["leftovers"].as_array().unwrap().len(), 6);
    let kept = place.json(&["verify", "--repair", "--json"]);
    assert_eq!(kept["leftovers"].as_array().unwrap().len(), 5, "{kept}");
    assert!(kept.get("leftovers_removed").is_none());
    let removed = place.json(&["verify", "--repair", "--remove-leftovers", "--json"]);
    assert_eq!(removed["leftovers_removed"], 2);
    assert_eq!(
        removed["leftovers"].as_array().unwrap().len(),
        3,
        "{removed}"
    );
    for name in ["notes.txt", "seg-1.dat", "folder/file"] {
        assert!(place.store().join("segments").join(name).exists(), "{name}");
    }
    let ran = place.run(&["verify"]).expect(DONE);
    let line = "segments/notes.txt: not a file of the store, which leaves it alone";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
}
