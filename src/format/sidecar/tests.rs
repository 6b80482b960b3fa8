use super::tiling::PRIME;
use super::*;

fn sample(count: u32) -> (Vec<Entry>, u64) {
    let mut offset = 0;
    let entries = (0..count).map(|i| {
        let begin = offset + 4;
        offset = begin + u64::from(i % 7);
        Entry {
            digest: Digest::of(i.to_le_bytes()),
            offset: begin,
            len: i % 7,
        }
    });
    (entries.collect(), offset)
}

#[test]
fn each_entry_of_a_built_sidecar_is_found() {
    let (mut entries, data_bytes) = sample(1000);
    let sidecar = Sidecar::parse(Sidecar::build(&mut entries).into_bytes()).unwrap();
    assert!(sidecar.is_sorted() && sidecar.tiles(data_bytes));
    for entry in &entries {
        assert_eq!(sidecar.find(&entry.digest).collect::<Vec<_>>(), [*entry]);
    }
    assert_eq!(sidecar.find(&Digest::of(b"absent")).next(), None);
    assert!(!sidecar.is_empty() && Sidecar::build(&mut []).is_empty());
    assert_eq!((sidecar.len(), sidecar.entry(1000)), (1000, None));
    assert_eq!(sidecar.entry(999), entries.last().copied());
}

#[test]
fn digests_that_begin_alike_are_found_among_each_other() {
    let alike = |last: u8| {
        let mut digest = [7; DIGEST_BYTES];
        digest[31] = last;
        Entry {
            digest: digest.into(),
            offset: 4 + u64::from(last),
            len: 1,
        }
    };
    let mut entries: Vec<Entry> = (0..100).map(|i| alike(2 * i)).collect();
    let sidecar = Sidecar::build(&mut entries);
    for entry in &entries {
        assert_eq!(sidecar.find(&entry.digest).collect::<Vec<_>>(), [*entry]);
    }
    for between in (0..200).step_by(2).map(|i| alike(i + 1).digest) {
        assert_eq!(sidecar.find(&between).next(), None);
    }
}

/// NEDB v3 writes entries in the order of its hash table.
#[test]
fn entries_in_another_order_are_not_sorted() {
    let mut entries = sample(3).0;
    let mut bytes = Sidecar::build(&mut entries).into_bytes();
    let (_, rest) = bytes.split_at_mut(HEADER_BYTES);
    let (first, second) = rest.split_at_mut(ENTRY_BYTES);
    first.swap_with_slice(&mut second[..ENTRY_BYTES]);
    assert!(!Sidecar::parse_unchecked(bytes).unwrap().is_sorted());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bytes = Sidecar::build(&mut sample(5).0).into_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Sidecar::parse(bytes).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Sidecar::parse(&bytes[..len]).is_err(), "length {len}");
    }
}

#[test]
fn parse_many_gives_what_parse_gives_for_each() {
    let whole = Sidecar::build(&mut sample(5).0).into_bytes();
    let mut sidecars = vec![whole.clone(), Sidecar::build(&mut []).into_bytes()];
    for bit in [0, 40, 8 * 12, 8 * whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        sidecars.extend([damaged, whole.clone(), whole[..whole.len() - 1].to_vec()]);
    }
    let text = |parsed: Result<Sidecar<_>, _>| {
        parsed
            .map(Sidecar::into_bytes)
            .map_err(|e: FormatError| e.to_string())
    };
    let one_by_one = sidecars.iter().cloned().map(Sidecar::parse);
    let one_by_one: Vec<_> = one_by_one.map(text).collect();
    let together: Vec<_> = Sidecar::parse_many(sidecars).map(text).collect();
    assert_eq!(together, one_by_one);
    assert_eq!(together.iter().filter(|parsed| parsed.is_ok()).count(), 6);
}

#[test]
fn h22_an_absurd_count_is_rejected_by_arithmetic() {
    for count in [1_u64, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        assert!(Sidecar::parse(bytes).is_err(), "count {count}");
    }
}

/// Whether the records tile. Both ways of finding out must agree.
fn tiles(entries: &[Entry], data_bytes: u64) -> bool {
    let sidecar = Sidecar::build(&mut entries.to_vec());
    let tiles = sidecar.tiles(data_bytes);
    for point in [0, 1, 12_345_678_901_234_567, PRIME - 1, u64::MAX] {
        let seen = sidecar.tiles_as_seen_from(point, data_bytes);
        // At a point where a record begins or ends, different lists can look alike.
        let is_sure = tiles || point % PRIME > data_bytes;
        assert!(seen == tiles || !is_sure, "{point} {entries:?}");
    }
    tiles
}

#[test]
fn h35_entries_that_overlap_or_leave_a_gap_do_not_tile() {
    let (entries, data_bytes) = sample(10);
    assert!(tiles(&entries, data_bytes) && tiles(&[], 0) && !tiles(&[], 1));
    assert!(!tiles(&entries, data_bytes + 1) && !tiles(&entries, u64::MAX));
    for change in [
        |e: &mut Entry| e.offset += 1,
        |e: &mut Entry| e.len += 1,
        |e: &mut Entry| e.offset = u64::MAX,
        |e: &mut Entry| e.offset = 3,
    ] {
        for position in 0..entries.len() {
            let mut entries = entries.clone();
            change(&mut entries[position]);
            assert!(!tiles(&entries, data_bytes));
        }
    }
}

#[test]
fn h66_entries_that_share_a_record_do_not_tile() {
    let (entries, data_bytes) = sample(10);
    for position in 0..entries.len() {
        let copy = entries[position];
        let added = [&entries[..], &[copy]].concat();
        assert!(!tiles(&added, data_bytes));
        let mut in_the_place_of_another = entries.clone();
        in_the_place_of_another[(position + 1) % 10] = copy;
        assert!(!tiles(&in_the_place_of_another, data_bytes));
    }
    // Both records are together as long as the data, and begin at different places.
    let long = |offset| Entry {
        offset,
        len: 6,
        ..entries[0]
    };
    assert!(tiles(&[long(4), long(14)], 20));
    assert!(!tiles(&[long(4), long(9)], 20));
}

#[test]
fn entries_with_equal_leading_bits_are_sorted() {
    let alike = |number: u32| {
        let mut digest = [u8::MAX; DIGEST_BYTES];
        digest[7] = (number * 37 % 5) as u8;
        digest[31] = (number * 31 % 7) as u8;
        Entry {
            digest: digest.into(),
            offset: u64::from(number * 17 % 997),
            len: number,
        }
    };
    for count in [0, 1, 2, 1023, 1024, 5000] {
        let mut entries = sample(count).0;
        entries.extend((0..count).map(alike));
        let mut expected = entries.clone();
        expected.sort_unstable();
        let sidecar = Sidecar::build(&mut entries);
        assert_eq!(entries, expected);
        assert!(sidecar.entries().eq(expected) && sidecar.checksum_holds());
    }
}
