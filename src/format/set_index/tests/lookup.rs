use super::*;

#[test]
fn every_object_is_found_whatever_the_number_of_segments_and_objects() {
    for (segments, objects) in [
        (1, 0),
        (1, 1),
        (3, 5),
        (1, 100),
        (7, 1000),
        // The header fills its first page with 83 segments, and takes a second one for 84.
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
        let (run, sidecars) = run_of(&digests);
        assert_finds_all(&run, &sidecars);
        assert_eq!(run.header().objects, u64::from(segments * objects));
        let absent = (1 << 30..(1 << 30) + 1000).filter(|&i| run.find(&digest(i)).next().is_some());
        assert_eq!(absent.count(), 0);
    }
}

#[test]
fn nearly_every_object_is_the_first_with_its_tag_in_its_own_bucket() {
    let digests = vec![(0..100_000).map(digest).collect()];
    let (run, sidecars) = run_of(&digests);
    let is_first = |entry: &Entry| {
        let first = run.first_in_own_bucket(&run.probe(&entry.digest));
        first.is_some_and(|first| first.offset() == entry.offset)
    };
    let first = sidecars[0].entries().filter(is_first).count();
    assert!(first > 90_000, "{first}");
}

#[test]
fn digests_ground_to_begin_alike_cost_a_search_and_no_scan() {
    let mut digests: Vec<Digest> = (0..1000).map(digest).collect();
    digests.extend((0..5000).map(ground));
    let (run, sidecars) = run_of(&[digests]);
    // All of them share their leading bits, so a lookup of one finds all.
    assert!(run.header().overflow > 4900);
    assert_eq!(run.find(&ground(17)).count(), 5000);
    assert_finds_all(&run, &sidecars);
    // A digest that only shares their bucket finds none of them.
    let mut bytes = [0x77; 32];
    bytes[7] = 0x78;
    assert_eq!(run.find(&Digest::from(bytes)).count(), 0);
    // A digest with their tag that sorts before them in the overflow finds those in the buckets.
    bytes[7] = 0x76;
    let seen = run.find(&Digest::from(bytes)).count();
    assert!(seen <= 5000 - 4900, "{seen}");
}

#[test]
fn all_copies_of_an_object_are_found_the_newest_first() {
    let digests = vec![vec![digest(1), digest(2)], vec![digest(1)], vec![digest(1)]];
    let (run, _) = run_of(&digests);
    let ordinals: Vec<usize> = run
        .find(&digest(1))
        .map(|found| found.ordinal().index())
        .collect();
    assert_eq!(ordinals, [2, 1, 0]);
    assert_eq!(run.find(&digest(2)).count(), 1);
}

#[test]
fn there_is_no_bucket_behind_the_last() {
    let (run, _) = run_of(&[(0..100).map(digest).collect()]);
    let buckets = run.header().geometry.buckets();
    assert!(run.bucket(buckets - 1).is_some());
    assert!(run.bucket(buckets).is_none() && run.bucket(u64::MAX).is_none());
}

/// A forged bucket can have a vacant slot before others.
#[test]
fn the_first_in_the_own_bucket_is_a_slot_with_the_tag_whatever_the_bucket_holds() {
    let (run, _) = run_of(&[(0..100).map(digest).collect()]);
    let table = usize::try_from(run.layout.table).unwrap();
    for filled in 0..1 << BUCKET_SLOTS {
        let probe = run.probe(&digest(7));
        let slot = run.find_probed(probe, |_| true).next().unwrap().unwrap();
        let slot = run.header().geometry.slot(&probe, slot);
        let mut bytes = run.bytes.clone();
        let bucket = table + usize::try_from(probe.bucket).unwrap() * BUCKET_BYTES;
        let (slots, _) = bytes[bucket..bucket + BUCKET_BYTES].as_chunks_mut();
        for (number, bytes) in slots.iter_mut().enumerate() {
            let is_filled = filled >> number & 1 == 1;
            *bytes = if is_filled {
                slot.to_bytes()
            } else {
                [0; SLOT_BYTES]
            };
        }
        let forged = SetIndex::parse(bytes).unwrap();
        let expected = run.header().geometry.location(slot, &probe);
        let first = forged.first_in_own_bucket(&probe);
        assert_eq!(first, expected.filter(|_| filled != 0), "{filled:b}");
    }
}
