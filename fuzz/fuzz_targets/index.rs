//! Any bytes as a sidecar, with and without a checksum that holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::Index;

fn ask(index: &Index<&[u8]>) {
    assert_eq!(index.entries().count(), index.len());
    let data_bytes = index.entries().filter_map(|entry| entry.end()).max();
    let _ = index.tiles(data_bytes.unwrap_or(0));
    let sorted = index.is_sorted();
    for (position, entry) in index.entries().enumerate().take(64) {
        assert_eq!(index.entry(position), Some(entry));
        let found = index.find(&entry.digest).any(|found| found == entry);
        assert!(found || !sorted);
    }
    assert_eq!(index.entry(index.len()), None);
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = Index::parse_unchecked(bytes) {
        ask(&index);
    }
    // Whoever forges a sidecar recomputes its checksum.
    let mut forged = bytes.to_vec();
    forged.extend_from_slice(Digest::of(bytes).as_bytes());
    if let Ok(index) = Index::parse(&forged[..]) {
        ask(&index);
    }
});
