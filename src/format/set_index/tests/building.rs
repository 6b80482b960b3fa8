use super::*;

#[test]
fn many_pieces_and_one_piece_give_the_same_run() {
    let digests: Vec<Vec<Digest>> = (0..4)
        .map(|segment| (0..40_000).map(|i| digest(segment * 40_000 + i)).collect())
        .collect();
    let (segments, sidecars) = segments_of(&digests);
    let references: Vec<_> = sidecars.iter().collect();
    let mut builder = Builder::new(&segments).unwrap();
    assert!(builder.pieces().len() > 1);
    let whole = builder.fill(0..builder.geometry.buckets(), &references);
    let (at, table) = builder.place(whole);
    let sums = page_sums(&table, 0);
    let [(end, rest), ..] = builder.finish(sums);
    let begin = usize::try_from(at).unwrap();
    let end = usize::try_from(end).unwrap();
    let in_pieces = encode(&segments, &sidecars);
    assert!(in_pieces[begin..end] == table[..]);
    assert!(in_pieces[end..end + rest.len()] == rest[..]);
    assert_finds_all(&SetIndex::parse(in_pieces).unwrap(), &sidecars);
}

/// An object that finds no room at the end of a piece goes into the next, as if there were no
/// pieces.
#[test]
fn objects_that_spill_over_the_end_of_a_piece_are_found_in_the_next() {
    const OBJECTS: u32 = 100_000;
    for (buckets_before, ground) in [(1, 20), (2, 30), (3, 30), (4, 30), (4, 60), (5, 40)] {
        let mut digests: Vec<Digest> = (0..OBJECTS - ground).map(digest).collect();
        let count = u64::from(OBJECTS);
        let geometry = Geometry::of(&[(7, segment(count * 16, OBJECTS))]).unwrap();
        let boundary = 1 << 14;
        assert!(geometry.buckets() > boundary + 10);
        let least = geometry.least_leading(boundary - buckets_before).unwrap();
        digests.extend((0..ground).map(|number| beginning(least, number)));
        let (segments, sidecars) = segments_of(&[digests]);
        let references: Vec<_> = sidecars.iter().collect();
        let in_pieces = encode(&segments, &sidecars);
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

#[test]
fn a_run_takes_about_twelve_bytes_an_object() {
    let digests = vec![(0..100_000).map(digest).collect()];
    let (run, _) = run_of(&digests);
    let bytes = run.bytes.len();
    assert!((1_190_000..1_250_000).contains(&bytes), "{bytes}");
}

/// A second implementation, written after the description and not after this code, gave these
/// bytes. If they change, the format changes, and so do `FORMAT.md` and the magic number.
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
    // The newer segment comes first: its copy of this object, another object, then the older copy.
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
    // The first object that found no room: leading bits and slot.
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
