//! `has`, `ls` and `stat`.

use serde_json::json;

use crate::{DONE, NOT_FOUND, Place, USAGE, hex, json_lines, sorted_lines};

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
    let ran = place.run(&["has", "--json", &one[..6], "000000"]);
    assert_eq!(
        json_lines(&ran.expect(NOT_FOUND).stdout),
        [
            json!({ "digest": one, "present": true }),
            json!({ "digest": "000000", "present": false }),
        ]
    );
}

#[test]
fn has_reads_digests_from_standard_input() {
    let place = Place::with(&[b"1", b"2"]);
    let (one, two, absent) = (hex(b"1"), hex(b"2"), hex(b"3"));
    let list = format!("\u{feff}{one}  name of a file\n\n# remark\n{absent}\n{two}\n{one}");
    let ran = place.run_with_input(&["has", &two[..6], "-"], list.as_bytes());
    let expected = format!("{two}  yes\n{one}  yes\n{absent}  no\n{two}  yes\n{one}  yes\n");
    assert_eq!(ran.expect(NOT_FOUND).stdout, expected);
    let ran = place.run_with_input(&["has", "--json", "-"], list.as_bytes());
    let answers = json_lines(&ran.expect(NOT_FOUND).stdout);
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[1], json!({ "digest": absent, "present": false }));
    let ran = place.run_with_input(&["has", "-q", "-"], one.as_bytes());
    assert_eq!(ran.expect(DONE).stdout, "");
    place.run_with_input(&["has", "-"], b"").expect(DONE);
}

#[test]
fn more_digests_than_a_batch_are_answered_in_their_order() {
    let place = Place::with(&[b"1"]);
    let list: String = (0..10_000)
        .map(|number: u32| hex(&number.to_le_bytes()) + "\n")
        .collect();
    let list = list + &hex(b"1");
    let ran = place
        .run_with_input(&["has", "-"], list.as_bytes())
        .expect(NOT_FOUND);
    let answers = list.lines().map(|digest| {
        let answer = if digest == hex(b"1") { "yes" } else { "no" };
        format!("{digest}  {answer}\n")
    });
    assert_eq!(ran.stdout, answers.collect::<String>());
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
        json!({ "digest": two, "bytes": 2 })
    );
    let listed = place.run(&["ls", "--json"]).expect(DONE).stdout;
    assert_eq!(json_lines(&listed).len(), 3);

    place
        .run(&["ls", "00000000"])
        .fails(NOT_FOUND, &["00000000"]);
    let ran = place.run(&["ls", "--json", "00000000"]);
    assert_eq!(ran.expect(NOT_FOUND).stdout, "");
    place.run(&["ls", "xyz"]).fails(USAGE, &["xyz"]);
    Place::with(&[]).run(&["ls"]).expect(DONE);
}

#[test]
fn ls_long_reads_no_content() {
    let place = Place::with(&[b"precious content", b"other"]);
    place.damage(b"precious content");
    let ran = place.run(&["ls", "--long"]).expect(DONE);
    let (precious, other) = (hex(b"precious content"), hex(b"other"));
    let mut expected = [format!("{precious}  16"), format!("{other}  5")];
    expected.sort_unstable();
    assert_eq!(sorted_lines(&ran.stdout), expected);
}

#[test]
fn stat_shows_how_full_each_segment_is_with_the_letters_of_the_locale() {
    // A picture of 2 MiB of 256.
    let place = Place::with(&[&vec![1; 2 << 20]]);
    for (locale, picture) in [("en_US.UTF-8", "\u{258f}"), ("C", "#")] {
        let mut command = place.command(&["stat", "--segments"]);
        for variable in ["LC_ALL", "LC_CTYPE", "TERM"] {
            command.env_remove(variable);
        }
        let output = command.env("LANG", locale).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if cfg!(unix) {
            assert!(text.ends_with(&format!("    0% {picture}\n")), "{text}");
        }
        let line = text.lines().last().unwrap();
        assert!(line.chars().count() <= 80, "{line}");
    }
    let json = place.run(&["stat", "--json"]).expect(DONE).stdout;
    assert!(json.is_ascii());
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
