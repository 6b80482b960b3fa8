//! The build cache and the store for the blocks of a DAG.

use std::io::ErrorKind::{InvalidData, NotFound};

use crate::block_store::{Block, BlockStore};
use crate::build_cache::BuildCache;
use sealstone::{Digest, Store};

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[test]
fn a_build_cache_finds_outputs_until_their_action_is_forgotten() {
    let (_folder, store) = open();
    let cache = BuildCache::new(store.clone());
    let [old, new, unknown] = ["old", "new", "unknown"].map(Digest::of);
    cache.record(old, &[b"shared", b"of the old"]).unwrap();
    cache.record(new, &[b"shared", b"of the new"]).unwrap();
    let outputs = cache.outputs(&old).unwrap().unwrap();
    assert_eq!(outputs[0], "shared");
    assert_eq!(outputs[1], "of the old");
    assert_eq!(cache.output_bytes(&old).unwrap(), 16);
    assert!(cache.outputs(&unknown).unwrap().is_none());

    let stats = cache.forget(|action| *action == old).unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (2, 1));
    assert!(cache.outputs(&old).unwrap().is_none());
    assert_eq!(cache.outputs(&new).unwrap().unwrap().len(), 2);
}

#[test]
fn an_action_whose_output_is_gone_has_to_run_again() {
    let (_folder, store) = open();
    let cache = BuildCache::new(store.clone());
    let action = Digest::of("action");
    cache.record(action, &[b"output", b"log"]).unwrap();
    let output = Digest::of("output");
    store.compact(|digest| *digest == output).unwrap();
    assert!(cache.outputs(&action).unwrap().is_none());
    cache.record(action, &[b"output", b"log"]).unwrap();
    assert_eq!(cache.outputs(&action).unwrap().unwrap().len(), 2);
}

fn block(links: &[Digest], data: &str) -> Block {
    Block {
        links: links.to_vec(),
        data: data.into(),
    }
}

#[test]
fn garbage_collection_keeps_the_blocks_that_a_root_leads_to() {
    let (_folder, store) = open();
    let blocks = BlockStore(store);
    let leaves = [block(&[], "left"), block(&[], "right"), block(&[], "dead")];
    let [left, right, dead] = blocks.put(&leaves).unwrap()[..] else {
        panic!("a digest for each block");
    };
    let root = block(&[left, right, left], "root");
    let digest = blocks.put(std::slice::from_ref(&root)).unwrap()[0];
    assert_eq!(blocks.get(&digest).unwrap(), Some(root));

    let stats = blocks.collect_garbage(|| vec![digest]).unwrap();
    assert_eq!((stats.live_objects, stats.dropped_objects), (3, 1));
    let offered = [left, dead, right, digest];
    assert_eq!(blocks.missing(&offered).unwrap(), [dead]);
    assert_eq!(blocks.get(&dead).unwrap(), None);
}

#[test]
fn garbage_collection_drops_nothing_if_a_block_is_missing_or_is_no_block() {
    let (_folder, store) = open();
    let blocks = BlockStore(store.clone());
    let other = store.put("no").unwrap();
    let missing = Digest::of("missing");
    let roots = blocks.put(&[block(&[missing], "root"), block(&[other], "root")]);
    for (root, expected) in roots.unwrap().into_iter().zip([NotFound, InvalidData]) {
        let error = blocks.collect_garbage(|| vec![root]).unwrap_err();
        assert_eq!(error.kind(), expected);
        assert_eq!(store.len(), 3);
    }
}
