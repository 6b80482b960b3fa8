//! The store that `put` writes to.

use sealstone::{Error, Store};

use crate::args::{Global, PutArguments};

/// The store if it exists. Otherwise it is created when the first content has been read, so that a
/// wrong path on the command line leaves no empty store behind.
pub struct Target<'a> {
    global: &'a Global,
    arguments: &'a PutArguments,
    store: Option<Store>,
}

impl<'a> Target<'a> {
    /// Opens the store if it exists.
    pub fn open(global: &'a Global, arguments: &'a PutArguments) -> anyhow::Result<Self> {
        let store = match global.open_to_put(arguments, false) {
            Ok(store) => Some(store),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            global,
            arguments,
            store,
        })
    }

    /// Returns the store if it exists.
    pub fn existing(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Creates the store, which does not exist yet.
    pub fn create(&mut self) -> anyhow::Result<&Store> {
        let store = self.global.open_to_put(self.arguments, true)?;
        Ok(self.store.insert(store))
    }

    /// Writes what is still buffered.
    pub fn close(self) -> sealstone::Result<()> {
        self.store.map_or(Ok(()), Store::close)
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NoStore { .. }))
}
