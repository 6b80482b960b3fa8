//! Any bytes as a journal, any bytes behind a journal that holds, and journals of small frames of
//! which some are damaged. The parser, which hashes many frames at a time, reads each of them as a
//! parser does that is written after the format's text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::journal::Encoder;
use sealstone::format::{Entry, Journal};

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

/// The contents of a journal, read by a parser that is written after the format's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expected {
    entries: Vec<Entry>,
    covered_bytes: u64,
    synced_bytes: u64,
    valid_bytes: u64,
}

impl From<&Journal> for Expected {
    fn from(journal: &Journal) -> Self {
        Self {
            entries: journal.entries.clone(),
            covered_bytes: journal.covered_bytes,
            synced_bytes: journal.synced_bytes,
            valid_bytes: journal.valid_bytes,
        }
    }
}

/// Reads the frame behind `journal`, or returns `None` if it does not continue the journal.
fn accept_frame(journal: &Expected, checksum: &[u8], bytes: &[u8]) -> Option<Expected> {
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

/// Reads one frame after the other.
fn parse_frame_by_frame(bytes: &[u8]) -> Option<Expected> {
    const HEADER: &[u8; 8] = b"SSJ1\x07\0\0\0";
    if !bytes.starts_with(HEADER) {
        return None;
    }
    let mut journal = Expected {
        valid_bytes: 8,
        ..Expected::default()
    };
    let digest = Digest::of(&[&[0; 16], &HEADER[..]].concat());
    let mut checksum = digest.as_bytes()[..16].to_vec();
    while let Some(next) = accept_frame(&journal, &checksum, bytes) {
        journal = next;
        let end = usize::try_from(journal.valid_bytes).expect("it lies within the bytes");
        checksum = bytes[end - 16..end].to_vec();
    }
    Some(journal)
}

fn assert_same(journal: Option<&Journal>, bytes: &[u8]) {
    assert_eq!(journal.map(Expected::from), parse_frame_by_frame(bytes));
}

/// Makes a journal with a small frame for each byte, which also says whether the frame is damaged.
fn damaged_journal(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(7);
    let mut damaged = Vec::new();
    let mut end = 0;
    for &byte in bytes {
        let begin = encoder.as_bytes().len();
        if byte % 3 == 0 {
            encoder.sync_mark(end);
        } else {
            let entry = Entry {
                digest: Digest::from([byte; 32]),
                offset: end + 4,
                len: u32::from(byte),
            };
            end = entry.end().expect("it is small");
            encoder.entries(&[entry], end);
        }
        if byte >= 0xfc {
            damaged.push(begin + usize::from(byte) % 32);
        }
    }
    let mut whole = encoder.into_bytes();
    for at in damaged {
        whole[at] ^= 1;
    }
    whole
}

fuzz_target!(|bytes: &[u8]| {
    let parsed = Journal::parse(bytes, 7);
    if let Some(journal) = &parsed {
        check(journal);
    }
    assert_same(parsed.as_ref(), bytes);
    let damaged = damaged_journal(bytes);
    let parsed = Journal::parse(&damaged, 7);
    assert_same(parsed.as_ref(), &damaged);
    let mut encoder = Encoder::new(7);
    let entry = Entry {
        digest: Digest::from([7; 32]),
        offset: 4,
        len: 9,
    };
    encoder.entries(&[entry], 13);
    encoder.sync_mark(13);
    let whole = [encoder.as_bytes(), bytes].concat();
    let journal = Journal::parse(&whole, 7).expect("the header is right");
    assert!(journal.entries.starts_with(&[entry]) && journal.synced_bytes == 13);
    check(&journal);
    assert_same(Some(&journal), &whole);
});
