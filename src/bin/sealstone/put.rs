//! `put`: stores files, and prints their digests as `b2sum` and `sha256sum` do.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use rayon::prelude::*;
use sealstone::{Digest, Hashed, Store};
use serde::Serialize;

use crate::args::{Global, PutArguments};
use crate::batch::{self, Batch};
use crate::checksum_line;
use crate::exit::{Exit, Failure, describe};
use crate::output::{Output, complain, count, say, size};
use crate::progress;
use crate::sources::{Found, Source, Sources, unreadable};

pub fn run(arguments: &PutArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    if !arguments.recursive {
        refuse_folders(&arguments.paths)?;
    }
    batch::start_threads()?;
    let store = global.open_or_create(arguments.hash, arguments.waiting)?;
    let bar = if arguments.recursive {
        progress::spinner("{spinner} storing {msg} {elapsed}")
    } else {
        ProgressBar::hidden()
    };
    let sources = Sources::new(&arguments.paths, store.root());
    let mut put = Put {
        store: &store,
        json: global.json,
        output,
        bar,
        batch: Batch::default(),
        summary: Summary::default(),
    };
    let stored = put.all(sources);
    put.bar.finish_and_clear();
    let summary = put.summary;
    // After an error the buffered objects are still worth writing, though no line depends on them.
    let closed = store.close();
    let done = stored.and_then(|()| Ok(closed?));
    if let Err(error) = &done {
        complain(describe(error));
    }
    summary.report(&done, global.json)
}

/// Refuses a folder before anything is stored, because the command line is wrong.
fn refuse_folders(paths: &[PathBuf]) -> Result<(), Failure> {
    match paths.iter().find(|path| path.is_dir()) {
        None => Ok(()),
        Some(folder) => Err(Failure::Usage(format!(
            "{} is a folder; nothing was stored; pass -r to store everything below it",
            folder.display()
        ))),
    }
}

struct Put<'a> {
    store: &'a Store,
    json: bool,
    output: &'a mut Output,
    bar: ProgressBar,
    batch: Batch<Source>,
    summary: Summary,
}

/// A file whose content is in the store.
struct Stored<'a> {
    digest: Digest,
    path: &'a Path,
    bytes: usize,
    new: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    digest: String,
    path: &'a str,
    bytes: usize,
    new: bool,
}

impl Put<'_> {
    fn all(&mut self, sources: Sources<'_>) -> anyhow::Result<()> {
        for found in sources {
            match found {
                Found::Source(source) => self.enqueue(source)?,
                Found::Skipped { path, reason } => {
                    self.summary.skipped += 1;
                    let path = path.display();
                    self.complain(&format!("skipped {path}: {reason}"));
                }
                Found::Unreadable { path, error } => {
                    self.summary.failed += 1;
                    self.complain(&unreadable(&path, &error).to_string());
                }
            }
        }
        self.store_batch()
    }

    fn enqueue(&mut self, source: Source) -> anyhow::Result<()> {
        let bytes_expected = source.bytes_expected;
        if self.batch.is_full_for(bytes_expected) {
            self.store_batch()?;
        }
        self.batch.push(source, bytes_expected);
        Ok(())
    }

    fn store_batch(&mut self) -> anyhow::Result<()> {
        let batch = self.batch.take();
        let contents: Vec<_> = batch.par_iter().map(Source::read).collect();
        let hashed = batch::hash(self.store.hash_function(), &contents);
        let mut stored = Vec::with_capacity(batch.len());
        let put = batch.iter().zip(&hashed).try_for_each(|(source, hashed)| {
            match hashed {
                Ok(hashed) => stored.push(self.put(&source.path, hashed)?),
                Err(error) => {
                    self.summary.failed += 1;
                    self.complain(&describe(error));
                }
            }
            anyhow::Ok(())
        });
        // The objects before an error are stored and get their lines; the error is reported first.
        let printed = self.sync_and_print(&stored);
        put.and(printed)
    }

    fn put<'a>(&self, path: &'a Path, hashed: &Hashed<'_>) -> anyhow::Result<Stored<'a>> {
        let put = self.store.put_hashed(hashed);
        Ok(Stored {
            digest: *hashed.digest(),
            path,
            bytes: hashed.content().len(),
            new: put.with_context(|| path.display().to_string())?,
        })
    }

    /// Syncs, then prints the lines: a line says that every process can read the object, and that it
    /// survives a power failure. If the sync fails, these objects get no lines, though some may be
    /// stored.
    fn sync_and_print(&mut self, stored: &[Stored<'_>]) -> anyhow::Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        self.store.sync()?;
        // If both go to the same terminal, the bar must not end up between the lines.
        self.bar.clone().suspend(|| {
            stored.iter().try_for_each(|stored| self.print(stored))?;
            anyhow::Ok(self.output.flush()?)
        })?;
        for stored in stored {
            self.summary.add(stored);
        }
        let files = HumanCount(self.summary.files);
        let bytes = HumanBytes(self.summary.bytes);
        self.bar.set_message(format!("{files} files, {bytes}"));
        Ok(())
    }

    fn print(&mut self, stored: &Stored<'_>) -> anyhow::Result<()> {
        if self.json {
            return self.output.json(&Line {
                digest: stored.digest.to_string(),
                path: &stored.path.to_string_lossy(),
                bytes: stored.bytes,
                new: stored.new,
            });
        }
        let line = checksum_line::format(&stored.digest, stored.path);
        Ok(self.output.write_all(&line)?)
    }

    fn complain(&self, message: &str) {
        self.bar.suspend(|| complain(message));
    }
}

/// The figures of the last line. All but `failed` and `skipped` count only files with a line.
#[derive(Clone, Copy, Default, Serialize)]
struct Summary {
    files: u64,
    bytes: u64,
    new: u64,
    already_stored: u64,
    failed: u64,
    skipped: u64,
}

impl Summary {
    fn add(&mut self, stored: &Stored<'_>) {
        self.files += 1;
        self.bytes += stored.bytes as u64;
        if stored.new {
            self.new += 1;
        } else {
            self.already_stored += 1;
        }
    }

    fn report(self, done: &anyhow::Result<()>, json: bool) -> anyhow::Result<Exit> {
        let complete = done.is_ok();
        if json {
            let summary = self;
            say(serde_json::to_string(&Report { summary, complete })?);
        } else {
            self.print(complete);
        }
        Ok(match done {
            Err(error) => Exit::of(error),
            Ok(()) if self.failed > 0 => Exit::Io,
            Ok(()) => Exit::Done,
        })
    }

    fn print(self, complete: bool) {
        let (files, bytes) = (count(self.files, "file"), size(self.bytes));
        let (new, already_stored) = (HumanCount(self.new), HumanCount(self.already_stored));
        let mut text = format!("{files}, {bytes}: {new} new, {already_stored} already stored");
        if self.skipped > 0 {
            text = format!("{text}, {} skipped", HumanCount(self.skipped));
        }
        if self.failed > 0 {
            let failed = HumanCount(self.failed);
            text = format!("{text}, {failed} not stored; see above, then put those again");
        }
        if !complete {
            text = format!(
                "{text}; stopped by the error above: every line that was printed counts, mend the \
                 cause and put the others again"
            );
        }
        complain(text);
    }
}

/// The summary of `--json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    /// Whether every file was tried.
    complete: bool,
}
