//! `put`: what it stores, and what its lines and its summary promise.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sealstone::{Digest, Options};
use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::Ran;
use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, hex};

/// If a line takes longer than this, the program hangs.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn put_prints_digests_and_counts_the_new_objects() {
    let place = Place::new();
    place.write("one", b"same");
    place.write("two", b"same");
    let ran = place.run(&["put", "one", "two"]).expect(DONE);
    let digest = hex(b"same");
    assert_eq!(ran.stdout, format!("{digest}  one\n{digest}  two\n"));
    let folder = place.store().display().to_string();
    let created = format!("sealstone: {folder}: created a store that names its objects by blake2b");
    let summary = "sealstone: 2 files, 8 bytes: 1 new, 1 already stored";
    assert_eq!(ran.stderr, format!("{created}\n{summary}\n"));
    // The store exists by now.
    let ran = place.run(&["put", "one"]).expect(DONE);
    assert_eq!(
        ran.stderr,
        "sealstone: 1 file, 4 bytes: 0 new, 1 already stored\n"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn control_characters_of_names_reach_a_pipe_and_not_a_terminal() {
    let place = Place::new();
    place.write("tree/red\x1b[31m", b"1");
    let arguments = ["put", "-q", "-r", "tree", "gone\x1b[2J"];
    let ran = place.run(&arguments).expect(LOCKED_OR_IO);
    assert_eq!(ran.stdout, format!("{}  tree/red\x1b[31m\n", hex(b"1")));

    // `script` runs a command with a terminal for all that it prints.
    let terminal = std::process::Command::new("script")
        .args([
            "-q",
            "-e",
            "-c",
            "\"$PROGRAM\" put -q -r tree \"$GONE\"",
            "/dev/null",
        ])
        .current_dir(place.folder.path())
        .env("SEALSTONE_STORE", place.store())
        .env("PROGRAM", env!("CARGO_BIN_EXE_sealstone"))
        .env("GONE", arguments[4])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output();
    let Ok(terminal) = terminal else {
        eprintln!("skipped: there is no `script` here");
        return;
    };
    let shown = String::from_utf8(terminal.stdout).unwrap();
    assert!(shown.contains("  tree/red\\u{1b}[31m\r\n"), "{shown:?}");
    assert!(shown.contains("sealstone: gone\\u{1b}[2J: "), "{shown:?}");
    assert!(
        !shown.contains("\x1b[31m") && !shown.contains("\x1b[2J"),
        "{shown:?}"
    );
}

#[test]
fn put_creates_no_store_if_nothing_can_be_read() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    let ran = place.run(&["put", "-r", "missing", "empty"]);
    let ran = ran.fails(
        LOCKED_OR_IO,
        &["missing: ", "1 not stored; see above, then put it again"],
    );
    assert!(!ran.stderr.contains("created"), "{}", ran.stderr);
    let ran = place.run(&["put", "missing", "gone"]);
    ran.fails(
        LOCKED_OR_IO,
        &["2 not stored; see above, then put those again"],
    );
    assert!(!place.store().exists());
}

#[test]
fn a_quiet_put_prints_its_lines_and_its_errors_only() {
    let place = Place::new();
    place.write("file", b"1");
    let line = format!("{}  file\n", hex(b"1"));
    let ran = place.run(&["put", "--quiet", "file"]).expect(DONE);
    assert_eq!((ran.stdout, &*ran.stderr), (line.clone(), ""));
    let ran = place
        .run(&["put", "-q", "-r", "store", "file"])
        .expect(DONE);
    assert_eq!((ran.stdout, &*ran.stderr), (line, ""));
    let ran = place.run(&["put", "--quiet", "missing", "file"]);
    ran.fails(LOCKED_OR_IO, &["missing: ", "1 not stored"]);
}

#[test]
fn put_reads_standard_input() {
    let place = Place::new();
    let ran = place.run_with_input(&["put", "-"], b"abc").expect(DONE);
    assert_eq!(
        ran.stdout,
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1  -\n"
    );
    assert!(place.has(b"abc"));
}

#[test]
fn put_of_many_and_of_large_files_keeps_their_order() {
    let place = Place::new();
    let mut expected = String::new();
    for number in 0..1500_u32 {
        // A few files are larger than a batch; the others are small.
        let size = if number % 700 == 350 { 33 << 20 } else { 8 };
        let mut content = vec![0; size];
        content[..4].copy_from_slice(&number.to_le_bytes());
        let name = format!("tree/{number:04}");
        place.write(&name, &content);
        writeln!(expected, "{}  {name}", hex(&content)).unwrap();
    }
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert!(ran.stdout == expected);
    assert!(ran.stderr.contains("1,500 new"), "{}", ran.stderr);
}

#[test]
fn put_stores_the_others_when_a_file_cannot_be_read() {
    let place = Place::new();
    place.write("good", b"1");
    let ran = place.run(&["put", "missing", "good"]);
    let ran = ran.fails(
        LOCKED_OR_IO,
        &["missing: ", "check the path", "1 not stored"],
    );
    assert_eq!(ran.stdout, format!("{}  good\n", hex(b"1")));
    assert!(place.has(b"1"));
}

#[test]
#[cfg(target_os = "linux")]
fn put_names_a_file_that_is_too_large() {
    let place = Place::new();
    place.write("good", b"1");
    let large = fs::File::create(place.path("large")).unwrap();
    large.set_len(u64::from(u32::MAX) + 1).unwrap();
    let ran = place.run(&["put", "large", "good"]);
    ran.fails(LOCKED_OR_IO, &["sealstone: large: ", "4294967296"]);
    assert!(place.has(b"1"));
}

#[test]
#[cfg(target_os = "linux")]
fn the_lines_of_put_agree_with_b2sum() {
    use std::os::unix::ffi::OsStrExt as _;

    let names: [&[u8]; 4] = [
        b"plain",
        b"two  words",
        b"line\nfeed \\ slash",
        b"not \xff UTF-8",
    ];
    let place = Place::new();
    for (number, name) in (0_u32..).zip(names) {
        let path = place.folder.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, number.to_le_bytes()).unwrap();
    }
    let arguments = names.map(std::ffi::OsStr::from_bytes);
    let Ok(b2sum) = std::process::Command::new("b2sum")
        .current_dir(place.folder.path())
        .args(arguments)
        .output()
    else {
        eprintln!("skipped: there is no b2sum here");
        return;
    };

    let output = place.command(&["put"]).args(arguments).output().unwrap();
    let mut expected = Vec::new();
    for line in b2sum.stdout.split_inclusive(|byte| *byte == b'\n') {
        let digits = usize::from(line.starts_with(b"\\"));
        expected.extend_from_slice(&line[..digits + 64]);
        expected.extend_from_slice(&line[digits + 128..]);
    }
    assert_eq!(output.stdout, expected);
}

#[test]
fn put_prints_a_json_object_a_line_and_the_summary_last() {
    let place = Place::new();
    place.write("a", b"1");
    let ran = place.run(&["--json", "put", "a", "missing", "a"]);
    let ran = ran.expect(LOCKED_OR_IO);
    let lines: Vec<Value> = serde_json::Deserializer::from_str(&ran.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let line =
        |new: bool| serde_json::json!({ "digest": hex(b"1"), "path": "a", "bytes": 1, "new": new });
    assert_eq!(lines, [line(true), line(false)]);
    let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        summary,
        serde_json::json!({
            "files": 2, "bytes": 2, "new": 1, "already_stored": 1, "failed": 1, "skipped": 0,
            "complete": true,
        })
    );
}

#[test]
fn put_repairs_a_damaged_object() {
    let place = Place::with(&[b"precious content", b"other"]);
    place.damage(b"precious content");
    place
        .run(&["get", &hex(b"precious content")])
        .expect(DAMAGED);
    place.write("copy", b"precious content");
    place.run(&["put", "copy"]).expect(DONE);
    let ran = place.run(&["get", &hex(b"precious content")]).expect(DONE);
    assert_eq!(ran.stdout, "precious content");

    // The damaged copy is still there, and `verify` names the way to drop it.
    let ran = place.run(&["verify"]);
    let ran = ran.fails(DAMAGED, &["1 damaged duplicate: `compact` drops"]);
    assert!(
        ran.stdout.ends_with("another copy is whole\n"),
        "{}",
        ran.stdout
    );
    place.write("list", place.run(&["ls"]).stdout.as_bytes());
    place.run(&["compact", "--live", "list"]).expect(DONE);
    place.run(&["verify"]).expect(DONE);
}

/// Writes files of 1,000 bytes. 1,024 of them are a batch.
fn write_many(place: &Place, files: u32) {
    for number in 0..files {
        let content = number.to_le_bytes().repeat(250);
        place.write(&format!("tree/{number:05}"), &content);
    }
}

#[test]
fn put_prints_a_line_only_when_another_process_can_read_the_object() {
    let place = Place::new();
    write_many(&place, 3000);
    // The program waits for its standard input, so it has not ended when the lines arrive.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sealstone"))
        .args(["put", "-r", "tree", "-"])
        .current_dir(place.folder.path())
        .env("SEALSTONE_STORE", place.store())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let printing = thread::spawn(move || {
        lines.for_each(|line| sender.send(line.unwrap()).unwrap());
    });
    for _ in 0..1000 {
        let line = receiver.recv_timeout(PATIENCE).unwrap();
        let reader = Options::new().read_only(true).open(place.store()).unwrap();
        let digest: Digest = line[..64].parse().unwrap();
        assert!(reader.get(digest).unwrap().is_some(), "{line}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    printing.join().unwrap();
    assert_eq!(receiver.iter().count(), 2001);
}

/// Shows that an object can be read for each line of a `put` that an error stopped.
#[cfg(target_os = "linux")]
fn assert_every_line_holds(place: &Place, ran: &Ran, lines_min: usize) {
    let reader = Options::new().read_only(true).open(place.store()).unwrap();
    for line in ran.stdout.lines() {
        let digest: Digest = line[..64].parse().unwrap();
        assert!(reader.get(digest).unwrap().is_some(), "{line}");
    }
    let lines = ran.stdout.lines().count();
    assert!(lines >= lines_min, "{lines}");
    let summary = ran.stderr.lines().last().unwrap();
    assert!(
        summary.contains("every line that was printed counts"),
        "{summary}"
    );
    let files = summary.trim_start_matches("sealstone: ");
    let files = files.split_once(" file").unwrap().0.replace(',', "");
    assert_eq!(files.parse(), Ok(lines));
}

#[test]
#[cfg(target_os = "linux")]
fn put_prints_no_line_for_an_object_that_an_error_left_out() {
    let place = Place::new();
    write_many(&place, 3000);
    // `ulimit` counts blocks of 512 bytes, so there is room for about the first 2,000 files.
    let put = |arguments: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 4000; exec \"$0\" put {arguments} -r tree");
        place.run_script(&script).unwrap().expect(LOCKED_OR_IO)
    };
    assert_every_line_holds(&place, &put(""), 1000);

    let ran = put("--json");
    let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(summary["complete"], false);
    assert_eq!(summary["files"], ran.stdout.lines().count());
    assert!(
        summary["already_stored"].as_u64() >= Some(1000),
        "{summary}"
    );

    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert_eq!(ran.stdout.lines().count(), 3000);
}

#[test]
#[cfg(target_os = "linux")]
fn put_fills_a_disk_to_the_end_and_every_line_holds() {
    let place = Place::new();
    write_many(&place, 9000);
    fs::create_dir(place.store()).unwrap();
    // The mount ends with the last process that sees it, so the store is copied out before.
    let script = "mount -t tmpfs -o size=8m none store || exit 77
        \"$0\" put -r tree; code=$?
        df -k --output=avail store | tail -n 1 >available
        mkdir copy && cp -r store/segments copy/ || exit 1
        exit $code";
    let Some(ran) = place.run_script_as(&["unshare", "-rm", "sh"], script) else {
        eprintln!("skipped: this user may not mount a file system in memory");
        return;
    };
    let ran = ran.expect(LOCKED_OR_IO);
    fs::remove_dir(place.store()).unwrap();
    fs::rename(place.path("copy"), place.store()).unwrap();
    assert_every_line_holds(&place, &ran, 6000);
    assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
    let available = fs::read_to_string(place.path("available")).unwrap();
    let available: u64 = available.trim().parse().unwrap();
    assert!(available < 64, "{available} KiB are left");
}

#[test]
#[cfg(target_os = "linux")]
fn a_closed_standard_input_is_no_empty_object() {
    let place = Place::new();
    place.write("file", b"1");
    let script = "exec \"$0\" put - file <&-";
    let ran = place.run_script(script).unwrap();
    let ran = ran.fails(LOCKED_OR_IO, &["standard input is closed", "1 not stored"]);
    assert_eq!(ran.stdout, format!("{}  file\n", hex(b"1")));
    assert!(!place.has(b""));
    // An empty one is an empty object.
    let script = "exec \"$0\" put - </dev/null";
    let ran = place.run_script(script).unwrap().expect(DONE);
    assert_eq!(ran.stdout, format!("{}  -\n", hex(b"")));
}
