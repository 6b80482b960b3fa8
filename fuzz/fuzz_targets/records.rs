//! Any bytes as a data file. Records follow each other and lie within the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::format::{Records, record};

fuzz_target!(|bytes: &[u8]| {
    let mut records = Records::new(bytes);
    let mut end = 0;
    for record in records.by_ref() {
        assert_eq!(record.offset, end + record::HEADER_BYTES);
        end = record.offset + record.content.len() as u64;
    }
    assert_eq!(records.position() as u64, end);
    assert!(end <= bytes.len() as u64);
    assert_eq!(records.next(), None);
});
