//! Which module may use which, and what only one of them may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top down. Each may use those below it, and none above.
const LAYERS: [&str; 23] = [
    // Examples, which are compiled as tests.
    "guide",
    "remote",
    "store",
    "engine",
    "compaction",
    "verify",
    "recovery",
    "scan",
    "file_order",
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
    "visits",
    "sync",
];

/// Longest that a source file may be without its unit tests, in lines.
const LINES_MAX: usize = 420;

struct Source {
    /// The folder or file of `src/` that it belongs to.
    module: String,
    path: PathBuf,
    /// The lines that are neither comments nor unit tests.
    code: String,
    /// All lines but those of unit tests.
    lines: usize,
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let below = path.strip_prefix(root).unwrap();
        let module = Path::new(below.components().next().unwrap().as_os_str());
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        Self {
            module: module.file_stem().unwrap().to_str().unwrap().to_owned(),
            code: text.lines().filter(is_code).collect::<Vec<_>>().join("\n"),
            lines: text.lines().count(),
            path,
        }
    }

    fn name(&self) -> &str {
        self.path.file_stem().unwrap().to_str().unwrap()
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// The modules that it declares only for tests.
    fn test_modules(&self) -> Vec<PathBuf> {
        let folder = match self.name() {
            "mod" | "lib" => self.folder().to_owned(),
            name => self.folder().join(name),
        };
        let lines: Vec<&str> = self.code.lines().collect();
        let is_for_tests = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
        let pairs = lines.windows(2).filter(|pair| is_for_tests(pair[0]));
        let declared = pairs.filter_map(|pair| {
            let declared = pair[1].trim_start_matches("pub(crate) ");
            declared.strip_prefix("mod ")?.strip_suffix(';')
        });
        declared.map(|module| folder.join(module)).collect()
    }

    /// The names that follow `prefix` in the code.
    fn names_after(&self, prefix: &str) -> Vec<String> {
        let parts = self.code.split(prefix).skip(1);
        let name = |part: &str| {
            let letters = part.chars();
            letters
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        parts.map(name).collect()
    }
}

/// Every source file of the library that is not only for tests.
fn sources() -> Vec<Source> {
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
                sources.push(Source::read(&root, path));
            }
        }
    }
    let tests: Vec<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &Path| {
        tests
            .iter()
            .any(|test| path.with_extension("") == *test || path.starts_with(test))
    };
    sources.retain(|source| !is_test(&source.path));
    assert!(sources.len() > 80, "{}", sources.len());
    sources
}

#[test]
fn imports_run_downward() {
    let layer = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for source in sources() {
        if source.name() == "lib" {
            continue;
        }
        let own = layer(&source.module).unwrap_or_else(|| panic!("{} has no layer", source.module));
        for used in source.names_after("crate::") {
            let path = source.path.display();
            let below = layer(&used).unwrap_or_else(|| panic!("{path} uses crate::{used}"));
            assert!(own <= below, "{path} uses {used}");
        }
    }
}

/// Within a folder too: no two files import each other, neither at once nor by way of others.
#[test]
fn files_of_a_folder_import_each_other_without_a_circle() {
    let sources = sources();
    for folder in sources.iter().map(Source::folder).collect::<BTreeSet<_>>() {
        let files = sources.iter().filter(|source| source.folder() == folder);
        let files = files.filter(|source| !["mod", "lib"].contains(&source.name()));
        let mut imports: BTreeMap<&str, BTreeSet<String>> = files
            .map(|source| {
                (
                    source.name(),
                    source.names_after("super::").into_iter().collect(),
                )
            })
            .collect();
        // A file that imports none of those that are left is in no circle.
        while !imports.is_empty() {
            let is_free = |used: &BTreeSet<String>| {
                used.iter().all(|used| !imports.contains_key(used.as_str()))
            };
            let free = imports.iter().find(|(_, used)| is_free(used));
            let Some((&free, _)) = free else {
                panic!("{}: a circle in {imports:?}", folder.display());
            };
            imports.remove(free);
        }
    }
}

#[test]
fn no_source_file_is_too_long() {
    let sources = sources();
    let long = sources.iter().filter(|source| source.lines > LINES_MAX);
    let long: Vec<_> = long.map(|source| (&source.path, source.lines)).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn dir_memory_and_format_do_not_know_each_other() {
    for Source {
        module, path, code, ..
    } in sources()
    {
        if ["dir", "memory", "format"].contains(&module.as_str()) {
            for other in ["dir", "memory", "format"]
                .iter()
                .filter(|other| **other != module)
            {
                let import = format!("crate::{other}");
                assert!(!code.contains(&import), "{} uses {other}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_memory_and_in_one_kernel_only() {
    for Source {
        module, path, code, ..
    } in sources()
    {
        let has_unsafe = code.split_whitespace().any(|word| word == "unsafe");
        let is_allowed = module == "memory" || path.ends_with("digest/blake2b/avx512.rs");
        assert!(!has_unsafe || is_allowed, "{}", path.display());
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
    for Source {
        module, path, code, ..
    } in sources()
    {
        for change in changes {
            let changes = code.contains(change);
            assert!(
                !changes || module == "dir",
                "{} in {}",
                change,
                path.display()
            );
        }
    }
}
