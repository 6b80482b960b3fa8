//! `has`, `ls` and `stat`.

use crate::{DAMAGED, DONE, NOT_FOUND, Place, USAGE, hex, sorted_lines};

#[test]
fn has_answers_yes_or_no_for_each_digest() {
    let place = Place::with(&[b"1", b"2"]);
    let (one, two, absent) = (hex(b"1"), hex(b"2"), hex(b"3"));
    let ran = place.run(&["has", &one, &two[..8]]).expect(DONE);
    assert_eq!(ran.stdout, format!("{one}  yes\n{two}  yes\n"));
    let ran = place.run(&["has", &one, &absent]).expect(NOT_FOUND);
    assert_eq!(ran.stdout, format!("{one}  yes\n{absent}  no\n"));
    let ran = place.run(&["has", "-q", &one, "000000"]).expect(NOT_FOUND);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    place.run(&["has", "12345"]).fails(USAGE, &["12345"]);
    assert_eq!(
        place.json(&["has", "--json", &one[..6], "000000"]),
        serde_json::json!([
            { "digest": one, "present": true }, { "digest": "000000", "present": false },
        ])
    );
}

#[test]
fn ls_lists_digests_and_sizes() {
    let place = Place::with(&[b"1", b"22", b""]);
    let (one, two, empty) = (hex(b"1"), hex(b"22"), hex(b""));
    let ran = place.run(&["ls"]).expect(DONE);
    let mut expected = [one.as_str(), &two, &empty];
    expected.sort_unstable();
    assert_eq!(sorted_lines(&ran.stdout), expected);

    let ran = place.run(&["ls", "--long", &two[..5]]).expect(DONE);
    assert_eq!(ran.stdout, format!("{two}  2\n"));
    assert_eq!(
        place.json(&["ls", "--long", "--json", &two[..5].to_uppercase()]),
        serde_json::json!([{ "digest": two, "bytes": 2 }])
    );
    assert_eq!(place.json(&["ls", "--json"]).as_array().unwrap().len(), 3);

    place
        .run(&["ls", "00000000"])
        .fails(NOT_FOUND, &["00000000"]);
    assert_eq!(
        place.json(&["ls", "--json", "00000000"]),
        serde_json::json!([])
    );
    place.run(&["ls", "xyz"]).fails(USAGE, &["xyz"]);
    Place::with(&[]).run(&["ls"]).expect(DONE);
}

#[test]
fn ls_long_names_a_damaged_object_and_lists_the_others() {
    let place = Place::with(&[b"precious content", b"other"]);
    place.damage(b"precious content");
    let ran = place.run(&["ls", "--long"]);
    let ran = ran.fails(DAMAGED, &[&hex(b"precious content")]);
    assert_eq!(ran.stdout, format!("{}  5\n", hex(b"other")));
}

#[test]
fn stat_counts_objects_bytes_and_files() {
    let place = Place::with(&[b"1", b"22"]);
    let ran = place.run(&["stat", "--segments"]).expect(DONE);
    assert!(ran.stdout.contains("objects      2\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("3 bytes\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n000000  "), "{}", ran.stdout);
    let stats = place.json(&["stat", "--json"]);
    assert_eq!(stats["objects"], 2);
    assert_eq!(stats["content_bytes"], 3);
    assert_eq!(stats["data_file_bytes"], 11);
    let segments = stats["segments"].as_array().unwrap();
    let objects = segments
        .iter()
        .map(|segment| segment["objects"].as_u64().unwrap());
    assert_eq!(objects.sum::<u64>(), 2);
    for key in ["id", "state", "data_bytes", "index_bytes"] {
        assert!(!segments[0][key].is_null(), "{key} in {stats}");
    }
    for key in [
        "index_file_bytes",
        "files",
        "torn_files",
        "torn_file_bytes",
        "uncovered_segments",
    ] {
        assert!(stats[key].is_u64(), "{key} in {stats}");
    }
}
