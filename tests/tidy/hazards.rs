//! The table of hazards in `tests/README.md` and the tests that are named after them.
//!
//! The page says what must happen; the names of the tests below it come from the source. After a
//! test was added, renamed or removed, `SEALSTONE_HAZARDS=write cargo test --test tidy` writes them
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use crate::{all_code, root};

/// Surround the table in the page.
const BEGIN: &str = "```text\nH1 ";
const END: &str = "```\n";

/// Longest line of the table: it is read in terminals.
const COLUMNS: usize = 100;

/// The hazards. The numbers in between are not used.
fn hazards() -> impl Iterator<Item = u32> {
    (1..=18).chain(20..=35).chain(40..=47).chain(50..=79)
}

/// The hazards in the name of a test: 5 and 17 for `h5_h17_a_writer_survives`.
fn numbers(test: &str) -> Vec<u32> {
    let number = |word: &str| word.strip_prefix('h')?.parse().ok();
    test.split('_').map_while(number).collect()
}

/// The names of all tests that begin with the number of a hazard.
fn numbered_tests() -> BTreeSet<String> {
    let code = all_code();
    let name = |test: &str| {
        let (_, function) = test.split_once("fn ")?;
        Some(function.split_once('(')?.0.to_owned())
    };
    let tests = code.split("#[test]").skip(1).filter_map(name);
    tests.filter(|test| !numbers(test).is_empty()).collect()
}

fn page_path() -> PathBuf {
    root().join("tests/README.md")
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
    let mut lines = Vec::new();
    for (number, heading) in headings(table) {
        lines.push(heading.to_owned());
        let is_its = |test: &&String| numbers(test).contains(&number);
        let names = tests.iter().filter(is_its);
        lines.extend(names.map(|test| format!("     {test}")));
    }
    lines.join("\n") + "\n"
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
