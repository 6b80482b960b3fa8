//! A data file whose bytes arrive one after the other: computes its sidecar, whose digest says whether
//! every byte is right.

use crate::digest::{HashFunction, Hasher};
use crate::format::{Entry, Record, SealedSegment, Sidecar, record};
use crate::segment::RecordHash;

/// The bytes that have arrived so far.
#[derive(Debug)]
pub(super) struct Arriving {
    hash: RecordHash,
    expected: SealedSegment,
    entries: Vec<Entry>,
    /// Number of bytes that have arrived.
    at: u64,
    /// The record that the last bytes did not end.
    begun: Option<Begun>,
}

/// A record of which a part has arrived.
#[derive(Debug)]
struct Begun {
    header: Vec<u8>,
    hasher: Hasher,
    /// Where the content begins.
    offset: u64,
    /// The bytes of the content that have arrived.
    content_bytes: u64,
}

impl Arriving {
    /// Begins with no bytes. `expected` is what the manifest says of the segment.
    pub(super) fn new(function: HashFunction, expected: SealedSegment) -> Self {
        Self {
            hash: RecordHash::on_this_thread(function),
            expected,
            entries: Vec::new(),
            at: 0,
            begun: None,
        }
    }

    /// Takes the bytes that follow. Returns false if they cannot be right.
    #[must_use]
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let end = self.at + bytes.len() as u64;
        while !bytes.is_empty() && self.is_plausible() {
            if let Some(begun) = &mut self.begun {
                bytes = begun.take(bytes);
                if let Some(entry) = begun.entry() {
                    self.entries.push(entry);
                    self.begun = None;
                }
            } else {
                bytes = self.take_whole(bytes, end);
                if !bytes.is_empty() {
                    let offset = end - bytes.len() as u64 + record::HEADER_BYTES;
                    self.begun = Some(Begun::new(self.hash.function, offset));
                }
            }
        }
        self.at = end;
        self.is_plausible()
    }

    /// Takes the records that lie in `bytes` as a whole, and returns the rest. The bytes go up to `end`
    /// of the file.
    fn take_whole<'a>(&mut self, mut bytes: &'a [u8], end: u64) -> &'a [u8] {
        let mut whole = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk()
            && let Some((content, after)) =
                rest.split_at_checked(u32::from_le_bytes(*header) as usize)
        {
            let offset = end - rest.len() as u64;
            whole.push(Record { offset, content });
            bytes = after;
        }
        self.entries.append(&mut self.hash.entries(&whole));
        bytes
    }

    /// Whether there are no more records than the manifest says: a file of zeros would be millions.
    fn is_plausible(&self) -> bool {
        self.entries.len() <= self.expected.objects as usize
    }

    /// Returns the sidecar, or `None` if the bytes are not those of the segment.
    pub(super) fn finish(mut self) -> Option<Sidecar<Vec<u8>>> {
        if self.at != self.expected.data_bytes || self.begun.is_some() {
            return None;
        }
        let sidecar = Sidecar::build(&mut self.entries);
        let is_expected = sidecar.checksum() == self.expected.sidecar_checksum
            && sidecar.len() == self.expected.objects as usize;
        is_expected.then_some(sidecar)
    }
}

impl Begun {
    fn new(function: HashFunction, offset: u64) -> Self {
        Self {
            header: Vec::with_capacity(record::header(0).len()),
            hasher: Hasher::new(function),
            offset,
            content_bytes: 0,
        }
    }

    /// The length of the content, once the header is there.
    fn len(&self) -> Option<u32> {
        record::parse_header(&self.header)
    }

    /// Takes what belongs to the record, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let header_left = record::header(0).len() - self.header.len();
        let (header, bytes) = bytes.split_at(header_left.min(bytes.len()));
        self.header.extend_from_slice(header);
        let left = self
            .len()
            .map_or(0, |len| u64::from(len) - self.content_bytes);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let (content, rest) = bytes.split_at(left.min(bytes.len()));
        self.hasher.update(content);
        self.content_bytes += content.len() as u64;
        rest
    }

    /// The entry, once all of the record is there.
    fn entry(&self) -> Option<Entry> {
        let len = self
            .len()
            .filter(|len| u64::from(*len) == self.content_bytes)?;
        Some(Entry {
            digest: self.hasher.clone().finish(),
            offset: self.offset,
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::format::Records;

    fn file() -> Vec<u8> {
        let contents = [vec![1; 9], vec![], vec![2; 3000], vec![3; 70], vec![4; 1]];
        let record = |content: &Vec<u8>| {
            let header = record::header(content.len().try_into().unwrap());
            [&header[..], content].concat()
        };
        contents.iter().flat_map(record).collect()
    }

    fn sidecar(bytes: &[u8]) -> Sidecar<Vec<u8>> {
        let entry = |record: Record<'_>| Entry {
            digest: Digest::of(record.content),
            offset: record.offset,
            len: record.content.len().try_into().unwrap(),
        };
        Sidecar::build(&mut Records::new(bytes).map(entry).collect::<Vec<_>>())
    }

    fn arrived(expected: SealedSegment, pieces: &[&[u8]]) -> Option<Sidecar<Vec<u8>>> {
        let mut arriving = Arriving::new(HashFunction::Blake2b, expected);
        pieces
            .iter()
            .all(|piece| arriving.take(piece))
            .then(|| arriving.finish())?
    }

    fn expected(bytes: &[u8]) -> SealedSegment {
        let sidecar = sidecar(bytes);
        SealedSegment {
            data_bytes: bytes.len() as u64,
            objects: sidecar.len().try_into().unwrap(),
            sidecar_checksum: sidecar.checksum(),
        }
    }

    #[test]
    fn a_file_in_any_pieces_has_its_sidecar() {
        let bytes = file();
        let (expected, own) = (expected(&bytes), sidecar(&bytes));
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let arrived = arrived(expected, &[first, second]).unwrap();
            assert_eq!(arrived.as_bytes(), own.as_bytes(), "{cut}");
        }
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(arrived(expected, &bytewise).is_some());
        assert!(arrived(self::expected(&[]), &[]).is_some());
    }

    #[test]
    fn h78_a_file_of_which_a_byte_differs_is_another() {
        let bytes = file();
        let expected = expected(&bytes);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(arrived(expected, &[&flipped]).is_none(), "{at}");
            assert!(arrived(expected, &[&bytes[..at]]).is_none(), "{at}");
        }
        assert!(arrived(expected, &[&bytes, &[0]]).is_none());
        assert!(arrived(expected, &[&bytes, &[0; 4]]).is_none());
    }

    #[test]
    fn a_file_of_zeros_ends_early() {
        let expected = SealedSegment {
            data_bytes: 1 << 40,
            ..expected(&file())
        };
        let mut arriving = Arriving::new(HashFunction::Blake2b, expected);
        assert!(!arriving.take(&[0; 4096]));
    }
}
