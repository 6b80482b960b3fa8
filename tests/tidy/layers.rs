//! Which module may use which, and what only one of them may do.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top down. Each may use those below it, and none above.
const LAYERS: [&str; 20] = [
    "store",
    "compaction",
    "verify",
    "recovery",
    "scan",
    "indexing",
    "segment_set",
    "object",
    "run",
    "segment",
    "options",
    "dir",
    "memory",
    "format",
    "error",
    "digest",
    "threads",
    "looks",
    "sync",
    "lib",
];

/// Every source file of the library with the module it belongs to.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("bin") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).unwrap();
                let module = below.components().next().unwrap().as_os_str();
                let module = Path::new(module).file_stem().unwrap();
                sources.push((module.to_str().unwrap().to_owned(), path));
            }
        }
    }
    assert!(sources.len() > 20, "{}", sources.len());
    sources
}

/// The code of a file without its comments and without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    code.lines()
        .filter(|line| !is_comment(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn imports_run_downward() {
    let layer = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for (module, path) in sources() {
        if module == "lib" {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{module} has no layer"));
        for used in code(&path).split("crate::").skip(1) {
            let used: String = used
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            // `crate::Store` in an option's signature is the one name from above.
            if let Some(below) = layer(&used) {
                assert!(own <= below, "{} uses {used}", path.display());
            }
        }
    }
}

#[test]
fn dir_memory_and_format_do_not_know_each_other() {
    for (module, path) in sources() {
        if ["dir", "memory", "format"].contains(&module.as_str()) {
            for other in ["dir", "memory", "format"]
                .iter()
                .filter(|other| **other != module)
            {
                let import = format!("crate::{other}");
                assert!(
                    !code(&path).contains(&import),
                    "{} uses {other}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_memory_only() {
    for (module, path) in sources() {
        let has_unsafe = code(&path).split_whitespace().any(|word| word == "unsafe");
        assert!(!has_unsafe || module == "memory", "{}", path.display());
    }
}

#[test]
fn every_change_on_disk_goes_through_dir() {
    let changes = [
        "fs::write",
        "fs::rename",
        "fs::remove",
        "fs::create_dir",
        "fs::hard_link",
        "File::create",
        ".set_len(",
        ".sync_all(",
        ".sync_data(",
        "OpenOptions",
    ];
    for (module, path) in sources() {
        for change in changes {
            let changes = code(&path).contains(change);
            assert!(
                !changes || module == "dir",
                "{} in {}",
                change,
                path.display()
            );
        }
    }
}
