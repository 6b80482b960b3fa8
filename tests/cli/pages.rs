//! `completions` and `man`: shells load the scripts, and the pages have every command and option.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::help::COMMANDS;
use crate::{DONE, Place, USAGE};

/// Runs a program with this standard input. Returns `None` if the program is not installed.
fn run(program: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program[0])
        .args(&program[1..])
        // `man` complains of a locale that is not installed.
        .env("LC_ALL", "C")
        .env("MANWIDTH", "80")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no {} here", program[0]);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{program:?}: {output:?}");
    Some(output)
}

fn printed(arguments: &[&str]) -> String {
    let ran = Place::new().run(arguments).expect(DONE);
    assert_eq!(ran.stderr, "");
    ran.stdout
}

#[test]
fn bash_completes_commands_and_options() {
    let script = printed(&["completions", "bash"]);
    for (words, expected) in [
        ("sealstone checkp", "checkpoint"),
        ("sealstone verify --rem", "--remove-leftovers"),
        ("sealstone put --sto", "--store"),
    ] {
        let word = words.rsplit(' ').next().unwrap();
        let index = words.split(' ').count() - 1;
        let complete = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={index}\n\
             _sealstone sealstone '{word}' '' || exit\necho \"${{COMPREPLY[@]}}\"\n"
        );
        let Some(output) = run(&["bash", "--norc", "-s"], &complete) else {
            return;
        };
        let completed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(completed.trim(), expected, "{words}");
    }
}

#[test]
fn every_shell_reads_its_script() {
    for shell in [
        &["bash", "-n"][..],
        &["zsh", "-n"],
        &["fish", "--no-execute"],
        &["elvish", "-compileonly", "/dev/stdin"],
    ] {
        let script = printed(&["completions", shell[0]]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell:?}: {command}");
        }
        run(shell, &script);
    }
    let ran = Place::new().run(&["completions", "tcsh"]);
    ran.fails(USAGE, &["invalid value 'tcsh'", "bash"]);
}

#[test]
fn zsh_loads_its_script_and_fish_completes_with_its_own() {
    let zsh = "autoload -U compinit; compinit -u -D; source /dev/stdin; print -r $_comps[sealstone]
        whence -w _sealstone";
    let script = printed(&["completions", "zsh"]);
    if let Some(output) = run(&["zsh", "-f", "-c", zsh], &script) {
        let registered = String::from_utf8(output.stdout).unwrap();
        assert_eq!(registered, "_sealstone\n_sealstone: function\n");
    }
    let script = printed(&["completions", "fish"]);
    for (words, expected) in [
        ("sealstone checkp", "checkpoint\t"),
        ("sealstone verify --rem", "--remove-leftovers\t"),
        ("sealstone put --sto", "--store\t"),
    ] {
        let fish = format!("source -; complete -C '{words}'");
        let Some(output) = run(&["fish", "--no-config", "-c", &fish], &script) else {
            return;
        };
        let completed = String::from_utf8(output.stdout).unwrap();
        assert!(completed.starts_with(expected), "{words}: {completed}");
    }
}

/// [`run`] refuses every word on standard error.
#[test]
fn no_page_gives_a_warning() {
    let pages = COMMANDS.iter().chain(&["check", "completions", "man"]);
    for command in pages.copied().map(Some).chain([None]) {
        let arguments: Vec<&str> = ["man"].into_iter().chain(command).collect();
        let page = printed(&arguments);
        run(&["groff", "-ww", "-man", "-z"], &page);
        if let Some(output) = run(&["man", "--warnings", "-l", "-"], &page) {
            assert!(!output.stdout.is_empty(), "{command:?}");
        }
    }
}

#[test]
fn the_manual_names_every_command_and_each_has_a_page() {
    let page = printed(&["man"]);
    for command in COMMANDS.iter().chain(&["completions", "man"]) {
        let name = format!("sealstone\\-{command}(1)");
        assert!(page.contains(&name), "{command}");
        let page = printed(&["man", command]);
        assert!(page.contains(&format!("sealstone\\-{command}")), "{page}");
        assert!(page.contains("\nExamples:\n"), "{page}");
        assert!(page.contains("\\-\\-store"), "{page}");
        assert!(page.contains("SEALSTONE_STORE"), "{page}");
    }
    let ran = Place::new().run(&["man", "frobnicate"]);
    ran.fails(USAGE, &["frobnicate", "`sealstone -h` lists them"]);
}

#[test]
fn groff_sets_the_pages_and_leaves_examples_and_json_as_they_are() {
    for command in [None, Some("put"), Some("verify"), Some("man")] {
        let arguments: Vec<&str> = ["man"].into_iter().chain(command).collect();
        let page = printed(&arguments);
        let groff = ["groff", "-man", "-ww", "-Tascii", "-P-cbou"];
        let Some(output) = run(&groff, &page) else {
            return;
        };
        let shown = String::from_utf8(output.stdout).unwrap();
        let shown: Vec<_> = shown.lines().map(str::trim).collect();
        let help: Vec<&str> = command.into_iter().chain(["--help"]).collect();
        let help = printed(&help);
        let (_, details) = help.split_once("\nExamples:\n").unwrap();
        for line in details.lines().filter(|line| line.starts_with(' ')) {
            assert!(shown.contains(&line.trim()), "no `{line}` in {shown:#?}");
        }
    }
}

#[test]
fn a_script_and_a_page_have_no_json() {
    for arguments in [&["completions", "bash", "--json"][..], &["man", "--json"]] {
        let ran = Place::new().run(arguments);
        ran.fails(USAGE, &["leave --json out"]);
    }
}
