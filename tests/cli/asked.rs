//! `get -`, `ls -` and `has -`: digests on standard input are answered in their order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::help::{documented, shapes, shown_behind};
use crate::{DAMAGED, DONE, LOCKED_OR_IO, NOT_FOUND, Place, USAGE, hex, json_lines};

#[test]
fn get_writes_the_length_before_each_content_and_says_what_is_missing() {
    let place = Place::with(&[b"text\n", b"", b"3"]);
    let (text, empty, absent) = (hex(b"text\n"), hex(b""), hex(b"absent"));
    let list = format!("\u{feff}{text}  name of a file\n# remark\n\n{absent}\n{empty}\n{text}");
    let ran = place.run_with_input(&["get", "-"], list.as_bytes());
    let expected = format!("{text} 5\ntext\n\n{absent} missing\n{empty} 0\n\n{text} 5\ntext\n\n");
    assert_eq!(ran.expect(NOT_FOUND).stdout, expected);
    let ran = place.run_with_input(&["get", "-"], empty.as_bytes());
    assert_eq!(ran.expect(DONE).stdout, format!("{empty} 0\n\n"));
    place.run_with_input(&["get", "-"], b"").expect(DONE);
}

#[test]
fn get_answers_in_json_with_the_content_in_base64() {
    let place = Place::with(&[b"hello", b"\xff\0"]);
    let (hello, binary, absent) = (hex(b"hello"), hex(b"\xff\0"), hex(b"absent"));
    // What `ls` prints in JSON is a list, too.
    let list = format!("{{\"digest\":\"{hello}\"}}\n{absent}\n{binary}\n");
    let ran = place.run_with_input(&["get", "--json", "-"], list.as_bytes());
    let ran = ran.expect(NOT_FOUND);
    assert_eq!(
        json_lines(&ran.stdout),
        [
            json!({ "digest": hello, "result": "ok", "bytes": 5, "content": "aGVsbG8=" }),
            json!({ "digest": absent, "result": "missing", "bytes": null, "content": null }),
            json!({ "digest": binary, "result": "ok", "bytes": 2, "content": "/wA=" }),
        ]
    );
    let help = place.run(&["get", "--help"]).stdout;
    let shown = shown_behind("\nJSON of `get -`", &help);
    assert_eq!(shapes(&ran.stdout)[..2], shown);
}

#[test]
fn get_names_a_damaged_object_in_its_place_and_goes_on() {
    let place = Place::with(&[b"rotten content", b"whole"]);
    place.damage(b"rotten content");
    let (rotten, whole) = (hex(b"rotten content"), hex(b"whole"));
    let list = format!("{rotten}\n{}\n{whole}\n", hex(b"absent"));
    let ran = place.run_with_input(&["get", "-"], list.as_bytes());
    let ran = ran.fails(DAMAGED, &[&rotten]);
    assert!(ran.stdout.starts_with(&format!("{rotten} damaged\n")));
    assert!(ran.stdout.ends_with(&format!("{whole} 5\nwhole\n")));
    let ran = place.run_with_input(&["get", "--json", "-"], list.as_bytes());
    let lines = json_lines(&ran.fails(DAMAGED, &[&rotten]).stdout);
    assert_eq!(lines[0]["result"], "damaged");
}

#[test]
fn ls_prints_the_length_of_each_object_that_is_asked_for() {
    let place = Place::with(&[b"1", b"22"]);
    let (one, two, absent) = (hex(b"1"), hex(b"22"), hex(b"absent"));
    let list = format!("\u{feff}{two}\n{absent}  yes\n{one}\n");
    let ran = place.run_with_input(&["ls", "-"], list.as_bytes());
    let expected = format!("{two}  2\n{absent}  missing\n{one}  1\n");
    assert_eq!(ran.expect(NOT_FOUND).stdout, expected);
    let ran = place.run_with_input(&["ls", "--json", "-"], list.as_bytes());
    let help = place.run(&["ls", "--help"]).stdout;
    let shown = shown_behind("\nJSON of `ls -`", &help);
    assert_eq!(shapes(&ran.stdout)[..2], shown);
    let lines = json_lines(&ran.expect(NOT_FOUND).stdout);
    assert_eq!(lines[0], json!({ "digest": two, "bytes": 2 }));
    assert_eq!(lines[1], json!({ "digest": absent, "bytes": null }));
    let ran = place.run_with_input(&["ls", "-"], one.as_bytes());
    assert_eq!(ran.expect(DONE).stdout, format!("{one}  1\n"));
    assert_eq!(documented(&place, "ls").len(), 1);
}

#[test]
fn a_wrong_line_ends_the_answers_and_is_named() {
    let place = Place::with(&[b"1"]);
    let one = hex(b"1");
    let list = format!("{one}\n\n{}\n{one}\n", &one[..6]);
    for (command, answer) in [
        ("get", format!("{one} 1\n1\n")),
        ("ls", format!("{one}  1\n")),
        ("has", format!("{one}  yes\n")),
    ] {
        let ran = place.run_with_input(&[command, "-"], list.as_bytes());
        let wrong = format!("standard input, line 3: `{}` is not a digest", &one[..6]);
        let ran = ran.fails(USAGE, &[&wrong, "the lines before it were answered"]);
        assert_eq!(ran.stdout, answer);
    }
}

#[test]
fn get_writes_the_answers_to_standard_output_only() {
    let place = Place::with(&[b"1"]);
    let ran = place.run_with_input(&["get", "-", "-o", "out"], hex(b"1").as_bytes());
    ran.fails(USAGE, &["leave -o out"]);
    assert!(!place.path("out").exists());
}

/// The program waits for the second line, and has answered the first by then.
#[test]
fn a_line_is_answered_before_the_next_one_is_waited_for() {
    let place = Place::with(&[b"1", b"22"]);
    let (one, two) = (hex(b"1"), hex(b"22"));
    for (command, answer) in [("get", " 1"), ("ls", "  1"), ("has", "  yes")] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealstone"))
            .env("SEALSTONE_STORE", place.store())
            .args([command, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // The second digest is not whole yet.
        input
            .write_all(format!("{one}\n{}", &two[..9]).as_bytes())
            .unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{one}{answer}\n"));
        input.write_all(&two.as_bytes()[9..]).unwrap();
        drop(input);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(&two), "{rest}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_standard_input_that_cannot_be_read_is_an_error() {
    let place = Place::with(&[b"1"]);
    for command in ["get", "ls", "has"] {
        let folder = std::fs::File::open(place.folder.path());
        let Ok(folder) = folder else {
            eprintln!("skipped: a folder cannot be opened here");
            return;
        };
        let output = Command::new(env!("CARGO_BIN_EXE_sealstone"))
            .env("SEALSTONE_STORE", place.store())
            .args([command, "-"])
            .stdin(folder)
            .output()
            .unwrap();
        let ran = crate::Ran::of(output);
        ran.fails(LOCKED_OR_IO, &["standard input: "]);
    }
}
