//! Any bytes as a journal, and any bytes behind one that holds; and what is read in lanes is what is
//! read frame by frame.
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

fn number<const N: usize>(bytes: &[u8], begin: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(bytes.get(begin..begin.checked_add(N)?)?);
    Some(u64::from_le_bytes(number))
}

/// The frame at `begin`, if it continues `journal`, and what comes of it; written after the format's
/// text.
fn accept_frame(journal: &Journal, checksum: &[u8], bytes: &[u8]) -> Option<Journal> {
    let begin = usize::try_from(journal.valid_bytes).ok()?;
    let (kind, count) = (number::<4>(bytes, begin)?, number::<4>(bytes, begin + 4)?);
    let end = number::<8>(bytes, begin + 8)?;
    let entries_bytes = usize::try_from(count).ok()?.checked_mul(44)?;
    let covered_end = begin.checked_add(16)?.checked_add(entries_bytes)?;
    let covered = bytes.get(begin..covered_end)?;
    let stored = bytes.get(covered_end..covered_end.checked_add(16)?)?;
    let expected = Digest::of(&[checksum, covered].concat());
    if stored != &expected.as_bytes()[..16] {
        return None;
    }
    let mut next = journal.clone();
    next.valid_bytes = (covered_end + 16) as u64;
    match (kind, count) {
        (1, _) => {
            for entry in covered[16..].chunks(44) {
                let entry = Entry {
                    digest: Digest::try_from(&entry[..32]).ok()?,
                    offset: number::<8>(entry, 32)?,
                    len: u32::try_from(number::<4>(entry, 40)?).ok()?,
                };
                if next.covered_bytes.checked_add(4)? != entry.offset {
                    return None;
                }
                next.covered_bytes = entry.end()?;
                next.entries.push(entry);
            }
            (next.covered_bytes == end).then_some(next)
        }
        (2, 0) if end <= next.covered_bytes => {
            next.synced_bytes = end;
            Some(next)
        }
        _ => None,
    }
}

/// One frame after the other.
fn parse_frame_by_frame(bytes: &[u8]) -> Option<Journal> {
    let (header, _) = journal::encode_header(7);
    if !bytes.starts_with(&header) {
        return None;
    }
    let mut journal = Journal::empty(7);
    let digest = Digest::of(&[&[0; 16][..], &header].concat());
    let mut checksum = digest.as_bytes()[..16].to_vec();
    while let Some(next) = accept_frame(&journal, &checksum, bytes) {
        journal = next;
        let end = usize::try_from(journal.valid_bytes).expect("it lies within the bytes");
        checksum = bytes[end - 16..end].to_vec();
    }
    Some(journal)
}

/// All but the chain, which only the library can make.
fn assert_same(journal: Option<&Journal>, expected: Option<&Journal>) {
    let parts = |journal: &Journal| {
        let numbers = [journal.covered_bytes, journal.synced_bytes];
        (journal.entries.clone(), numbers, journal.valid_bytes)
    };
    assert_eq!(journal.map(parts), expected.map(parts));
}

/// A journal of small frames, as many as there are bytes, of which each may damage one.
fn damaged_journal(bytes: &[u8]) -> Vec<u8> {
    let (header, mut chain) = journal::encode_header(7);
    let mut whole = header.to_vec();
    let mut end = 0;
    for &byte in bytes {
        let begin = whole.len();
        if byte % 3 == 0 {
            chain = journal::encode_sync_mark(&mut whole, chain, end);
        } else {
            let entry = Entry {
                digest: Digest::from([byte; 32]),
                offset: end + 4,
                len: u32::from(byte),
            };
            end = entry.end().expect("it is small");
            chain = journal::encode_entries(&mut whole, chain, &[entry], end);
        }
        if byte >= 0xfc {
            whole[begin + usize::from(byte) % 32] ^= 1;
        }
    }
    whole
}

fuzz_target!(|bytes: &[u8]| {
    let parsed = Journal::parse(bytes, 7);
    if let Some(journal) = &parsed {
        check(journal);
    }
    assert_same(parsed.as_ref(), parse_frame_by_frame(bytes).as_ref());
    let damaged = damaged_journal(bytes);
    let parsed = Journal::parse(&damaged, 7);
    assert_same(parsed.as_ref(), parse_frame_by_frame(&damaged).as_ref());
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
    assert_same(Some(&journal), parse_frame_by_frame(&whole).as_ref());
});
