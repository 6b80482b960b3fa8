//! Opens the store that `--store` names, in the mode that the command needs.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sealstone::{Error, HashFunction, Options, Store};

use crate::args::{Global, Waiting};
use crate::exit::Failure;

/// The time between two attempts to open a store that is locked.
const PAUSE: Duration = Duration::from_millis(50);

impl Global {
    /// Opens the store for a command that changes nothing. This takes no lock and needs no permission
    /// to write.
    pub fn open_to_read(&self) -> anyhow::Result<Store> {
        self.open_other_to_read(self.folder()?)
    }

    /// Opens a store that is not the one of `--store` in the same way.
    pub fn open_other_to_read(&self, folder: &Path) -> anyhow::Result<Store> {
        self.open(folder, &Options::from_env().read_only(true).create(false))
    }

    /// Opens an existing store to change it. A command that would find nothing to do in a new store
    /// must not create one.
    pub fn open_to_write(&self, waiting: Waiting) -> anyhow::Result<Store> {
        self.open_waiting(&Options::from_env().create(false), waiting)
    }

    /// Opens the store to put into it, and creates it if it does not exist and `create` is set. If a
    /// hash function is given, the store has to have it.
    pub fn open_to_put(
        &self,
        hash: Option<HashFunction>,
        waiting: Waiting,
        create: bool,
    ) -> anyhow::Result<Store> {
        let mut options = Options::from_env().create(create);
        if let Some(function) = hash {
            options = options.hash_function(function);
        }
        self.open_waiting(&options, waiting)
    }

    /// Tries again for as long as another process has locked the store and the user wants to wait.
    fn open_waiting(&self, options: &Options, waiting: Waiting) -> anyhow::Result<Store> {
        let (folder, wait) = (self.folder()?, waiting.duration());
        let begin = Instant::now();
        let mut is_told = false;
        loop {
            let opened = self.open(folder, options);
            let is_locked = opened.as_ref().is_err_and(is_locked);
            if !is_locked || begin.elapsed() >= wait {
                return opened;
            }
            if !is_told {
                let folder = folder.display();
                let note = format_args!("{folder}: waiting for another writer to finish");
                self.messages().note(note);
                is_told = true;
            }
            thread::sleep(PAUSE);
        }
    }

    fn open(&self, folder: &Path, options: &Options) -> anyhow::Result<Store> {
        let options = options
            .clone()
            .allow_missing_segments(self.allow_missing_segments);
        let store = options.open(folder)?;
        for repair in &store.recovery().repairs {
            self.messages().note(format_args!("recovery: {repair}"));
        }
        Ok(store)
    }

    /// Returns the folder of the store as the user wrote it.
    pub fn folder(&self) -> Result<&Path, Failure> {
        self.store.as_deref().ok_or_else(|| {
            Failure::Usage("no store was named; pass --store DIR or set SEALSTONE_STORE".to_owned())
        })
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Locked { .. }))
}
