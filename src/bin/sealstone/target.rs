//! The store that `put` and `import` write to.

use sealstone::{Error, HashFunction, Store};

use crate::args::{Global, Waiting};

/// The store if it exists. Otherwise it is created when the first content has been read, so that a
/// wrong path on the command line leaves no empty store behind.
pub struct Target<'a> {
    global: &'a Global,
    waiting: Waiting,
    store: Option<Store>,
}

impl<'a> Target<'a> {
    /// Opens the store if it exists. If a hash function is given, the store has to have it.
    pub fn open(
        global: &'a Global,
        hash: Option<HashFunction>,
        waiting: Waiting,
    ) -> anyhow::Result<Self> {
        let store = match global.open_to_put(hash, waiting, false) {
            Ok(store) => Some(store),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            global,
            waiting,
            store,
        })
    }

    /// Returns the store if it exists.
    pub fn existing(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Returns the store. If it does not exist, creates it with this hash function or the default, and
    /// returns a note of that too.
    pub fn get_or_create(
        &mut self,
        hash: Option<HashFunction>,
    ) -> anyhow::Result<(Store, Option<String>)> {
        if let Some(store) = &self.store {
            return Ok((store.clone(), None));
        }
        let store = self.global.open_to_put(hash, self.waiting, true)?;
        self.store = Some(store.clone());
        let note = creation_note(&store);
        Ok((store, Some(note)))
    }

    /// Writes what is still buffered.
    pub fn close(self) -> sealstone::Result<()> {
        self.store.map_or(Ok(()), Store::close)
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NoStore { .. }))
}

fn creation_note(store: &Store) -> String {
    let (folder, function) = (store.root().display(), store.hash_function());
    format!("{folder}: created a store that names its objects by {function}")
}
