//! An append-only list that is read while it grows.

use super::Extent;
use crate::digest::{DIGEST_BYTES, Digest};
use crate::format::Entry;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The records of a segment by position, in file order. None moves while the list grows, and none
/// costs an allocation of its own.
#[derive(Debug)]
pub(super) struct Records {
    /// Those that were there when the segment was opened.
    found: Vec<Entry>,
    /// Those that were added since. The shelf of level n has room for 2^n chunks, so that the list of
    /// chunks never moves either.
    added: [OnceLock<Shelf>; SHELVES],
    len: AtomicU32,
}

type Shelf = Box<[OnceLock<Chunk>]>;
type Chunk = Box<[Record]>;

/// Small enough to be made in the middle of a put without anybody noticing.
const CHUNK_RECORDS: u32 = if cfg!(all(test, loom)) { 1 } else { 1024 };
/// Together they hold 2^22 chunks, less one.
const SHELVES: usize = if cfg!(all(test, loom)) { 3 } else { 22 };

/// An entry that can be written while others look at its neighbours: four words of the digest,
/// offset, length. What orders the writing and the reading of it is the slot that leads to it, or the
/// length of the list.
#[derive(Debug, Default)]
struct Record([AtomicU64; 6]);

const DIGEST_WORDS: usize = DIGEST_BYTES / 8;

impl Records {
    /// The longest that a list can become.
    pub(super) const LEN_MAX: u32 = ((1 << SHELVES) - 1) * CHUNK_RECORDS;

    pub(super) fn new(found: Vec<Entry>) -> Self {
        let len = u32::try_from(found.len()).unwrap_or(u32::MAX);
        Self {
            found,
            added: std::array::from_fn(|_| OnceLock::new()),
            len: AtomicU32::new(len),
        }
    }

    /// Whoever sees this length can read that many records.
    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// For the one writer: puts a record behind the last, without counting it yet.
    pub(super) fn write_next(&self, entry: &Entry) -> u32 {
        let position = self.len.load(Ordering::Relaxed);
        let (level, chunk, at) = self.place_of(position);
        let chunks = self.added[level].get_or_init(|| {
            let vacant = std::iter::repeat_with(OnceLock::new);
            vacant.take(1 << level).collect()
        });
        let records = chunks[chunk].get_or_init(|| {
            let vacant = std::iter::repeat_with(Record::default);
            vacant.take(CHUNK_RECORDS as usize).collect()
        });
        records[at].write(entry);
        position
    }

    /// For the one writer: the record that was written is one of the list.
    pub(super) fn count_next(&self) {
        let len = self.len.load(Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
    }

    /// Where the content of a record lies, if this is its digest.
    #[inline]
    pub(super) fn extent_if(&self, position: u32, digest: &Digest) -> Option<Extent> {
        if let Some(entry) = self.found.get(position as usize) {
            return (entry.digest == *digest).then_some(Extent {
                offset: entry.offset,
                len: entry.len,
            });
        }
        let record = self.added(position)?;
        record.has_digest(digest).then(|| record.extent())
    }

    pub(super) fn entry(&self, position: u32) -> Option<Entry> {
        let found = self.found.get(position as usize).copied();
        found.or_else(|| self.added(position).map(Record::entry))
    }

    pub(super) fn to_vec(&self) -> Vec<Entry> {
        let len = self.len();
        let mut entries = Vec::with_capacity(len as usize);
        entries.extend_from_slice(&self.found);
        let added = entries.len()..len as usize;
        let chunks = self
            .added
            .iter()
            .flat_map(|shelf| shelf.get().into_iter().flatten());
        let records = chunks.flat_map(|chunk| chunk.get().into_iter().flatten());
        entries.extend(records.take(added.len()).map(Record::entry));
        entries
    }

    #[inline]
    fn added(&self, position: u32) -> Option<&Record> {
        let (level, chunk, at) = self.place_of(position);
        self.added.get(level)?.get()?[chunk].get()?.get(at)
    }

    /// Level of the shelf, chunk on the shelf, record in the chunk.
    #[inline]
    fn place_of(&self, position: u32) -> (usize, usize, usize) {
        // They were counted as `u32` at the beginning.
        #[expect(clippy::cast_possible_truncation)]
        let number = position - self.found.len() as u32;
        let chunk = number / CHUNK_RECORDS + 1;
        let level = chunk.ilog2();
        let chunk = chunk - (1 << level);
        let at = number % CHUNK_RECORDS;
        (level as usize, chunk as usize, at as usize)
    }
}

impl Record {
    fn write(&self, entry: &Entry) {
        let digest = words(&entry.digest);
        let words = digest.into_iter().chain([entry.offset, entry.len.into()]);
        for (own, word) in self.0.iter().zip(words) {
            own.store(word, Ordering::Relaxed);
        }
    }

    #[inline]
    fn has_digest(&self, digest: &Digest) -> bool {
        let own = self.0.iter().map(|word| word.load(Ordering::Relaxed));
        own.take(DIGEST_WORDS).eq(words(digest))
    }

    #[inline]
    fn extent(&self) -> Extent {
        let word = |at: usize| self.0[DIGEST_WORDS + at].load(Ordering::Relaxed);
        // It was made from a `u32`.
        #[expect(clippy::cast_possible_truncation)]
        let len = word(1) as u32;
        Extent {
            offset: word(0),
            len,
        }
    }

    fn entry(&self) -> Entry {
        let mut digest = [0; DIGEST_BYTES];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(&self.0) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        let Extent { offset, len } = self.extent();
        Entry {
            digest: Digest::from(digest),
            offset,
            len,
        }
    }
}

#[inline]
fn words(digest: &Digest) -> [u64; DIGEST_WORDS] {
    let (words, _) = digest.as_bytes().as_chunks();
    std::array::from_fn(|at| u64::from_ne_bytes(words[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> Entry {
        Entry {
            digest: Digest::of(&number.to_le_bytes()),
            offset: u64::from(number) << 20,
            len: u32::MAX - number,
        }
    }

    #[test]
    fn what_was_written_is_read_across_chunks_and_shelves() {
        for found in [0, 1, CHUNK_RECORDS + 1] {
            let records = Records::new((0..found).map(entry).collect());
            let len = found + 8 * CHUNK_RECORDS + 1;
            for number in found..len {
                assert_eq!(records.write_next(&entry(number)), number);
                assert_eq!(records.len(), number);
                records.count_next();
            }
            let all: Vec<Entry> = (0..len).map(entry).collect();
            assert_eq!(records.to_vec(), all);
            for number in 0..len {
                let Entry {
                    digest,
                    offset,
                    len,
                } = entry(number);
                assert_eq!(records.entry(number), Some(entry(number)));
                let extent = Extent { offset, len };
                assert_eq!(records.extent_if(number, &digest), Some(extent));
                assert_eq!(records.extent_if(number, &Digest::of(b"")), None);
            }
        }
    }
}
