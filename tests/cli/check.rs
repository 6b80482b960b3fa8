//! `check`: which files it passes, and how it says that others were changed.

use std::fs;

use serde_json::{Value, json};

use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, USAGE, hex};

/// Puts three files and writes the lines for them to `list`.
fn listed(place: &Place) -> String {
    for name in ["a", "sub/two  words", "empty"] {
        let content = if name == "empty" { "" } else { name };
        place.write(name, content.as_bytes());
    }
    let arguments = ["put", "a", "sub/two  words", "empty"];
    let lines = place.run(&arguments).expect(DONE).stdout;
    place.write("list", lines.as_bytes());
    lines
}

#[test]
fn files_that_put_has_stored_are_as_they_were() {
    let place = Place::new();
    let lines = listed(&place);
    let all_ok = "a: OK\nsub/two  words: OK\nempty: OK\n";
    let ran = place.run(&["check", "list"]).expect(DONE);
    assert_eq!(ran.stdout, all_ok);
    assert_eq!(ran.stderr, "sealstone: 3 files: 3 OK\n");

    let ran = place.run_with_input(&["check", "-"], lines.as_bytes());
    assert_eq!(ran.expect(DONE).stdout, all_ok);
    let ran = place.run(&["check", "--quiet", "list"]).expect(DONE);
    assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""));

    let windows = format!("\u{feff}{}", lines.replace('\n', "\r\n"));
    let ran = place.run_with_input(&["check", "-"], windows.as_bytes());
    assert_eq!(ran.expect(DONE).stdout, all_ok);
}

#[test]
fn a_changed_file_fails_with_3_and_a_missing_one_with_4() {
    let place = Place::new();
    listed(&place);
    fs::remove_file(place.path("empty")).unwrap();
    let ran = place.run(&["check", "list"]);
    let ran = ran.fails(
        LOCKED_OR_IO,
        &["empty: ", "3 files: 2 OK, 1 not read; see above"],
    );
    assert!(ran.stdout.ends_with("empty: FAILED open or read\n"));

    place.write("a", b"changed");
    let ran = place.run(&["check", "--quiet", "list"]);
    let ran = ran.fails(
        DAMAGED,
        &["3 files: 1 OK, 1 failed, 1 not read; ", "get DIGEST"],
    );
    assert_eq!(ran.stdout, "a: FAILED\nempty: FAILED open or read\n");

    let ran = place.run(&["check", "--json", "list"]).expect(DAMAGED);
    let results = ran.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["result"].as_str().unwrap().to_owned()
    });
    assert_eq!(results.collect::<Vec<_>>(), ["failed", "ok", "unreadable"]);
    let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    let expected = json!({ "files": 3, "ok": 1, "failed": 1, "unreadable": 1 });
    assert_eq!(summary, expected);
}

#[test]
fn the_function_is_the_one_that_is_given_or_that_of_the_store_or_the_default() {
    let place = Place::new();
    place.write("file", b"content");
    let put = |store: &str, function: &str| {
        let arguments = ["--store", store, "put", "--hash", function, "file"];
        let lines = place.run(&arguments).expect(DONE).stdout;
        place.write(function, lines.as_bytes());
    };
    put("store", "sha256");
    put("other", "blake2b");
    // The variable names the store of SHA-256.
    place.run(&["check", "sha256"]).expect(DONE);
    place.run(&["check", "blake2b"]).expect(DAMAGED);
    place
        .run(&["check", "blake2b", "--hash", "blake2b"])
        .expect(DONE);
    for (list, code) in [("sha256", DAMAGED), ("blake2b", DONE)] {
        let mut command = place.command(&["check", list]);
        let output = command.env_remove("SEALSTONE_STORE").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{list}");
    }
    let ran = place.run(&["--store", "nowhere", "check", "blake2b"]);
    ran.fails(LOCKED_OR_IO, &["nowhere: there is no store here"]);
}

#[test]
fn a_folder_under_the_name_of_a_file_cannot_be_read() {
    let place = Place::with(&[]);
    fs::create_dir(place.path("folder")).unwrap();
    place.write("list", format!("{}  folder\n", hex(b"1")).as_bytes());
    let ran = place.run(&["check", "list"]);
    let ran = ran.fails(
        LOCKED_OR_IO,
        &["folder: ", "check the path and its permissions"],
    );
    assert_eq!(ran.stdout, "folder: FAILED open or read\n");
}

#[test]
fn a_wrong_list_is_refused_before_a_file_is_read() {
    let place = Place::with(&[]);
    let digest = hex(b"1");
    for (list, why) in [
        (
            format!("{digest}  a\n{digest}\n"),
            "line 2: there is no name",
        ),
        ("# nothing\n".to_owned(), "no line to check"),
        (
            format!("{digest}  -\n"),
            "standard input cannot be the list and a file",
        ),
    ] {
        let ran = place.run_with_input(&["check", "-"], list.as_bytes());
        let ran = ran.fails(USAGE, &["standard input", why]);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn standard_input_is_checked_if_a_file_is_the_list() {
    let place = Place::with(&[]);
    place.write("list", format!("{}  -\n", hex(b"1")).as_bytes());
    let ran = place.run_with_input(&["check", "list"], b"1").expect(DONE);
    assert_eq!(ran.stdout, "-: OK\n");
    place
        .run_with_input(&["check", "list"], b"2")
        .expect(DAMAGED);
}

/// The help promises what other programs can check.
#[test]
#[cfg(target_os = "linux")]
fn b2sum_and_sha256sum_check_the_lines_of_their_functions_and_of_no_other() {
    for (function, program, is_ok) in [
        ("blake2b", "b2sum", false),
        ("blake2b-256", "b2sum", true),
        ("sha256", "sha256sum", true),
    ] {
        let place = Place::new();
        place.write("back\\slash and line\nfeed", b"1");
        place.write("plain", b"2");
        let arguments = ["put", "--hash", function, "-r", "."];
        let lines = place.run(&arguments).expect(DONE).stdout;
        place.write("list", lines.as_bytes());
        let check = std::process::Command::new(program)
            .current_dir(place.folder.path())
            .args(["-c", "list"])
            .output();
        let Ok(check) = check else {
            eprintln!("skipped: there is no {program} here");
            continue;
        };
        assert_eq!(check.status.success(), is_ok, "{function}: {check:?}");
        let ours = place.run(&["check", "list"]).expect(DONE);
        if is_ok {
            assert_eq!(ours.stdout.as_bytes(), check.stdout);
        }
    }
}
