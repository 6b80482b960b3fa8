//! Damage that was made to look right, and several damages at once.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crate::common::hash::digest_of;
use crate::common::layout::{Files, content, file, scratch, sidecar_name, write_files};
use sealstone::format::{Entry, Manifest, journal, sidecar};
use sealstone::{Digest, Options};

use crate::{ACTIVE, MANIFEST, Sample, all_options, options, verify};

/// Uses a store in every way. Whatever is damaged, the bytes that are read have the digest that was
/// asked for, and nothing panics.
fn assert_no_wrong_bytes(root: &Path, options: &Options, sample: &Sample) {
    let Ok(store) = options.open(root) else {
        return;
    };
    let read_all = || {
        for object in &sample.objects {
            if let Ok(Some(read)) = store.get(object.digest) {
                assert_eq!(&read[..], object.content);
            }
            let _ = store.contains(object.digest);
        }
        for object in store.iter().flatten() {
            assert_eq!(digest_of(&object), *object.digest());
        }
    };
    read_all();
    let _ = store.find("7");
    let _ = (store.stats(), store.len(), store.digests().count());
    let _ = verify(&store);
    if store.put(&sample.objects[0].content).is_ok() {
        for object in sample.objects.iter().step_by(5) {
            store.put(&object.content).unwrap();
            let read = store.get(object.digest).unwrap().unwrap();
            assert_eq!(&read[..], object.content, "the object was put just now");
        }
        if let Ok(compaction) = store.begin_compaction() {
            let _ = compaction.plan(|digest| digest.as_bytes()[0] % 2 == 0);
            let _ = compaction.finish(|_| true);
        }
        read_all();
        for object in sample.objects.iter().step_by(5) {
            let read = store.get(object.digest).unwrap().unwrap();
            assert_eq!(
                &read[..],
                object.content,
                "the object was put before the compaction"
            );
        }
        store.sync().unwrap();
    }
}

/// Returns a sidecar with a valid checksum and the entries in the given order.
fn sidecar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = sidecar::MAGIC.to_vec();
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for entry in entries {
        bytes.extend_from_slice(&entry.to_bytes());
    }
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn h35_a_sidecar_forged_together_with_the_manifest_gives_no_wrong_bytes() {
    type Change = fn(&mut Vec<Entry>);
    let changes: [(&str, Change); 15] = [
        ("nothing", |_| ()),
        ("none", Vec::clear),
        ("one is missing", |entries| _ = entries.pop()),
        ("the highest offset", |entries| entries[3].offset = u64::MAX),
        ("an end beyond u64", |entries| {
            entries[3].offset = u64::MAX - 1;
        }),
        ("an offset at the end", |entries| {
            entries[3].offset = 1 << 12;
        }),
        ("offset zero", |entries| entries[3].offset = 0),
        ("offset one", |entries| entries[3].offset = 1),
        ("the largest length", |entries| entries[3].len = u32::MAX),
        ("all are the largest", |entries| {
            for entry in entries {
                entry.len = u32::MAX;
            }
        }),
        ("all at one place", |entries| {
            let (offset, len) = (entries[0].offset, entries[0].len);
            for entry in entries {
                (entry.offset, entry.len) = (offset, len);
            }
        }),
        ("places are swapped", |entries| {
            let moved = entries.clone();
            for (entry, other) in entries.iter_mut().zip(moved.iter().rev()) {
                (entry.offset, entry.len) = (other.offset, other.len);
            }
        }),
        ("one digest a hundred times", |entries| {
            let first = entries[0];
            entries.extend((0..100).map(|i| Entry { offset: i, ..first }));
            entries.sort_unstable();
        }),
        ("one digest for all", |entries| {
            let digest = entries[0].digest;
            for entry in entries {
                entry.digest = digest;
            }
        }),
        ("not sorted", |entries| entries.reverse()),
    ];
    let sample = Sample::new();
    for (what, change) in changes {
        println!("{what}");
        for data_bytes in [None, Some(0), Some(5), Some(1 << 40), Some(u64::MAX)] {
            for options in all_options() {
                let folder = sample.folder();
                let root = folder.path();
                let mut manifest = Manifest::parse(&sample.files[MANIFEST]).unwrap();
                for (&id, segment) in &mut manifest.sealed {
                    let entries = sample.of_segment(id).map(|object| Entry {
                        digest: object.digest,
                        offset: object.offset as u64,
                        len: u32::try_from(object.content.len()).unwrap(),
                    });
                    let mut entries: Vec<Entry> = entries.collect();
                    entries.sort_unstable();
                    change(&mut entries);
                    let forged = sidecar(&entries);
                    segment.data_bytes = data_bytes.unwrap_or(segment.data_bytes);
                    segment.objects = u32::try_from(entries.len()).unwrap();
                    let checksum: [u8; 32] = *forged.last_chunk().unwrap();
                    segment.sidecar_checksum = checksum.into();
                    fs::write(file(root, &sidecar_name(id)), forged).unwrap();
                }
                fs::write(file(root, MANIFEST), manifest.encode()).unwrap();
                assert_no_wrong_bytes(root, &options, &sample);
                assert_no_wrong_bytes(root, &options, &sample);
            }
        }
    }
}

#[test]
fn h35_a_forged_journal_gives_no_wrong_bytes() {
    let sample = Sample::new();
    let honest: Vec<Entry> = sample
        .of_segment(ACTIVE)
        .map(|object| Entry {
            digest: object.digest,
            offset: object.offset as u64,
            len: u32::try_from(object.content.len()).unwrap(),
        })
        .collect();
    let end = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.end().unwrap());
    let mut swapped = honest.clone();
    (swapped[0].digest, swapped[1].digest) = (swapped[1].digest, swapped[0].digest);
    let mut beyond = honest.clone();
    beyond.push(Entry {
        digest: sample.objects[5].digest,
        offset: end(&honest) + 4,
        len: u32::MAX,
    });
    let mut foreign = honest.clone();
    foreign[2].digest = sample.objects[7].digest;
    let one = vec![Entry {
        digest: sample.objects[3].digest,
        offset: 4,
        len: u32::try_from(end(&honest) - 4).unwrap(),
    }];
    for entries in [honest.clone(), swapped, beyond, foreign, one] {
        for synced in 0..=entries.len() {
            for options in all_options() {
                let folder = sample.folder();
                let mut journal = journal::Encoder::new(ACTIVE);
                journal.entries(&entries, end(&entries));
                journal.sync_mark(end(&entries[..synced]));
                fs::write(file(folder.path(), "seg-000002.jnl"), journal.as_bytes()).unwrap();
                assert_no_wrong_bytes(folder.path(), &options, &sample);
                assert_no_wrong_bytes(folder.path(), &options, &sample);
            }
        }
    }
}

/// Damages random files in several random ways.
fn damage_at_random(files: &mut Files, seed: u64) {
    let numbers = content(seed, 400);
    let mut numbers = numbers
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let mut below = |limit: usize| {
        let number = usize::try_from(numbers.next().unwrap() >> 1).unwrap();
        number % limit.max(1)
    };
    for _ in 0..=below(4) {
        let names: Vec<String> = files.keys().cloned().collect();
        let name = names[below(names.len())].clone();
        let other = files[&names[below(names.len())]].clone();
        let mut bytes = files.remove(&name).unwrap();
        let len = bytes.len();
        match below(7) {
            0 if len > 0 => bytes[below(len)] ^= 1 << below(8),
            1 => bytes.truncate(below(len)),
            2 => {
                let begin = below(len);
                let end = (begin + below(200)).min(len);
                bytes[begin..end].fill(0);
            }
            3 => continue, // The file stays removed.
            4 => bytes.extend_from_slice(&content(seed, below(600))),
            5 => bytes.resize(len + below(5000), 0),
            _ => bytes = other,
        }
        files.insert(name, bytes);
        if files.is_empty() {
            break;
        }
    }
}

#[test]
fn h4_h35_several_damages_at_once_give_no_wrong_bytes() {
    const CASES: u64 = 1500;
    let sample = Sample::new();
    for seed in 0..CASES {
        let mut files = sample.files.clone();
        damage_at_random(&mut files, seed);
        let result = catch_unwind(|| {
            let folder = scratch();
            for options in all_options().into_iter().rev() {
                write_files(folder.path(), &files);
                assert_no_wrong_bytes(folder.path(), &options, &sample);
            }
            assert_no_wrong_bytes(folder.path(), &options(), &sample);
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}
