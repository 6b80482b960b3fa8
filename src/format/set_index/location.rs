//! What a run says about an object.

/// Where a record may lie.
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

    /// The segment.
    #[inline]
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// Where the content begins in the data file, in bytes.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The low bits of the position that the entry of the object has in the sidecar.
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
    /// The ordinal of the segment at `position`.
    #[inline]
    pub(crate) const fn new(position: u32) -> Self {
        Self(position)
    }

    /// The position as an index.
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

// Lookups hand both over in registers.
const _: () = assert!(size_of::<Location>() == 16 && size_of::<Ordinal>() == 4);
