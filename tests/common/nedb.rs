//! The files of NEDB v3, written anew from their description and with another BLAKE2b: otherwise, a
//! mistake in the library's parsers would agree with itself.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blake2::Digest as _;

use super::layout::{self, data_name, file, is_kind, record, records, segments, sidecar_name};

pub type Name = [u8; 32];
/// The digest, the offset of the content, and its length.
pub type Entry = (Name, u64, u32);

/// Returns the BLAKE2b-512 of the content, cut to 32 bytes.
pub fn digest(content: &[u8]) -> Name {
    let whole = blake2::Blake2b512::digest(content);
    *whole.first_chunk().unwrap()
}

pub fn data(contents: &[Vec<u8>]) -> Vec<u8> {
    contents
        .iter()
        .flat_map(|content| record(content))
        .collect()
}

/// Returns digest, offset and length of each record, in an order that is neither the file's nor the
/// digests': NEDB writes them in the order of its hash table.
pub fn entries(data: &[u8]) -> Vec<Entry> {
    let mut entries: Vec<_> = records(data)
        .into_iter()
        .map(|(offset, content)| {
            (
                digest(content),
                offset,
                u32::try_from(content.len()).unwrap(),
            )
        })
        .collect();
    entries.sort_by_key(|(name, ..)| (name[31], name[30]));
    entries
}

pub fn sidecar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = b"NIX1".to_vec();
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (name, offset, len) in entries {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
    }
    with_checksum(bytes)
}

pub fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Returns the entries of a sidecar, or `None` if it is not valid.
pub fn parse_sidecar(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let (magic, rest) = body.split_at_checked(4)?;
    let (count, entries) = rest.split_at_checked(8)?;
    let count = u64::from_le_bytes(count.try_into().unwrap());
    let has_length = count.checked_mul(44) == Some(entries.len() as u64);
    if digest(body) != checksum || magic != b"NIX1" || !has_length {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let name = bytes[..32].try_into().unwrap();
        let offset = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
        let len = u32::from_le_bytes(bytes[40..].try_into().unwrap());
        (name, offset, len)
    };
    Some(entries.chunks(44).map(entry).collect())
}

/// Reads a store: segments with a sidecar through it, others by walking over their records. Fails
/// unless each sidecar lists everything in its data file and nothing else.
pub fn read(root: &Path) -> BTreeMap<Name, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let files = layout::read_files(root);
    for (name, data) in &files {
        let Some(id) = layout::segment_of(name).filter(|_| is_kind(name, "dat")) else {
            continue;
        };
        let walked = entries(data);
        let found = match files.get(&sidecar_name(id)) {
            Some(bytes) => {
                let mut listed = parse_sidecar(bytes).expect("a valid sidecar");
                let mut whole = walked;
                listed.sort_unstable();
                whole.sort_unstable();
                assert_eq!(listed, whole, "sidecar of {name}");
                let ends = listed
                    .iter()
                    .map(|(_, offset, len)| offset + u64::from(*len));
                assert_eq!(ends.max().unwrap_or(0), data.len() as u64, "end of {name}");
                listed
            }
            None => walked,
        };
        for (name, offset, len) in found {
            let begin = usize::try_from(offset).unwrap();
            let content = &data[begin..begin + len as usize];
            assert_eq!(digest(content), name);
            objects.insert(name, content.to_vec());
        }
    }
    objects
}

/// Writes a store of the given segments; all but the last have a sidecar.
pub fn write(root: &Path, segments_contents: &[Vec<Vec<u8>>]) {
    fs::create_dir_all(segments(root)).unwrap();
    for (id, contents) in (0..).zip(segments_contents) {
        let data = data(contents);
        fs::write(file(root, &data_name(id)), &data).unwrap();
        if id as usize + 1 < segments_contents.len() {
            write_sidecar(root, id, &entries(&data));
        }
    }
}

pub fn write_sidecar(root: &Path, id: u32, entries: &[Entry]) {
    fs::write(file(root, &sidecar_name(id)), sidecar(entries)).unwrap();
}
