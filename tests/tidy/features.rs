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
    names.filter(|name| name != "default").collect()
}

/// The names in the first column of the table that begins with the row of titles.
fn rows(page: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let lines = page.lines().map(|line| line.trim_start_matches("//! "));
    let table = lines.skip_while(|line| !line.starts_with("| feature |"));
    let rows = table.skip(2).take_while(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect()
}

#[test]
fn every_feature_is_in_the_guide_and_in_the_readme_and_no_other() {
    let features = features();
    assert!(features.len() > 5, "{features:?}");
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    for page in ["src/lib.rs", "README.md"] {
        assert_eq!(sorted(rows(page)), sorted(features.clone()), "{page}");
    }
}
