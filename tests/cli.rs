//! The command line, as a user meets it: what is printed where, and the exit codes.
#![cfg(feature = "cli")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use assert_cmd::Command;
use sealstone::{Digest, Options, Store};
use serde_json::Value;
use tempfile::TempDir;

const DONE: i32 = 0;
const NOT_FOUND: i32 = 1;
const USAGE: i32 = 2;
const DAMAGED: i32 = 3;
const LOCKED_OR_IO: i32 = 4;

/// A folder for one test, with files to store and the store beside them.
struct Place {
    folder: TempDir,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder }
    }

    /// With a store that holds `contents`, each put by the library.
    fn with(contents: &[&[u8]]) -> Self {
        let place = Self::new();
        let store = Store::open(place.store()).unwrap();
        for content in contents {
            store.put(content).unwrap();
        }
        store.close().unwrap();
        place
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The command in this folder, so that names in the output are short.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealstone"));
        command
            .current_dir(self.folder.path())
            .env("SEALSTONE_STORE", self.store())
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, b"")
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let output = self.command(arguments).write_stdin(input).output().unwrap();
        Ran {
            code: output.status.code().expect("not killed by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    fn has(&self, content: &[u8]) -> bool {
        self.run(&["has", "-q", &hex(content)]).code == DONE
    }

    /// Every file of the store with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fs::read_dir(self.store().join("segments"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// Flips a bit in the stored copy of `content`.
    fn damage(&self, content: &[u8]) {
        for (path, mut bytes) in self.files() {
            let is_data = path.extension().is_some_and(|extension| extension == "dat");
            let at = bytes.windows(content.len()).position(|at| at == content);
            if let (true, Some(at)) = (is_data, at) {
                bytes[at] ^= 1;
                fs::write(path, bytes).unwrap();
                return;
            }
        }
        panic!("no segment holds the content");
    }
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// An error that begins with the name of the program and contains each of `parts`.
    #[track_caller]
    fn fails(self, code: i32, parts: &[&str]) -> Self {
        let ran = self.expect(code);
        assert!(ran.stderr.starts_with("sealstone: "), "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "no `{part}` in: {}", ran.stderr);
        }
        ran
    }
}

fn hex(content: &[u8]) -> String {
    Digest::of(content).to_string()
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

// put

#[test]
fn put_prints_digests_and_counts_what_is_new() {
    let place = Place::new();
    place.write("one", b"same");
    place.write("two", b"same");
    let ran = place.run(&["put", "one", "two"]).expect(DONE);
    let digest = hex(b"same");
    assert_eq!(ran.stdout, format!("{digest}  one\n{digest}  two\n"));
    assert_eq!(
        ran.stderr,
        "sealstone: 2 files, 8 bytes: 1 new, 1 already stored\n"
    );
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
fn put_walks_a_tree_in_order_and_a_second_time_adds_nothing() {
    let place = Place::new();
    place.write("tree/b/inner", b"2");
    place.write("tree/a", b"1");
    place.write("tree/c", b"");
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    let paths: Vec<_> = ran.stdout.lines().map(|line| &line[66..]).collect();
    assert_eq!(paths, ["tree/a", "tree/b/inner", "tree/c"]);
    assert!(ran.stderr.contains("3 new, 0 already stored"));

    let objects = place.json(&["stat", "--json"])["objects"].clone();
    let again = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert_eq!(again.stdout, ran.stdout);
    assert!(again.stderr.contains("0 new, 3 already stored"));
    assert_eq!(place.json(&["stat", "--json"])["objects"], objects);
}

#[test]
fn put_of_many_and_of_large_files_keeps_their_order() {
    let place = Place::new();
    let mut expected = String::new();
    for number in 0..1500_u32 {
        // A few that are larger than a batch, among many small ones.
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
fn put_of_a_folder_without_r_stores_nothing_and_names_the_remedy() {
    let place = Place::new();
    place.write("file", b"1");
    place.write("tree/a", b"2");
    let ran = place.run(&["put", "file", "tree"]);
    ran.fails(USAGE, &["tree is a folder", "pass -r"]);
    assert!(!place.store().exists());
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
#[cfg(unix)]
fn put_follows_links_that_are_named_and_skips_those_that_it_finds() {
    let place = Place::new();
    place.write("outside/a", b"1");
    place.write("tree/b", b"2");
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, place.path(to)).unwrap();
    link("../outside", "tree/folder");
    link("../outside/a", "tree/file");
    link("nowhere", "tree/dangling");
    link("outside", "named");

    let ran = place.run(&["put", "-r", "tree", "named"]).expect(DONE);
    let (inside, named) = (hex(b"2"), hex(b"1"));
    assert_eq!(ran.stdout, format!("{inside}  tree/b\n{named}  named/a\n"));
    for skipped in ["tree/folder", "tree/file", "tree/dangling"] {
        let note = format!("sealstone: skipped {skipped}: a symbolic link");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("3 skipped"), "{}", ran.stderr);
}

#[test]
fn put_skips_the_files_of_the_store_itself() {
    let place = Place::new();
    place.write("a", b"1");
    for _ in 0..2 {
        for root in [".", "store", "store/segments"] {
            let ran = place.run(&["put", "-r", root]).expect(DONE);
            assert!(!ran.stdout.contains("seg-"), "{}", ran.stdout);
            assert!(ran.stderr.contains("segments: the store's own files"));
        }
    }
    // A store that shares its folder with the files.
    let ran = place.run(&["put", "-r", ".", "--store", "."]).expect(DONE);
    assert!(ran.stdout.contains("./a\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("skipped ./segments"), "{}", ran.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn put_lines_agree_with_b2sum() {
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
fn put_json_is_an_object_a_line_and_the_summary_comes_last() {
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

    // The damaged copy is still there, and `verify` says how to get rid of it.
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

// get

#[test]
fn get_writes_the_content() {
    let place = Place::with(&[b"first\n", b"second\n"]);
    let digest = hex(b"second\n");
    for wanted in [&digest, &digest.to_uppercase(), &digest[..6], &digest[..63]] {
        let ran = place.run(&["get", wanted]).expect(DONE);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("second\n", ""));
    }
}

#[test]
fn get_lists_the_candidates_of_an_ambiguous_prefix() {
    let (one, other) = two_contents_with_the_same_first_digits();
    let place = Place::with(&[one.as_bytes(), other.as_bytes()]);
    let (one, other) = (hex(one.as_bytes()), hex(other.as_bytes()));
    let prefix = &one[..6];
    for command in ["get", "has"] {
        place
            .run(&[command, prefix])
            .fails(USAGE, &[prefix, &one, &other, "give more digits"]);
    }
    place.run(&["get", &one]).expect(DONE);
}

fn two_contents_with_the_same_first_digits() -> (String, String) {
    let mut seen = HashMap::new();
    (0..)
        .map(|number: u32| number.to_string())
        .find_map(|content| {
            let first = Digest::of(content.as_bytes()).as_bytes()[..3].to_vec();
            let earlier = seen.insert(first, content.clone())?;
            Some((earlier, content))
        })
        .unwrap()
}

#[test]
fn get_refuses_what_is_no_digest_and_does_not_find_what_is_not_there() {
    let place = Place::with(&[b"1"]);
    let long = "0".repeat(65);
    for wrong in ["12345", "xyzxyz", "", &long] {
        place.run(&["get", wrong]).fails(USAGE, &["6 to 64"]);
    }
    place.run(&["get", "000000"]).fails(NOT_FOUND, &["000000"]);
    let absent = hex(b"absent");
    place.run(&["get", &absent]).fails(NOT_FOUND, &[&absent]);
}

#[test]
fn get_replaces_a_file_whole_or_leaves_it() {
    let place = Place::with(&[b"content", b"rotten content"]);
    place.damage(b"rotten content");
    place.write("out/file", b"as it was");
    for (content, code) in [
        (&b"absent"[..], NOT_FOUND),
        (b"rotten content", DAMAGED),
        (b"content", DONE),
    ] {
        let before = fs::read(place.path("out/file")).unwrap();
        place
            .run(&["get", &hex(content), "-o", "out/file"])
            .expect(code);
        let after = fs::read(place.path("out/file")).unwrap();
        assert_eq!(after, if code == DONE { content } else { &before });
    }
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);

    let digest = hex(b"content");
    place
        .run(&["get", &digest, "-o", "nowhere/file"])
        .fails(LOCKED_OR_IO, &["nowhere/file: "]);
    place
        .run(&["get", &digest, "-o", "out"])
        .fails(LOCKED_OR_IO, &["out: "]);
    assert_eq!(place.run(&["get", &digest, "-o", "-"]).stdout, "content");
}

#[test]
#[cfg(unix)]
fn get_keeps_links_permissions_and_devices() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

    let place = Place::with(&[b"content"]);
    place.write("target", b"as it was");
    let permissions = fs::Permissions::from_mode(0o640);
    fs::set_permissions(place.path("target"), permissions).unwrap();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    let digest = hex(b"content");
    place.run(&["get", &digest, "-o", "link"]).expect(DONE);
    assert!(place.path("link").is_symlink());
    assert_eq!(fs::read(place.path("target")).unwrap(), b"content");
    let mode = fs::metadata(place.path("target"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);

    place.run(&["get", &digest, "-o", "/dev/null"]).expect(DONE);
    let null = fs::metadata("/dev/null").unwrap();
    assert!(null.file_type().is_char_device());
}

#[test]
fn get_json_needs_a_file() {
    let place = Place::with(&[b"content"]);
    let digest = hex(b"content");
    place
        .run(&["get", &digest, "--json"])
        .fails(USAGE, &["-o FILE"]);
    assert_eq!(
        place.json(&["get", &digest, "--json", "-o", "out"]),
        serde_json::json!({ "digest": digest, "bytes": 7, "file": "out" })
    );
}

// has, ls, stat

#[test]
fn has_answers_for_each_digest() {
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
fn stat_counts() {
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
    for key in ["index_file_bytes", "files", "uncovered_segments"] {
        assert!(stats[key].is_u64(), "{key} in {stats}");
    }
}

// verify

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

// compact

#[test]
fn compact_keeps_what_put_and_ls_print() {
    let place = Place::with(&[b"dropped", b"listed"]);
    place.write("odd \\ name", b"kept");
    let lines = place.run(&["put", "odd \\ name"]).expect(DONE).stdout;
    let listed = place.run(&["ls", "--long", &hex(b"listed")]).stdout;
    let list = format!("# kept\n\n{lines}\t{listed}");
    let ran = place.run_with_input(&["compact", "--live", "-"], list.as_bytes());
    let ran = ran.expect(DONE);
    assert!(ran.stdout.contains("kept 2 objects, dropped 1 object\n"));
    assert_eq!(ran.stderr, "");
    assert!(place.has(b"kept") && place.has(b"listed") && !place.has(b"dropped"));
    place.run(&["verify"]).expect(DONE);
}

#[test]
fn compact_dry_run_says_what_would_go_and_changes_nothing() {
    let place = Place::with(&[b"dropped", b"kept"]);
    place.write("list", hex(b"kept").as_bytes());
    let before = place.run(&["ls", "--long"]).stdout;
    let ran = place.run(&["compact", "--live", "list", "--dry-run"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout
            .contains("would keep 1 object, would drop 1 object"),
        "{}",
        ran.stdout
    );
    let mut planned = place.json(&["compact", "--live", "list", "--dry-run", "--json"]);
    assert_eq!(place.run(&["ls", "--long"]).stdout, before);
    place.run(&["verify"]).expect(DONE);

    let done = place.json(&["compact", "--live", "list", "--json"]);
    assert_eq!(planned["dry_run"], true);
    planned["dry_run"] = false.into();
    assert_eq!(done, planned);
    assert_eq!(done["dropped_objects"], 1);
    assert!(!place.has(b"dropped"));
}

#[test]
fn compact_warns_of_digests_that_the_store_does_not_hold() {
    let place = Place::with(&[b"kept"]);
    place.write(
        "list",
        format!("{}\n{}\n", hex(b"kept"), hex(b"absent")).as_bytes(),
    );
    let ran = place.run(&["compact", "--live", "list"]).expect(DONE);
    assert!(
        ran.stderr.starts_with("sealstone: warning: 1 digest"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        place.json(&["compact", "--live", "list", "--json"])["live_missing"],
        1
    );
}

#[test]
fn compact_does_nothing_if_the_list_is_wrong() {
    let place = Place::with(&[b"1", b"2"]);
    let before = place.files();
    let (good, short) = (hex(b"1"), &hex(b"2")[..40]);
    place.write("bad", format!("{good}\n\n{short}  name\n").as_bytes());
    place
        .run(&["compact", "--live", "bad"])
        .fails(USAGE, &["bad, line 3: ", short, "nothing was done"]);
    place.write("empty", b"# nothing\n");
    place
        .run(&["compact", "--live", "empty"])
        .fails(USAGE, &["empty: ", "--allow-empty"]);
    place
        .run(&["compact", "--live", "missing"])
        .fails(LOCKED_OR_IO, &["missing: "]);
    place.run(&["compact"]).fails(USAGE, &["--live"]);
    assert_eq!(place.files(), before);

    place
        .run(&["compact", "--live", "empty", "--allow-empty"])
        .expect(DONE);
    assert_eq!(place.json(&["stat", "--json"])["objects"], 0);
}

// what all commands share

#[test]
fn a_locked_store_can_be_read_but_not_written() {
    let place = Place::new();
    let writer = Store::open(place.store()).unwrap();
    writer.put(b"content").unwrap();
    writer.sync().unwrap();
    place.write("file", b"1");
    place.write("list", hex(b"content").as_bytes());
    let folder = place.store().display().to_string();
    for arguments in [
        &["put", "file"][..],
        &["compact", "--live", "list"],
        &["verify", "--repair"],
    ] {
        place.run(arguments).fails(LOCKED_OR_IO, &[&folder]);
    }
    let digest = hex(b"content");
    assert_eq!(place.run(&["get", &digest]).expect(DONE).stdout, "content");
    for arguments in [&["has", &digest][..], &["ls"], &["stat"], &["verify"]] {
        place.run(arguments).expect(DONE);
    }
    drop(writer);
    place.run(&["put", "file"]).expect(DONE);
}

#[test]
fn commands_that_read_change_no_file() {
    let place = Place::new();
    let options = Options::new().segment_bytes_max(4096);
    let store = options.open(place.store()).unwrap();
    for number in 0..100_u32 {
        store.put(&number.to_le_bytes().repeat(100)).unwrap();
    }
    store.close().unwrap();
    let digest = hex(&0_u32.to_le_bytes().repeat(100));
    let before = place.files();
    for arguments in [
        &["get", &digest][..],
        &["has", &digest],
        &["ls", "--long"],
        &["stat"],
        &["verify"],
    ] {
        let output = place.command(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(place.files() == before, "{arguments:?}");
    }
}

#[test]
fn only_put_creates_a_store() {
    let place = Place::new();
    place.write("list", hex(b"1").as_bytes());
    let digest = hex(b"1");
    let folder = place.store().display().to_string();
    for arguments in [
        &["get", &digest][..],
        &["has", &digest],
        &["ls"],
        &["stat"],
        &["verify"],
        &["compact", "--live", "list"],
    ] {
        place.run(arguments).fails(LOCKED_OR_IO, &[&folder]);
        assert!(!place.store().exists(), "{arguments:?}");
    }
}

#[test]
fn a_store_must_be_named() {
    let place = Place::new();
    let mut command = place.command(&["ls"]);
    let output = command.env_remove("SEALSTONE_STORE").output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SEALSTONE_STORE"));
    // The option wins over the variable.
    place.write("a", b"1");
    place
        .run(&["put", "a", "--store", "elsewhere"])
        .expect(DONE);
    assert!(place.path("elsewhere").exists() && !place.store().exists());
}

#[test]
fn a_closed_pipe_ends_quietly_and_put_still_stores() {
    let place = Place::with(&[b"1", b"2"]);
    place.write("file", b"3");
    let digest = hex(b"1");
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["get", &digest],
        &["stat"],
        &["verify"],
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

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_standard_output_is_an_error() {
    let place = Place::with(&[b"1"]);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sealstone"))
        .env("SEALSTONE_STORE", place.store())
        .arg("ls")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(LOCKED_OR_IO));
    assert!(output.stderr.starts_with(b"sealstone: standard output: "));
}

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(DONE);
    assert!(help.stdout.contains("Exit codes:") && help.stderr.is_empty());
    for command in ["put", "get", "has", "ls", "stat", "verify", "compact"] {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command}");
        let help = place.run(&[command, "--help"]).expect(DONE).stdout;
        assert!(
            help.contains("Example") && help.contains("JSON"),
            "{command}"
        );
    }
    place.run(&["--version"]).expect(DONE);
    place.run(&["frobnicate"]).fails(USAGE, &["frobnicate"]);
    place.run(&[]).expect(USAGE);
}
