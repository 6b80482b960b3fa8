//! The size and number of records that a new segment is prepared for.

/// Estimates from which memory for a segment is reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Size beyond which a further record goes to the next segment.
    pub(crate) segment_bytes_max: u64,
    /// Length of the first record, which may exceed `segment_bytes_max`.
    pub(crate) first_bytes: u64,
    /// Number of records that the full segment will probably have; beyond this number its
    /// index has to grow, and puts wait for it.
    pub(crate) records: usize,
}

impl Expected {
    /// Makes an estimate from the maximum size alone.
    pub(crate) fn of_size(segment_bytes_max: u64) -> Self {
        let records = segment_bytes_max / RECORD_BYTES_ASSUMED;
        Self {
            segment_bytes_max,
            first_bytes: 0,
            records: usize::try_from(records.min(ASSUMED_RECORDS_MAX)).unwrap_or(0),
        }
    }

    /// Estimates the number of records from the mean of `records` that took `bytes`, the first of
    /// this segment or those of another.
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

/// Mean length of a record, in bytes, where nothing is known of the records. An index that is prepared
/// for too few grows, which took half of the time of puts of 256 bytes.
const RECORD_BYTES_ASSUMED: u64 = 1 << 10;
/// An index that is prepared for this many records takes 5 MiB before the first record.
const ASSUMED_RECORDS_MAX: u64 = 1 << 18;
/// An index that is prepared for this many records takes 18 MiB before the first record.
const EXPECTED_RECORDS_MAX: u64 = 1 << 20;
/// Fewer records say little about the records to come.
const COUNTED_RECORDS_MIN: u32 = 1024;
