//! Opening the store that `--store` names, in the mode that the command needs.

use std::path::Path;

use sealstone::{Options, Store};

use crate::args::Global;
use crate::exit::Failure;
use crate::output::complain;

impl Global {
    /// For commands that change nothing: takes no lock and needs no write permission.
    pub fn open_to_read(&self) -> anyhow::Result<Store> {
        self.open(&Options::from_env().read_only(true).create(false))
    }

    /// For commands that would have nothing to do in a new store.
    pub fn open_to_write(&self) -> anyhow::Result<Store> {
        self.open(&Options::from_env().create(false))
    }

    pub fn open_or_create(&self) -> anyhow::Result<Store> {
        self.open(&Options::from_env().create(true))
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

    /// The folder of the store, as the user wrote it.
    pub fn folder(&self) -> Result<&Path, Failure> {
        self.store.as_deref().ok_or_else(|| {
            Failure::Usage("no store was named; pass --store DIR or set SEALSTONE_STORE".to_owned())
        })
    }
}
