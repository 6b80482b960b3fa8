use super::header::{FIXED_BYTES, SEGMENT_BYTES};
use super::*;
use crate::digest::DIGEST_BYTES;
use crate::format::{Entry, SealedSegment, Sidecar};

type Segments = Vec<(u32, SealedSegment)>;
type Indexes = Vec<Sidecar<Vec<u8>>>;

/// Sidecars of segments that hold these digests, each record 16 bytes long.
fn segments_of(digests: &[Vec<Digest>]) -> (Segments, Indexes) {
    let mut segments = Vec::new();
    let mut indexes = Vec::new();
    for (id, digests) in (7..).zip(digests) {
        let entries = digests.iter().zip(0..).map(|(&digest, number)| Entry {
            digest,
            offset: 4 + number * 16,
            len: 12,
        });
        let mut entries: Vec<Entry> = entries.collect();
        let index = Sidecar::build(&mut entries);
        let segment = SealedSegment {
            data_bytes: digests.len() as u64 * 16,
            objects: u32::try_from(digests.len()).unwrap(),
            sidecar_checksum: index.checksum(),
        };
        segments.push((id, segment));
        indexes.push(index);
    }
    (segments, indexes)
}

fn run_of(digests: &[Vec<Digest>]) -> (SetIndex<Vec<u8>>, Indexes) {
    let (segments, indexes) = segments_of(digests);
    let references: Vec<_> = indexes.iter().collect();
    let bytes = Builder::build(&segments, &references).unwrap();
    let run = SetIndex::parse(bytes).unwrap();
    assert_eq!(run.header().segments, segments);
    assert!(!run.page_holds(run.pages()) && !run.page_holds(u64::MAX));
    for page in 0..run.pages() {
        assert!(run.page_holds(page), "{page}");
    }
    (run, indexes)
}

fn digest(number: u32) -> Digest {
    Digest::of(&number.to_le_bytes())
}

/// A digest that somebody chose to begin like others.
fn ground(number: u32) -> Digest {
    let mut bytes = [0x77; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Digest::from(bytes)
}

#[track_caller]
fn assert_finds_all(run: &SetIndex<Vec<u8>>, indexes: &[Sidecar<Vec<u8>>]) {
    for (ordinal, index) in (0..).zip(indexes) {
        for (position, entry) in index.entries().enumerate() {
            let geometry = &run.header().geometry;
            let location = geometry.location_of(ordinal, position, entry.offset);
            let found: Vec<Location> = run.find(&entry.digest).collect();
            assert!(found.contains(&location), "{entry:?}");
            if let Some(first) = run.first_in_own_bucket(&run.probe(&entry.digest)) {
                assert_eq!(first, found[0], "{entry:?}");
            }
        }
    }
}

#[test]
fn every_object_is_found_in_its_segment_whatever_the_number() {
    for (segments, objects) in [
        (1, 0),
        (1, 1),
        (3, 5),
        (1, 100),
        (7, 1000),
        // Where the header fills its first page, and where it does not any more.
        (83, 3),
        (84, 3),
        (300, 200),
    ] {
        let digests: Vec<Vec<Digest>> = (0..segments)
            .map(|segment| {
                (0..objects)
                    .map(|i| digest(segment * objects + i))
                    .collect()
            })
            .collect();
        let (run, indexes) = run_of(&digests);
        assert_finds_all(&run, &indexes);
        assert_eq!(run.header().objects, u64::from(segments * objects));
        let absent = (1 << 30..(1 << 30) + 1000).filter(|&i| run.find(&digest(i)).next().is_some());
        assert_eq!(absent.count(), 0);
    }
}

#[test]
fn nearly_every_object_is_the_first_with_its_tag_in_its_own_bucket() {
    let digests = vec![(0..100_000).map(digest).collect()];
    let (run, indexes) = run_of(&digests);
    let is_first = |entry: &Entry| {
        let first = run.first_in_own_bucket(&run.probe(&entry.digest));
        first.is_some_and(|first| first.offset == entry.offset)
    };
    let first = indexes[0].entries().filter(is_first).count();
    assert!(first > 90_000, "{first}");
}

#[test]
fn a_run_of_many_pieces_is_as_one_of_one_piece() {
    let digests: Vec<Vec<Digest>> = (0..4)
        .map(|segment| (0..40_000).map(|i| digest(segment * 40_000 + i)).collect())
        .collect();
    let (segments, indexes) = segments_of(&digests);
    let references: Vec<_> = indexes.iter().collect();
    let mut builder = Builder::new(&segments).unwrap();
    assert!(builder.pieces().len() > 1);
    let whole = builder.fill(0..builder.geometry.buckets(), &references);
    let (at, table) = builder.place(whole);
    let sums = page_sums(&table, 0);
    let [(end, rest), ..] = builder.finish(sums);
    let begin = usize::try_from(at).unwrap();
    let end = usize::try_from(end).unwrap();
    let in_pieces = Builder::build(&segments, &references).unwrap();
    assert!(in_pieces[begin..end] == table[..]);
    assert!(in_pieces[end..end + rest.len()] == rest[..]);
    assert_finds_all(&SetIndex::parse(in_pieces).unwrap(), &indexes);
}

/// A digest that begins with these bits.
fn beginning(leading: u64, number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&leading.to_be_bytes());
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Digest::from(bytes)
}

/// What finds no room at the end of a piece is put into the next, as if there were no pieces.
#[test]
fn what_spills_over_the_end_of_a_piece_is_found_in_the_next() {
    const OBJECTS: u32 = 100_000;
    for (buckets_before, ground) in [(1, 20), (2, 30), (3, 30), (4, 30), (4, 60), (5, 40)] {
        let mut digests: Vec<Digest> = (0..OBJECTS - ground).map(digest).collect();
        let count = u64::from(OBJECTS);
        let geometry = Geometry::of(&[(7, segment(count * 16, OBJECTS))]).unwrap();
        let boundary = 1 << 14;
        assert!(geometry.buckets() > boundary + 10);
        let least = geometry.least_leading(boundary - buckets_before).unwrap();
        digests.extend((0..ground).map(|number| beginning(least, number)));
        let (segments, indexes) = segments_of(&[digests]);
        let references: Vec<_> = indexes.iter().collect();
        let in_pieces = Builder::build(&segments, &references).unwrap();
        let mut builder = Builder::new(&segments).unwrap();
        let whole = builder.fill(0..builder.geometry.buckets(), &references);
        let (at, table) = builder.place(whole);
        let begin = usize::try_from(at).unwrap();
        assert!(in_pieces[begin..begin + table.len()] == table[..]);
        let run = SetIndex::parse(in_pieces).unwrap();
        assert_eq!(run.as_bytes().len() as u64, run.layout.file_bytes);
        for number in 0..ground {
            assert!(run.find(&beginning(least, number)).count() >= ground as usize);
        }
    }
}

/// As [`a_damaged_page_is_an_error_where_it_is_read_and_only_there`], in the part that is searched.
#[test]
fn a_damaged_page_of_the_overflow_is_an_error_and_the_end() {
    let mut digests: Vec<Digest> = (0..100).map(digest).collect();
    digests.extend((0..1000).map(ground));
    let (run, _) = run_of(&[digests]);
    let overflow_page = (run.layout.overflow - run.layout.table) / PAGE_BYTES as u64 + 1;
    assert!(overflow_page + 1 < run.pages());
    let probe = run.probe(&ground(1));
    for damaged in overflow_page..run.pages() {
        let mut found = run.find_checked(probe, |page| page != damaged);
        let failed = found.by_ref().find(Result::is_err);
        assert_eq!(failed, Some(Err(DamagedPage { page: damaged })));
        assert!(found.next().is_none());
    }
}

#[test]
fn it_takes_about_twelve_bytes_an_object() {
    let digests = vec![(0..100_000).map(digest).collect()];
    let (run, _) = run_of(&digests);
    let bytes = run.bytes.len();
    assert!((1_190_000..1_250_000).contains(&bytes), "{bytes}");
}

#[test]
fn digests_that_were_ground_end_in_a_search() {
    let mut digests: Vec<Digest> = (0..1000).map(digest).collect();
    digests.extend((0..5000).map(ground));
    let (run, indexes) = run_of(&[digests]);
    // All of them share their leading bits, so all of them come up for each.
    assert!(run.header().overflow > 4900);
    assert_eq!(run.find(&ground(17)).count(), 5000);
    assert_finds_all(&run, &indexes);
    // One that shares the bucket only does not see them.
    let mut bytes = [0x77; 32];
    bytes[7] = 0x78;
    assert_eq!(run.find(&Digest::from(bytes)).count(), 0);
    // One that would stand before them in the overflow, and has their tag, sees those in the buckets.
    bytes[7] = 0x76;
    let seen = run.find(&Digest::from(bytes)).count();
    assert!(seen <= 5000 - 4900, "{seen}");
}

#[test]
fn copies_of_an_object_are_all_found_the_newest_first() {
    let digests = vec![vec![digest(1), digest(2)], vec![digest(1)], vec![digest(1)]];
    let (run, _) = run_of(&digests);
    let ordinals: Vec<u32> = run.find(&digest(1)).map(|found| found.ordinal).collect();
    assert_eq!(ordinals, [2, 1, 0]);
    assert_eq!(run.find(&digest(2)).count(), 1);
}

#[test]
fn a_damaged_page_is_an_error_where_it_is_read_and_only_there() {
    let digests = vec![(0..2000).map(digest).collect()];
    let (run, indexes) = run_of(&digests);
    let (pages, table) = (run.pages(), usize::try_from(run.layout.table).unwrap());
    assert!(pages > 3);
    for page in 0..pages {
        let mut bytes = run.bytes.clone();
        bytes[table + usize::try_from(page).unwrap() * PAGE_BYTES + 777] ^= 4;
        let damaged = SetIndex::parse(bytes).unwrap();
        for entry in indexes[0].entries() {
            let probe = damaged.probe(&entry.digest);
            let mut found = damaged.find_checked(probe, |page| damaged.page_holds(page));
            match found.find(|found| *found != Err(DamagedPage { page })) {
                Some(found) => assert_eq!(found.unwrap().offset, entry.offset),
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

fn segment(data_bytes: u64, objects: u32) -> SealedSegment {
    SealedSegment {
        data_bytes,
        objects,
        sidecar_checksum: digest(0),
    }
}

#[test]
fn slots_hold_what_the_limits_allow() {
    let full = segment(256 << 20, 1_000_000);
    let alone = segment((4 << 30) + 4, 1);
    let mut segments: Vec<(u32, SealedSegment)> = (0..65_535).map(|id| (id, full)).collect();
    segments.push((65_535, alone));
    let geometry = Geometry::of(&segments).unwrap();
    // An object of 4 GiB begins its own segment, so it takes no bits from the tags.
    assert_eq!((geometry.ordinal_bits, geometry.offset_bits), (16, 29));
    assert_eq!(
        (geometry.entry_bits, geometry.tag_bits()),
        (3, TAG_BITS_MIN)
    );
    for (ordinal, position, offset) in [
        (0, 0, 4),
        (65_535, 7, 4),
        (65_535, 1_000_001, 256 << 20),
        (0, usize::MAX, 256 << 20),
    ] {
        let location = geometry.location_of(ordinal, position, offset);
        assert_eq!(location.entry as usize, position % 8);
        for leading in [0, 1, u64::MAX / 3, u64::MAX - 1, u64::MAX] {
            let probe = geometry.probe_leading(leading);
            assert!(probe.bucket < geometry.buckets());
            let slot = geometry.slot(&probe, location);
            assert_ne!(slot, 0);
            assert_eq!(geometry.location(slot, &probe), Some(location));
        }
    }
    // Slots that leave fewer than 16 bits for the tag are refused, whatever takes the bits.
    let with = |data_bytes| Geometry::of(&vec![(0, segment(data_bytes, 2)); 65_536]);
    assert_eq!(with((1 << 32) - 1).unwrap().tag_bits(), TAG_BITS_MIN);
    assert_eq!(with(1 << 32), None);
    let two = |data_bytes| Geometry::of(&[(0, segment(data_bytes, 2))]);
    assert_eq!(two((1 << 48) - 1).unwrap().tag_bits(), TAG_BITS_MIN);
    assert_eq!(two(1 << 48), None);
}

#[test]
fn a_short_part_of_a_sidecar_and_a_few_bits_give_the_position() {
    let geometry = Geometry::of(&[(0, segment(256 << 20, 1_000_000))]).unwrap();
    assert_eq!(geometry.entry_bits, ENTRY_BITS_MAX);
    for begin in [0, 1, 15, 16, 1000, 999_990] {
        for len in 1..=16 {
            let part = begin..begin + len;
            for position in part.clone() {
                let location = geometry.location_of(0, position, 4);
                assert_eq!(geometry.position_in(&part, &location), Some(position));
            }
            // What lies elsewhere is nothing, or something else that the digest shows not to be it.
            for position in [begin.wrapping_sub(1), begin + len] {
                let location = geometry.location_of(0, position, 4);
                let found = geometry.position_in(&part, &location);
                assert!(found.is_none_or(|found| part.contains(&found) && len == 16));
            }
        }
        let location = geometry.location_of(0, begin, 4);
        assert_eq!(geometry.position_in(&(begin..begin + 17), &location), None);
        assert_eq!(geometry.position_in(&(begin..begin), &location), None);
    }
}

#[test]
fn a_bucket_begins_where_the_one_before_ends() {
    for buckets in [1, 2, 3, 7, 1000, (1 << 32) + 1, u64::MAX] {
        let geometry = Geometry {
            buckets,
            ordinal_bits: 0,
            offset_bits: 3,
            entry_bits: 0,
        };
        assert_eq!(geometry.least_leading(buckets), None);
        for bucket in [0, 1, buckets / 2, buckets - 1] {
            let Some(least) = geometry.least_leading(bucket.min(buckets - 1)) else {
                panic!("{buckets}: {bucket}");
            };
            let probe = geometry.probe_leading(least);
            assert!(probe.bucket >= bucket.min(buckets - 1));
            if let Some(before) = least.checked_sub(1) {
                assert!(geometry.probe_leading(before).bucket < bucket.min(buckets - 1));
            }
        }
    }
}

/// Bytes that a second implementation gave, made from the description and not from this code. A change
/// of them is a change of the format: of `FORMAT.md` and of the magic too.
#[test]
fn golden_bytes_of_a_small_run() {
    let mut ordinary: Vec<Digest> = (0..20).map(digest).collect();
    ordinary.extend((0..40).map(ground));
    let (run, _) = run_of(&[ordinary, vec![digest(99), digest(3)]]);
    let hex = |begin: usize, len: usize| hex::encode(&run.bytes[begin..begin + len]);

    assert_eq!(
        hex(0, 44),
        concat!(
            "53535832020000003e000000000000000c000000000000000d00000000000000",
            "010000000a00000004000000",
        )
    );
    assert_eq!(
        hex(44, 48),
        concat!(
            "07000000c0030000000000003c00000023f7070e59587070ec43bcf438dbc1ff",
            "abcb3a479bf8c0d9dc9cecc741a1f7f2",
        )
    );
    assert_eq!(
        hex(92, 48),
        concat!(
            "08000000200000000000000002000000ff9b9bee8a58661dc3a3c55892cbfdb4",
            "14bbb3627a1d861975047961ab08f4bc",
        )
    );
    // The newer segment comes first: this object, beside another of it, and then the older copy.
    let bucket = run.probe(&digest(3)).bucket;
    assert_eq!(bucket, 10);
    let at = PAGE_BYTES + usize::try_from(bucket).unwrap() * BUCKET_BYTES;
    assert_eq!(
        hex(at, BUCKET_BYTES),
        concat!(
            "04041acc721dc44d148cf8ebc4ba6fce0439371b2102f11ac4403da11364c1c8",
            "34c8f8ebc4ba6fce54504975d25582d800000000000000000000000000000000",
        )
    );
    // What found no room: leading bits and slot.
    assert_eq!(run.header().overflow, 13);
    let overflow = usize::try_from(run.layout.overflow).unwrap();
    assert_eq!(
        hex(overflow, OVERFLOW_BYTES),
        "777777777777777764da999999999999"
    );
    assert_eq!(hex(2 * PAGE_BYTES, PAGE_SUM_BYTES), "43e39179a018ed6d");
    assert_eq!(run.bytes.len(), 2 * PAGE_BYTES + PAGE_SUM_BYTES);
    assert_eq!(
        Digest::of(&run.bytes).to_string(),
        "1e5e8317addb0ed41f1c2d6d223dea0bac0617ca17457f596b0872e18fcee49b"
    );
}
