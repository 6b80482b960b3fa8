//! Imports the objects that NEDB keeps in files of their own: `DIR/<2 digits>/<62 digits>`, named by
//! the digest of their bytes.

use std::fs;
use std::path::Path;
use std::slice;

use rayon::prelude::*;
use sealstone::{Digest, Error, HashFunction, Hashed};

use super::{Import, OBJECTS_MAX};
use crate::args::{Global, ImportOptions, NedbArguments};
use crate::batch::{self, Batch};
use crate::exit::{Exit, Failure};
use crate::sources::{Found, Source, Sources, cut_off, unreadable};

/// The function by which NEDB names its objects.
const FUNCTION: HashFunction = HashFunction::Blake2b;

pub fn run(
    arguments: &NedbArguments,
    options: ImportOptions,
    global: &Global,
) -> anyhow::Result<Exit> {
    let folder = &arguments.folder;
    require_folder(folder)?;
    let mut import = Import::new(options, global)?;
    import.require(FUNCTION, "NEDB")?;
    let mut files = Files {
        import: &mut import,
        folder,
        removes: arguments.remove,
        batch: Batch::with_count_max(OBJECTS_MAX),
    };
    let done = files.all(Sources::new(slice::from_ref(folder)));
    import.end(done)
}

fn require_folder(folder: &Path) -> Result<(), Failure> {
    let metadata = fs::metadata(folder).map_err(|error| unreadable(folder, &error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{}: this is not a folder; nothing was stored; name the folder `objects` of NEDB",
        folder.display()
    )))
}

struct Files<'a, 'b> {
    import: &'a mut Import<'b>,
    folder: &'a Path,
    removes: bool,
    batch: Batch<(Digest, Source)>,
}

impl Files<'_, '_> {
    fn all(&mut self, mut sources: Sources<'_>) -> anyhow::Result<()> {
        // The store can be in the same folder, as that of NEDB was.
        while let Some(found) = sources.next_beside(self.import.target.existing()) {
            self.take(found)?;
        }
        self.store_batch()
    }

    fn take(&mut self, found: Found) -> anyhow::Result<()> {
        match found {
            Found::Source(source) => match digest_of_name(self.folder, &source.path) {
                Some(digest) => self.enqueue(digest, source)?,
                None => self.import.summary.other_files += 1,
            },
            // A folder is the one of the store itself.
            Found::Skipped { path, .. } if path.is_dir() => {}
            Found::Link(_) | Found::Skipped { .. } => self.import.summary.other_files += 1,
            Found::Unreadable { path, error } => self.fail(&unreadable(&path, &error).into()),
        }
        Ok(())
    }

    fn enqueue(&mut self, digest: Digest, source: Source) -> anyhow::Result<()> {
        if source.is_long() {
            self.store_batch()?;
            return self.store_long(&digest, &source);
        }
        let bytes_expected = source.bytes_expected.unwrap_or(0);
        if self.batch.is_full_for(bytes_expected) {
            self.store_batch()?;
        }
        self.batch.push((digest, source), bytes_expected);
        Ok(())
    }

    fn store_batch(&mut self) -> anyhow::Result<()> {
        let batch = self.batch.take();
        let contents: Vec<_> = batch.par_iter().map(|(_, source)| source.read()).collect();
        let hashed = batch::hash(FUNCTION, &contents);
        let mut objects: Vec<Hashed<'_>> = Vec::with_capacity(batch.len());
        let mut paths: Vec<&Path> = Vec::with_capacity(batch.len());
        for ((digest, Source { path, .. }), hashed) in batch.iter().zip(hashed) {
            match hashed {
                Ok(hashed) if hashed.digest() == digest => {
                    objects.push(hashed);
                    paths.push(path);
                }
                Ok(_) => self.name_damaged(path),
                Err(error) => self.fail(error),
            }
        }
        if objects.is_empty() {
            return Ok(());
        }
        let store = self.import.store(FUNCTION)?;
        self.import.put(&store, &objects)?;
        self.import.sync(&store)?;
        // From here on the objects are durable.
        if self.removes {
            for path in paths {
                self.remove(path);
            }
        }
        Ok(())
    }

    /// Stores a file that need not fit into memory.
    fn store_long(&mut self, digest: &Digest, source: &Source) -> anyhow::Result<()> {
        let path = &source.path;
        let content = match source.open_readable() {
            Ok(content) => content,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        let store = self.import.store(FUNCTION)?;
        let put = self.import.put_long(&store, digest, content);
        match put.and_then(|()| self.import.sync(&store)) {
            Ok(()) if self.removes => self.remove(path),
            Ok(()) => {}
            Err(Error::DigestMismatch(_)) => self.name_damaged(path),
            Err(Error::Content { source }) => self.fail(&cut_off(path, &source).into()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => self.import.summary.removed += 1,
            Err(error) => {
                let path = path.display();
                let text = format!(
                    "{path}: stored, but not removed: {error}; check the permissions of its folder"
                );
                self.fail(&Failure::Io(text).into());
            }
        }
    }

    fn name_damaged(&mut self, path: &Path) {
        self.import.summary.damaged += 1;
        let text = format!(
            "{}: its bytes do not have the digest of its name; it was left; restore it from a backup",
            path.display()
        );
        self.import.error(&Failure::Damaged(text).into());
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.import.summary.failed += 1;
        self.import.error(error);
    }
}

/// Returns the digest by which NEDB would name a file that has this path, or `None` if the file is
/// not NEDB's.
fn digest_of_name(folder: &Path, path: &Path) -> Option<Digest> {
    let mut parts = path.strip_prefix(folder).ok()?.iter();
    let (begin, rest) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
    let digits = format!("{begin}{rest}");
    let digest: Digest = digits.parse().ok()?;
    let is_of_nedb = begin.len() == 2 && parts.next().is_none() && digest.to_string() == digits;
    is_of_nedb.then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_and_sixty_two_small_digits_name_a_file_of_nedb() {
        let digest = Digest::of(b"1");
        let digits = digest.to_string();
        let (begin, rest) = digits.split_at(2);
        let named = |name: &str| digest_of_name(Path::new("a/b"), &Path::new("a/b").join(name));
        assert_eq!(named(&format!("{begin}/{rest}")), Some(digest));
        for name in [
            digits.clone(),
            format!("{}/{}", &digits[..3], &digits[3..]),
            format!("{begin}/{}", &rest[1..]),
            format!("{begin}/{}", rest.to_uppercase()),
            format!("{begin}/{rest}.tmp"),
            format!("{begin}/{rest}/file"),
            format!("more/{begin}/{rest}"),
        ] {
            assert_eq!(named(&name), None, "{name}");
        }
    }
}
