//! `check`: compares files with the digests that `put` printed for them.

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use indicatif::ProgressBar;
use rayon::prelude::*;
use sealstone::HashFunction;
use serde::Serialize;

use crate::args::{CheckArguments, Global};
use crate::batch::{self, Batch};
use crate::checksum_line::{self, Expected};
use crate::exit::{Exit, Failure};
use crate::messages::Messages;
use crate::output::{Output, count};
use crate::progress;
use crate::sources::Source;

pub fn run(
    arguments: &CheckArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let list = checksum_line::read(&arguments.list)?;
    let reads_input = list.iter().any(|file| Source::is_stdin(&file.path));
    if reads_input && Source::is_stdin(&arguments.list) {
        let text = "standard input cannot be the list and a file of the list; nothing was checked; \
                    write the list to a file";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let function = hash_function(arguments, global)?;
    batch::start_threads()?;
    let mut check = Check {
        function,
        is_quiet: arguments.quiet,
        json: global.json,
        messages: global.messages(),
        output,
        bar: progress::spinner("{spinner} checking {msg} {elapsed}"),
        summary: Summary::default(),
    };
    check.all(list)?;
    check.bar.finish_and_clear();
    check.summary.report(arguments.quiet, global.messages())
}

/// Returns the function that was asked for, or that of the store if one was named.
fn hash_function(arguments: &CheckArguments, global: &Global) -> anyhow::Result<HashFunction> {
    Ok(match (arguments.hash, &global.store) {
        (Some(function), _) => function,
        (None, Some(_)) => global.open_to_read()?.hash_function(),
        (None, None) => HashFunction::default(),
    })
}

struct Check<'a> {
    function: HashFunction,
    is_quiet: bool,
    json: bool,
    messages: Messages,
    output: &'a mut Output,
    bar: ProgressBar,
    summary: Summary,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Failed,
    Unreadable,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    digest: String,
    path: &'a str,
    result: Outcome,
}

impl Check<'_> {
    fn all(&mut self, list: Vec<Expected>) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for file in list {
            let bytes_expected = regular_bytes(&file.path);
            if batch.is_full_for(bytes_expected) {
                self.batch(batch.take())?;
            }
            batch.push((file, bytes_expected), bytes_expected);
        }
        self.batch(batch.take())
    }

    fn batch(&mut self, files: Vec<(Expected, u64)>) -> anyhow::Result<()> {
        let (expected, sources): (Vec<_>, Vec<_>) = files
            .into_iter()
            .map(|(Expected { digest, path }, bytes_expected)| {
                (
                    digest,
                    Source {
                        path,
                        bytes_expected: Some(bytes_expected),
                    },
                )
            })
            .unzip();
        let contents: Vec<_> = sources.par_iter().map(Source::read).collect();
        let hashed = batch::hash(self.function, &contents);
        // If both go to the same terminal, the bar must not end up between the lines.
        self.bar.clone().suspend(|| {
            for ((digest, source), hashed) in expected.iter().zip(&sources).zip(hashed) {
                let outcome = match hashed {
                    Ok(hashed) if hashed.digest() == digest => Outcome::Ok,
                    Ok(_) => Outcome::Failed,
                    Err(error) => {
                        self.messages.error(error);
                        Outcome::Unreadable
                    }
                };
                self.summary.add(outcome);
                self.print(digest, &source.path, outcome)?;
            }
            anyhow::Ok(self.output.flush()?)
        })?;
        self.bar.set_message(count(self.summary.files, "file"));
        Ok(())
    }

    fn print(&mut self, digest: &impl Display, path: &Path, result: Outcome) -> anyhow::Result<()> {
        if self.is_quiet && result == Outcome::Ok {
            return Ok(());
        }
        if self.json {
            return self.output.json(&Line {
                digest: digest.to_string(),
                path: &path.to_string_lossy(),
                result,
            });
        }
        let (mark, mut line) = checksum_line::escaped(path);
        line.splice(..0, mark.bytes());
        line.extend_from_slice(match result {
            Outcome::Ok => b": OK\n",
            Outcome::Failed => b": FAILED\n",
            Outcome::Unreadable => b": FAILED open or read\n",
        });
        self.output.names(&line)
    }
}

/// Returns the size of a regular file, and 0 for everything else, which may not be there.
fn regular_bytes(path: &Path) -> u64 {
    let metadata = fs::metadata(path).ok();
    let regular = metadata.filter(fs::Metadata::is_file);
    regular.map_or(0, |metadata| metadata.len())
}

#[derive(Clone, Copy, Default, Serialize)]
struct Summary {
    files: u64,
    ok: u64,
    failed: u64,
    unreadable: u64,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.files += 1;
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unreadable => self.unreadable += 1,
        }
    }

    fn report(self, is_quiet: bool, messages: Messages) -> anyhow::Result<Exit> {
        if !is_quiet || self.ok < self.files {
            messages.summary(&self, || self.text())?;
        }
        Ok(if self.failed > 0 {
            Exit::Damaged
        } else if self.unreadable > 0 {
            Exit::Io
        } else {
            Exit::Done
        })
    }

    fn text(self) -> String {
        let mut text = format!("{}: {} OK", count(self.files, "file"), self.ok);
        for (number, what) in [(self.failed, "failed"), (self.unreadable, "not read")] {
            if number > 0 {
                text = format!("{text}, {number} {what}");
            }
        }
        if self.failed > 0 {
            text.push_str(
                "; a file failed if it was changed since its line was printed, or if its line was \
                 printed by another hash function: `get DIGEST -o FILE` writes the old content, and \
                 --hash names the function",
            );
        } else if self.unreadable > 0 {
            text.push_str("; see above, then check those again");
        }
        text
    }
}
