//! What the pages name exists: the files behind their links, the source files, the test programs of
//! their commands, and the variables that make the tests run more cases.

use std::fs;
use std::path::Path;

use crate::{all_code, root};

const PAGES: [&str; 4] = [
    "README.md",
    "benches/README.md",
    "fuzz/README.md",
    "tests/README.md",
];

/// Each page with the folder that its links start from.
fn pages() -> impl Iterator<Item = (&'static Path, String)> {
    PAGES.iter().map(|page| {
        let text = fs::read_to_string(root().join(page)).unwrap();
        (Path::new(page).parent().unwrap(), text)
    })
}

/// The words behind each `mark`, up to white space or whatever ends a name.
fn words_behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    let is_end = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let word = move |rest: &'a str| rest.split(is_end).next().unwrap();
    text.split(mark).skip(1).map(word)
}

#[test]
fn every_link_leads_to_a_file() {
    for (folder, text) in pages() {
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            let file = link.split('#').next().unwrap();
            if !link.starts_with("https://") && !file.is_empty() {
                let path = root().join(folder).join(file);
                assert!(path.exists(), "{}: {link}", folder.display());
            }
        }
    }
}

#[test]
fn every_source_file_exists() {
    for (folder, text) in pages() {
        let quoted = text.split('`').skip(1).step_by(2).map(Path::new);
        for file in quoted.filter(|file| file.extension().is_some_and(|rs| rs == "rs")) {
            let is_there = root().join(folder).join(file).exists() || root().join(file).exists();
            assert!(is_there, "{}: {}", folder.display(), file.display());
        }
    }
}

#[test]
fn every_program_of_tests_exists() {
    for (_, text) in pages() {
        for program in words_behind(&text, "--test ") {
            let tests = root().join("tests");
            let is_there = tests.join(program).join("main.rs").exists()
                || tests.join(program).with_extension("rs").exists();
            assert!(is_there, "tests/{program}");
        }
    }
}

#[test]
fn every_variable_is_read_by_a_test() {
    let code = all_code();
    for (_, text) in pages() {
        for name in words_behind(&text, "SEALSTONE_") {
            assert!(code.contains(&format!("\"SEALSTONE_{name}\"")), "{name}");
        }
    }
}
