//! What the API promises when nothing goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::Command;
use std::sync::Arc;

use sealstone::{Digest, Error, Hashed, Object, Options, SegmentState, Store};

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
fn objects_are_read_back_across_segments_and_openings() {
    let folder = tempfile::tempdir().unwrap();
    let contents = contents(1000);
    let store = small_segments().open(folder.path()).unwrap();
    for content in &contents {
        let digest = store.put(content).unwrap();
        assert_eq!(&store.get(digest).unwrap().unwrap()[..], content);
    }
    assert_eq!(store.len(), 1000);
    store.close().unwrap();

    let store = small_segments().open(folder.path()).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(store.len(), 1000);
    assert!(store.stats().segments.len() > 5);
    for content in &contents {
        let object = store.get(Digest::of(content)).unwrap().unwrap();
        assert_eq!(&object[..], content);
    }
    assert!(store.get(Digest::of(b"absent")).unwrap().is_none());
}

#[test]
fn a_compaction_keeps_live_objects_and_drops_dead_ones() {
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
    let check = |store: &Store| {
        for (content, digest) in contents.iter().zip(&digests) {
            let object = store.get(digest).unwrap();
            assert_eq!(object.is_some(), is_live(digest));
            assert!(object.is_none_or(|object| &object[..] == content));
        }
    };
    check(&store);
    store.close().unwrap();
    check(&small_segments().open(folder.path()).unwrap());
}

/// A batch of more than is hashed or appended at a time fills segments up in the middle.
#[test]
fn a_large_batch_with_duplicates_is_stored_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes_max(3 << 20);
    let store = options.open(folder.path()).unwrap();
    let contents = contents(8000);
    // Each content comes again at once, a little later, or at the end of the batch.
    let again = |number: &usize| !number.is_multiple_of(3);
    let near = (0..contents.len()).flat_map(|number| [number, number / 2]);
    let order: Vec<usize> = near.chain((0..contents.len()).filter(again)).collect();
    let batch: Vec<&[u8]> = order.iter().map(|number| &contents[*number][..]).collect();
    assert!(batch.iter().map(|content| content.len()).sum::<usize>() > 24 << 20);
    let digests = store.put_many(&batch).unwrap();
    assert_eq!(digests.len(), batch.len());
    for (digest, content) in digests.iter().zip(&batch) {
        assert_eq!(*digest, Digest::of(content));
    }
    let check = |store: &Store| {
        assert_eq!(store.len(), contents.len() as u64);
        let stored = store
            .iter()
            .map(Result::unwrap)
            .map(|object| object.to_vec());
        assert_eq!(stored.collect::<Vec<_>>(), contents);
    };
    check(&store);
    assert_eq!(store.put_many(&batch).unwrap(), digests);
    check(&store);
    assert!(store.put_many::<&[u8]>(&[]).unwrap().is_empty());
    store.close().unwrap();
    check(&options.open(folder.path()).unwrap());
}

#[test]
fn a_digest_equals_the_output_of_b2sum() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let Ok(output) = Command::new("b2sum").arg(source).output() else {
        eprintln!("skipped: there is no b2sum on this system");
        return;
    };
    let printed = String::from_utf8(output.stdout).unwrap();
    let digest = Digest::of(std::fs::read(source).unwrap());
    assert_eq!(printed[..64], digest.to_string());
}

#[test]
fn contents_of_every_length_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes_max(1 << 20);
    // These lengths surround those from which a record is buffered, is written directly, or gets a
    // segment of its own.
    let lengths = [
        0,
        1,
        4,
        (256 << 10) - 4,
        (256 << 10) - 3,
        256 << 10,
        1 << 20,
        3 << 20,
    ];
    let contents: Vec<Vec<u8>> = lengths
        .iter()
        .map(|&len| vec![u8::try_from(len % 250).unwrap(); len])
        .collect();
    let store = options.open(folder.path()).unwrap();
    for content in &contents {
        let digest = store.put(content).unwrap();
        assert_eq!(&store.get(digest).unwrap().unwrap()[..], content);
    }
    drop(store);
    let store = options.open(folder.path()).unwrap();
    for content in &contents {
        let object = store.get(Digest::of(content)).unwrap().unwrap();
        assert_eq!(&object[..], content);
    }
    assert_eq!(store.len(), lengths.len() as u64);
}

#[test]
fn h27_content_cannot_be_put_under_a_wrong_digest() {
    let error = Hashed::check(Digest::of(b"abc"), b"abd").unwrap_err();
    assert_eq!(error.expected, Digest::of(b"abc"));
    assert_eq!(error.actual, Digest::of(b"abd"));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let hashed = Hashed::check(Digest::of(b"abc"), b"abc").unwrap();
    assert!(store.put_hashed(&hashed).unwrap());
    assert!(
        !store.put_hashed(&hashed).unwrap(),
        "the store holds it already"
    );
    assert_eq!(store.len(), 1);
}

#[test]
fn h28_live_digests_that_the_store_does_not_hold_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digests = store.put_many(&contents(10)).unwrap();
    let absent = Digest::of(b"absent");
    let live = [digests[0], absent, digests[3], absent];
    let compaction = store.begin_compaction().unwrap();
    let planned = compaction.plan_list(live).unwrap();
    let stats = compaction.finish_list(live).unwrap();
    assert_eq!(planned, stats);
    let counted = (
        stats.live_objects,
        stats.dropped_objects,
        stats.live_missing,
    );
    assert_eq!(counted, (2, 8, 1));
    assert_eq!(store.len(), 2);
}

#[test]
fn the_figures_of_a_compaction_agree_with_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path()).unwrap();
    store.put_many(&contents(1000)).unwrap();
    let compaction = store.begin_compaction().unwrap();
    let bytes_of_files = || {
        let stats = store.stats();
        let sealed = stats
            .segments
            .iter()
            .filter(|s| s.state == SegmentState::Sealed);
        sealed
            .map(|segment| segment.data_bytes + segment.index_bytes)
            .sum::<u64>()
    };
    let before = bytes_of_files();
    let stats = compaction
        .finish(|digest| digest.as_bytes()[0] < 100)
        .unwrap();
    assert_eq!(
        (stats.bytes_before, stats.bytes_after),
        (before, bytes_of_files())
    );
    assert_eq!(
        stats.bytes_reclaimed,
        (before - stats.bytes_after).cast_signed()
    );
    let sealed = store.stats().segments.len() as u64 - 1;
    assert_eq!(stats.segments_after, sealed);
}

#[test]
fn a_second_compaction_is_refused_and_a_dropped_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digests = store.put_many(&contents(10)).unwrap();
    let compaction = store.begin_compaction().unwrap();
    let second = store.begin_compaction();
    assert!(
        matches!(second, Err(Error::CompactionRunning)),
        "{second:?}"
    );
    drop(compaction);
    assert!(digests.iter().all(|digest| store.contains(digest).unwrap()));
    store.compact(|_| false).unwrap();
    assert!(store.is_empty());
}

#[test]
fn segments_without_dead_objects_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path()).unwrap();
    let digests = store.put_many(&contents(1000)).unwrap();
    drop(store.begin_compaction().unwrap());
    let segments = || {
        let sealed = store.stats().segments.into_iter();
        let sealed = sealed.filter(|segment| segment.state == SegmentState::Sealed);
        sealed.map(|segment| segment.id).collect::<BTreeSet<_>>()
    };
    let before = segments();
    let stats = store.compact(|digest| *digest != digests[0]).unwrap();
    let after = segments();
    assert_eq!(stats.dropped_objects, 1);
    // One segment was replaced. Compacting began a new active segment only if the old one held
    // something.
    assert_eq!(before.difference(&after).count(), 1);
}

#[test]
fn a_prefix_finds_the_one_object_that_begins_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path()).unwrap();
    let digests = store.put_many(&contents(1000)).unwrap();
    for digest in &digests {
        let text = digest.to_string();
        assert_eq!(store.find(&text).unwrap(), Some(*digest));
        assert_eq!(store.find(&text[..15]).unwrap(), Some(*digest));
        assert_eq!(
            store.find(&text[..15].to_uppercase()).unwrap(),
            Some(*digest)
        );
    }
    let shared = &digests[0].to_string()[..1];
    let Err(Error::AmbiguousPrefix { candidates, .. }) = store.find(shared) else {
        panic!("a sixteenth of 1,000 objects begins with {shared}");
    };
    assert!(candidates.len() > 1);
    assert!(
        candidates
            .iter()
            .all(|digest| digest.to_string().starts_with(shared))
    );
    assert_eq!(
        store
            .find(&Digest::of(b"absent").to_string()[..20])
            .unwrap(),
        None
    );
    for bad in ["", "xyz", "é", &"0".repeat(65)] {
        let result = store.find(bad);
        assert!(
            matches!(result, Err(Error::BadPrefix { .. })),
            "{bad:?}: {result:?}"
        );
    }
}

#[test]
fn a_walk_gives_each_object_once_in_the_order_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path()).unwrap();
    let digests = store.put_many(&contents(1000)).unwrap();
    let walked: Vec<Digest> = store
        .iter()
        .map(|object| *object.unwrap().digest())
        .collect();
    assert_eq!(walked, digests);
    let walked: Vec<Digest> = store.digests().map(Result::unwrap).collect();
    assert_eq!(walked, digests);
    let snapshot = store.iter();
    store.compact(|_| false).unwrap();
    assert_eq!(snapshot.map(Result::unwrap).count(), 1000);
    assert_eq!(store.iter().count(), 0);
}

#[test]
fn a_read_only_handle_writes_nothing_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().read_only(true);
    let absent = options.open(folder.path().join("absent"));
    assert!(matches!(absent, Err(Error::NoStore { .. })), "{absent:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let unborn = Options::new().create(false).open(folder.path());
    assert!(matches!(unborn, Err(Error::NoStore { .. })), "{unborn:?}");

    let writer = Store::open(folder.path()).unwrap();
    let digest = writer.put(b"content").unwrap();
    writer.sync().unwrap();
    let reader = options.open(folder.path()).unwrap();
    assert_eq!(
        reader.get(digest).unwrap().as_deref(),
        Some(&b"content"[..])
    );
    let refused = [
        reader.put(b"more").unwrap_err(),
        reader.flush().unwrap_err(),
        reader.sync().unwrap_err(),
        reader.begin_compaction().unwrap_err(),
        reader.checkpoint(folder.path().join("copy")).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::ReadOnly), "{error}");
    }
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path().join("store")).unwrap();
    let contents = contents(300);
    let digests = store.put_many(&contents).unwrap();
    let target = folder.path().join("copies/first");
    store.checkpoint(&target).unwrap();
    let again = store.checkpoint(&target);
    assert!(matches!(again, Err(Error::NotEmpty { .. })), "{again:?}");
    store.compact(|_| false).unwrap();
    drop(store);

    let copy = Store::open(&target).unwrap();
    assert!(copy.recovery().is_clean(), "{:?}", copy.recovery());
    for (content, digest) in contents.iter().zip(&digests) {
        assert_eq!(&copy.get(digest).unwrap().unwrap()[..], content);
    }
    copy.put(b"the copy goes its own way").unwrap();
    copy.close().unwrap();
}

#[test]
fn verify_reports_progress_and_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path()).unwrap();
    let contents = contents(1000);
    store.put_many(&contents).unwrap();
    let bytes: usize = contents.iter().map(Vec::len).sum();
    let report = store
        .verify(|progress| {
            assert_eq!(progress.bytes_total, bytes as u64);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.objects, report.bytes), (1000, bytes as u64));
    let report = store.verify(|_| ControlFlow::Break(())).unwrap();
    assert!(report.cancelled && report.objects < 1000, "{report:?}");
}

#[test]
fn objects_are_put_and_read_in_the_order_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let contents = [&b"one"[..], b"two", b"one", b""];
    let digests = store.put_many(&contents).unwrap();
    assert_eq!(digests, contents.map(Digest::of));
    assert_eq!(store.len(), 3);
    let asked = [digests[1], Digest::of(b"absent"), digests[3]];
    let read: Vec<Option<Object>> = store
        .get_many(&asked)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let read: Vec<Option<&[u8]>> = read.iter().map(Option::as_deref).collect();
    assert_eq!(read, [Some(&b"two"[..]), None, Some(b"")]);
}

#[test]
fn opening_and_closing_repeatedly_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.put(b"content").unwrap();
    store.close().unwrap();
    let files = || {
        let files = std::fs::read_dir(folder.path().join("segments")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let before = files();
    for _ in 0..3 {
        Store::open(folder.path()).unwrap().close().unwrap();
    }
    assert_eq!(files(), before);
}

#[cfg(feature = "bytes")]
#[test]
fn bytes_borrow_an_object_without_copying_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = store.put(b"content").unwrap();
    let object = store.get(digest).unwrap().unwrap();
    let address = object.as_ptr();
    let bytes = bytes::Bytes::from(object);
    drop(store);
    assert_eq!((&bytes[..], bytes.as_ptr()), (&b"content"[..], address));
}

#[cfg(feature = "serde")]
#[test]
fn a_digest_is_text_in_json() {
    let digest = Digest::of(b"abc");
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(json, format!("\"{digest}\""));
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    assert!(serde_json::from_str::<Digest>("\"00\"").is_err());
}

#[test]
fn an_interrupted_checkpoint_is_reported_as_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let store = small_segments().open(folder.path().join("store")).unwrap();
    store.put_many(&contents(300)).unwrap();
    let target = folder.path().join("copy");
    store.checkpoint(&target).unwrap();
    // The folder is as it would be without the last of its links.
    let segments = target.join("segments");
    let last = store.stats().segments.iter().rev().nth(1).unwrap().id;
    for extension in ["dat", "idx"] {
        std::fs::remove_file(segments.join(format!("seg-{last:06}.{extension}"))).unwrap();
    }
    let opened = Store::open(&target);
    assert!(
        matches!(opened, Err(Error::MissingSegment { segment, .. }) if segment == last),
        "{opened:?}"
    );
}

/// What somebody types without looking anything up.
#[test]
fn what_is_typed_first_compiles() {
    fn copy(from: &Store, to: &Store, digest: Digest) -> std::io::Result<Vec<u8>> {
        let object = from.get(digest)?.ok_or(std::io::ErrorKind::NotFound)?;
        to.put(&object)?;
        Ok(object.into())
    }

    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path()).unwrap();
    let digest = store.put("text").unwrap();
    assert_eq!(digest, Digest::of("text"));
    assert_eq!(store.put(String::from("text")).unwrap(), digest);
    assert_eq!(store.put(vec![b't', b'e', b'x', b't']).unwrap(), digest);
    for object in [
        store.get(digest).unwrap().unwrap(),
        store.get(digest).unwrap().unwrap(),
        store.get(digest).unwrap().unwrap(),
    ] {
        assert_eq!(object, "text");
        assert_eq!(object, b"text"[..]);
        assert_eq!(object, b"text");
        assert_eq!(object, *b"text");
        assert_eq!(object, b"text".to_vec());
        assert_ne!(object, "other");
        assert_eq!(Vec::from(object.clone()), b"text");
        assert_eq!(Arc::<[u8]>::from(object)[..], *b"text");
    }
    let reader = store.reader();
    let pinned = reader.get(digest).unwrap().unwrap();
    assert_eq!(pinned.clone(), pinned);
    assert_eq!(pinned, "text");
    assert_eq!(Vec::from(pinned.clone()), b"text");
    assert_eq!(Arc::<[u8]>::from(pinned)[..], *b"text");
    assert!(store.contains(digest).unwrap() && reader.contains(digest).unwrap());

    let copied = copy(&store, &Store::open(other.path()).unwrap(), digest);
    assert_eq!(copied.unwrap(), b"text");
    let absent = copy(&store, &store, Digest::of("absent")).unwrap_err();
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound);
    let read_only = Options::new().read_only(true).open(other.path()).unwrap();
    let refused = copy(&store, &read_only, digest).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    assert_eq!(format!("{digest:x}"), digest.to_string());
    assert_eq!(format!("{digest:X}"), digest.to_string().to_uppercase());
    assert_eq!(format!("{digest:#x}"), format!("0x{digest}"));
    assert_eq!(format!("{digest:>66x}"), format!("  {digest}"));

    let live = HashSet::from([digest]);
    store.put("dead").unwrap();
    let compaction = store.begin_compaction().unwrap();
    assert_eq!(compaction.plan_list(live.iter()).unwrap().live_objects, 1);
    assert_eq!(compaction.finish_list(live).unwrap().dropped_objects, 1);
}

#[test]
fn a_panic_of_the_caller_may_unwind_past_a_store() {
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_unwind_safe::<Store>();
    is_unwind_safe::<Options>();
    is_unwind_safe::<Object>();
    is_unwind_safe::<sealstone::PinnedReader>();
    is_unwind_safe::<sealstone::PinnedObject<'_>>();
    is_unwind_safe::<sealstone::Compaction>();
    is_unwind_safe::<sealstone::Objects>();
    is_unwind_safe::<sealstone::Digests>();
    is_unwind_safe::<sealstone::Lengths>();
}

#[test]
fn many_lookups_at_once_answer_as_each_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = small_segments().set_index_minimum(2, 1);
    let store = options.open(folder.path()).unwrap();
    let contents = contents(1000);
    let hashed: Vec<Hashed<'_>> = contents.iter().map(|bytes| Hashed::new(bytes)).collect();
    assert_eq!(store.put_many_hashed(&hashed[..700]).unwrap(), [true; 700]);
    let expected: Vec<bool> = (0..1000).map(|number| number >= 700).collect();
    assert_eq!(store.put_many_hashed(&hashed).unwrap(), expected);
    let twice = [&hashed[..2], &hashed[..2]].concat();
    assert_eq!(store.put_many_hashed(&twice).unwrap(), [false; 4]);

    let odd = |number: u32| number.to_le_bytes();
    let digests = (0..3000).map(|number| match number % 3 {
        0 => *hashed[number as usize / 3].digest(),
        _ => Digest::of(odd(number)),
    });
    let digests: Vec<Digest> = digests.collect();
    let check = || {
        for answers in [
            store.contains_many(&digests),
            store.reader().contains_many(&digests),
        ] {
            let answers: Vec<bool> = answers.into_iter().map(Result::unwrap).collect();
            let alone = digests.iter().map(|digest| store.contains(digest).unwrap());
            assert_eq!(answers, alone.collect::<Vec<_>>());
            assert_eq!(answers.iter().filter(|is_there| **is_there).count(), 1000);
        }
    };
    let check_lengths = || {
        let all: BTreeMap<Digest, u64> = store.lengths().map(Result::unwrap).collect();
        assert_eq!(all.len(), 1000);
        for hashed in &hashed {
            let len = Some(hashed.content().len() as u64);
            assert_eq!(store.len_of(hashed.digest()).unwrap(), len);
            assert_eq!(store.reader().len_of(hashed.digest()).unwrap(), len);
            assert_eq!(all.get(hashed.digest()).copied(), len);
        }
        assert_eq!(store.len_of(Digest::of("absent")).unwrap(), None);
    };
    check();
    check_lengths();
    store.compact(|_| true).unwrap();
    check();
    check_lengths();
    assert!(store.contains_many(&[]).is_empty());
}
