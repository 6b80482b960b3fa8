//! What the API promises when nothing goes wrong.

use sealstone::{Digest, Options};

fn contents(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let len = (i.wrapping_mul(2_654_435_761) % 3000) as usize;
            let mut content = i.to_le_bytes().to_vec();
            content.resize(4 + len, (i % 251) as u8);
            content
        })
        .collect()
}

fn small_segments() -> Options {
    Options::new().segment_bytes_max(64 << 10)
}

#[test]
fn what_was_put_is_read_back_across_segments_and_openings() {
    let folder = tempfile::tempdir().unwrap();
    let contents = contents(1000);
    let store = small_segments().open(folder.path()).unwrap();
    for content in &contents {
        let digest = store.put(content).unwrap();
        assert_eq!(&store.get(&digest).unwrap().unwrap()[..], content);
    }
    assert_eq!(store.len(), 1000);
    store.close().unwrap();

    let store = small_segments().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(store.len(), 1000);
    assert!(store.stats().segments.len() > 5);
    for content in &contents {
        let object = store.get(&Digest::of(content)).unwrap().unwrap();
        assert_eq!(&object[..], content);
    }
    assert!(store.get(&Digest::of(b"absent")).unwrap().is_none());
}

#[test]
fn a_compaction_keeps_the_live_and_drops_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let contents = contents(1000);
    let store = small_segments().open(folder.path()).unwrap();
    let digests = store.put_many(&contents).unwrap();
    let is_live = |digest: &Digest| digest.as_bytes()[31].is_multiple_of(2);
    let live = digests.iter().filter(|digest| is_live(digest)).count() as u64;

    let stats = store.compact(is_live).unwrap();
    assert_eq!(
        (stats.live_objects, stats.dropped_objects),
        (live, 1000 - live)
    );
    assert!(stats.bytes_reclaimed > 0);
    for reopened in [false, true] {
        let store = if reopened {
            drop(store.clone());
            store.clone()
        } else {
            store.clone()
        };
        for (content, digest) in contents.iter().zip(&digests) {
            let object = store.get(digest).unwrap();
            assert_eq!(object.is_some(), is_live(digest));
            assert!(object.is_none_or(|object| &object[..] == content));
        }
    }
}
