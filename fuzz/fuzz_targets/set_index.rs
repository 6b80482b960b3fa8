//! Any bytes as a run of the set index, with and without checksums that hold. Lookups are bounded.
//! Runs that were encoded find what a map has.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::set_index::{
    BUCKET_BYTES, BUCKET_SLOTS, Location, MAGIC, PAGE_BYTES, PROBED_BUCKETS_MAX,
};
use sealstone::format::{Entry, SealedSegment, SetIndex, Sidecar};
use sealstone_fuzz::forge::page_sums;

/// Lengths of the part before the segments, and of a segment in the header, in bytes.
const FIXED_BYTES: usize = 44;
const SEGMENT_BYTES: usize = 48;
/// More objects would take time and show nothing new: these fill several pages.
const OBJECTS_MAX: usize = 1000;

fn digest_of_chunk(chunk: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes[..chunk.len()].copy_from_slice(chunk);
    Digest::from(bytes)
}

/// Searches for digests made of the bytes, so that the fuzzer can aim at any bucket and tag.
fn ask(run: &SetIndex<&[u8]>, bytes: &[u8]) {
    let header = run.header();
    let probed_max = PROBED_BUCKETS_MAX * BUCKET_SLOTS as u64;
    let found_max = probed_max.saturating_add(header.overflow);
    let chosen = bytes.chunks(32).rev().take(8).map(digest_of_chunk);
    let fixed = [
        Digest::from([0; 32]),
        Digest::from([0xff; 32]),
        Digest::of(bytes),
    ];
    for digest in chosen.chain(fixed) {
        let found: Vec<Location> = run.find(&digest).collect();
        assert!(found.len() as u64 <= found_max);
        // With checks, the locations are the same up to the first page that does not hold.
        let mut asked = 0;
        let page_holds = |page| {
            asked += 1;
            assert!(page < run.pages());
            run.page_holds(page)
        };
        let checked: Vec<_> = run.find_checked(&digest, page_holds).collect();
        assert!(asked <= found_max + u64::from(u64::BITS) + PROBED_BUCKETS_MAX);
        let holding = checked.iter().map_while(|found| found.ok());
        let holding: Vec<Location> = holding.collect();
        assert!(found.starts_with(&holding));
        assert!(checked.len() <= holding.len() + 1, "an error is the end");
        assert!(checked.len() > holding.len() || found == holding);
    }
    for page in [run.pages(), run.pages() + 1, u64::MAX] {
        assert!(!run.page_holds(page));
    }
}

/// Forges a run: any numbers, any table, and checksums that hold.
fn forged(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[choices, count, buckets, overflow], bytes) = bytes.split_first_chunk()?;
    let count = usize::from(count % 4);
    let covered_bytes = FIXED_BYTES + count * SEGMENT_BYTES;
    let (header, rest) = bytes.split_at_checked(covered_bytes)?;
    let mut whole = header.to_vec();
    whole[..4].copy_from_slice(&MAGIC);
    whole[4..8].copy_from_slice(&(count as u32).to_le_bytes());
    // Numbers that fit some length, or any numbers.
    if choices & 1 == 0 {
        whole[16..24].copy_from_slice(&u64::from(buckets).to_le_bytes());
        whole[24..32].copy_from_slice(&u64::from(overflow).to_le_bytes());
    }
    if choices & 2 == 0 {
        for (at, widths) in [(32, 70), (36, 70), (40, 6)] {
            let bits = u32::from(whole[at] % widths);
            whole[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        }
    }
    let checksum = Digest::of(&whole);
    whole.extend_from_slice(checksum.as_bytes());
    whole.resize(whole.len().next_multiple_of(PAGE_BYTES), 0);
    let table_bytes = usize::from(buckets) * BUCKET_BYTES + usize::from(overflow) * 16;
    let mut table = rest.to_vec();
    if choices & 4 == 0 {
        // Full buckets, behind which a lookup searches the overflow.
        let pattern = if rest.is_empty() { &[1] } else { rest };
        table = pattern.iter().copied().cycle().take(table_bytes).collect();
    }
    table.resize(table_bytes.next_multiple_of(PAGE_BYTES), 0);
    let mut sums: Vec<u64> = page_sums(&table).collect();
    if let (true, Some(sum)) = (choices & 8 != 0, sums.last_mut()) {
        *sum ^= 1;
    }
    whole.extend(table);
    whole.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    Some(whole)
}

/// Makes digests for up to four segments. Four bytes of the input stand for some digests of one
/// kind in one segment.
fn digests_from(bytes: &[u8]) -> Vec<Vec<Digest>> {
    let count = bytes.first().map_or(1, |byte| usize::from(byte % 4) + 1);
    let mut segments = vec![Vec::new(); count];
    let mut left = OBJECTS_MAX;
    for &[segment_and_kind, seed, begin, some] in bytes.as_chunks::<4>().0 {
        let segment = &mut segments[usize::from(segment_and_kind & 3) % count];
        let some = usize::from(some).min(left);
        left -= some;
        segment.extend((u32::from(begin)..).take(some).map(|number| {
            let mut digest = [seed; 32];
            match segment_and_kind >> 2 & 3 {
                // Digests of ordinary contents.
                0 | 1 => return Digest::of(&[&[seed][..], &number.to_be_bytes()].concat()),
                // Equal leading bits: bucket, tag and place in the overflow are the same.
                2 => digest[28..].copy_from_slice(&number.to_be_bytes()),
                // The same bucket or its neighbours, which spill into each other.
                _ => digest[2..6].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes()),
            }
            Digest::from(digest)
        }));
    }
    segments
}

/// The entries of a segment whose records are 16 bytes long.
fn entries_of(digests: &[Digest]) -> Vec<Entry> {
    let numbered = (4..).step_by(16).zip(digests);
    let entry = |(offset, &digest)| Entry {
        digest,
        offset,
        len: 12,
    };
    numbered.map(entry).collect()
}

fn compare_with_map(digests: &[Vec<Digest>]) {
    let mut model: BTreeMap<Digest, Vec<(usize, u64)>> = BTreeMap::new();
    let mut sidecars = Vec::new();
    for (ordinal, digests) in (0..).zip(digests) {
        let mut entries = entries_of(digests);
        for entry in &entries {
            let locations = model.entry(entry.digest).or_default();
            locations.push((ordinal, entry.offset));
        }
        sidecars.push(Sidecar::build(&mut entries));
    }
    let segment = |(id, sidecar): (u32, &Sidecar<Vec<u8>>)| {
        let segment = SealedSegment {
            data_bytes: sidecar.len() as u64 * 16,
            objects: u32::try_from(sidecar.len()).expect("they are few"),
            sidecar_checksum: sidecar.checksum(),
        };
        (id, segment)
    };
    let segments: Vec<_> = (10..).zip(&sidecars).map(segment).collect();
    let with_sidecar = |(&(id, segment), sidecar)| (id, segment, sidecar);
    let encoded: Vec<_> = segments.iter().zip(&sidecars).map(with_sidecar).collect();
    let bytes = SetIndex::encode(&encoded).expect("they are few and small");
    let run = SetIndex::parse(&bytes[..]).expect("it was just encoded");
    assert_eq!(run.header().segments, segments);
    let objects: usize = digests.iter().map(Vec::len).sum();
    assert_eq!(run.header().objects, objects as u64);
    for page in 0..run.pages() {
        assert!(run.page_holds(page));
    }
    for (digest, locations) in &model {
        let found: Vec<Location> = run.find(digest).collect();
        for &(ordinal, offset) in locations {
            let is_there =
                |found: &&Location| (found.ordinal().index(), found.offset()) == (ordinal, offset);
            let found = found.iter().find(is_there).expect("it is in the run");
            let sidecar = &sidecars[ordinal];
            // With few and small segments, a slot has four bits of the position.
            let is_found = sidecar.entries().enumerate().any(|(position, entry)| {
                let has_offset = (entry.digest, entry.offset) == (*digest, offset);
                has_offset && position as u32 % 16 == found.entry()
            });
            assert!(is_found, "{digest}: {found:?}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(run) = SetIndex::parse(bytes) {
        ask(&run, bytes);
    }
    if let Some(forged) = forged(bytes)
        && let Ok(run) = SetIndex::parse(&forged[..])
    {
        ask(&run, bytes);
    }
    compare_with_map(&digests_from(bytes));
});
