//! What readers give, what they ask for, and what they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sealstone::remote::{GcOptions, PushOptions, Remote, RemoteReader};
use sealstone::{Digest, Error, Options, RemoteError, Result, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::{Fault, Faulty};
use crate::{Local, Unflushed, indexed, indexed_in, push, remote, runtime};

/// A bound with room for everything in small tests.
const PLENTY: u64 = 64 << 20;

fn go_on<P>(_: &P) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

async fn reader(remote: &Remote, cache: &Path, cache_bytes: u64) -> Result<RemoteReader> {
    remote.reader_async("main", cache, cache_bytes, go_on).await
}

/// Pushes a store that has two runs: one that is so much longer than the other that no push merges them.
async fn pushed_with_two_runs(remote: &Remote) -> Local {
    let Local { store, folder } = {
        let longer = indexed(200);
        (1..=10).for_each(|number| longer.put(number));
        push(remote, &longer).await.unwrap();
        longer
    };
    store.close().unwrap();
    let both = indexed_in(folder, 20);
    both.put(11);
    push(remote, &both).await.unwrap();
    both
}

/// Pushes a store and opens a reader, whose cache is in the folder.
async fn opened(local: &Local) -> (Arc<Faulty>, Remote, TempDir, RemoteReader) {
    let faulty = Faulty::new(Bucket::new().0);
    let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
    push(&remote, local).await.unwrap();
    let reader = reader(&remote, cache.path(), PLENTY).await.unwrap();
    (faulty, remote, cache, reader)
}

async fn collect_at_once(remote: &Remote) {
    let at_once = GcOptions::new().grace(std::time::Duration::ZERO);
    // The bucket's clock counts milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    remote.gc_async(&at_once, go_on).await.unwrap();
}

/// The contents that a store holds.
fn contents(local: &Local) -> BTreeMap<Digest, Vec<u8>> {
    let objects = local.store.iter().map(Result::unwrap);
    objects
        .map(|object| (*object.digest(), object.to_vec()))
        .collect()
}

/// Requests since the last [`Faulty::heal`].
fn requests(faulty: &Faulty) -> usize {
    faulty.log().len()
}

#[test]
fn a_hit_costs_one_request_and_a_miss_or_a_second_read_none() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(40)] {
            let faulty = Faulty::new(Bucket::new().0);
            let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
            local.put(1);
            local.put(2);
            push(&remote, &local).await.unwrap();
            faulty.heal();
            let reader = reader(&remote, cache.path(), PLENTY).await.unwrap();
            let index = faulty
                .log()
                .iter()
                .filter(|line| line.contains("segments/"))
                .count();
            assert_eq!(requests(&faulty), 3 + index, "{:?}", faulty.log());
            let is_run =
                |line: &String| Path::new(line).extension().is_some_and(|own| own == "run");
            assert_eq!(
                faulty.log().iter().any(is_run),
                local.store.stats().set_index_runs > 0
            );

            let contents = contents(&local);
            for (digest, content) in &contents {
                faulty.heal();
                assert_eq!(
                    reader.get_async(digest).await.unwrap().unwrap(),
                    content[..]
                );
                assert_eq!(requests(&faulty), 1, "{:?}", faulty.log());
            }
            faulty.heal();
            for (digest, content) in &contents {
                assert_eq!(
                    reader.get_async(digest).await.unwrap().unwrap(),
                    content[..]
                );
            }
            for number in 0..1000 {
                let absent = Digest::of(format!("absent {number}"));
                assert!(reader.get_async(absent).await.unwrap().is_none());
            }
            assert_eq!(requests(&faulty), 0);
        }
    });
}

#[test]
fn a_batch_reads_neighbours_by_one_request() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(141)] {
            let faulty = Faulty::new(Bucket::new().0);
            let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
            (1..8).for_each(|number| local.put(number));
            let long = vec![7; 3 << 20];
            let long = (local.store.put(&long).unwrap(), long);
            push(&remote, &local).await.unwrap();
            let reader = reader(&remote, cache.path(), PLENTY).await.unwrap();
            let contents = contents(&local);
            let mut digests: Vec<Digest> = contents.keys().copied().collect();
            digests.push(long.0);
            digests.push(Digest::of("absent"));
            digests.push(digests[0]);
            faulty.heal();
            let found = reader.get_many_async(&digests).await.unwrap();
            let segments = local.store.stats().segments.len();
            // The long object needs a second one if its length is not known.
            assert!(requests(&faulty) <= segments + 1, "{:?}", faulty.log());
            for (digest, object) in digests.iter().zip(found) {
                let object = object.map(|object| object.to_vec());
                assert_eq!(object.as_ref(), contents.get(digest));
            }
        }
    });
}

#[test]
fn contains_and_iter_say_what_the_ref_lists() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(40)] {
            local.put(1);
            local.put(2);
            let (faulty, _, _cache, reader) = opened(&local).await;
            let expected = local.digests();
            for digest in &expected {
                assert!(reader.contains_async(digest).await.unwrap());
            }
            assert!(!reader.contains_async(Digest::of("absent")).await.unwrap());
            // The sidecars are local by now.
            faulty.heal();
            let digests: Vec<Digest> = reader.iter_async().try_collect().await.unwrap();
            assert_eq!(digests.iter().copied().collect::<BTreeSet<_>>(), expected);
            assert_eq!(digests.len(), expected.len());
            assert_eq!(requests(&faulty), 0, "{:?}", faulty.log());
        }
    });
}

#[test]
fn blocking_calls_do_the_same() {
    let (local, cache) = (indexed(20), TempDir::new().unwrap());
    let bucket = TempDir::new().unwrap();
    let remote = Remote::open(&format!("file://{}", bucket.path().display())).unwrap();
    local.put(1);
    remote.push(&local.store, "main").unwrap();
    let reader = remote.reader("main", cache.path(), PLENTY).unwrap();
    let contents = contents(&local);
    let digests: Vec<Digest> = contents.keys().copied().collect();
    for (digest, content) in &contents {
        assert!(reader.contains(digest).unwrap());
        assert_eq!(reader.get(digest).unwrap().unwrap(), content[..]);
    }
    let found = reader.get_many(&digests).unwrap();
    assert!(found.iter().all(Option::is_some));
    let iterated: BTreeSet<Digest> = reader.iter().map(Result::unwrap).collect();
    assert_eq!(iterated, local.digests());

    assert!(!reader.refresh().unwrap());
    local.put(2);
    remote.push(&local.store, "main").unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.iter().count(), local.digests().len());
    runtime().block_on(async {
        let refused = reader.get(digests[0]);
        assert!(matches!(
            refused,
            Err(Error::Remote(RemoteError::InsideRuntime))
        ));
    });
}

#[test]
fn h76_a_refresh_costs_one_request_if_nothing_is_new() {
    runtime().block_on(async {
        let local = indexed(20);
        local.put(1);
        let (faulty, remote, _cache, reader) = opened(&local).await;
        faulty.heal();
        assert!(!reader.refresh_async().await.unwrap());
        assert_eq!(requests(&faulty), 1);
        let before = reader.number();
        local.put(2);
        push(&remote, &local).await.unwrap();
        assert!(reader.refresh_async().await.unwrap());
        assert!(reader.number() > before);
        for (digest, content) in contents(&local) {
            assert_eq!(
                reader.get_async(digest).await.unwrap().unwrap(),
                content[..]
            );
        }
    });
}

#[test]
fn h74_a_reader_of_a_state_that_was_collected_refreshes_once() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(40)] {
            local.put(1);
            local.put(2);
            let (_, remote, _cache, reader) = opened(&local).await;
            let before = contents(&local);
            let is_kept = |digest: &Digest| digest.as_bytes()[0].is_multiple_of(2);
            let compaction = local.store.begin_compaction().unwrap();
            compaction.finish(is_kept).unwrap();
            push(&remote, &local).await.unwrap();
            collect_at_once(&remote).await;
            for (digest, content) in before {
                let found = reader.get_async(digest).await.unwrap();
                let expected = is_kept(&digest).then_some(content);
                assert_eq!(found.map(|object| object.to_vec()), expected);
            }
            let iterated: BTreeSet<Digest> = reader.iter_async().try_collect().await.unwrap();
            assert_eq!(iterated, local.digests());
        }
    });
}

/// Bytes of all files in a folder and below: the longer of length and of what is stored.
fn bytes_on_disk(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sum += bytes_on_disk(&path);
        } else if let Ok(status) = path.metadata() {
            #[cfg(unix)]
            let stored = std::os::unix::fs::MetadataExt::blocks(&status) * 512;
            #[cfg(not(unix))]
            let stored = 0;
            sum += status.len().max(stored);
        }
    }
    sum
}

#[test]
fn h77_the_cache_is_within_its_bound_after_every_read() {
    const BOUND: u64 = 3 << 20;
    runtime().block_on(async {
        let (folder, faulty) = (TempDir::new().unwrap(), Faulty::new(Bucket::new().0));
        let options = Options::new().segment_bytes_max(1 << 20);
        let options = options.operations(Arc::new(Unflushed));
        let store = options.set_index_minimum(1, 1).open(folder.path()).unwrap();
        let local = Local { store, folder };
        let mut random = StdRng::seed_from_u64(7);
        let content = |number: u32, random: &mut StdRng| {
            let len =
                200 + random.random_range(0..4000_usize) * usize::from(!number.is_multiple_of(20));
            number.to_le_bytes().repeat(len / 4)
        };
        let contents: Vec<Vec<u8>> = (0..4000).map(|n| content(n, &mut random)).collect();
        let digests = local.store.put_many(&contents).unwrap();
        let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
        push(&remote, &local).await.unwrap();
        let mut most = 0;
        for opening in 0..3 {
            let reader = reader(&remote, cache.path(), BOUND).await.unwrap();
            for read in 0..1500 {
                let at = random.random_range(0..digests.len());
                if read % 10 == 0 {
                    let batch: Vec<Digest> = (0..30)
                        .map(|_| digests[random.random_range(0..digests.len())])
                        .collect();
                    let found = reader.get_many_async(&batch).await.unwrap();
                    assert!(
                        found.iter().zip(&batch).all(|(found, digest)| found
                            .as_ref()
                            .unwrap()
                            .digest()
                            == digest)
                    );
                }
                let found = reader.get_async(digests[at]).await.unwrap();
                assert_eq!(found.unwrap(), contents[at][..]);
                let bytes = bytes_on_disk(cache.path());
                assert!(bytes <= BOUND, "opening {opening}, read {read}: {bytes}");
                most = most.max(bytes);
            }
        }
        // It is of use, too.
        assert!(most > BOUND / 2, "{most}");
    });
}

#[test]
fn h77_a_cache_is_within_a_lower_bound_than_that_of_a_process_that_was_killed() {
    runtime().block_on(async {
        let (local, cache) = (indexed(3000), TempDir::new().unwrap());
        let contents: Vec<Vec<u8>> = (0..3000_u32)
            .map(|number| number.to_le_bytes().repeat(500))
            .collect();
        let digests = local.store.put_many(&contents).unwrap();
        let remote = remote(Bucket::new().0);
        push(&remote, &local).await.unwrap();
        let first = reader(&remote, cache.path(), 1 << 30).await.unwrap();
        let found = first.get_many_async(&digests).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        // What the process leaves when it is killed: the segment that is appended to, not sealed.
        let killed = TempDir::new().unwrap();
        copy_folder(cache.path(), killed.path());
        drop(first);
        let bound = 3 << 20;
        let again = reader(&remote, killed.path(), bound).await.unwrap();
        let bytes = bytes_on_disk(killed.path());
        assert!(bytes <= bound, "{bytes}");
        assert_eq!(
            again.get_async(digests[7]).await.unwrap().unwrap(),
            contents[7][..]
        );
    });
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn h77_a_cache_without_room_for_the_index_is_refused_with_the_bound_that_it_needs() {
    runtime().block_on(async {
        let (local, faulty) = (indexed(20), Faulty::new(Bucket::new().0));
        let (remote, cache) = (remote(faulty), TempDir::new().unwrap());
        local.put(1);
        push(&remote, &local).await.unwrap();
        let mut bound = 1000;
        let mut refusals = 0;
        let reader = loop {
            match reader(&remote, cache.path(), bound).await {
                Err(Error::Remote(RemoteError::CacheTooSmall { bytes_min, .. })) => {
                    bound = bytes_min;
                }
                opened => break opened.unwrap(),
            }
            refusals += 1;
        };
        assert!(refusals <= 2 && bound < 4 << 20, "{refusals}, {bound}");
        assert!(
            reader
                .get_async(local.digests().first().unwrap())
                .await
                .unwrap()
                .is_some()
        );
    });
}

#[test]
fn a_segment_that_is_asked_often_is_taken_over_as_a_whole() {
    runtime().block_on(async {
        let (folder, faulty) = (TempDir::new().unwrap(), Faulty::new(Bucket::new().0));
        let options = Options::new().operations(Arc::new(Unflushed));
        let store = options.set_index_minimum(1, 1).open(folder.path()).unwrap();
        let local = Local { store, folder };
        let contents: Vec<Vec<u8>> = (0..3000_u32)
            .map(|number| number.to_le_bytes().repeat(500))
            .collect();
        let digests = local.store.put_many(&contents).unwrap();
        let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
        push(&remote, &local).await.unwrap();
        let reader = reader(&remote, cache.path(), PLENTY).await.unwrap();
        faulty.heal();
        for digest in &digests {
            let asked = requests(&faulty);
            reader.get_async(digest).await.unwrap().unwrap();
            if requests(&faulty) == asked {
                // The object came with its segment.
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("each of {} objects was asked for", digests.len());
    });
}

#[test]
fn h78_a_flipped_byte_in_any_object_is_never_given_out() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(20)] {
            let bucket = Bucket::new();
            let remote = remote(bucket.0.clone());
            local.put(1);
            push(&remote, &local).await.unwrap();
            let contents = contents(&local);
            for name in bucket.names("").await {
                let sound = bucket.read(&name).await;
                for at in (0..sound.len()).step_by(sound.len() / 40 + 1) {
                    let mut flipped = sound.to_vec();
                    flipped[at] ^= 1 << (at % 8);
                    bucket.write(&name, Bytes::from(flipped)).await;
                    let cache = TempDir::new().unwrap();
                    let named = |error: Error| {
                        assert!(
                            error.to_string().contains(&name),
                            "{name}, byte {at}: {error}"
                        );
                    };
                    match reader(&remote, cache.path(), PLENTY).await {
                        Err(error) => named(error),
                        Ok(reader) => {
                            for (digest, content) in &contents {
                                match reader.get_async(digest).await {
                                    Ok(found) => assert_eq!(found.unwrap(), content[..]),
                                    Err(error) => named(error),
                                }
                            }
                        }
                    }
                }
                bucket.write(&name, sound).await;
            }
        }
    });
}

#[test]
fn a_reader_whose_requests_fail_gives_the_right_bytes_or_an_error() {
    runtime().block_on(async {
        let (local, faulty) = (indexed(40), Faulty::new(Bucket::new().0));
        let remote = remote(faulty.clone());
        local.put(1);
        local.put(2);
        push(&remote, &local).await.unwrap();
        let contents = contents(&local);
        let digests: Vec<Digest> = contents.keys().copied().collect();
        for fault in [Fault::Before, Fault::After, Fault::Cut, Fault::Flip] {
            for number in 0.. {
                let cache = TempDir::new().unwrap();
                faulty.plan(number, fault);
                let read = async {
                    let reader = reader(&remote, cache.path(), PLENTY).await?;
                    for (digest, content) in contents.iter().take(3) {
                        assert_eq!(reader.get_async(digest).await?.unwrap(), content[..]);
                    }
                    let found = reader.get_many_async(&digests).await?;
                    for (found, content) in found.iter().zip(contents.values()) {
                        assert_eq!(found.as_ref().unwrap(), content);
                    }
                    assert!(reader.contains_async(digests[0]).await?);
                    reader.refresh_async().await
                };
                let result = read.await;
                let is_reached = faulty.was_reached();
                faulty.heal();
                // Whatever was left behind in the cache, it does no harm.
                let reader = reader(&remote, cache.path(), PLENTY).await.unwrap();
                for (digest, content) in &contents {
                    let found = reader.get_async(digest).await.unwrap().unwrap();
                    assert_eq!(found, content[..], "{fault:?} {number}, {result:?}");
                }
                if !is_reached {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_cache_is_used_again_by_one_reader_at_a_time_and_no_other_folder_is() {
    runtime().block_on(async {
        let (local, faulty) = (indexed(20), Faulty::new(Bucket::new().0));
        let (remote, cache) = (remote(faulty.clone()), TempDir::new().unwrap());
        local.put(1);
        push(&remote, &local).await.unwrap();
        let first = reader(&remote, cache.path(), PLENTY).await.unwrap();
        for digest in local.digests() {
            first.get_async(digest).await.unwrap().unwrap();
        }
        let second = reader(&remote, cache.path(), PLENTY).await;
        assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
        drop(first);
        faulty.heal();
        let again = reader(&remote, cache.path(), PLENTY).await.unwrap();
        assert_eq!(requests(&faulty), 3, "{:?}", faulty.log());
        for (digest, content) in contents(&local) {
            assert_eq!(again.get_async(digest).await.unwrap().unwrap(), content[..]);
        }
        assert_eq!(requests(&faulty), 3);
        let refused = reader(&remote, local.folder.path(), PLENTY).await;
        assert!(
            matches!(refused, Err(Error::NotEmpty { .. })),
            "{refused:?}"
        );
        // A store of the user's, whatever its name.
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("objects")).unwrap();
        store.put("content").unwrap();
        drop(store);
        let refused = reader(&remote, folder.path(), PLENTY).await;
        assert!(
            matches!(refused, Err(Error::NotEmpty { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn h78_damage_on_the_local_disk_is_mended_from_the_bucket() {
    runtime().block_on(async {
        for local in [Local::new(), indexed(40)] {
            let remote = remote(Bucket::new().0);
            local.put(1);
            local.put(2);
            push(&remote, &local).await.unwrap();
            let contents = contents(&local);
            let cache = TempDir::new().unwrap();
            let first = reader(&remote, cache.path(), PLENTY).await.unwrap();
            for digest in contents.keys() {
                first.get_async(digest).await.unwrap().unwrap();
            }
            drop(first);
            for folder in [
                "sealstone-cache/objects/segments",
                "sealstone-cache/index/segments",
            ] {
                for entry in fs::read_dir(cache.path().join(folder)).unwrap() {
                    let path = entry.unwrap().path();
                    let is_of = |endings: &[&str]| {
                        path.extension()
                            .is_some_and(|own| endings.iter().any(|ending| own == *ending))
                    };
                    if !is_of(&["dat", "run", "idx"])
                        || (folder.contains("objects") && !is_of(&["dat"]))
                    {
                        continue;
                    }
                    let mut bytes = fs::read(&path).unwrap();
                    for at in (0..bytes.len()).step_by(97) {
                        bytes[at] ^= 4;
                    }
                    fs::write(&path, bytes).unwrap();
                }
            }
            let again = reader(&remote, cache.path(), PLENTY).await.unwrap();
            for (digest, content) in &contents {
                assert_eq!(again.get_async(digest).await.unwrap().unwrap(), content[..]);
            }
        }
    });
}

#[test]
fn h78_a_run_that_rots_is_mended_by_any_call_and_a_lost_file_of_the_cache_by_reading_it_again() {
    runtime().block_on(async {
        let remote = remote(Bucket::new().0);
        let contents = contents(&pushed_with_two_runs(&remote).await);
        let cache = TempDir::new().unwrap();
        let damage = |folder: &str, ending: &str, damage: &dyn Fn(&Path)| {
            let folder = cache.path().join("sealstone-cache").join(folder);
            let files = fs::read_dir(folder.join("segments")).unwrap();
            let paths = files.map(|entry| entry.unwrap().path());
            let paths = paths.filter(|path| path.extension().is_some_and(|own| own == ending));
            paths.inspect(|path| damage(path)).count()
        };
        let first = reader(&remote, cache.path(), PLENTY).await.unwrap();
        for digest in contents.keys() {
            first.get_async(digest).await.unwrap().unwrap();
        }
        drop(first);
        let rot = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[4096..].iter_mut().for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).unwrap();
        };
        assert_eq!(damage("index", "run", &rot), 2);
        assert!(damage("objects", "dat", &|path| fs::remove_file(path).unwrap()) > 0);
        let again = reader(&remote, cache.path(), PLENTY).await.unwrap();
        for (digest, content) in &contents {
            assert!(again.contains_async(digest).await.unwrap());
            assert_eq!(again.get_async(digest).await.unwrap().unwrap(), content[..]);
        }
    });
}

/// While the reader is open, so that the files were checked before.
#[test]
fn h78_sidecars_that_rot_in_an_open_reader_hide_no_object_to_which_a_run_leads() {
    runtime().block_on(async {
        let local = indexed(40);
        local.put(1);
        local.put(2);
        let contents = contents(&local);
        let digests: Vec<Digest> = contents.keys().copied().collect();
        for call in ["get", "get_many", "contains", "iter", "refresh"] {
            for from in [16, 60] {
                let (_, _, cache, reader) = opened(&local).await;
                // Makes the sidecars local.
                assert_eq!(reader.iter_async().count().await, digests.len());
                let folder = cache.path().join("sealstone-cache/index/segments");
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|own| own == "idx") {
                        let bytes = fs::read(&path).unwrap();
                        let bytes: Vec<u8> = bytes[from..].iter().map(|byte| !byte).collect();
                        // In place: a file that is mapped must not become shorter.
                        let file = fs::File::options().write(true).open(&path).unwrap();
                        file.write_all_at(&bytes, from as u64).unwrap();
                    }
                }
                match call {
                    "get" => {}
                    "get_many" => {
                        let found = reader.get_many_async(&digests).await.unwrap();
                        for (found, content) in found.iter().zip(contents.values()) {
                            assert_eq!(found.as_ref().unwrap(), content);
                        }
                    }
                    "contains" => {
                        for digest in &digests {
                            assert!(reader.contains_async(digest).await.unwrap(), "{digest}");
                        }
                    }
                    "iter" => {
                        let found: BTreeSet<Digest> =
                            reader.iter_async().try_collect().await.unwrap();
                        assert_eq!(found, local.digests());
                    }
                    _ => assert!(!reader.refresh_async().await.unwrap()),
                }
                for (digest, content) in &contents {
                    let found = reader.get_async(digest).await.unwrap();
                    assert_eq!(found.unwrap(), content[..], "{call}");
                }
                assert!(
                    reader
                        .get_async(Digest::of("absent"))
                        .await
                        .unwrap()
                        .is_none()
                );
            }
        }
    });
}

#[test]
fn a_cache_of_another_ref_is_used_without_more_room() {
    runtime().block_on(async {
        let bucket = Bucket::new();
        let remote = remote(bucket.0.clone());
        for name in ["a", "b"] {
            let local = indexed(20_000);
            let contents: Vec<Vec<u8>> = (0..20_000_u32)
                .map(|number| format!("{name} {number}").into_bytes())
                .collect();
            local.store.put_many(&contents).unwrap();
            let options = PushOptions::new();
            let pushed = remote.push_async(&local.store, name, &options, go_on);
            pushed.await.unwrap();
        }
        // The least bound with which a new cache can be opened.
        let mut bound = 1 << 20;
        loop {
            let cache = TempDir::new().unwrap();
            let opened = remote.reader_async("b", cache.path(), bound, go_on).await;
            match opened {
                Err(Error::Remote(RemoteError::CacheTooSmall { .. })) => bound += 100_000,
                opened => break drop(opened.unwrap()),
            }
        }
        let cache = TempDir::new().unwrap();
        for name in ["a", "b", "a"] {
            let opened = remote.reader_async(name, cache.path(), bound + 100_000, go_on);
            drop(opened.await.unwrap());
        }
    });
}
