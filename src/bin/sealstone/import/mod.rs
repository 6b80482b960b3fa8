//! `import`: copies objects into the store from a stream, from another store, or from NEDB's files.

mod nedb;
mod store;
mod stream;
mod summary;

use std::io::Read;

use indicatif::{HumanBytes, ProgressBar};
use sealstone::{Digest, Error, HashFunction, Hashed, Store};

use crate::args::{Global, ImportArguments, ImportFrom, ImportOptions};
use crate::batch;
use crate::exit::{Exit, Failure};
use crate::messages::Messages;
use crate::output::count;
use crate::progress;
use crate::sources::Source;
use crate::target::Target;

use summary::{Report, Summary};

/// The most objects of a batch, so that small ones do not fill the memory with what surrounds them.
const OBJECTS_MAX: usize = 32 << 10;

pub fn run(arguments: &ImportArguments, global: &Global) -> anyhow::Result<Exit> {
    batch::start_threads()?;
    let options = arguments.options;
    match (&arguments.from, &arguments.source) {
        (Some(ImportFrom::Nedb(nedb)), None) => nedb::run(nedb, options, global),
        (None, Some(source)) if !Source::is_stdin(source) && source.is_dir() => {
            store::run(source, options, global)
        }
        (None, Some(source)) => stream::run(source, options, global),
        _ => {
            let text = "give either a SOURCE or `nedb DIR`; nothing was stored";
            Err(Failure::Usage(text.to_owned()).into())
        }
    }
}

/// The store that gets the objects, and what has been done so far.
struct Import<'a> {
    target: Target<'a>,
    messages: Messages,
    is_quiet: bool,
    bar: ProgressBar,
    summary: Summary,
    /// What was stored and is not known to be durable.
    unsynced: Summary,
}

impl<'a> Import<'a> {
    /// Opens the store if it exists.
    fn new(options: ImportOptions, global: &'a Global) -> anyhow::Result<Self> {
        Ok(Self {
            target: Target::open(global, None, options.waiting)?,
            messages: global.messages(),
            is_quiet: options.quiet,
            bar: progress::spinner("{spinner} importing {msg} {elapsed}"),
            summary: Summary::default(),
            unsynced: Summary::default(),
        })
    }

    /// Refuses a store that names its objects by another function than `origin`, if it exists.
    fn require(&self, function: HashFunction, origin: &str) -> Result<(), Failure> {
        match self.target.existing().map(Store::hash_function) {
            Some(other) if other != function => Err(Failure::Usage(format!(
                "the store names its objects by {other}, and {origin} by {function}; nothing was \
                 stored; name a store of {function}, or a new one"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the store, which is created with this function if it does not exist.
    fn store(&mut self, function: HashFunction) -> anyhow::Result<Store> {
        let (store, note) = self.target.get_or_create(Some(function))?;
        if let Some(note) = note.filter(|_| !self.is_quiet) {
            self.bar.suspend(|| self.messages.note(note));
        }
        Ok(store)
    }

    /// Stores objects. They are counted when they are durable: after a [`sync`](Self::sync), or at the end.
    /// The store seals its segments meanwhile, so a loss of power costs those that are not sealed yet.
    fn put(&mut self, store: &Store, hashed: &[Hashed<'_>]) -> Result<(), Error> {
        if hashed.is_empty() {
            return Ok(());
        }
        let new = store.put_many_hashed(hashed)?;
        for (hashed, is_new) in hashed.iter().zip(new) {
            self.unsynced.add(hashed.content().len() as u64, is_new);
        }
        self.show();
        Ok(())
    }

    /// Stores an object that need not fit into memory.
    fn put_long(
        &mut self,
        store: &Store,
        digest: &Digest,
        content: impl Read,
    ) -> Result<(), Error> {
        let stored = store.put_reader_as(digest, content)?;
        self.unsynced.add(stored.bytes, stored.is_new);
        self.show();
        Ok(())
    }

    /// Makes durable what was stored, and counts it.
    fn sync(&mut self, store: &Store) -> Result<(), Error> {
        store.sync()?;
        self.summary.absorb(&mut self.unsynced);
        Ok(())
    }

    /// Shows what has been done so far.
    fn show(&self) {
        let objects = self.summary.objects + self.unsynced.objects;
        let objects = count(objects, "object");
        let bytes = HumanBytes(self.summary.bytes + self.unsynced.bytes);
        self.bar.set_message(format!("{objects}, {bytes}"));
    }

    fn error(&self, error: &anyhow::Error) {
        self.bar.suspend(|| self.messages.error(error));
    }

    /// Closes the store and prints the summary. `done` says whether everything was tried.
    fn end(mut self, done: anyhow::Result<()>) -> anyhow::Result<Exit> {
        self.bar.finish_and_clear();
        // After an error, too, what was stored before is made durable.
        let closed = self.target.close();
        if closed.is_ok() {
            self.summary.absorb(&mut self.unsynced);
        }
        let done = done.and_then(|()| Ok(closed?));
        if let Err(error) = &done {
            self.messages.error(error);
        }
        let report = Report {
            summary: self.summary,
            complete: done.is_ok(),
        };
        let exit = match &done {
            Err(error) => Exit::of(error),
            Ok(()) => report.summary.exit(),
        };
        if !self.is_quiet || exit != Exit::Done {
            self.messages.summary(&report, || report.text())?;
        }
        Ok(exit)
    }
}
