//! Copies from another store what this store lacks.

use std::path::Path;

use sealstone::{Digest, Object, Store};

use super::{Import, OBJECTS_MAX};
use crate::args::{Global, ImportOptions};
use crate::batch::{self, Batch};
use crate::exit::{self, Exit};

/// Imports the store in a folder.
pub fn run(folder: &Path, options: ImportOptions, global: &Global) -> anyhow::Result<Exit> {
    let source = global.open_other_to_read(folder)?;
    let function = source.hash_function();
    let mut import = Import::new(options, global)?;
    import.require(function, &folder.display().to_string())?;
    let store = import.store(function)?;
    let mut copying = Copying {
        import: &mut import,
        folder,
        source,
        store,
    };
    let done = copying.all();
    import.end(done)
}

struct Copying<'a, 'b> {
    import: &'a mut Import<'b>,
    folder: &'a Path,
    source: Store,
    store: Store,
}

impl Copying<'_, '_> {
    fn all(&mut self) -> anyhow::Result<()> {
        let mut batch = Batch::with_count_max(OBJECTS_MAX);
        for object in self.source.lengths() {
            let Some((digest, bytes)) = self.undamaged(object)? else {
                continue;
            };
            if batch.is_full_for(bytes) {
                self.batch(batch.take())?;
            }
            batch.push((digest, bytes), bytes);
        }
        self.batch(batch.take())
    }

    fn batch(&mut self, objects: Vec<(Digest, u64)>) -> anyhow::Result<()> {
        let digests: Vec<Digest> = objects.iter().map(|(digest, _)| *digest).collect();
        let held = self.store.contains_many(&digests);
        let mut absent = Vec::new();
        for ((digest, bytes), is_held) in objects.into_iter().zip(held) {
            if is_held? {
                self.import.unsynced.add(bytes, false);
            } else {
                absent.push(digest);
            }
        }
        let contents = self.read(&absent)?;
        let hashed = batch::hash_all(self.store.hash_function(), &contents);
        Ok(self.import.put(&self.store, &hashed)?)
    }

    /// Returns the objects that are whole.
    fn read(&mut self, digests: &[Digest]) -> anyhow::Result<Vec<Object>> {
        let mut contents = Vec::with_capacity(digests.len());
        for object in self.source.get_many(digests) {
            // An object that is absent now was dropped after its digest was read.
            contents.extend(self.undamaged(object)?.flatten());
        }
        Ok(contents)
    }

    /// Returns `None` for damage of the other store, after it was named.
    fn undamaged<T>(&mut self, result: sealstone::Result<T>) -> anyhow::Result<Option<T>> {
        Ok(exit::undamaged(result, |error| {
            self.import.summary.damaged += 1;
            let folder = self.folder.display().to_string();
            self.import.error(&error.context(folder));
        })?)
    }
}
