mod building;
mod damage;
mod geometry;
mod lookup;

use super::header::{FIXED_BYTES, SEGMENT_BYTES};
use super::*;
use crate::digest::DIGEST_BYTES;
use crate::format::{Entry, SealedSegment, Sidecar};

type Segments = Vec<(u32, SealedSegment)>;
type Sidecars = Vec<Sidecar<Vec<u8>>>;

/// Returns bindings and sidecars of segments with these digests. Each record is 16 bytes long.
fn segments_of(digests: &[Vec<Digest>]) -> (Segments, Sidecars) {
    let mut segments = Vec::new();
    let mut sidecars = Vec::new();
    for (id, digests) in (7..).zip(digests) {
        let entries = digests.iter().zip(0..).map(|(&digest, number)| Entry {
            digest,
            offset: 4 + number * 16,
            len: 12,
        });
        let mut entries: Vec<Entry> = entries.collect();
        let sidecar = Sidecar::build(&mut entries);
        let segment = SealedSegment {
            data_bytes: digests.len() as u64 * 16,
            objects: u32::try_from(digests.len()).unwrap(),
            sidecar_checksum: sidecar.checksum(),
        };
        segments.push((id, segment));
        sidecars.push(sidecar);
    }
    (segments, sidecars)
}

fn run_of(digests: &[Vec<Digest>]) -> (SetIndex<Vec<u8>>, Sidecars) {
    let (segments, sidecars) = segments_of(digests);
    let run = SetIndex::parse(encode(&segments, &sidecars)).unwrap();
    assert_eq!(run.header().segments, segments);
    assert!(!run.page_holds(run.pages()) && !run.page_holds(u64::MAX));
    for page in 0..run.pages() {
        assert!(run.page_holds(page), "{page}");
    }
    (run, sidecars)
}

fn encode(segments: &[(u32, SealedSegment)], sidecars: &[Sidecar<Vec<u8>>]) -> Vec<u8> {
    let with_sidecar = |(&(id, segment), sidecar)| (id, segment, sidecar);
    let segments: Vec<_> = segments.iter().zip(sidecars).map(with_sidecar).collect();
    SetIndex::encode(&segments).unwrap()
}

fn digest(number: u32) -> Digest {
    Digest::of(number.to_le_bytes())
}

/// Returns a digest that begins as others do, as if its content had been chosen for that.
fn ground(number: u32) -> Digest {
    let mut bytes = [0x77; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Digest::from(bytes)
}

#[track_caller]
fn assert_finds_all(run: &SetIndex<Vec<u8>>, sidecars: &[Sidecar<Vec<u8>>]) {
    for (ordinal, sidecar) in (0..).map(Ordinal::new).zip(sidecars) {
        for (position, entry) in sidecar.entries().enumerate() {
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

/// Returns a digest that begins with these bits.
fn beginning(leading: u64, number: u32) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&leading.to_be_bytes());
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    Digest::from(bytes)
}

fn segment(data_bytes: u64, objects: u32) -> SealedSegment {
    SealedSegment {
        data_bytes,
        objects,
        sidecar_checksum: digest(0),
    }
}
