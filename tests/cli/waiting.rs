//! `--wait`: a command that changes the store waits for the writer that has locked it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sealstone::Store;

use crate::{DONE, LOCKED_OR_IO, Place, USAGE, hex};

const WRITING: [&[&str]; 6] = [
    &["put", "file"],
    &["compact", "--live", "list"],
    &["verify", "--repair"],
    &["checkpoint", "copy"],
    &["import", "stream"],
    &["import", "nedb", "objects"],
];

fn place_with_files() -> Place {
    let place = Place::with(&[b"1"]);
    place.write("file", b"1");
    place.write("list", hex(b"1").as_bytes());
    let stream = place.command(&["export"]).output().unwrap().stdout;
    place.write("stream", &stream);
    place.write("objects/file", b"");
    place
}

#[test]
fn a_command_that_waits_goes_on_when_the_other_writer_has_finished() {
    let place = place_with_files();
    for arguments in WRITING {
        let writer = Store::open(place.store()).unwrap();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sealstone"))
            .args(arguments)
            .args(["--wait", "100000"])
            .current_dir(place.folder.path())
            .env("SEALSTONE_STORE", place.store())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let note = "store: waiting for another writer to finish\n";
        assert!(line.ends_with(note), "{arguments:?}: {line}");
        // The command has met the lock by now.
        writer.close().unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(DONE), "{rest}");
        assert!(!rest.contains("waiting"), "{rest}");
    }
}

#[test]
fn a_command_ends_with_4_when_it_has_waited_long_enough() {
    let place = place_with_files();
    let _writer = Store::open(place.store()).unwrap();
    for arguments in WRITING {
        let begin = Instant::now();
        let ran = place.run(&[arguments, &["--wait", "1"]].concat());
        assert!(begin.elapsed() >= Duration::from_secs(1));
        ran.fails(LOCKED_OR_IO, &["waiting", "has this store open; try again"]);

        let ran = place.run(&[arguments, &["--wait", "0"]].concat());
        let ran = ran.fails(LOCKED_OR_IO, &["pass --wait SECONDS"]);
        assert!(!ran.stderr.contains("waiting"), "{}", ran.stderr);
    }
}

#[test]
fn a_command_that_takes_no_lock_does_not_wait() {
    let place = place_with_files();
    let ran = place.run(&["verify", "--wait", "1"]);
    ran.fails(USAGE, &["--repair"]);
    for arguments in [&["ls"][..], &["stat"], &["check", "list"]] {
        let ran = place.run(&[arguments, &["--wait", "1"]].concat());
        ran.fails(USAGE, &["unexpected argument '--wait'"]);
    }
    let ran = place.run(&["put", "file", "--wait", "soon"]);
    ran.fails(USAGE, &["invalid value 'soon' for '--wait <SECONDS>'"]);
}
