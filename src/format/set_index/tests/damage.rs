use super::*;

/// Shows for the overflow what [`a_damaged_page_is_an_error_where_it_is_read_and_only_there`] shows
/// for the table.
#[test]
fn a_damaged_page_of_the_overflow_ends_a_lookup_with_an_error() {
    let mut digests: Vec<Digest> = (0..100).map(digest).collect();
    digests.extend((0..1000).map(ground));
    let (run, _) = run_of(&[digests]);
    let overflow_page = (run.layout.overflow - run.layout.table) / PAGE_BYTES as u64 + 1;
    assert!(overflow_page + 1 < run.pages());
    let probe = run.probe(&ground(1));
    for damaged in overflow_page..run.pages() {
        let mut found = run.find_probed(probe, |page| page != damaged);
        let failed = found.by_ref().find(Result::is_err);
        assert_eq!(failed, Some(Err(DamagedPage { page: damaged })));
        assert!(found.next().is_none());
    }
}

#[test]
fn a_damaged_page_is_an_error_where_it_is_read_and_only_there() {
    let digests = vec![(0..2000).map(digest).collect()];
    let (run, sidecars) = run_of(&digests);
    let (pages, table) = (run.pages(), usize::try_from(run.layout.table).unwrap());
    assert!(pages > 3);
    for page in 0..pages {
        let mut bytes = run.bytes.clone();
        bytes[table + usize::try_from(page).unwrap() * PAGE_BYTES + 777] ^= 4;
        let damaged = SetIndex::parse(bytes).unwrap();
        for entry in sidecars[0].entries() {
            let probe = damaged.probe(&entry.digest);
            let mut found = damaged.find_probed(probe, |page| damaged.page_holds(page));
            match found.find(|found| *found != Err(DamagedPage { page })) {
                Some(found) => assert_eq!(found.unwrap().offset(), entry.offset),
                None => assert!(SetIndex::<Vec<u8>>::page_of_bucket(probe.bucket) <= page),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_in_the_padding_of_the_header() {
    let digests = vec![(0..20).map(digest).collect(), vec![digest(99)]];
    let (run, _) = run_of(&digests);
    let covered = FIXED_BYTES + 2 * SEGMENT_BYTES + DIGEST_BYTES;
    for at in (0..covered).chain(PAGE_BYTES..run.bytes.len()) {
        for bit in 0..8 {
            let mut bytes = run.bytes.clone();
            bytes[at] ^= 1 << bit;
            let noticed = SetIndex::parse(bytes).map_or(true, |run| {
                (0..run.pages()).any(|page| !run.page_holds(page))
            });
            assert!(noticed, "byte {at}, bit {bit}");
        }
    }
    for len in 0..run.bytes.len() {
        assert!(SetIndex::parse(&run.bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn h22_absurd_numbers_are_rejected_by_arithmetic() {
    let geometry = Geometry {
        buckets: 1,
        ordinal_bits: 0,
        offset_bits: 3,
        entry_bits: 0,
    };
    let header = |change: fn(&mut Header)| {
        let mut header = Header {
            segments: Vec::new(),
            objects: 0,
            overflow: 0,
            geometry,
        };
        change(&mut header);
        SetIndex::parse(header.encode()).err()
    };
    assert_eq!(header(|h| h.overflow = u64::MAX), Some(FormatError::Count));
    assert_eq!(
        header(|h| h.overflow = u64::MAX / 16),
        Some(FormatError::Count)
    );
    assert_eq!(
        header(|h| h.geometry.buckets = u64::MAX),
        Some(FormatError::Count)
    );
    assert_eq!(
        header(|h| h.geometry.buckets = 1 << 57),
        Some(FormatError::Length)
    );
    assert_eq!(header(|h| h.geometry.buckets = 0), Some(FormatError::Count));
    assert_eq!(
        header(|h| h.geometry.offset_bits = u32::MAX),
        Some(FormatError::Count)
    );
    assert_eq!(
        header(|h| h.geometry.ordinal_bits = u32::MAX),
        Some(FormatError::Count)
    );
    for entry_bits in [ENTRY_BITS_MAX + 1, u32::MAX] {
        let mut header = Header {
            segments: Vec::new(),
            objects: 0,
            overflow: 0,
            geometry,
        };
        header.geometry.entry_bits = entry_bits;
        let parsed = SetIndex::parse(header.encode());
        assert_eq!(parsed.err(), Some(FormatError::Count));
    }
    let mut many = MAGIC.to_vec();
    many.extend_from_slice(&u32::MAX.to_le_bytes());
    many.resize(200, 0);
    assert_eq!(SetIndex::parse(many).err(), Some(FormatError::Length));
}
