//! `diff`: the objects that only one of two stores holds.

use sealstone::{HashFunction, Options};

use crate::help::{documented, shapes};
use crate::{DONE, LOCKED_OR_IO, NOT_FOUND, Place, USAGE, hex, json_lines, sorted_lines};

#[test]
fn each_object_that_only_one_store_holds_has_a_line() {
    let place = Place::with(&[b"1", b"2", b"3"]);
    let other = Place::with(&[b"2", b"4"]);
    let folder = other.store().display().to_string();
    let ran = place.run(&["diff", &folder]).expect(NOT_FOUND);
    let mut expected = [
        format!("< {}", hex(b"1")),
        format!("< {}", hex(b"3")),
        format!("> {}", hex(b"4")),
    ];
    expected.sort_unstable();
    assert_eq!(sorted_lines(&ran.stdout), expected);
    assert!(ran.stdout.lines().last().unwrap().starts_with('>'));
    assert_eq!(ran.stderr, "");

    let ran = place.run(&["diff", &folder, "--json"]).expect(NOT_FOUND);
    let differences = json_lines(&ran.stdout);
    assert_eq!(shapes(&ran.stdout)[..1], documented(&place, "diff"));
    assert_eq!(differences.len(), 3);
    assert_eq!(differences[2]["digest"], hex(b"4"));
    assert_eq!(differences[2]["only_in"], "other");
}

#[test]
fn stores_that_hold_the_same_in_other_files_do_not_differ() {
    let place = Place::new();
    place.put_numbers(50);
    let copy = Place::new();
    let folder = place.store().display().to_string();
    copy.run(&["import", &folder]).expect(DONE);
    let (files, other_files) = (place.files(), copy.files());
    let ran = copy.run(&["diff", &folder]).expect(DONE);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let ran = copy.run(&["diff", &folder, "--json"]).expect(DONE);
    assert_eq!(ran.stdout, "");
    assert!(place.files() == files && copy.files() == other_files);
}

#[test]
fn an_import_of_the_other_store_takes_away_the_second_half_of_a_difference() {
    let place = Place::new();
    place.put_numbers(5000);
    let other = Place::with(&[b"only here", &1_u32.to_le_bytes()]);
    let folder = other.store().display().to_string();
    let ran = place.run(&["diff", &folder]).expect(NOT_FOUND);
    assert_eq!(ran.stdout.lines().count(), 5000);
    place.run(&["import", &folder]).expect(DONE);
    let ran = place.run(&["diff", &folder]).expect(NOT_FOUND);
    assert_eq!(ran.stdout.lines().count(), 4999);
    assert!(!ran.stdout.contains('>'));
}

#[test]
fn stores_of_different_hash_functions_and_folders_without_a_store_cannot_be_compared() {
    let place = Place::with(&[b"1"]);
    let options = Options::new().hash_function(HashFunction::Sha256);
    options.open(place.path("other")).unwrap().close().unwrap();
    let parts = ["by blake2b, and other by sha256; name two stores"];
    place.run(&["diff", "other"]).fails(USAGE, &parts);
    place.write("files/file", b"1");
    let ran = place.run(&["diff", "files"]);
    ran.fails(LOCKED_OR_IO, &["files: there is no store here"]);
}
