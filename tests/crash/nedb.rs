//! The files that NEDB v3 leaves, which nobody synced.

use std::path::Path;

use sealstone::Digest;
use sealstone::test_seam::{Folder, Operations};

use crate::log::Recorder;
use crate::workload::{Contents, STORE};

/// Writes a store of two segments, the first of which is sealed.
pub fn write(recorder: &Recorder, root: &Path, contents: &Contents) {
    let segments = root.join(STORE).join("segments");
    let mut folders: Vec<&Path> = segments
        .ancestors()
        .take_while(|path| *path != root)
        .collect();
    folders.reverse();
    for folder in folders {
        recorder.create_dir(folder).unwrap();
    }
    // A folder above that of the store is not the store's to sync if it exists.
    recorder.sync_dir(&Folder::open(root).unwrap()).unwrap();
    let folder = Folder::open(&segments).unwrap();
    let contents: Vec<(&Digest, &Vec<u8>)> = contents.iter().collect();
    let (sealed, unsealed) = contents.split_at(contents.len() / 2);
    let create = |name: &str, bytes: &[u8]| {
        let path = folder.file(name);
        let file = recorder.create(&path).unwrap();
        recorder.write_at(&file, &path, bytes, 0).unwrap();
    };
    create("seg-000000.dat", &data(sealed));
    create("seg-000000.idx", &sidecar(sealed));
    create("seg-000001.dat", &data(unsealed));
}

fn len_of(content: &[u8]) -> [u8; 4] {
    u32::try_from(content.len()).unwrap().to_le_bytes()
}

fn data(contents: &[(&Digest, &Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (_, content) in contents {
        bytes.extend_from_slice(&len_of(content));
        bytes.extend_from_slice(content);
    }
    bytes
}

/// Writes entries in the order of the file, which is the reverse order of the digests: NEDB sorts
/// nothing.
fn sidecar(contents: &[(&Digest, &Vec<u8>)]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut offset = 0_u64;
    for (digest, content) in contents {
        offset += 4;
        let place = [&offset.to_le_bytes()[..], &len_of(content)].concat();
        entries.push([digest.as_bytes(), &place[..]].concat());
        offset += content.len() as u64;
    }
    entries.reverse();
    let count = entries.len() as u64;
    let mut bytes = [&b"NIX1"[..], &count.to_le_bytes(), &entries.concat()].concat();
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}
