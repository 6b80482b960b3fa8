use super::*;

fn tag_bits(geometry: Geometry) -> u32 {
    u64::BITS - geometry.position_bits()
}

#[test]
fn a_slot_holds_every_location_within_the_limits() {
    let full = segment(256 << 20, 1_000_000);
    let alone = segment((4 << 30) + 4, 1);
    let mut segments: Vec<(u32, SealedSegment)> = (0..65_535).map(|id| (id, full)).collect();
    segments.push((65_535, alone));
    let geometry = Geometry::of(&segments).unwrap();
    // An object of 4 GiB begins its own segment, so it takes no bits from the tags.
    assert_eq!((geometry.ordinal_bits, geometry.offset_bits), (16, 29));
    assert_eq!((geometry.entry_bits, tag_bits(geometry)), (3, TAG_BITS_MIN));
    for (ordinal, position, offset) in [
        (0, 0, 4),
        (65_535, 7, 4),
        (65_535, 1_000_001, 256 << 20),
        (0, usize::MAX, 256 << 20),
    ] {
        let location = geometry.location_of(Ordinal::new(ordinal), position, offset);
        assert_eq!(location.entry() as usize, position % 8);
        for leading in [0, 1, u64::MAX / 3, u64::MAX - 1, u64::MAX] {
            let probe = geometry.probe_leading(leading);
            assert!(probe.bucket < geometry.buckets());
            let slot = geometry.slot(&probe, location);
            assert!(!slot.is_vacant());
            assert_eq!(geometry.location(slot, &probe), Some(location));
        }
    }
    // Geometries with fewer than 16 bits for the tag are refused, whichever field takes the bits.
    let with = |data_bytes| Geometry::of(&vec![(0, segment(data_bytes, 2)); 65_536]);
    assert_eq!(with((1 << 32) - 1).map(tag_bits), Some(TAG_BITS_MIN));
    assert_eq!(with(1 << 32), None);
    let two = |data_bytes| Geometry::of(&[(0, segment(data_bytes, 2))]);
    assert_eq!(two((1 << 48) - 1).map(tag_bits), Some(TAG_BITS_MIN));
    assert_eq!(two(1 << 48), None);
}

#[test]
fn a_short_part_of_a_sidecar_and_the_low_bits_determine_the_position() {
    let geometry = Geometry::of(&[(0, segment(256 << 20, 1_000_000))]).unwrap();
    assert_eq!(geometry.entry_bits, ENTRY_BITS_MAX);
    for begin in [0, 1, 15, 16, 1000, 999_990] {
        for len in 1..=16 {
            let part = begin..begin + len;
            for position in part.clone() {
                let location = geometry.location_of(Ordinal::new(0), position, 4);
                assert_eq!(geometry.position_in(&part, &location), Some(position));
            }
            // An entry elsewhere gives no position, or another one, whose digest then differs.
            for position in [begin.wrapping_sub(1), begin + len] {
                let location = geometry.location_of(Ordinal::new(0), position, 4);
                let found = geometry.position_in(&part, &location);
                assert!(found.is_none_or(|found| part.contains(&found) && len == 16));
            }
        }
        let location = geometry.location_of(Ordinal::new(0), begin, 4);
        assert_eq!(geometry.position_in(&(begin..begin + 17), &location), None);
        assert_eq!(geometry.position_in(&(begin..begin), &location), None);
    }
}

#[test]
fn each_bucket_begins_where_the_bucket_before_it_ends() {
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
