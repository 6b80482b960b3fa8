//! The test program as a process of its own.

use std::env;
#[cfg(target_os = "linux")]
use std::os::unix::{fs::chown, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[cfg(target_os = "linux")]
use crate::common::layout::copy_this_program;

const FOLDER: &str = "SEALSTONE_LIMITED_FOLDER";

/// Returns the folder in which a child works, or `None` in an ordinary test run.
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
    output_of(command, test, folder)
}

/// Runs one test as a user without rights if this one is root, whom some limits do not bind.
#[cfg(target_os = "linux")]
pub fn run_as_nobody(test: &str, folder: &Path) -> Output {
    const NOBODY: u32 = 65534;
    let mut program = env::current_exe().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // The user "nobody" may not see every folder.
        let copy = folder.join("program");
        copy_this_program(&copy);
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        program = copy;
    }
    let mut command = Command::new(program);
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    output_of(command, test, folder)
}

/// Runs one test of the program with `command`, and returns its output.
fn output_of(mut command: Command, test: &str, folder: &Path) -> Output {
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
    // These lines are the findings of the child.
    for line in said.lines().filter(|line| line.starts_with("found: ")) {
        eprintln!("{line}");
    }
}
