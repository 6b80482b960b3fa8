//! `verify`.

use std::fs;
use std::path::PathBuf;

use sealstone::Options;
use serde_json::Value;

use crate::{DAMAGED, DONE, Place, hex};

#[test]
fn verify_is_content_with_a_sound_store() {
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
    // Two lengths of 4 bytes and the content before it.
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
fn verify_repairs_an_index_only_if_it_is_told_to() {
    let place = Place::new();
    let store = Options::new().segment_bytes_max(64).open(place.store());
    let store = store.unwrap();
    for number in 0..20_u32 {
        store.put(&number.to_le_bytes()).unwrap();
    }
    store.close().unwrap();
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
