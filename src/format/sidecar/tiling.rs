//! Whether the entries of a sidecar describe a whole data file.

use super::Sidecar;
use crate::format::record;

impl<D: AsRef<[u8]>> Sidecar<D> {
    /// Whether the records that the entries speak of lie one after the other from 0 to
    /// `data_bytes`, without gap or overlap. Sorts 16 bytes an entry.
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

/// A prime for which a remainder takes no division.
pub(super) const PRIME: u64 = (1 << 61) - 1;

/// The product of two numbers below 2^62 up to a multiple of [`PRIME`], itself below 2^62.
#[inline]
fn product(a: u64, b: u64) -> u64 {
    let whole = u128::from(a) * u128::from(b);
    // What is cut off is added, since 2^61 leaves 1.
    #[expect(clippy::cast_possible_truncation)]
    let sum = (whole as u64 & PRIME) + (whole >> 61) as u64;
    (sum & PRIME) + (sum >> 61)
}
