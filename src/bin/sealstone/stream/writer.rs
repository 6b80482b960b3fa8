//! Writes a stream of objects.

use std::io::{self, Write};

use sealstone::{Digest, HashFunction};

use super::{END, MAGIC, NAME_BYTES, RECORD, VERSION};

/// A stream that has its head, and gets its records and its end.
pub struct Writer<W> {
    output: W,
    records: u64,
    content_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    pub fn begin(mut output: W, function: HashFunction) -> io::Result<Self> {
        let mut name = [0; NAME_BYTES];
        let letters = function.name().as_bytes();
        let place = name.get_mut(..letters.len());
        place
            .ok_or_else(|| io::Error::other("the name of the hash function is too long"))?
            .copy_from_slice(letters);
        output.write_all(MAGIC)?;
        output.write_all(&VERSION.to_le_bytes())?;
        output.write_all(&name)?;
        Ok(Self {
            output,
            records: 0,
            content_bytes: 0,
        })
    }

    /// Writes a record. The caller has checked the content against the digest.
    pub fn record(&mut self, digest: &Digest, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.output.write_all(&[RECORD])?;
        self.output.write_all(digest.as_bytes())?;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(content)?;
        self.records += 1;
        self.content_bytes += u64::from(length);
        Ok(())
    }

    /// Writes the end and what is still buffered.
    pub fn end(mut self) -> io::Result<()> {
        self.output.write_all(&[END])?;
        self.output.write_all(&self.records.to_le_bytes())?;
        self.output.write_all(&self.content_bytes.to_le_bytes())?;
        self.output.flush()
    }

    pub fn output(&self) -> &W {
        &self.output
    }
}
