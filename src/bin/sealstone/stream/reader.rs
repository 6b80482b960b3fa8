//! Parses a stream of objects.

use std::io::{self, ErrorKind, Read, Take};

use sealstone::{Digest, HashFunction, ParseHashFunctionError};

use super::{END, MAGIC, NAME_BYTES, RECORD, VERSION};

/// The memory that is reserved for content before a byte of it has come. A length can be a lie.
const RESERVED_BYTES_MAX: u32 = 64 << 10;

/// A stream whose head has been read. It holds nothing but what the caller takes out of it.
pub struct Reader<R> {
    input: R,
    function: HashFunction,
    records: u64,
    content_bytes: u64,
}

/// A record whose content has not been read.
#[must_use = "the next record begins behind the content of this one"]
pub struct Incoming<'a, R> {
    input: &'a mut R,
    pub digest: Digest,
    pub length: u32,
}

/// Why a stream could not be read further. The records before are whole.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("not read to its end: {0}")]
    Read(io::Error),
    #[error("the stream is cut: its end is missing")]
    Cut,
    #[error("this is no stream that `export` has written")]
    Foreign,
    #[error("the stream has version {0}, and this program knows version {VERSION}")]
    Version(u32),
    #[error("the stream has no known hash function: {0}")]
    HashFunction(ParseHashFunctionError),
    #[error("the stream is damaged: {0}")]
    Damaged(&'static str),
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof {
            Self::Cut
        } else {
            Self::Read(error)
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    pub fn new(mut input: R) -> Result<Self, StreamError> {
        if read(&mut input)? != *MAGIC {
            return Err(StreamError::Foreign);
        }
        let version = u32::from_le_bytes(read(&mut input)?);
        if version != VERSION {
            return Err(StreamError::Version(version));
        }
        let function = function(read(&mut input)?)?;
        Ok(Self {
            input,
            function,
            records: 0,
            content_bytes: 0,
        })
    }

    pub fn hash_function(&self) -> HashFunction {
        self.function
    }

    /// Returns the next record, or `None` at an end that fits the records before it.
    pub fn next_record(&mut self) -> Result<Option<Incoming<'_, R>>, StreamError> {
        let [kind] = read(&mut self.input)?;
        match kind {
            RECORD => self.record().map(Some),
            END => self.end().map(|()| None),
            _ => Err(StreamError::Damaged(
                "a part of it is neither a record nor its end",
            )),
        }
    }

    /// Returns a reader of the content of the record that came last, if nothing of it was read. It has not
    /// been compared with the digest. The reader fails if the stream ends before the content does.
    pub fn content(&mut self, length: u32) -> impl Read + '_ {
        Content((&mut self.input).take(length.into()))
    }

    fn record(&mut self) -> Result<Incoming<'_, R>, StreamError> {
        let digest = Digest::from(read::<32>(&mut self.input)?);
        let length = u32::from_le_bytes(read(&mut self.input)?);
        let too_long = StreamError::Damaged("its contents are longer than can be counted");
        let counts = (
            self.records.checked_add(1),
            self.content_bytes.checked_add(length.into()),
        );
        let (Some(records), Some(content_bytes)) = counts else {
            return Err(too_long);
        };
        (self.records, self.content_bytes) = (records, content_bytes);
        Ok(Incoming {
            input: &mut self.input,
            digest,
            length,
        })
    }

    fn end(&mut self) -> Result<(), StreamError> {
        let records = u64::from_le_bytes(read(&mut self.input)?);
        let content_bytes = u64::from_le_bytes(read(&mut self.input)?);
        if (records, content_bytes) != (self.records, self.content_bytes) {
            let what = "its end does not count the records before it";
            return Err(StreamError::Damaged(what));
        }
        match read::<1>(&mut self.input) {
            Err(StreamError::Cut) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(StreamError::Damaged("bytes follow its end")),
        }
    }
}

impl<R: Read> Incoming<'_, R> {
    /// Appends the content to `contents`, which has not been compared with the digest. The memory grows
    /// with what comes. After an error nothing is appended.
    pub fn append_content(self, contents: &mut Vec<u8>) -> Result<(), StreamError> {
        let begin = contents.len();
        contents.reserve(self.length.min(RESERVED_BYTES_MAX) as usize);
        let mut limited = self.input.take(self.length.into());
        let read = limited.read_to_end(contents);
        let is_cut = limited.limit() > 0;
        if read.is_err() || is_cut {
            contents.truncate(begin);
        }
        read?;
        if is_cut {
            Err(StreamError::Cut)
        } else {
            Ok(())
        }
    }
}

/// The content of a record.
struct Content<'a, R>(Take<&'a mut R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        let is_cut = read == 0 && !buffer.is_empty() && self.0.limit() > 0;
        if is_cut {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

fn read<const BYTES: usize>(input: &mut impl Read) -> Result<[u8; BYTES], StreamError> {
    let mut bytes = [0; BYTES];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn function(name: [u8; NAME_BYTES]) -> Result<HashFunction, StreamError> {
    let length = name.iter().position(|&byte| byte == 0);
    let (letters, rest) = name.split_at(length.unwrap_or(NAME_BYTES));
    if rest.iter().any(|&byte| byte != 0) {
        return Err(StreamError::HashFunction(ParseHashFunctionError::Unknown));
    }
    let letters = str::from_utf8(letters).unwrap_or_default();
    letters.parse().map_err(StreamError::HashFunction)
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;

    fn stream(contents: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut stream = Writer::begin(&mut bytes, HashFunction::Blake2b).unwrap();
        for content in contents {
            stream.record(&Digest::of(content), content).unwrap();
        }
        stream.end().unwrap();
        bytes
    }

    fn parse(bytes: &[u8]) -> (Vec<(Digest, Vec<u8>)>, Option<StreamError>) {
        let mut records = Vec::new();
        let mut all = || {
            let mut reader = Reader::new(bytes)?;
            while let Some(record) = reader.next_record()? {
                let digest = record.digest;
                let mut content = Vec::new();
                record.append_content(&mut content)?;
                records.push((digest, content));
            }
            Ok(())
        };
        let error = all().err();
        (records, error)
    }

    #[test]
    fn what_was_written_is_parsed() {
        let (records, error) = parse(&stream(&[b"one", b"", b"three"]));
        assert!(error.is_none(), "{error:?}");
        let expected = [&b"one"[..], b"", b"three"].map(|text| (Digest::of(text), text.to_vec()));
        assert_eq!(records, expected);
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_cut_and_its_records_are_whole() {
        let bytes = stream(&[b"one", b"", b"three"]);
        for length in 0..bytes.len() {
            let (records, error) = parse(&bytes[..length]);
            assert!(matches!(error, Some(StreamError::Cut)), "{error:?}");
            for (digest, content) in records {
                assert_eq!(Digest::of(&content), digest);
            }
        }
    }

    #[test]
    fn content_that_is_read_in_pieces_is_whole_or_an_error() {
        let bytes = stream(&[b"one", b"three"]);
        let first = |bytes: &[u8]| -> io::Result<String> {
            let mut reader = Reader::new(bytes).map_err(io::Error::other)?;
            let record = reader.next_record().map_err(io::Error::other)?.unwrap();
            let length = record.length;
            io::read_to_string(reader.content(length))
        };
        let content_at = 28 + 37;
        assert_eq!(first(&bytes).unwrap(), "one");
        for length in content_at..content_at + 3 {
            let error = first(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_length_that_is_a_lie_reserves_no_memory() {
        let mut bytes = stream(&[]);
        bytes.truncate(28);
        bytes.push(RECORD);
        bytes.extend([0; 32]);
        bytes.extend(u32::MAX.to_le_bytes());
        let mut reader = Reader::new(&bytes[..]).unwrap();
        let record = reader.next_record().unwrap().unwrap();
        assert_eq!(record.length, u32::MAX);
        let mut content = b"before".to_vec();
        let appended = record.append_content(&mut content);
        assert!(matches!(appended, Err(StreamError::Cut)));
        assert_eq!(content, b"before");
        assert!(content.capacity() < 1 << 20);
    }

    #[test]
    fn an_end_with_other_counts_or_with_bytes_behind_it_is_damage() {
        let bytes = stream(&[b"one"]);
        let mut longer = bytes.clone();
        longer.push(0);
        let mut other = bytes.clone();
        other[bytes.len() - 8] ^= 1;
        for bytes in [longer, other] {
            let (records, error) = parse(&bytes);
            assert_eq!(records.len(), 1);
            assert!(matches!(error, Some(StreamError::Damaged(_))), "{error:?}");
        }
    }
}
