//! Any bytes as a sidecar. Whatever is accepted has the length that it speaks of, answers every
//! question within its bounds, and is the same bytes when it is built again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::format::{Entry, FormatError, Sidecar};

fn ask(index: &Sidecar<&[u8]>) {
    let entries: Vec<Entry> = index.entries().collect();
    assert_eq!(entries.len(), index.len());
    let sorted = index.is_sorted();
    for (position, entry) in entries.iter().enumerate() {
        assert_eq!(index.entry(position).as_ref(), Some(entry));
        let found = index.find(&entry.digest).any(|found| found == *entry);
        assert!(found || !sorted);
    }
    assert_eq!(index.entry(index.len()), None);
    let end = entries.iter().filter_map(Entry::end).max();
    if index.tiles(end.unwrap_or(0)) {
        let content: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
        assert_eq!(end.unwrap_or(0), content + 4 * entries.len() as u64);
    }
}

fuzz_target!(|bytes: &[u8]| {
    match Sidecar::parse_unchecked(bytes) {
        Ok(index) => {
            ask(&index);
            let holds = index.checksum_holds();
            assert_eq!(
                Sidecar::parse(bytes).err(),
                (!holds).then_some(FormatError::Checksum)
            );
        }
        Err(error) => assert_eq!(Sidecar::parse(bytes).err(), Some(error)),
    }
});
