//! A sidecar with any entries and a checksum that holds, as a forger recomputes it. The first byte
//! says whether the fuzzer makes the header as well. `find` and `tiles` agree with a plain scan.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::{Entry, Sidecar, sidecar};

fn forged(bytes: &[u8]) -> Option<(bool, Vec<u8>)> {
    let (&choices, bytes) = bytes.split_first()?;
    let is_sound = choices % 8 != 0;
    let mut whole = Vec::with_capacity(bytes.len() + 44);
    if is_sound {
        let entries = bytes.as_chunks::<44>().0;
        whole.extend_from_slice(&sidecar::MAGIC);
        whole.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        whole.extend_from_slice(entries.as_flattened());
    } else {
        whole.extend_from_slice(bytes);
    }
    let checksum = Digest::of(&whole);
    whole.extend_from_slice(checksum.as_bytes());
    Some((is_sound, whole))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((is_sound, bytes)) = forged(bytes) else {
        return;
    };
    let Ok(parsed) = Sidecar::parse(&bytes[..]) else {
        assert!(!is_sound, "magic, count, length and checksum are right");
        return;
    };
    let mut entries: Vec<Entry> = parsed.entries().collect();
    assert_eq!(entries.len(), parsed.len());
    let is_sorted = parsed.is_sorted();
    for (position, entry) in entries.iter().enumerate() {
        assert_eq!(parsed.entry(position).as_ref(), Some(entry));
        let found: Vec<Entry> = parsed.find(&entry.digest).collect();
        assert!(found.iter().all(|found| found.digest == entry.digest));
        assert!(!is_sorted || found.contains(entry));
    }
    assert_eq!(parsed.entry(parsed.len()), None);

    // The entries tile the data if, laid out in their order, each begins where the last one ended.
    let end = entries.iter().filter_map(Entry::end).max().unwrap_or(0);
    let mut extents: Vec<_> = entries
        .iter()
        .map(|entry| (entry.offset, entry.len))
        .collect();
    extents.sort_unstable();
    let mut expected = 0_u128;
    let tiles = extents.iter().all(|&(offset, len)| {
        let follows = u128::from(offset) == expected + 4;
        expected = u128::from(offset) + u128::from(len);
        follows
    });
    assert_eq!(parsed.tiles(end), tiles && expected == u128::from(end));

    // A sidecar that we build is sorted, and building it again changes no byte.
    let built = Sidecar::build(&mut entries);
    assert!(built.is_sorted());
    let again = Sidecar::build(&mut entries);
    assert_eq!(built.as_bytes(), again.as_bytes());
});
