//! The command line as its users see it: its output, its files and its exit codes.
#![cfg(feature = "cli")]

mod asked;
mod check;
mod checkpoint;
mod compact;
mod diff;
mod get;
mod has_ls_stat;
mod hash;
mod help;
mod import;
#[cfg(target_os = "linux")]
mod long;
mod messages;
mod nedb;
mod pages;
mod put;
#[cfg(feature = "remote")]
mod remote;
#[cfg(all(feature = "remote", unix))]
mod remote_kills;
mod shared;
mod standard_output;
mod stream;
mod verify;
mod waiting;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use sealstone::{Digest, Options, Store};
use serde_json::Value;
use tempfile::TempDir;

const DONE: i32 = 0;
const NOT_FOUND: i32 = 1;
const USAGE: i32 = 2;
const DAMAGED: i32 = 3;
const LOCKED_OR_IO: i32 = 4;

/// A folder for one test. The store is in it, beside the files to store.
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

    /// Creates a place whose store holds `contents`, which the library has put.
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

    /// Puts the numbers from 0 on, in segments of a few numbers each.
    fn put_numbers(&self, count: u32) {
        let store = Options::new().segment_bytes_max(64).open(self.store());
        let store = store.unwrap();
        for number in 0..count {
            store.put(number.to_le_bytes()).unwrap();
        }
        store.close().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Returns the command, set up to run in this folder, so that names in the output are short.
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
        Ran::of(self.command(arguments).write_stdin(input).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// Runs a shell script in this folder, in which `$0` is the program. Returns `None` if the script
    /// ends with 77, which means that this system or user cannot run it.
    #[cfg(unix)]
    fn run_script(&self, script: &str) -> Option<Ran> {
        self.run_script_as(&["sh"], script)
    }

    /// Does the same through another program, such as `unshare`.
    #[cfg(unix)]
    fn run_script_as(&self, launcher: &[&str], script: &str) -> Option<Ran> {
        let output = std::process::Command::new(launcher[0])
            .args(&launcher[1..])
            .args(["-c", script, env!("CARGO_BIN_EXE_sealstone")])
            .current_dir(self.folder.path())
            .env("SEALSTONE_STORE", self.store())
            .output()
            .ok()?;
        let ran = Ran::of(output);
        (ran.code != 77).then_some(ran)
    }

    fn has(&self, content: &[u8]) -> bool {
        self.run(&["has", "-q", &hex(content)]).code == DONE
    }

    /// Returns every file of the store with its content.
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
    fn of(output: std::process::Output) -> Self {
        Self {
            code: output
                .status
                .code()
                .expect("the program was not killed by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// Expects this exit code and an error that begins with the name of the program, or with `--json`
    /// is an object, and contains each of `parts`.
    #[track_caller]
    fn fails(self, code: i32, parts: &[&str]) -> Self {
        let ran = self.expect(code);
        let begins = ["sealstone: ", "{\"error\":"];
        let has_begin = begins.iter().any(|begin| ran.stderr.starts_with(begin));
        assert!(has_begin, "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "no `{part}` in: {}", ran.stderr);
        }
        ran
    }
}

fn hex(content: &[u8]) -> String {
    Digest::of(content).to_string()
}

/// Parses a JSON value a line.
fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
