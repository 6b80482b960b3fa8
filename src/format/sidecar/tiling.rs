//! Whether the entries of a sidecar describe a whole data file.

use super::Sidecar;
use crate::format::record;

impl<D: AsRef<[u8]>> Sidecar<D> {
    /// Whether the records of the entries lie one after the other from 0 to `data_bytes`, without
    /// gap or overlap. Sorts 16 bytes an entry.
    #[must_use]
    pub fn tiles(&self, data_bytes: u64) -> bool {
        let mut extents: Vec<(u64, u32)> = self.entries().map(|e| (e.offset, e.len)).collect();
        extents.sort_unstable();
        let end = extents.iter().try_fold(0_u64, |end, &(offset, len)| {
            (end.checked_add(record::HEADER_BYTES)? == offset).then_some(())?;
            offset.checked_add(u64::from(len))
        });
        end == Some(data_bytes)
    }

    /// Answers as [`tiles`](Self::tiles) does, in one pass and without memory. Entries that tile
    /// are always recognized. Entries that do not tile are taken for such by at most one in 2^29 of
    /// the values below 2^61 that `point` can have.
    ///
    /// Records tile exactly if two lists hold the same numbers: the beginnings of the records with
    /// `data_bytes`, and the ends of the records with 0. Each record leads from a number to a
    /// greater one, so equal lists form one way from 0 to `data_bytes`. Each list is taken for the
    /// zeros of a polynomial, and the two polynomials are compared at `point`.
    pub(crate) fn tiles_as_seen_from(&self, point: u64, data_bytes: u64) -> bool {
        if data_bytes >= PRIME {
            return false;
        }
        let point = point % PRIME;
        let distance = |at: u64| point + PRIME - at;
        let products = self.entries().try_fold((1, 1), |(begins, ends), entry| {
            let begin = entry.offset.checked_sub(record::HEADER_BYTES)?;
            let end = entry.end().filter(|&end| end <= data_bytes)?;
            let begins = product(begins, distance(begin));
            Some((begins, product(ends, distance(end))))
        });
        products.is_some_and(|(begins, ends)| {
            let begins = product(begins, distance(data_bytes));
            begins % PRIME == product(ends, distance(0)) % PRIME
        })
    }
}

/// A prime whose remainders need no division.
pub(super) const PRIME: u64 = (1 << 61) - 1;

/// Multiplies two numbers below 2^62 modulo [`PRIME`]. The result is below 2^62, not always below
/// the prime.
#[inline]
fn product(a: u64, b: u64) -> u64 {
    let whole = u128::from(a) * u128::from(b);
    // The high bits are added to the low ones, since 2^61 is 1 modulo the prime.
    #[expect(clippy::cast_possible_truncation)]
    let sum = (whole as u64 & PRIME) + (whole >> 61) as u64;
    (sum & PRIME) + (sum >> 61)
}
