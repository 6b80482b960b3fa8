//! What is known of a segment before it is filled.

/// What a segment is prepared for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Size beyond which a further record goes to the next segment.
    pub(crate) segment_bytes_max: u64,
    /// Length of the first record, which may be longer than that.
    pub(crate) first_bytes: u64,
    /// How many records it will probably have when it is full; zero if that is unknown. With more
    /// than that its index has to grow, for which puts wait.
    pub(crate) records: usize,
}

impl Expected {
    /// Nothing is known but how large the segment may become.
    pub(crate) const fn of_size(segment_bytes_max: u64) -> Self {
        Self {
            segment_bytes_max,
            first_bytes: 0,
            records: 0,
        }
    }

    /// The same with the number of records that such a segment will probably have, if its first
    /// `bytes`, or those of another one, had `records`.
    pub(crate) fn after(self, records: u32, bytes: u64) -> Self {
        if records < COUNTED_RECORDS_MIN {
            return self;
        }
        let record_bytes_mean = (bytes / u64::from(records)).max(1);
        let expected = (self.segment_bytes_max / record_bytes_mean).min(EXPECTED_RECORDS_MAX);
        Self {
            records: usize::try_from(expected).unwrap_or(0),
            ..self
        }
    }
}

/// An index that is prepared for this many records takes 18 MiB before the first.
const EXPECTED_RECORDS_MAX: u64 = 1 << 20;
/// Fewer say little about those that follow.
const COUNTED_RECORDS_MIN: u32 = 1024;
