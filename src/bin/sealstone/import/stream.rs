//! Imports a stream that `export` has written.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use sealstone::{Digest, DigestMismatch, Error, HashFunction};

use super::{Import, OBJECTS_MAX};
use crate::args::{Global, ImportOptions};
use crate::batch;
use crate::exit::{Exit, Failure};
use crate::list_lines::STANDARD_INPUT;
use crate::sources::{Source, unreadable};
use crate::stream::{Reader, StreamError};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// A part ends with the first record with which its contents have this length, in bytes.
const PART_BYTES: usize = 8 << 20;

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
        stored: 0,
    };
    let done = records.all(reader);
    import.end(done)
}

fn open(path: &Path) -> Result<(String, Box<dyn Read + Send>), Failure> {
    if Source::is_stdin(path) {
        return Ok((STANDARD_INPUT.to_owned(), Box::new(io::stdin())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), Box::new(file)))
}

struct Records<'a, 'b> {
    import: &'a mut Import<'b>,
    /// The name of the stream for messages.
    name: &'a str,
    function: HashFunction,
    /// The number of records that are stored.
    stored: u64,
}

/// Records that are read together and stored together.
#[derive(Default)]
struct Part {
    records: Vec<(Digest, u32)>,
    /// One after the other: an allocation for each would take longer than reading it.
    contents: Vec<u8>,
}

/// What comes after a part.
enum Next {
    Part,
    /// A record whose content need not fit into memory.
    Long(Digest, u32),
    End,
}

impl Part {
    /// Reads the next records in the place of the present ones. After an error there are those that came
    /// whole.
    fn read<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<Next, StreamError> {
        self.records.clear();
        self.contents.clear();
        while self.contents.len() < PART_BYTES && self.records.len() < OBJECTS_MAX {
            let Some(record) = reader.next_record()? else {
                return Ok(Next::End);
            };
            let (digest, length) = (record.digest, record.length);
            if batch::is_long(length.into()) {
                return Ok(Next::Long(digest, length));
            }
            record.append_content(&mut self.contents)?;
            self.records.push((digest, length));
        }
        Ok(Next::Part)
    }

    fn contents(&self) -> Vec<&[u8]> {
        let mut rest = &self.contents[..];
        let lengths = self.records.iter().map(|&(_, length)| length as usize);
        lengths
            .map(|length| {
                let (content, others) = rest.split_at(length);
                rest = others;
                content
            })
            .collect()
    }
}

impl Records<'_, '_> {
    fn all<R: Read + Send>(&mut self, mut reader: Reader<R>) -> anyhow::Result<()> {
        let (mut part, mut other) = (Part::default(), Part::default());
        let mut next = part.read(&mut reader);
        loop {
            next = if let Ok(Next::Part) = next {
                // One part is stored while the next is read.
                let (stored, next) = rayon::join(|| self.store(&part), || other.read(&mut reader));
                stored?;
                std::mem::swap(&mut part, &mut other);
                next
            } else {
                // The records that came whole before an error are kept.
                self.store(&part)?;
                match next.map_err(|error| failure(self.name, &error))? {
                    Next::Long(digest, length) => {
                        self.store_long(&digest, reader.content(length))?;
                    }
                    Next::Part => {}
                    Next::End => break,
                }
                part.read(&mut reader)
            };
        }
        // A stream without a record makes a store, too.
        self.import.store(self.function)?;
        Ok(())
    }

    /// Stores a record that need not fit into memory.
    fn store_long(&mut self, digest: &Digest, content: impl Read) -> anyhow::Result<()> {
        let store = self.import.store(self.function)?;
        match self.import.put_long(&store, digest, content) {
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

    /// Stores the records of a part before the first one whose content has another digest.
    fn store(&mut self, part: &Part) -> anyhow::Result<()> {
        let contents = part.contents();
        let mut hashed = batch::hash_all(self.function, &contents);
        let mut records = part.records.iter().zip(&hashed);
        let mismatch = records.position(|((digest, _), hashed)| digest != hashed.digest());
        let error = mismatch.map(|at| DigestMismatch {
            expected: part.records[at].0,
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
