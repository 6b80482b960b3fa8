//! The test program as a process of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FOLDER: &str = "SEALSTONE_LIMITED_FOLDER";

/// What a child is to work in; `None` in an ordinary test run.
pub fn folder_of_child() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs one test in a process that `sh -c` sets up first: `setup` ends with `exec "$0" "$@"`.
pub fn run(launcher: &[&str], setup: &str, test: &str, folder: &Path) -> Output {
    let (program, arguments) = launcher.split_first().unwrap_or((&"sh", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    if !launcher.is_empty() {
        command.arg("sh");
    }
    command.args(["-c", setup]).arg(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(FOLDER, folder).env("RUST_BACKTRACE", "0");
    command.output().unwrap()
}

#[track_caller]
pub fn assert_success(output: &Output) {
    let (out, err) = (&output.stdout, &output.stderr);
    let said = [String::from_utf8_lossy(out), String::from_utf8_lossy(err)].join("\n");
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains("1 passed"), "{said}");
    // What the child found out.
    for line in said.lines().filter(|line| line.starts_with("found: ")) {
        eprintln!("{line}");
    }
}
