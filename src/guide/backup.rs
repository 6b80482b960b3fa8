//! A backup tool: the files of each backup are named in a catalogue in `SQLite`, their contents are
//! objects.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use sealstone::{CompactionStats, Digest, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub struct Backups {
    store: Store,
    catalogue: Connection,
}

impl Backups {
    /// Opens the store and the catalogue in a folder, and creates them if there are none.
    pub fn open(folder: &Path) -> Result<Self> {
        let store = Store::open(folder)?;
        let catalogue = Connection::open(folder.join("catalogue.sqlite"))?;
        catalogue.pragma_update(None, "synchronous", "FULL")?;
        catalogue.execute_batch(
            "CREATE TABLE IF NOT EXISTS file (
                 backup TEXT NOT NULL,
                 path TEXT NOT NULL,
                 digest BLOB NOT NULL,
                 bytes INTEGER NOT NULL,
                 PRIMARY KEY (backup, path)
             ) WITHOUT ROWID",
        )?;
        Ok(Self { store, catalogue })
    }

    /// Backs files up under the name of a backup, all or none of them, and returns how many contents were
    /// new. A long file is never in memory as a whole.
    pub fn back_up(&mut self, backup: &str, root: &Path, files: &[&str]) -> Result<usize> {
        let mut new = 0;
        let transaction = self.catalogue.transaction()?;
        for path in files {
            let stored = self.store.put_reader(File::open(root.join(path))?)?;
            new += usize::from(stored.is_new);
            transaction.execute(
                "INSERT INTO file VALUES (?, ?, ?, ?)",
                params![
                    backup,
                    path,
                    stored.digest.as_bytes(),
                    stored.bytes.cast_signed()
                ],
            )?;
        }
        // What the catalogue names must be durable before the catalogue is.
        self.store.sync()?;
        transaction.commit()?;
        Ok(new)
    }

    /// Writes the content of a file to `target`. Returns false if the backup has no such file.
    pub fn restore(&self, backup: &str, path: &str, target: &mut impl Write) -> Result<bool> {
        let mut query = self
            .catalogue
            .prepare("SELECT digest FROM file WHERE backup = ? AND path = ?")?;
        let digest = query.query_row([backup, path], |row| row.get::<_, [u8; 32]>(0));
        let Some(digest) = digest.optional()?.map(Digest::from) else {
            return Ok(false);
        };
        // The content is checked before a byte of it is written.
        let object = self.store.get(digest)?;
        let object = object.ok_or_else(|| format!("{digest} is in the catalogue only"))?;
        target.write_all(&object)?;
        Ok(true)
    }

    /// Returns the files whose content is damaged or gone, each with its backup. Reads everything.
    pub fn damaged(&self) -> Result<Vec<(String, String)>> {
        let mut query = self
            .catalogue
            .prepare("SELECT backup, path, digest FROM file ORDER BY digest")?;
        let rows = query.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, [u8; 32]>(2)?))
        })?;
        let mut damaged = Vec::new();
        for row in rows {
            let (backup, path, digest) = row?;
            match self.store.get(Digest::from(digest)) {
                Ok(Some(_)) => {}
                Ok(None) | Err(sealstone::Error::Corrupt { .. }) => damaged.push((backup, path)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(damaged)
    }

    /// Forgets a backup, and drops the contents that no other backup has. If this call
    /// or a backup is cut off, the next call drops what is left over. The number of contents that
    /// are in the catalogue only is in `live_missing`.
    pub fn forget(&mut self, backup: &str) -> Result<CompactionStats> {
        self.catalogue
            .execute("DELETE FROM file WHERE backup = ?", [backup])?;
        let compaction = self.store.begin_compaction()?;
        let mut query = self.catalogue.prepare("SELECT DISTINCT digest FROM file")?;
        let live = query.query_map([], |row| row.get::<_, [u8; 32]>(0).map(Digest::from))?;
        let live: Vec<Digest> = live.collect::<rusqlite::Result<_>>()?;
        Ok(compaction.finish_list(&live)?)
    }
}
