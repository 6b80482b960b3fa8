//! Any bytes as a journal, and any bytes behind one that holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::{Entry, Journal, journal};

fn check(journal: &Journal) {
    let mut end = 0;
    for entry in &journal.entries {
        assert_eq!(entry.offset, end + 4);
        end = entry.offset + u64::from(entry.len);
    }
    assert_eq!(journal.covered_bytes, end);
    assert!(journal.synced_bytes <= end);
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(journal) = Journal::parse(bytes, 7) {
        check(&journal);
    }
    let (header, chain) = journal::encode_header(7);
    let mut whole = header.to_vec();
    let entry = Entry {
        digest: Digest::from([7; 32]),
        offset: 4,
        len: 9,
    };
    let chain = journal::encode_entries(&mut whole, chain, &[entry], 13);
    journal::encode_sync_mark(&mut whole, chain, 13);
    whole.extend_from_slice(bytes);
    let journal = Journal::parse(&whole, 7).expect("the header is right");
    assert!(journal.entries.starts_with(&[entry]) && journal.synced_bytes == 13);
    check(&journal);
});
