//! Reads files of a store in parts, and checks each part in the memory that is given out.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Parts;
use crate::digest::{DIGEST_BYTES, Digest, HashFunction, Hasher};
use crate::error::{Error, RemoteError, Result};
use crate::file_order::positions_in_file_order;
use crate::format::{Entry, record};
use crate::run::Run;
use crate::segment::Sealed;

/// Most records that are hashed side by side.
const BATCH_RECORDS: usize = 256;

/// A data file. Each record is compared with its entry in the sidecar, whose records tile the file.
pub(super) struct CheckedData {
    sealed: Arc<Sealed>,
    /// The positions in the sidecar in the order of the records.
    order: std::vec::IntoIter<u32>,
    /// Number of bytes that were given out.
    given: u64,
    /// The record that the last part did not end.
    begun: Option<Begun>,
}

/// A record of which a part was checked.
struct Begun {
    entry: Entry,
    header: Vec<u8>,
    hasher: Hasher,
    /// Number of bytes of the content that are still to come.
    left: usize,
}

impl CheckedData {
    pub(super) fn new(sealed: Arc<Sealed>) -> Result<Self> {
        // A sidecar that lacks objects would leave records unchecked.
        sealed.check_complete()?;
        let order = positions_in_file_order(&sealed, |_| true)?.into_iter();
        Ok(Self {
            sealed,
            order,
            given: 0,
            begun: None,
        })
    }

    /// Checks the bytes that follow those that were checked before.
    fn check(&mut self, mut bytes: &[u8]) -> Result<()> {
        let function = self.sealed.data().hash_function();
        loop {
            if let Some(begun) = &mut self.begun {
                bytes = begun.take(bytes);
                if !begun.is_whole() {
                    return Ok(());
                }
                if let Some(begun) = self.begun.take() {
                    let entry = begun.entry;
                    self.require(begun.verifies(), &entry)?;
                }
            }
            let Some(cut) = self.check_whole(&mut bytes, function)? else {
                return Ok(());
            };
            self.begun = Some(Begun::new(cut, function));
        }
    }

    /// Checks the records that lie in `bytes` as a whole, and takes them off. Returns the entry of the
    /// record that does not, or `None` behind the last record.
    fn check_whole(&mut self, bytes: &mut &[u8], function: HashFunction) -> Result<Option<Entry>> {
        let mut batch: Vec<(Entry, &[u8])> = Vec::with_capacity(BATCH_RECORDS);
        loop {
            let entry = self.next_entry()?;
            let whole = entry.and_then(|entry| split_record(&entry, bytes));
            if let (Some(entry), Some((header, content, rest))) = (entry, whole) {
                self.require(*header == record::header(entry.len), &entry)?;
                batch.push((entry, content));
                *bytes = rest;
                if batch.len() < BATCH_RECORDS {
                    continue;
                }
            }
            let contents: Vec<&[u8]> = batch.iter().map(|(_, content)| *content).collect();
            for ((entry, _), digest) in batch.drain(..).zip(function.digest_many(&contents)) {
                self.require(digest == entry.digest, &entry)?;
            }
            if whole.is_none() {
                return Ok(entry);
            }
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        let Some(position) = self.order.next() else {
            return Ok(None);
        };
        Ok(self.sealed.sidecar()?.entry(position as usize))
    }

    fn require(&self, verifies: bool, entry: &Entry) -> Result<()> {
        if verifies {
            return Ok(());
        }
        Err(RemoteError::DamagedHere {
            digest: entry.digest,
            segment: self.sealed.id(),
            offset: entry.offset,
        }
        .into())
    }
}

/// Splits off a record: its header, its content, and what follows. `None` if not all of it is there.
fn split_record<'a>(entry: &Entry, bytes: &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8], &'a [u8])> {
    let (header, rest) = bytes.split_first_chunk()?;
    let (content, rest) = rest.split_at_checked(entry.len as usize)?;
    Some((header, content, rest))
}

impl Begun {
    fn new(entry: Entry, function: HashFunction) -> Self {
        Self {
            entry,
            header: Vec::with_capacity(record::header(0).len()),
            hasher: Hasher::new(function),
            left: entry.len as usize,
        }
    }

    /// Takes what belongs to the record, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let header_left = record::header(0).len() - self.header.len();
        let (header, bytes) = bytes.split_at(header_left.min(bytes.len()));
        self.header.extend_from_slice(header);
        let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
        self.hasher.update(content);
        self.left -= content.len();
        rest
    }

    fn is_whole(&self) -> bool {
        self.header.len() == record::header(0).len() && self.left == 0
    }

    fn verifies(self) -> bool {
        self.header == record::header(self.entry.len) && self.hasher.finish() == self.entry.digest
    }
}

impl Parts for CheckedData {
    fn next_part(&mut self, len: usize) -> Result<Option<Bytes>> {
        let left = self.sealed.binding().data_bytes - self.given;
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        if len == 0 {
            return Ok(None);
        }
        let Some(read) = self.sealed.data().read(self.given, len)? else {
            return Err(RemoteError::ShortHere {
                segment: self.sealed.id(),
            }
            .into());
        };
        // A copy, since what is mapped could change between the check and the upload.
        let part = Bytes::from(read.into_owned());
        self.check(&part)?;
        self.given += part.len() as u64;
        Ok(Some(part))
    }
}

/// A sidecar. Its bytes are compared with the checksum to which the manifest binds the segment.
pub(super) struct CheckedSidecar {
    sealed: Arc<Sealed>,
    given: usize,
    hasher: Hasher,
    /// The last bytes, as far as they were given out.
    checksum: Vec<u8>,
}

impl CheckedSidecar {
    pub(super) fn new(sealed: Arc<Sealed>) -> Self {
        Self {
            sealed,
            given: 0,
            hasher: Hasher::new(HashFunction::default()),
            checksum: Vec::with_capacity(DIGEST_BYTES),
        }
    }
}

impl Parts for CheckedSidecar {
    fn next_part(&mut self, len: usize) -> Result<Option<Bytes>> {
        let bytes = self.sealed.sidecar()?.as_bytes();
        let end = self.given.saturating_add(len).min(bytes.len());
        let part = bytes.get(self.given..end).unwrap_or_default();
        if part.is_empty() {
            return Ok(None);
        }
        let part = Bytes::copy_from_slice(part);
        let covered = bytes.len().saturating_sub(DIGEST_BYTES);
        let is_covered = part.len().min(covered.saturating_sub(self.given));
        self.hasher.update(&part[..is_covered]);
        self.checksum.extend_from_slice(&part[is_covered..]);
        let wanted = self.sealed.binding().sidecar_checksum;
        let holds = || self.hasher.clone().finish() == wanted && self.checksum == wanted.as_bytes();
        if end == bytes.len() && !holds() {
            return Err(Error::CorruptIndex {
                segment: self.sealed.id(),
                reason: "it changed while it was read".to_owned(),
            });
        }
        self.given = end;
        Ok(Some(part))
    }
}

/// A run. Its bytes are compared with the digest that was computed when it was checked.
pub(super) struct CheckedRun {
    run: Arc<Run>,
    digest: Digest,
    given: usize,
    hasher: Hasher,
}

impl CheckedRun {
    pub(super) fn new(run: Arc<Run>, digest: Digest) -> Self {
        Self {
            run,
            digest,
            given: 0,
            hasher: Hasher::new(HashFunction::default()),
        }
    }
}

impl Parts for CheckedRun {
    fn next_part(&mut self, len: usize) -> Result<Option<Bytes>> {
        let bytes = self.run.index().as_bytes();
        let end = self.given.saturating_add(len).min(bytes.len());
        let part = bytes.get(self.given..end).unwrap_or_default();
        if part.is_empty() {
            return Ok(None);
        }
        let part = Bytes::copy_from_slice(part);
        self.hasher.update(&part);
        if end == bytes.len() && self.hasher.clone().finish() != self.digest {
            self.run.set_damaged();
            let changed = io::Error::other("the run changed while it was read; push again");
            return Err(Error::io(self.run.path())(changed));
        }
        self.given = end;
        Ok(Some(part))
    }
}
