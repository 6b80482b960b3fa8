//! What a run says about an object: a location, which is a hint.

/// Where the record of an object may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    ordinal: Ordinal,
    offset: u64,
    entry: u32,
}

impl Location {
    #[inline]
    pub(super) const fn new(ordinal: Ordinal, offset: u64, entry: u32) -> Self {
        Self {
            ordinal,
            offset,
            entry,
        }
    }

    /// Returns which of the run's segments has the record.
    #[inline]
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// Returns where the content begins in the data file, in bytes.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the low bits of the position that the object's entry has in the sidecar.
    #[inline]
    #[must_use]
    pub const fn entry(&self) -> u32 {
        self.entry
    }
}

/// The position of a segment in [`Header::segments`](super::Header::segments).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ordinal(u32);

impl Ordinal {
    /// Makes the ordinal of the segment at `position`.
    #[inline]
    pub(crate) const fn new(position: u32) -> Self {
        Self(position)
    }

    /// Returns the position, to index a list of the segments with.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(super) const fn get(self) -> u32 {
        self.0
    }
}

const _: () = assert!(size_of::<Location>() == 16 && size_of::<Ordinal>() == 4);
