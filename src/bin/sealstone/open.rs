//! Opens the store that `--store` names, in the mode that the command needs.

use std::path::Path;

use sealstone::{HashFunction, Options, Store};

use crate::args::Global;
use crate::exit::Failure;
use crate::output::complain;

impl Global {
    /// Opens the store for a command that changes nothing. This takes no lock and needs no permission
    /// to write.
    pub fn open_to_read(&self) -> anyhow::Result<Store> {
        self.open(&Options::from_env().read_only(true).create(false))
    }

    /// Opens an existing store to change it. A command that would find nothing to do in a new store
    /// must not create one.
    pub fn open_to_write(&self) -> anyhow::Result<Store> {
        self.open(&Options::from_env().create(false))
    }

    /// Opens the store to change it, and creates it if it does not exist. If a hash function is given,
    /// the store has to have it.
    pub fn open_or_create(&self, function: Option<HashFunction>) -> anyhow::Result<Store> {
        let mut options = Options::from_env().create(true);
        if let Some(function) = function {
            options = options.hash_function(function);
        }
        self.open(&options)
    }

    fn open(&self, options: &Options) -> anyhow::Result<Store> {
        let options = options
            .clone()
            .allow_missing_segments(self.allow_missing_segments);
        let store = options.open(self.folder()?)?;
        for repair in &store.recovery().repairs {
            complain(format_args!("recovery: {repair}"));
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
