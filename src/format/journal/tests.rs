use super::encode::{push_checksum, push_head};
use super::*;
use crate::digest::Digest;

fn sample() -> (Vec<u8>, Vec<usize>) {
    let (header, mut chain) = encode_header(3);
    let mut bytes = header.to_vec();
    let mut frame_ends = vec![bytes.len()];
    let mut end = 0;
    for i in 0..4_u32 {
        let entry = Entry {
            digest: Digest::of(i.to_le_bytes()),
            offset: end + 4,
            len: i,
        };
        end = entry.end().unwrap();
        chain = encode_entries(&mut bytes, chain, &[entry], end);
        frame_ends.push(bytes.len());
        chain = encode_sync_mark(&mut bytes, chain, end);
        frame_ends.push(bytes.len());
    }
    (bytes, frame_ends)
}

#[test]
fn h65_what_cannot_be_a_journal_is_told_without_hashing() {
    let (mut bytes, frame_ends) = sample();
    let whole_bytes = bytes.len();
    for cut in 0..=whole_bytes {
        let plausible = plausible(&bytes[..cut]);
        let ends = frame_ends.iter().rfind(|&&end| end <= cut);
        let expected = ends.copied().unwrap_or(cut);
        assert_eq!(
            (plausible.bytes, plausible.goes_on),
            (expected, true),
            "{cut}"
        );
    }
    bytes.resize(whole_bytes + (1 << 20), 0);
    let with_zeros = plausible(&bytes);
    assert_eq!((with_zeros.bytes, with_zeros.goes_on), (whole_bytes, false));
    // The head of a frame in a hole claims more entries than there are.
    bytes[whole_bytes..whole_bytes + 8].copy_from_slice(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let with_claim = plausible(&bytes);
    assert_eq!((with_claim.bytes, with_claim.goes_on), (whole_bytes, false));
}

#[test]
fn every_cut_keeps_the_whole_frames() {
    let (bytes, frame_ends) = sample();
    for cut in HEADER_BYTES..=bytes.len() {
        let journal = Journal::parse(&bytes[..cut], 3).unwrap();
        let expected = *frame_ends.iter().rfind(|&&end| end <= cut).unwrap();
        assert_eq!(journal.valid_bytes, expected as u64);
    }
}

#[test]
fn every_flipped_bit_ends_the_journal_before_it() {
    let (bytes, frame_ends) = sample();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let valid = Journal::parse(&bytes, 3).map_or(0, |journal| journal.valid_bytes);
        let expected = frame_ends.iter().rfind(|&&end| end <= bit / 8);
        assert_eq!(valid, expected.map_or(0, |&end| end as u64), "bit {bit}");
    }
}

#[test]
fn a_frame_is_accepted_in_its_place_only() {
    let (bytes, frame_ends) = sample();
    let swapped = [
        &bytes[..frame_ends[0]],
        &bytes[frame_ends[1]..frame_ends[2]],
        &bytes[frame_ends[0]..frame_ends[1]],
    ]
    .concat();
    assert_eq!(Journal::parse(&swapped, 3).unwrap(), Journal::empty(3));
}

/// Parses frame by frame, as the format is specified.
fn parse_one_by_one(bytes: &[u8]) -> Journal {
    let mut journal = Journal::empty(3);
    let mut begin = HEADER_BYTES;
    while let Some(frame) = Frame::at(bytes, begin) {
        if journal.chain.next(frame.covered) != frame.checksum || journal.accept(&frame).is_none() {
            break;
        }
        begin += frame.len();
    }
    journal
}

#[test]
fn many_frames_at_once_give_what_frame_by_frame_gives() {
    let (header, mut chain) = encode_header(3);
    let mut bytes = header.to_vec();
    let mut end = 0;
    for i in 0..3 * WINDOW_FRAMES as u64 {
        let mut entry = |j: u64| {
            let digest = Digest::of((i + j).to_le_bytes());
            let (offset, len) = (end + 4, (i % 5) as u32);
            end = offset + u64::from(len);
            Entry {
                digest,
                offset,
                len,
            }
        };
        let entries: Vec<Entry> = (0..i % 9).map(&mut entry).collect();
        chain = encode_entries(&mut bytes, chain, &entries, end);
        if i % 3 == 0 {
            chain = encode_sync_mark(&mut bytes, chain, end);
        }
    }
    let whole = parse_one_by_one(&bytes);
    assert_eq!(whole.valid_bytes, bytes.len() as u64);
    assert_eq!(Journal::parse(&bytes, 3), Some(whole));
    for step in 0..40 {
        let mut bytes = bytes.clone();
        let position = HEADER_BYTES + step * (bytes.len() - HEADER_BYTES - 1) / 39;
        bytes[position] ^= 0x40;
        let expected = Some(parse_one_by_one(&bytes));
        assert_eq!(Journal::parse(&bytes, 3), expected, "{position}");
        assert_eq!(
            Journal::parse_in_parallel(&bytes, 3),
            expected,
            "{position}"
        );
    }
}

#[test]
fn a_journal_of_several_windows_is_read_to_its_end() {
    let (header, mut chain) = encode_header(3);
    let mut bytes = header.to_vec();
    let mut end = 0;
    let entries_in_frame = 4000;
    while bytes.len() < 2 * WINDOW_BYTES + WINDOW_BYTES / 2 {
        let begin = end;
        let entry = |i: u64| Entry {
            digest: Digest::of(i.to_le_bytes()),
            offset: begin + i * 5 + 4,
            len: 1,
        };
        let entries: Vec<Entry> = (0..entries_in_frame).map(entry).collect();
        end += entries_in_frame * 5;
        chain = encode_entries(&mut bytes, chain, &entries, end);
    }
    let journal = Journal::parse(&bytes, 3).unwrap();
    assert_eq!(journal.valid_bytes, bytes.len() as u64);
    assert_eq!(journal.covered_bytes, end);
    assert_eq!(Journal::parse_in_parallel(&bytes, 3), Some(journal));
}

/// A damaged sync mark takes no entries with it, so the frames behind it would still fit; some of
/// them are hashed in another window.
#[test]
fn h5_nothing_is_taken_from_behind_a_damaged_sync_mark() {
    let (header, mut chain) = encode_header(3);
    let mut bytes = header.to_vec();
    for _ in 0..3 * WINDOW_FRAMES {
        chain = encode_sync_mark(&mut bytes, chain, 0);
    }
    for damaged in [1, 2, 700, WINDOW_FRAMES, WINDOW_FRAMES + 1] {
        let mut bytes = bytes.clone();
        let begin = HEADER_BYTES + damaged * FRAME_BYTES;
        bytes[begin + 8] = 1;
        let journal = Journal::parse(&bytes, 3).unwrap();
        assert_eq!(journal.valid_bytes, begin as u64, "{damaged}");
        assert_eq!(Journal::parse_in_parallel(&bytes, 3), Some(journal));
    }
}

#[test]
fn a_journal_continues_only_bytes_that_end_as_it_does() {
    let (bytes, frame_ends) = sample();
    let journal = Journal::parse(&bytes[..frame_ends[3]], 3).unwrap();
    assert!(journal.is_continued_by(&bytes[..frame_ends[3]]));
    assert!(!journal.is_continued_by(&bytes[..frame_ends[2]]));
    assert!(!journal.is_continued_by(&[]));
    assert!(Journal::empty(3).is_continued_by(&[]));
}

#[test]
fn a_frame_that_holds_and_contradicts_the_journal_ends_it() {
    let (header, chain) = encode_header(3);
    for (kind, end) in [(KIND_SYNC_MARK, 1), (KIND_ENTRIES, 1), (3, 0)] {
        let mut bytes = header.to_vec();
        let chain = encode_sync_mark(&mut bytes, chain, 0);
        let chain = encode_sync_mark(&mut bytes, chain, 0);
        let valid_bytes = bytes.len();
        push_head(&mut bytes, kind, 0, end);
        let chain = push_checksum(&mut bytes, valid_bytes, chain);
        encode_sync_mark(&mut bytes, chain, 0);
        let journal = Journal::parse(&bytes, 3).unwrap();
        assert_eq!(
            (journal.valid_bytes, journal.entries),
            (valid_bytes as u64, vec![])
        );
    }
}

#[test]
fn an_extended_journal_equals_one_that_was_read_at_once() {
    let (bytes, frame_ends) = sample();
    for end in frame_ends {
        let mut journal = Journal::parse(&bytes[..end], 3).unwrap();
        journal.extend(&bytes[end..]);
        assert_eq!(Some(journal), Journal::parse(&bytes, 3));
    }
}
