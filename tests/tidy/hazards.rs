//! The table of hazards in `tests/README.md` and the tests that are named after them.
//!
//! The page says what must happen; the names of the tests below it come from the source. After a
//! test was added, renamed or removed, `SEALSTONE_HAZARDS=write cargo test --test tidy` writes them
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Surround the table in the page.
const BEGIN: &str = "```text\nH1 ";
const END: &str = "```\n";

/// Longest line of the table: it is read in terminals.
const COLUMNS: usize = 100;

/// The hazards. The numbers in between are not used.
fn hazards() -> impl Iterator<Item = u32> {
    (1..=18).chain(20..=35).chain(40..=45).chain(50..=69)
}

/// The hazards in the name of a test: 5 and 17 for `h5_h17_a_writer_survives`.
fn numbers(test: &str) -> Vec<u32> {
    let number = |word: &str| word.strip_prefix('h')?.parse().ok();
    test.split('_').map_while(number).collect()
}

/// The names of all tests that begin with the number of a hazard.
fn numbered_tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(tests_in(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    names.retain(|name| !numbers(name).is_empty());
    names
}

fn tests_in(code: &str) -> impl Iterator<Item = String> {
    code.split("#[test]").skip(1).filter_map(|test| {
        let (_, function) = test.split_once("fn ")?;
        let (name, _) = function.split_once('(')?;
        Some(name.to_owned())
    })
}

fn page_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md")
}

/// The page before, in and after the table.
fn page() -> [String; 3] {
    let page = fs::read_to_string(page_path()).unwrap().replace('\r', "");
    let begin = page.find(BEGIN).expect("the page has the table") + "```text\n".len();
    let (before, rest) = page.split_at(begin);
    let (table, after) = rest.split_at(rest.find(END).expect("the table has an end"));
    [before, table, after].map(String::from)
}

/// What must happen, by the number of the hazard: the lines of the table that are not indented.
fn headings(table: &str) -> BTreeMap<u32, &str> {
    let heading = |line: &str| -> u32 {
        let number = line
            .strip_prefix('H')
            .and_then(|line| line.split(' ').next());
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("not a hazard: {line}"))
    };
    let lines = table.lines().filter(|line| !line.starts_with(' '));
    lines.map(|line| (heading(line), line)).collect()
}

/// The table with the headings of the page and the tests that exist.
fn generated(table: &str, tests: &BTreeSet<String>) -> String {
    let mut generated = String::new();
    for (number, heading) in headings(table) {
        generated += &format!("{heading}\n");
        for test in tests.iter().filter(|test| numbers(test).contains(&number)) {
            generated += &format!("     {test}\n");
        }
    }
    generated
}

#[test]
fn every_hazard_has_a_test_and_every_number_is_a_hazard() {
    let tests = numbered_tests();
    let tested: BTreeSet<u32> = tests.iter().flat_map(|test| numbers(test)).collect();
    assert_eq!(tested, hazards().collect());
}

#[test]
fn the_page_has_every_hazard_with_its_tests_and_no_other() {
    let [before, table, after] = page();
    let described: Vec<u32> = headings(&table).into_keys().collect();
    assert_eq!(described, hazards().collect::<Vec<_>>());

    let generated = generated(&table, &numbered_tests());
    let too_long = generated
        .lines()
        .find(|line| line.chars().count() > COLUMNS);
    assert_eq!(too_long, None, "more than {COLUMNS} columns");

    if env::var_os("SEALSTONE_HAZARDS").is_some_and(|mode| mode == "write") {
        fs::write(page_path(), before + &generated + &after).unwrap();
        return;
    }
    let is_other = |lines: &(&str, &str)| lines.0 != lines.1;
    let first_difference = table.lines().zip(generated.lines()).find(is_other);
    assert!(
        table == generated,
        "`SEALSTONE_HAZARDS=write cargo test --test tidy` mends the page, {first_difference:?}"
    );
}
