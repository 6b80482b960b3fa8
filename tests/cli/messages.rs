//! Messages with `--json`: each line of standard error is an object.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::help::{shapes, shown_behind};
use crate::{DAMAGED, DONE, LOCKED_OR_IO, NOT_FOUND, Place, Ran, USAGE, hex};

/// Returns the objects on standard error, of which there is nothing else.
fn objects(ran: &Ran) -> Vec<Value> {
    let object = |line| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", ran.stderr));
        assert!(value.is_object(), "{value}");
        value
    };
    ran.stderr.lines().map(object).collect()
}

#[test]
fn an_error_is_one_object_with_its_message_and_its_code() {
    let place = Place::with(&[b"precious", b"2"]);
    place.damage(b"precious");
    place.write("file", b"1");
    let damaged = hex(b"precious");
    for (arguments, code, part) in [
        (
            &["get", "000000", "-o", "out"][..],
            NOT_FOUND,
            "000000 is not in the store; ",
        ),
        (
            &["ls", "000000"],
            NOT_FOUND,
            "no digest begins with 000000; ",
        ),
        (&["get", "2"], USAGE, "invalid value '2' for '<DIGEST>'"),
        (
            &["frobnicate"],
            USAGE,
            "unrecognized subcommand 'frobnicate'",
        ),
        (&[], USAGE, "requires a subcommand"),
        (&["man"], USAGE, "leave --json out"),
        (
            &["get", &damaged, "-o", "out"],
            DAMAGED,
            "is damaged on disk",
        ),
        (&["verify"], DAMAGED, "1 damaged object: "),
        (&["check", "missing"], LOCKED_OR_IO, "missing: "),
        (
            &["--store", "nowhere", "stat"],
            LOCKED_OR_IO,
            "no store here",
        ),
    ] {
        let ran = place.run(&[arguments, &["--json"]].concat()).expect(code);
        let objects = objects(&ran);
        assert_eq!(objects.len(), 1, "{}", ran.stderr);
        assert_eq!(objects[0]["exit_code"], code);
        let message = objects[0]["error"].as_str().unwrap();
        assert!(message.contains(part), "no `{part}` in: {message}");
        assert!(!message.starts_with("sealstone: "), "{message}");
    }
}

#[test]
fn errors_notes_and_the_summary_of_put_are_objects() {
    let place = Place::new();
    place.write("file", b"1");
    let ran = place.run(&["put", "--json", "missing", "file"]);
    let objects = objects(&ran.expect(LOCKED_OR_IO));
    assert_eq!(objects.len(), 3, "{objects:?}");
    assert_eq!(objects[0]["exit_code"], LOCKED_OR_IO);
    let note = objects[1]["note"].as_str().unwrap();
    assert!(note.contains("created a store"), "{note}");
    assert_eq!(objects[2]["failed"], 1);
}

#[test]
fn a_repair_is_a_note() {
    let place = Place::new();
    place.put_numbers(40);
    fs::remove_file(place.store().join("segments/seg-000000.dat")).unwrap();
    let ran = place.run(&["stat", "--json", "--allow-missing-segments"]);
    let notes = objects(&ran.expect(DONE));
    assert!(
        !notes.is_empty() && notes.iter().all(|note| note["note"].is_string()),
        "{notes:?}"
    );
}

#[test]
fn messages_have_the_fields_that_the_help_shows() {
    let place = Place::new();
    place.write("file", b"1");
    let ran = place.run(&["put", "--json", "missing", "file"]);
    let printed = ran.stderr.lines().take(2).collect::<Vec<_>>().join("\n");
    let help = place.run(&["--help"]).expect(DONE).stdout;
    assert_eq!(shapes(&printed), shown_behind("\nWith --json, ", &help));
    let codes = help.split_once("Exit codes:\n").unwrap().1.lines();
    let codes = codes.take_while(|line| line.starts_with("  "));
    let codes: BTreeSet<_> = codes
        .filter_map(|line| line[2..3].parse::<u8>().ok())
        .collect();
    assert_eq!(json!(codes), json!([0, 1, 2, 3, 4]));
}
