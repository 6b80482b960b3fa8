//! The sidecar of a sealed segment, format `NIX1`.

use std::ops::Range;

use super::{FormatError, bytes_at};
use crate::digest::{DIGEST_BYTES, Digest};

/// First bytes of a sidecar.
pub const MAGIC: [u8; 4] = *b"NIX1";
/// Length of an entry in bytes.
pub const ENTRY_BYTES: usize = DIGEST_BYTES + 8 + 4;
/// Length of what stands before the entries: magic and count.
pub const HEADER_BYTES: usize = 4 + 8;

const _: () = assert!(ENTRY_BYTES == 44 && HEADER_BYTES == 12);

/// Where one object lies in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Digest of the content.
    pub digest: Digest,
    /// Where the content begins in the data file, in bytes. Its record begins 4 bytes before.
    pub offset: u64,
    /// Length of the content in bytes.
    pub len: u32,
}

impl Entry {
    /// The 44 bytes of an entry.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// Reads the 44 bytes of an entry.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (digest, rest) = bytes.split_at(32);
        let (offset, len) = rest.split_at(8);
        Self {
            digest: Digest::from(fixed(digest)),
            offset: u64::from_le_bytes(fixed(offset)),
            len: u32::from_le_bytes(fixed(len)),
        }
    }

    /// Where the content ends, or `None` where that is beyond `u64`.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }
}

/// A part of a fixed-size array whose length is known from the array's type.
fn fixed<const N: usize>(part: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(part);
    bytes
}

/// A parsed sidecar over any bytes: a `Vec` in a test, a memory map in the store.
///
/// ```
/// use sealstone::Digest;
/// use sealstone::format::{Entry, Sidecar};
///
/// let entry = Entry { digest: Digest::of(b"abc"), offset: 4, len: 3 };
/// let bytes = Sidecar::build(&mut [entry]).into_bytes();
/// let index = Sidecar::parse(bytes)?;
/// assert_eq!(index.find(&entry.digest).next(), Some(entry));
/// assert!(index.tiles(7));
/// # Ok::<(), sealstone::format::FormatError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sidecar<D> {
    bytes: D,
    count: u32,
}

impl Sidecar<Vec<u8>> {
    /// The sidecar for `entries`, which are sorted by digest and offset on the way.
    ///
    /// # Panics
    ///
    /// If there are more than `u32::MAX` entries.
    #[must_use]
    pub fn build(entries: &mut [Entry]) -> Self {
        let count = u32::try_from(entries.len()).expect("a sidecar holds at most u32::MAX entries");
        let order = sorted_order(entries);
        let len = HEADER_BYTES + entries.len() * ENTRY_BYTES + DIGEST_BYTES;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&u64::from(count).to_le_bytes());
        for position in order {
            bytes.extend_from_slice(&entries[position as usize].to_bytes());
        }
        let (sorted, _) = bytes[HEADER_BYTES..].as_chunks();
        for (entry, bytes) in entries.iter_mut().zip(sorted) {
            *entry = Entry::from_bytes(bytes);
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        Self { bytes, count }
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The same index with its bytes kept elsewhere.
    pub(crate) fn map_bytes<D>(self, keep: impl FnOnce(Vec<u8>) -> D) -> Sidecar<D> {
        Sidecar {
            bytes: keep(self.bytes),
            count: self.count,
        }
    }
}

impl<D: AsRef<[u8]>> Sidecar<D> {
    /// Checks the whole sidecar. Linear in its length.
    ///
    /// # Errors
    ///
    /// Those of [`parse_unchecked`](Self::parse_unchecked), and [`FormatError::Checksum`].
    pub fn parse(bytes: D) -> Result<Self, FormatError> {
        let index = Self::parse_unchecked(bytes)?;
        if index.checksum_holds() {
            Ok(index)
        } else {
            Err(FormatError::Checksum)
        }
    }

    /// As [`parse`](Self::parse) for several sidecars, in their order. They are hashed side by side, as by
    /// [`Digest::of_many`], so four of about the same length take as long as two.
    ///
    /// ```
    /// use sealstone::format::Sidecar;
    ///
    /// let whole = Sidecar::build(&mut []).into_bytes();
    /// let mut parsed = Sidecar::parse_many([&whole[..], b"NIX1 and no more"]);
    /// assert!(parsed.next().is_some_and(|sidecar| sidecar.is_ok()));
    /// assert!(parsed.next().is_some_and(|sidecar| sidecar.is_err()));
    /// ```
    pub fn parse_many(
        sidecars: impl IntoIterator<Item = D>,
    ) -> impl Iterator<Item = Result<Self, FormatError>> {
        let parsed = sidecars.into_iter().map(Self::parse_unchecked);
        let parsed: Vec<Result<Self, FormatError>> = parsed.collect();
        let covered = parsed.iter().map(|index| index.as_ref().map(Self::covered));
        let covered: Vec<&[u8]> = covered.map(Result::unwrap_or_default).collect();
        let sums = Digest::of_many(&covered);
        parsed.into_iter().zip(sums).map(|(index, sum)| {
            index.and_then(|index| {
                if index.checksum() == sum {
                    Ok(index)
                } else {
                    Err(FormatError::Checksum)
                }
            })
        })
    }

    /// Checks magic and length only, in constant time. Nothing that is asked of such an index can
    /// panic, but what it says may be wrong.
    ///
    /// # Errors
    ///
    /// [`FormatError::Magic`], [`FormatError::Count`] beyond `u32::MAX` entries (a data file of that
    /// many records would pass 16 GiB in headers alone), [`FormatError::Length`].
    pub fn parse_unchecked(bytes: D) -> Result<Self, FormatError> {
        let all = bytes.as_ref();
        if bytes_at::<4>(all, 0) != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        let count = u64::from_le_bytes(bytes_at(all, 4).ok_or(FormatError::Length)?);
        let count = u32::try_from(count).map_err(|_| FormatError::Count)?;
        if Self::encoded_bytes(count) == Some(all.len() as u64) {
            Ok(Self { bytes, count })
        } else {
            Err(FormatError::Length)
        }
    }

    /// Length in bytes of a sidecar with `count` entries.
    #[must_use]
    pub fn encoded_bytes(count: u32) -> Option<u64> {
        u64::from(count)
            .checked_mul(ENTRY_BYTES as u64)?
            .checked_add((HEADER_BYTES + DIGEST_BYTES) as u64)
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes that were parsed.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The stored checksum: the last 32 bytes.
    #[must_use]
    pub fn checksum(&self) -> Digest {
        let at = HEADER_BYTES + self.len() * ENTRY_BYTES;
        Digest::from(bytes_at(self.as_bytes(), at).unwrap_or_default())
    }

    /// Computes the checksum and compares. Linear in the length.
    #[must_use]
    pub fn checksum_holds(&self) -> bool {
        Digest::of(self.covered()) == self.checksum()
    }

    /// What the checksum is of. The length was checked, so it is there.
    fn covered(&self) -> &[u8] {
        let len = HEADER_BYTES + self.len() * ENTRY_BYTES;
        self.as_bytes().get(..len).unwrap_or_default()
    }

    /// The entry at `position`, or `None` beyond the last.
    #[inline]
    #[must_use]
    pub fn entry(&self, position: usize) -> Option<Entry> {
        self.entry_bytes(position).map(Entry::from_bytes)
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.entries_in(0..self.len())
    }

    /// The entries at the positions in `range`, as far as there are any.
    pub fn entries_in(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.entries_bytes(range)
            .as_chunks::<ENTRY_BYTES>()
            .0
            .iter()
            .map(Entry::from_bytes)
    }

    /// The bytes of the entries at the positions in `range`, as far as there are any.
    #[must_use]
    pub fn entries_bytes(&self, range: Range<usize>) -> &[u8] {
        let at = |position: usize| HEADER_BYTES + position.min(self.len()) * ENTRY_BYTES;
        let bytes = self.as_bytes().get(at(range.start)..at(range.end));
        bytes.unwrap_or_default()
    }

    /// Whether the entries are sorted by digest, as we write them. NEDB v3 does not.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.entries().is_sorted_by(|a, b| a.digest <= b.digest)
    }

    /// Whether the records that the entries speak of lie one after the other from 0 to
    /// `data_bytes`, without gap or overlap. Sorts 16 bytes an entry.
    #[must_use]
    pub fn tiles(&self, data_bytes: u64) -> bool {
        let mut extents: Vec<(u64, u32)> = self.entries().map(|e| (e.offset, e.len)).collect();
        extents.sort_unstable();
        let end = extents.iter().try_fold(0_u64, |end, &(offset, len)| {
            (end.checked_add(super::record::HEADER_BYTES)? == offset).then_some(())?;
            offset.checked_add(u64::from(len))
        });
        end == Some(data_bytes)
    }

    /// As [`tiles`](Self::tiles), in one pass and without memory. It can be wrong only about entries that
    /// do not tile: of those it says so but for one `point` in 2^29, of those below 2^61.
    ///
    /// Records tile exactly if the numbers at which they begin, and `data_bytes`, are those at which
    /// they end, and 0: each record leads from a number to a greater one, so they then form one way
    /// from 0 to `data_bytes`. The two lists are compared as the polynomials that have them as zeros,
    /// at `point`.
    pub(crate) fn tiles_as_seen_from(&self, point: u64, data_bytes: u64) -> bool {
        if data_bytes >= PRIME {
            return false;
        }
        let point = point % PRIME;
        let distance = |at: u64| point + PRIME - at;
        let products = self.entries().try_fold((1, 1), |(begins, ends), entry| {
            let begin = entry.offset.checked_sub(super::record::HEADER_BYTES)?;
            let end = entry.end().filter(|&end| end <= data_bytes)?;
            let begins = product(begins, distance(begin));
            Some((begins, product(ends, distance(end))))
        });
        products.is_some_and(|(begins, ends)| {
            let begins = product(begins, distance(data_bytes));
            begins % PRIME == product(ends, distance(0)) % PRIME
        })
    }

    /// The entries with this digest; more than one where an object was put again to repair a
    /// damaged copy. The entries must be sorted. Logarithmic.
    pub fn find(&self, digest: &Digest) -> impl Iterator<Item = Entry> + use<'_, D> {
        self.find_in(0..self.len(), digest)
    }

    /// As [`find`](Self::find), among the positions in `range` only, which a caller with a table of
    /// its own has narrowed.
    pub fn find_in(
        &self,
        range: Range<usize>,
        digest: &Digest,
    ) -> impl Iterator<Item = Entry> + use<'_, D> {
        let found = self.find_positions_in(range, digest);
        found.map(|(_, entry)| entry)
    }

    /// As [`find_in`](Self::find_in), with the positions of the entries.
    pub fn find_positions_in(
        &self,
        range: Range<usize>,
        digest: &Digest,
    ) -> impl Iterator<Item = (usize, Entry)> + use<'_, D> {
        let digest = *digest;
        let first = self.lower_bound(range.clone(), &digest);
        (first..range.end.min(self.len()))
            .map_while(|position| Some((position, self.entry(position)?)))
            .take_while(move |(_, entry)| entry.digest == digest)
    }

    /// The first position in `range` whose digest is `digest` or greater.
    #[must_use]
    pub fn lower_bound(&self, range: Range<usize>, digest: &Digest) -> usize {
        let (mut low, mut high) = (range.start, range.end.min(self.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(bytes) = self.entry_bytes(middle) else {
                break;
            };
            // Eight bytes decide nearly always, and cost less to compare than all.
            let (own, asked) = (leading_bits(bytes), leading_bits(digest.as_bytes()));
            if own < asked || (own == asked && bytes[..DIGEST_BYTES] < digest.as_bytes()[..]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The bytes of the entry at `position`.
    #[inline]
    #[must_use]
    pub fn entry_bytes(&self, position: usize) -> Option<&[u8; ENTRY_BYTES]> {
        if position >= self.len() {
            return None;
        }
        let begin = HEADER_BYTES + position * ENTRY_BYTES;
        self.as_bytes().get(begin..)?.first_chunk()
    }
}

/// The positions of `entries` in their order by digest and offset.
///
/// Digests are as good as random, so their leading bits deal them out evenly to piles that fit the
/// processor's first cache, and what is moved is 16 bytes an entry. Piles that somebody made high on
/// purpose are sorted all the same.
fn sorted_order(entries: &[Entry]) -> impl Iterator<Item = u32> {
    const PILE_ENTRIES: usize = 1024;
    const PILE_BITS_MAX: u32 = 12;
    let piles = (entries.len() / PILE_ENTRIES).next_power_of_two();
    let pile_bits = piles.ilog2().min(PILE_BITS_MAX);
    let key = |entry: &Entry| leading_bits(entry.digest.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "these are few bits")]
    let pile = |key: u64| key.checked_shr(u64::BITS - pile_bits).unwrap_or(0) as usize;
    // Where each pile begins; after it was dealt, where it ends.
    let mut ends = vec![0; (1 << pile_bits) + 1];
    for entry in entries {
        ends[pile(key(entry)) + 1] += 1;
    }
    for number in 1..ends.len() {
        ends[number] += ends[number - 1];
    }
    let mut order = vec![(0, 0); entries.len()];
    for (position, entry) in (0_u32..).zip(entries) {
        let key = key(entry);
        let end = &mut ends[pile(key)];
        order[*end] = (key, position);
        *end += 1;
    }
    let mut begin = 0;
    for &end in &ends[..1 << pile_bits] {
        order[begin..end].sort_unstable_by(|a, b| {
            let whole = || entries[a.1 as usize].cmp(&entries[b.1 as usize]);
            a.0.cmp(&b.0).then_with(whole)
        });
        begin = end;
    }
    order.into_iter().map(|(_, position)| position)
}

/// A prime for which a remainder takes no division.
const PRIME: u64 = (1 << 61) - 1;

/// The product of two numbers below 2^62 up to a multiple of [`PRIME`], itself below 2^62.
#[inline]
fn product(a: u64, b: u64) -> u64 {
    let whole = u128::from(a) * u128::from(b);
    // What is cut off is added, since 2^61 leaves 1.
    #[expect(clippy::cast_possible_truncation)]
    let sum = (whole as u64 & PRIME) + (whole >> 61) as u64;
    (sum & PRIME) + (sum >> 61)
}

/// The first eight bytes of a digest as a number that sorts as the digest does.
#[inline]
fn leading_bits(digest: &[u8]) -> u64 {
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u32) -> (Vec<Entry>, u64) {
        let mut offset = 0;
        let entries = (0..count).map(|i| {
            let begin = offset + 4;
            offset = begin + u64::from(i % 7);
            Entry {
                digest: Digest::of(&i.to_le_bytes()),
                offset: begin,
                len: i % 7,
            }
        });
        (entries.collect(), offset)
    }

    #[test]
    fn what_was_encoded_is_found() {
        let (mut entries, data_bytes) = sample(1000);
        let index = Sidecar::parse(Sidecar::build(&mut entries).into_bytes()).unwrap();
        assert!(index.is_sorted() && index.tiles(data_bytes));
        for entry in &entries {
            assert_eq!(index.find(&entry.digest).collect::<Vec<_>>(), [*entry]);
        }
        assert_eq!(index.find(&Digest::of(b"absent")).next(), None);
        assert!(!index.is_empty() && Sidecar::build(&mut []).is_empty());
        assert_eq!((index.len(), index.entry(1000)), (1000, None));
        assert_eq!(index.entry(999), entries.last().copied());
    }

    #[test]
    fn digests_that_begin_alike_are_found_among_each_other() {
        let alike = |last: u8| {
            let mut digest = [7; DIGEST_BYTES];
            digest[31] = last;
            Entry {
                digest: digest.into(),
                offset: 4 + u64::from(last),
                len: 1,
            }
        };
        let mut entries: Vec<Entry> = (0..100).map(|i| alike(2 * i)).collect();
        let index = Sidecar::build(&mut entries);
        for entry in &entries {
            assert_eq!(index.find(&entry.digest).collect::<Vec<_>>(), [*entry]);
        }
        for between in (0..200).step_by(2).map(|i| alike(i + 1).digest) {
            assert_eq!(index.find(&between).next(), None);
        }
    }

    /// NEDB v3 writes them as its hash table gives them out.
    #[test]
    fn entries_in_another_order_are_not_sorted() {
        let mut entries = sample(3).0;
        let mut bytes = Sidecar::build(&mut entries).into_bytes();
        let (_, rest) = bytes.split_at_mut(HEADER_BYTES);
        let (first, second) = rest.split_at_mut(ENTRY_BYTES);
        first.swap_with_slice(&mut second[..ENTRY_BYTES]);
        assert!(!Sidecar::parse_unchecked(bytes).unwrap().is_sorted());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = Sidecar::build(&mut sample(5).0).into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Sidecar::parse(bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Sidecar::parse(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn several_at_a_time_are_parsed_as_one_by_one() {
        let whole = Sidecar::build(&mut sample(5).0).into_bytes();
        let mut sidecars = vec![whole.clone(), Sidecar::build(&mut []).into_bytes()];
        for bit in [0, 40, 8 * 12, 8 * whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            sidecars.extend([damaged, whole.clone(), whole[..whole.len() - 1].to_vec()]);
        }
        let text = |parsed: Result<Sidecar<_>, _>| {
            parsed
                .map(Sidecar::into_bytes)
                .map_err(|e: FormatError| e.to_string())
        };
        let one_by_one = sidecars.iter().cloned().map(Sidecar::parse);
        let one_by_one: Vec<_> = one_by_one.map(text).collect();
        let together: Vec<_> = Sidecar::parse_many(sidecars).map(text).collect();
        assert_eq!(together, one_by_one);
        assert_eq!(together.iter().filter(|parsed| parsed.is_ok()).count(), 6);
    }

    #[test]
    fn h22_an_absurd_count_is_rejected_by_arithmetic() {
        for count in [1_u64, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX] {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&count.to_le_bytes());
            let checksum = Digest::of(&bytes);
            bytes.extend_from_slice(checksum.as_bytes());
            assert!(Sidecar::parse(bytes).is_err(), "count {count}");
        }
    }

    /// Whether the records tile, which both ways of finding out have to agree on.
    fn tiles(entries: &[Entry], data_bytes: u64) -> bool {
        let index = Sidecar::build(&mut entries.to_vec());
        let tiles = index.tiles(data_bytes);
        for point in [0, 1, 12_345_678_901_234_567, PRIME - 1, u64::MAX] {
            let seen = index.tiles_as_seen_from(point, data_bytes);
            // From a point at which a record begins or ends, other lists may look alike.
            let is_sure = tiles || point % PRIME > data_bytes;
            assert!(seen == tiles || !is_sure, "{point} {entries:?}");
        }
        tiles
    }

    #[test]
    fn h35_entries_that_overlap_or_leave_a_gap_do_not_tile() {
        let (entries, data_bytes) = sample(10);
        assert!(tiles(&entries, data_bytes) && tiles(&[], 0) && !tiles(&[], 1));
        assert!(!tiles(&entries, data_bytes + 1) && !tiles(&entries, u64::MAX));
        for change in [
            |e: &mut Entry| e.offset += 1,
            |e: &mut Entry| e.len += 1,
            |e: &mut Entry| e.offset = u64::MAX,
            |e: &mut Entry| e.offset = 3,
        ] {
            for position in 0..entries.len() {
                let mut entries = entries.clone();
                change(&mut entries[position]);
                assert!(!tiles(&entries, data_bytes));
            }
        }
    }

    #[test]
    fn h66_entries_that_share_a_record_do_not_tile() {
        let (entries, data_bytes) = sample(10);
        for position in 0..entries.len() {
            let copy = entries[position];
            let added = [&entries[..], &[copy]].concat();
            assert!(!tiles(&added, data_bytes));
            let mut in_the_place_of_another = entries.clone();
            in_the_place_of_another[(position + 1) % 10] = copy;
            assert!(!tiles(&in_the_place_of_another, data_bytes));
        }
        // As long together as the data, and each at a place of its own.
        let long = |offset| Entry {
            offset,
            len: 6,
            ..entries[0]
        };
        assert!(tiles(&[long(4), long(14)], 20));
        assert!(!tiles(&[long(4), long(9)], 20));
    }

    #[test]
    fn entries_are_sorted_also_where_digests_begin_alike() {
        let alike = |number: u32| {
            let mut digest = [u8::MAX; DIGEST_BYTES];
            digest[7] = (number * 37 % 5) as u8;
            digest[31] = (number * 31 % 7) as u8;
            Entry {
                digest: digest.into(),
                offset: u64::from(number * 17 % 997),
                len: number,
            }
        };
        for count in [0, 1, 2, 1023, 1024, 5000] {
            let mut entries = sample(count).0;
            entries.extend((0..count).map(alike));
            let mut expected = entries.clone();
            expected.sort_unstable();
            let index = Sidecar::build(&mut entries);
            assert_eq!(entries, expected);
            assert!(index.entries().eq(expected) && index.checksum_holds());
        }
    }
}
