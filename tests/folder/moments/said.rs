//! Every fault of a folder is reported: by an opening that fails, by its report, or by `verify`.

use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use sealstone::Options;

use super::life::{self, commits, digest, object, options};
use crate::common::layout::{
    Files, file, is_kind, read_files, record as data_record, scratch, write_files,
};
use crate::common::tally::Tally;

/// Returns the files of a closed store with sealed segments and an active one.
fn closed_store() -> Files {
    let folder = scratch();
    for numbers in [0..40, 40..43] {
        let store = options().open(folder.path()).unwrap();
        for number in numbers {
            store.put(object(number)).unwrap();
        }
        store.close().unwrap();
    }
    let files = read_files(folder.path());
    assert!(!is_anything_said(&options().read_only(true), folder.path()));
    files
}

/// Returns whether the opening fails, reports something, or leads to a store that does not verify.
fn is_anything_said(options: &Options, root: &Path) -> bool {
    let Ok(store) = options.open(root) else {
        return true;
    };
    let report = store.verify(|_| ControlFlow::Continue(()));
    !store.recovery().is_clean() || !report.is_ok_and(|report| report.is_clean())
}

/// Counts the ways of opening that report nothing about these files.
fn count_silent(files: &Files, what: impl fmt::Display, tally: &mut Tally) {
    let ways = [
        ("a writer", options()),
        ("a reader", options().read_only(true)),
    ];
    for (way, options) in ways {
        let folder = scratch();
        write_files(folder.path(), files);
        if !is_anything_said(&options, folder.path()) {
            let kind = format!("{way} says nothing of {what}");
            tally.count(&kind, "neither the opening nor `verify`");
        }
    }
}

/// Returns the name of the only journal.
fn journal_name(files: &Files) -> String {
    let mut names = files.keys().filter(|name| is_kind(name, "jnl"));
    names.next().expect("a journal").clone()
}

/// Returns the lines of a manifest about sealed segments.
fn sealed_lines(manifest: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(manifest);
    let lines = text.lines().filter(|line| line.starts_with("sealed "));
    lines.map(str::to_owned).collect()
}

#[test]
fn h68_an_older_manifest_that_was_put_back_is_reported() {
    let moments = life::record();
    let last = moments.last().unwrap();
    let newest = sealed_lines(&last.files["MANIFEST"]);
    let mut tally = Tally::default();
    for commit in commits(&moments) {
        let manifest = &moments[commit].files["MANIFEST"];
        // A manifest that differs only in `next` and in retired segments is what a crash leaves.
        if sealed_lines(manifest) == newest {
            continue;
        }
        let files = last.files.iter();
        let mut files: Files = files
            .map(|(name, bytes)| (name.clone(), bytes.to_vec()))
            .collect();
        files.insert("MANIFEST".to_owned(), manifest.to_vec());
        count_silent(&files, "an older manifest", &mut tally);
    }
    tally.assert_empty();
}

#[test]
fn h68_a_store_without_its_manifest_is_reported() {
    let mut files = closed_store();
    files.remove("MANIFEST").expect("a manifest");
    let mut tally = Tally::default();
    count_silent(&files, "a manifest that is missing", &mut tally);
    tally.assert_empty();
}

#[test]
fn h68_a_journal_of_rubbish_is_reported() {
    let files = closed_store();
    let name = journal_name(&files);
    let whole = files[&name].clone();
    let mut tally = Tally::default();
    let rubbish = [
        ("empty", Vec::new()),
        ("text", b"and now for something else\n".repeat(20)),
        (
            "its header, then text",
            [&whole[..8], b"and then text"].concat(),
        ),
        (
            "its frames, then text",
            [&whole[..], b"and then text"].concat(),
        ),
        (
            "another segment's header",
            [b"SSJ1\x63\0\0\0", &whole[8..]].concat(),
        ),
        ("a flipped bit in the first frame", {
            let mut bytes = whole.clone();
            bytes[20] ^= 1;
            bytes
        }),
    ];
    for (what, bytes) in rubbish {
        let mut files = files.clone();
        files.insert(name.clone(), bytes);
        count_silent(&files, format!("a journal: {what}"), &mut tally);
    }
    tally.assert_empty();
}

/// Files with our names belong to nothing. Files with other names are not ours, so nothing reports
/// them.
#[test]
fn h68_files_with_our_names_that_belong_to_nothing_are_reported() {
    let files = closed_store();
    let text = b"and now for something else\n".repeat(20);
    let sidecar = files.iter().find(|(name, _)| is_kind(name, "idx"));
    let (_, sidecar) = sidecar.expect("a sidecar");
    let journal = &files[&journal_name(&files)];
    let orphans: [(&str, &[u8]); 6] = [
        ("seg-000077.idx", &text),
        ("seg-000077.idx", sidecar),
        ("seg-000077.jnl", &text),
        ("seg-000077.jnl", journal),
        ("set-000077.run", &text),
        ("seg-000000.jnl", &text),
    ];
    let mut tally = Tally::default();
    for (name, bytes) in orphans {
        assert!(!files.contains_key(name), "{name}");
        let mut files = files.clone();
        files.insert(name.to_owned(), bytes.to_vec());
        count_silent(
            &files,
            format!("{name} of {} bytes", bytes.len()),
            &mut tally,
        );
    }
    tally.assert_empty();
}

/// Another program may have begun to write this file, so `verify` does not complain of it for ever.
#[test]
fn h68_a_data_file_without_a_record_is_reported_by_a_writer_and_left_alone() {
    let mut files = closed_store();
    let text = b"and now for something else\n".repeat(20);
    files.insert("seg-000077.dat".to_owned(), text.clone());
    let folder = scratch();
    write_files(folder.path(), &files);
    let store = options().open(folder.path()).unwrap();
    assert!(!store.recovery().is_clean());
    store.close().unwrap();
    let kept = fs::read(file(folder.path(), "seg-000077.dat")).unwrap();
    assert!(kept == text);
}

/// A segment that no file mentions is used and reported as new.
#[test]
fn h68_a_segment_that_no_manifest_lists_is_reported() {
    let mut files = closed_store();
    files.insert("seg-000077.dat".to_owned(), data_record(&object(500)));
    let folder = scratch();
    write_files(folder.path(), &files);
    assert!(file(folder.path(), "seg-000077.dat").exists());
    let store = options().open(folder.path()).unwrap();
    let found = store.get(digest(500)).unwrap().expect("the object");
    assert!(found[..] == object(500)[..]);
    assert!(!store.recovery().is_clean());
    store.close().unwrap();
    let data = fs::read(file(folder.path(), "seg-000077.dat")).unwrap();
    assert!(data.starts_with(&data_record(&object(500))));
}
