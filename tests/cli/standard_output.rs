//! Standard output whose reader went away, that is full, closed, or open for reading only.

use std::process::Stdio;

use crate::{DONE, NOT_FOUND, Place, hex};
#[cfg(target_os = "linux")]
use crate::{LOCKED_OR_IO, USAGE};

#[test]
fn a_reader_that_went_away_is_no_error_and_put_still_stores() {
    let place = Place::with(&[b"1", b"2"]);
    place.write("file", b"3");
    let digest = hex(b"1");
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["get", &digest],
        &["stat"],
        &["verify"],
        &["export"],
        &["--help"],
        &["put", "--json", "file"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sealstone"))
            .current_dir(place.folder.path())
            .env("SEALSTONE_STORE", place.store())
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(DONE), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("sealstone: "), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    assert!(place.has(b"3"));
}

/// The last object is absent, long after the answers have no reader any more.
#[test]
fn has_looks_up_all_digests_if_the_reader_of_the_answers_went_away() {
    let place = Place::with(&[b"1"]);
    let list = (hex(b"1") + "\n").repeat(10_000) + &hex(b"absent");
    place.write("list", list.as_bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_sealstone"))
        .env("SEALSTONE_STORE", place.store())
        .args(["has", "-"])
        .stdin(std::fs::File::open(place.path("list")).unwrap())
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(NOT_FOUND));
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_that_cannot_be_printed_is_an_error_that_is_told_once() {
    let place = Place::with(&[b"1"]);
    place.write("file", b"2");
    place.write("list", hex(b"1").as_bytes());
    place.write("lines", format!("{}  file", hex(b"2")).as_bytes());
    let empty = sealstone::Store::open(place.path("empty"));
    empty.unwrap().close().unwrap();
    let (get, has) = (format!("get {}", hex(b"1")), format!("has {}", hex(b"1")));
    for arguments in [
        "ls",
        "ls --json",
        &get,
        &format!("{get} -o /dev/stdout"),
        &has,
        "stat --segments",
        "verify",
        "export",
        "diff --json empty",
        "compact --live list --dry-run",
        "checkpoint $(mktemp -u copy-XXXXXX)",
        "check lines",
        "check --json lines",
        "put file",
        "put --json file",
        "--help",
        "--version",
        "put --help",
    ] {
        for redirection in [">/dev/full", "1<file"] {
            let script = format!("exec \"$0\" {arguments} {redirection}");
            let ran = place.run_script(&script).unwrap();
            let ran = ran.fails(LOCKED_OR_IO, &["standard output: ", "send it elsewhere"]);
            let told = ran.stderr.matches("standard output: ").count();
            assert_eq!(told, 1, "{script}: {}", ran.stderr);
        }
    }
    assert!(place.has(b"2"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_that_prints_nothing_needs_no_standard_output() {
    let place = Place::with(&[b"1"]);
    let digest = hex(b"1");
    for (arguments, code) in [
        (format!("has -q {digest}"), DONE),
        ("has -q 000000".to_owned(), NOT_FOUND),
        (format!("get {digest} -o out"), DONE),
        ("frobnicate".to_owned(), USAGE),
        (String::new(), USAGE),
    ] {
        let script = format!("exec \"$0\" {arguments} >&-");
        place.run_script(&script).unwrap().expect(code);
    }
    assert_eq!(std::fs::read(place.path("out")).unwrap(), b"1");
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_can_be_sent_to_dev_null() {
    let place = Place::with(&[b"1"]);
    for redirection in [">/dev/null", "1<>/dev/null", ">>/dev/null"] {
        let script = format!("exec \"$0\" ls {redirection}");
        let ran = place.run_script(&script).unwrap().expect(DONE);
        assert_eq!(ran.stderr, "");
    }
}
