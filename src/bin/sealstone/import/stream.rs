//! Imports a stream that `export` has written.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use sealstone::{Digest, DigestMismatch, Error, HashFunction};

use super::{Import, OBJECTS_MAX};
use crate::args::{Global, ImportOptions};
use crate::batch::{self, Batch};
use crate::exit::{Exit, Failure};
use crate::sources::{Source, unreadable};
use crate::stream::{Incoming, Reader, StreamError};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Imports the stream in a file; `-` is standard input.
pub fn run(path: &Path, options: ImportOptions, global: &Global) -> anyhow::Result<Exit> {
    let (name, input) = open(path)?;
    let mut import = Import::new(options, global)?;
    let input = BufReader::with_capacity(BUFFER_BYTES, input);
    let reader = Reader::new(input).map_err(|error| failure(&name, &error))?;
    import.require(reader.hash_function(), "the stream")?;
    let mut records = Records {
        import: &mut import,
        name: &name,
        function: reader.hash_function(),
        batch: Batch::with_count_max(OBJECTS_MAX),
        stored: 0,
    };
    let done = records.all(reader);
    import.end(done)
}

fn open(path: &Path) -> Result<(String, Box<dyn Read>), Failure> {
    if Source::is_stdin(path) {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), Box::new(file)))
}

struct Records<'a, 'b> {
    import: &'a mut Import<'b>,
    /// The name of the stream for messages.
    name: &'a str,
    function: HashFunction,
    batch: Batch<(Digest, Vec<u8>)>,
    /// The number of records that are stored.
    stored: u64,
}

impl Records<'_, '_> {
    fn all<R: Read>(&mut self, reader: Reader<R>) -> anyhow::Result<()> {
        let read = self.read(reader);
        // The records that came whole before an error are kept.
        self.store_batch()?;
        read?;
        // A stream without a record makes a store, too.
        self.import.store(self.function)?;
        Ok(())
    }

    fn read<R: Read>(&mut self, mut reader: Reader<R>) -> anyhow::Result<()> {
        let name = self.name;
        let failed = |error: StreamError| failure(name, &error);
        while let Some(record) = reader.next_record().map_err(failed)? {
            let (digest, length) = (record.digest, record.length.into());
            if self.batch.is_full_for(length) {
                self.store_batch()?;
            }
            if batch::is_long(length) {
                self.store_batch()?;
                self.store_long(&digest, record)?;
                continue;
            }
            let content = record.content().map_err(failed)?;
            self.batch.push((digest, content), length);
        }
        Ok(())
    }

    /// Stores a record that need not fit into memory.
    fn store_long<R: Read>(
        &mut self,
        digest: &Digest,
        record: Incoming<'_, R>,
    ) -> anyhow::Result<()> {
        let store = self.import.store(self.function)?;
        match self.import.put_long(&store, digest, record.into_reader()) {
            Ok(()) => self.stored += 1,
            Err(Error::Content { source }) => return Err(failure(self.name, &source.into()).into()),
            Err(error) => return Err(self.at_next_record(error)),
        }
        Ok(())
    }

    /// Names the record that was not stored.
    fn at_next_record(&self, error: Error) -> anyhow::Error {
        let record = format!("{}, record {}", self.name, self.stored + 1);
        anyhow::Error::from(error).context(record)
    }

    /// Stores the records of the batch before the first one whose content has another digest.
    fn store_batch(&mut self) -> anyhow::Result<()> {
        let batch = self.batch.take();
        let (digests, contents): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let mut hashed = batch::hash_all(self.function, &contents);
        let mismatch = digests
            .iter()
            .zip(&hashed)
            .position(|(digest, hashed)| digest != hashed.digest());
        let error = mismatch.map(|at| DigestMismatch {
            expected: digests[at],
            actual: *hashed[at].digest(),
        });
        hashed.truncate(mismatch.unwrap_or(hashed.len()));
        if !hashed.is_empty() {
            let store = self.import.store(self.function)?;
            self.import.put(&store, &hashed)?;
            self.stored += hashed.len() as u64;
        }
        match error {
            None => Ok(()),
            Some(error) => Err(self.at_next_record(error.into())),
        }
    }
}

fn failure(name: &str, error: &StreamError) -> Failure {
    match error {
        StreamError::Read(_) => Failure::Io(format!("{name}: {error}; try again")),
        StreamError::Cut => Failure::Io(format!(
            "{name}: {error}; what came whole is stored; import the whole stream to complete it"
        )),
        StreamError::Damaged(_) => Failure::Damaged(format!(
            "{name}: {error}; what came before is stored; export it again"
        )),
        StreamError::Foreign => Failure::Usage(format!(
            "{name}: {error}; nothing was stored; name a stream or the folder of a store"
        )),
        StreamError::Version(_) | StreamError::HashFunction(_) => Failure::Usage(format!(
            "{name}: {error}; nothing was stored; update this program, or export the stream again"
        )),
    }
}
