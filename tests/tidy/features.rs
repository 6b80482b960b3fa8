//! The features of the package and the tables of features in the guide and in the README.

use std::fs;

use crate::root;

/// The names in the section `[features]` of `Cargo.toml`, without `default`.
fn features() -> Vec<String> {
    let package = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, section) = package.split_once("[features]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split_once(" = "));
    let names = names.map(|(name, _)| name.to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "default").collect();
    names.sort();
    names
}

/// The names in the first column of the table that begins with the row of titles, each with the number in
/// the last one.
fn rows(page: &str) -> Vec<(String, u32)> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let lines = page.lines().map(|line| line.trim_start_matches("//! "));
    let table = lines.skip_while(|line| !line.starts_with("| feature |"));
    let rows = table.skip(2).take_while(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let name = row.split('`').nth(1).unwrap().to_owned();
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let number = last.trim().split(|c: char| !c.is_ascii_digit()).next();
        (name, number.unwrap().parse().unwrap_or(0))
    });
    rows.collect()
}

#[test]
fn every_feature_is_in_the_guide_and_in_the_readme_and_no_other() {
    let features = features();
    assert!(features.len() > 5, "{features:?}");
    let [guide, readme] = ["src/lib.rs", "README.md"].map(|page| {
        let mut rows = rows(page);
        rows.sort();
        rows
    });
    assert_eq!(guide, readme);
    let mut names: Vec<String> = guide.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, features);
}
