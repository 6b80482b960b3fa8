//! Any bytes as a sidecar, as they are and with a checksum that holds. They are refused for the
//! first reason that the format's text gives; a sidecar that is accepted answers every question
//! within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::{Entry, FormatError, Sidecar};

/// The number of entries, written after the format's text.
fn count(bytes: &[u8]) -> Result<usize, FormatError> {
    if !bytes.starts_with(b"NIX1") {
        return Err(FormatError::Magic);
    }
    let count = bytes.get(4..12).ok_or(FormatError::Length)?;
    let count = u64::from_le_bytes(count.try_into().expect("it has 8 bytes"));
    if count >= 1 << 32 {
        return Err(FormatError::Count);
    }
    if bytes.len() as u64 != 12 + 44 * count + 32 {
        return Err(FormatError::Length);
    }
    let (covered, checksum) = bytes.split_at(bytes.len() - 32);
    if Digest::of(covered).as_bytes()[..] != *checksum {
        return Err(FormatError::Checksum);
    }
    Ok(usize::try_from(count).expect("the bytes are in memory"))
}

fn ask(sidecar: &Sidecar<&[u8]>) {
    let entries: Vec<Entry> = sidecar.entries().collect();
    assert_eq!(entries.len(), sidecar.len());
    let is_sorted = sidecar.is_sorted();
    for (position, entry) in entries.iter().enumerate() {
        assert_eq!(sidecar.entry(position).as_ref(), Some(entry));
        let is_found = sidecar.find(&entry.digest).any(|found| found == *entry);
        assert!(is_found || !is_sorted);
    }
    assert_eq!(sidecar.entry(sidecar.len()), None);
    let end = entries.iter().filter_map(Entry::end).max();
    if sidecar.tiles(end.unwrap_or(0)) {
        let content: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
        assert_eq!(end.unwrap_or(0), content + 4 * entries.len() as u64);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut forged = bytes.to_vec();
    if let Some((covered, checksum)) = forged.split_last_chunk_mut::<32>() {
        *checksum = *Digest::of(covered).as_bytes();
    }
    for bytes in [bytes, &forged] {
        let parsed = Sidecar::parse(bytes);
        let len = parsed.as_ref().map(Sidecar::len);
        assert_eq!(len.map_err(|error| *error), count(bytes));
        if let Ok(sidecar) = parsed {
            ask(&sidecar);
        }
    }
});
