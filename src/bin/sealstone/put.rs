//! `put`: stores files, and prints their digests as `b2sum` and `sha256sum` do.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use rayon::prelude::*;
use sealstone::{Digest, Error, HashFunction, Hashed, Store};
use serde::Serialize;

use crate::args::{Global, PutArguments};
use crate::batch::{self, Batch};
use crate::checksum_line;
use crate::exit::{Exit, Failure};
use crate::messages::Messages;
use crate::output::{Output, count, size};
use crate::progress;
use crate::sources::{Found, Source, Sources, cut_off, unreadable};
use crate::target::Target;

pub fn run(arguments: &PutArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    if !arguments.recursive {
        refuse_folders(&arguments.paths)?;
    }
    batch::start_threads()?;
    let mut put = Put {
        target: Target::open(global, arguments.hash, arguments.waiting)?,
        hash: arguments.hash,
        messages: global.messages(),
        json: global.json,
        is_quiet: arguments.quiet,
        output,
        bar: if arguments.recursive {
            progress::spinner("{spinner} storing {msg} {elapsed}")
        } else {
            ProgressBar::hidden()
        },
        batch: Batch::default(),
        link: None,
        links: 0,
        summary: Summary::default(),
    };
    let stored = put.all(Sources::new(&arguments.paths).follow_links(arguments.follow));
    put.note_links();
    put.bar.finish_and_clear();
    let summary = put.summary;
    // After an error the buffered objects are still worth writing, though no line depends on them.
    let closed = put.target.close();
    let done = stored.and_then(|()| Ok(closed?));
    if let Err(error) = &done {
        global.messages().error(error);
    }
    if !arguments.quiet || !summary.has_stored_all(&done) {
        let complete = done.is_ok();
        let report = Report { summary, complete };
        let messages = global.messages();
        messages.summary(&report, || summary.text(complete))?;
    }
    Ok(summary.exit(&done))
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
    target: Target<'a>,
    hash: Option<HashFunction>,
    messages: Messages,
    json: bool,
    is_quiet: bool,
    output: &'a mut Output,
    bar: ProgressBar,
    batch: Batch<Source>,
    /// The first symbolic link that was skipped, and the number of all.
    link: Option<PathBuf>,
    links: u64,
    summary: Summary,
}

/// A file whose content is in the store.
struct Stored<'a> {
    digest: Digest,
    path: &'a Path,
    bytes: u64,
    new: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    digest: String,
    path: &'a str,
    bytes: u64,
    new: bool,
}

impl Put<'_> {
    fn all(&mut self, mut sources: Sources<'_>) -> anyhow::Result<()> {
        while let Some(found) = sources.next_beside(self.target.existing()) {
            self.take(found)?;
        }
        self.store_batch()
    }

    fn take(&mut self, found: Found) -> anyhow::Result<()> {
        match found {
            Found::Source(source) => self.enqueue(source)?,
            Found::Link(path) => {
                self.summary.skipped += 1;
                self.links += 1;
                self.link.get_or_insert(path);
            }
            Found::Skipped { path, reason } => {
                self.summary.skipped += 1;
                self.note(&format!("skipped {}: {reason}", path.display()));
            }
            Found::Unreadable { path, error } => {
                self.fail(&unreadable(&path, &error).into());
            }
        }
        Ok(())
    }

    /// Names the links in one line, because a tree can hold thousands.
    fn note_links(&self) {
        let Some(link) = self.link.as_deref().map(Path::display) else {
            return;
        };
        self.note(&if self.links == 1 {
            format!("skipped the symbolic link {link}; name it or pass --follow to follow it")
        } else {
            let links = count(self.links, "symbolic link");
            format!("skipped {links}, such as {link}; name a link or pass --follow to follow it")
        });
    }

    fn enqueue(&mut self, source: Source) -> anyhow::Result<()> {
        if source.is_long() {
            self.store_batch()?;
            return self.store_long(&source);
        }
        let bytes_expected = source.bytes_expected.unwrap_or(0);
        if self.batch.is_full_for(bytes_expected) {
            self.store_batch()?;
        }
        self.batch.push(source, bytes_expected);
        Ok(())
    }

    fn store_batch(&mut self) -> anyhow::Result<()> {
        let batch = self.batch.take();
        let contents: Vec<_> = batch.par_iter().map(Source::read).collect();
        for error in contents.iter().filter_map(|content| content.as_ref().err()) {
            self.fail(error);
        }
        if contents.iter().all(Result::is_err) {
            return Ok(());
        }
        let store = self.store()?;
        let hashed = batch::hash(store.hash_function(), &contents);
        let mut stored = Vec::with_capacity(batch.len());
        let put = batch.iter().zip(&hashed).try_for_each(|(source, hashed)| {
            if let Ok(hashed) = hashed {
                stored.push(put(&store, &source.path, hashed)?);
            }
            anyhow::Ok(())
        });
        // The objects before an error are stored and get their lines. If the sync fails too, only the first
        // error is reported.
        let printed = self.sync_and_print(&store, &stored);
        put.and(printed)
    }

    /// Stores content that need not fit into memory.
    fn store_long(&mut self, source: &Source) -> anyhow::Result<()> {
        let path = &source.path;
        let content = match source.open_readable() {
            Ok(content) => content,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        let store = self.store()?;
        match store.put_reader(content) {
            Ok(stored) => {
                let stored = Stored {
                    digest: stored.digest,
                    path,
                    bytes: stored.bytes,
                    new: stored.is_new,
                };
                self.sync_and_print(&store, &[stored])
            }
            Err(Error::Content { source }) => {
                self.fail(&cut_off(path, &source).into());
                Ok(())
            }
            Err(error) => {
                let is_too_large = matches!(error, Error::TooLarge { .. });
                let error = anyhow::Error::from(error).context(path.display().to_string());
                if !is_too_large {
                    return Err(error);
                }
                self.fail(&error);
                Ok(())
            }
        }
    }

    /// Returns the store, which is created if it does not exist.
    fn store(&mut self) -> anyhow::Result<Store> {
        let (store, note) = self.target.get_or_create(self.hash)?;
        if let Some(note) = note {
            self.note(&note);
        }
        Ok(store)
    }

    /// Syncs, then prints the lines: a line says that every process can read the object, and that it
    /// survives a power failure. If the sync fails, these objects get no lines, though some may be
    /// stored.
    fn sync_and_print(&mut self, store: &Store, stored: &[Stored<'_>]) -> anyhow::Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        store.sync()?;
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
        self.output
            .names(&checksum_line::format(&stored.digest, stored.path))
    }

    /// Prints what is no error, unless the user wants no notes.
    fn note(&self, message: &str) {
        if !self.is_quiet {
            self.bar.suspend(|| self.messages.note(message));
        }
    }

    /// Reports an error by which a file was not stored.
    fn fail(&mut self, error: &anyhow::Error) {
        self.summary.failed += 1;
        self.error(error);
    }

    fn error(&self, error: &anyhow::Error) {
        self.bar.suspend(|| self.messages.error(error));
    }
}

fn put<'a>(store: &Store, path: &'a Path, hashed: &Hashed<'_>) -> anyhow::Result<Stored<'a>> {
    let put = store.put_hashed(hashed);
    Ok(Stored {
        digest: *hashed.digest(),
        path,
        bytes: hashed.content().len() as u64,
        new: put.with_context(|| path.display().to_string())?,
    })
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
        self.bytes += stored.bytes;
        if stored.new {
            self.new += 1;
        } else {
            self.already_stored += 1;
        }
    }

    fn has_stored_all(self, done: &anyhow::Result<()>) -> bool {
        done.is_ok() && self.failed == 0
    }

    fn exit(self, done: &anyhow::Result<()>) -> Exit {
        match done {
            Err(error) => Exit::of(error),
            Ok(()) if self.failed > 0 => Exit::Io,
            Ok(()) => Exit::Done,
        }
    }

    /// Returns the figures in words. `complete` says that every file was tried.
    fn text(self, complete: bool) -> String {
        let (files, bytes) = (count(self.files, "file"), size(self.bytes));
        let (new, already_stored) = (HumanCount(self.new), HumanCount(self.already_stored));
        let mut text = format!("{files}, {bytes}: {new} new, {already_stored} already stored");
        if self.skipped > 0 {
            text = format!("{text}, {} skipped", HumanCount(self.skipped));
        }
        if self.failed > 0 {
            let failed = HumanCount(self.failed);
            let those = if self.failed == 1 { "it" } else { "those" };
            text = format!("{text}, {failed} not stored; see above, then put {those} again");
        }
        if !complete {
            text = format!(
                "{text}; stopped by the error above: every line that was printed counts, mend the \
                 cause and put the others again"
            );
        }
        text
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
