//! What pulls make, and what they refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use sealstone::remote::{PullReport, PushOptions};
use sealstone::{Digest, Error, RemoteError, Result, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::{Fault, Faulty};
use crate::{Local, open, pull, push, push_with, pushed, remote, runtime};

/// The digests of all objects of a store that is sound.
fn digests(root: &Path) -> BTreeSet<Digest> {
    let store = Store::open(root).unwrap();
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(
        store.recovery().repairs.is_empty(),
        "{:?}",
        store.recovery()
    );
    store.digests().map(Result::unwrap).collect()
}

/// The files of segments that hold something, and their bytes.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(root.join("segments"));
    let files = files.into_iter().flatten().map(|entry| {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), bytes)
    });
    let is_of_segment = |name: &str| has_ending(name, "dat") || has_ending(name, "idx");
    files
        .filter(|(name, bytes)| is_of_segment(name) && !bytes.is_empty())
        .collect()
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|own| own == ending)
}

fn is_refused<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Remote(RemoteError::NotAPart { .. })))
}

#[test]
fn a_pulled_store_has_the_same_segments_byte_for_byte() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        local.put(2);
        local.store.put("").unwrap();
        push(&remote, &local).await.unwrap();
        let parent = TempDir::new().unwrap();
        let root = parent.path().join("a/new/folder");
        let report = pull(&remote, &root).await.unwrap();
        assert_eq!(report.downloaded_segments, report.segments);
        assert_eq!(files(&root), files(local.folder.path()));
        assert_eq!(digests(&root), local.digests());
        // Again, it has nothing to do.
        let report = pull(&remote, &root).await.unwrap();
        assert_eq!(
            (report.downloaded_segments, report.downloaded_bytes),
            (0, 0)
        );
        assert_eq!(digests(&root), local.digests());
    });
}

#[test]
fn an_object_in_several_parts_is_pulled() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        let content: Vec<u8> = (0..17_u32 << 20).map(|at| (at * 7 % 251) as u8).collect();
        let digest = local.store.put(&content).unwrap();
        push(&remote, &local).await.unwrap();
        let root = TempDir::new().unwrap();
        pull(&remote, root.path()).await.unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.get(digest).unwrap().unwrap(), content[..]);
    });
}

#[test]
fn a_pull_brings_an_older_pulled_store_up_to_date() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        let root = TempDir::new().unwrap();
        for number in 1..5 {
            local.put(number);
            push(&remote, &local).await.unwrap();
            let report = pull(&remote, root.path()).await.unwrap();
            assert!(report.downloaded_segments < report.segments || number == 1);
            assert_eq!(digests(root.path()), local.digests());
        }
    });
}

#[test]
fn a_folder_with_anything_else_is_refused_and_stays_as_it_was() {
    runtime().block_on(async {
        let (local, _, remote) = pushed().await;
        let root = TempDir::new().unwrap();
        pull(&remote, root.path()).await.unwrap();
        // Objects that were put since, sealed or not.
        let store = open(&root);
        store.put("put since").unwrap();
        store.close().unwrap();
        let before = files(root.path());
        assert!(is_refused(&pull(&remote, root.path()).await));
        assert_eq!(files(root.path()), before);

        let other = Local::new();
        other.put(2);
        assert!(matches!(
            pull(&remote, other.folder.path()).await,
            Err(Error::Locked { .. })
        ));
        let folder = other.folder;
        drop(other.store);
        assert!(is_refused(&pull(&remote, folder.path()).await));

        // A state that a compaction has replaced.
        let older = TempDir::new().unwrap();
        pull(&remote, older.path()).await.unwrap();
        let compaction = local.store.begin_compaction().unwrap();
        let half: BTreeSet<_> = local.digests().into_iter().step_by(2).collect();
        compaction.finish(|digest| half.contains(digest)).unwrap();
        push(&remote, &local).await.unwrap();
        assert!(is_refused(&pull(&remote, older.path()).await));
        assert_eq!(digests(older.path()).len(), 20);

        let notes = TempDir::new().unwrap();
        fs::write(notes.path().join("notes"), "text").unwrap();
        let refused = pull(&remote, notes.path()).await;
        assert!(
            matches!(refused, Err(Error::NotEmpty { .. })),
            "{refused:?}"
        );
        let go_on = |_: &_| ControlFlow::Continue(());
        let unknown = remote.pull_async("other", notes.path(), go_on).await;
        let is_unknown = matches!(unknown, Err(Error::Remote(RemoteError::NoRef { .. })));
        assert!(is_unknown, "{unknown:?}");
    });
}

#[test]
fn a_pulled_store_takes_over_and_a_restored_backup_goes_on_after_a_pull() {
    runtime().block_on(async {
        let (local, bucket, remote) = pushed().await;
        // A backup of the closed store.
        let folder = local.folder;
        local.store.close().unwrap();
        let backup = TempDir::new().unwrap();
        fs::create_dir(backup.path().join("segments")).unwrap();
        for (name, bytes) in fs::read_dir(folder.path().join("segments"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), fs::read(entry.path()).unwrap())
            })
        {
            fs::write(backup.path().join("segments").join(name), bytes).unwrap();
        }
        let local = Local::open(folder);
        local.put(2);
        push(&remote, &local).await.unwrap();
        // The newest state is pulled over the older backup, which is then the same writer.
        pull(&remote, backup.path()).await.unwrap();
        let restored = Local::open(backup);
        assert_eq!(restored.digests(), local.digests());
        restored.put(3);
        push(&remote, &restored).await.unwrap();
        assert!(push(&remote, &local).await.is_err());

        let root = TempDir::new().unwrap();
        pull(&remote, root.path()).await.unwrap();
        let pulled = Local::open(root);
        pulled.put(4);
        let fenced = push(&remote, &pulled).await;
        let is_fenced = matches!(fenced, Err(Error::Remote(RemoteError::Fenced { .. })));
        assert!(is_fenced, "{fenced:?}");
        let take_over = PushOptions::new().take_over(true);
        let report = push_with(&remote, &pulled, &take_over).await.unwrap();
        assert_eq!(report.uploaded_segments, report.segments);
        assert_eq!(bucket.check("main").await, Some(pulled.digests()));
    });
}

#[test]
fn h78_a_byte_that_is_flipped_or_lost_or_added_is_an_error_that_names_the_object() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        let contents = [vec![1; 30], vec![], vec![2; 40]];
        local.store.put_many(&contents).unwrap();
        push(&remote, &local).await.unwrap();
        let go_on = |_: &_| ControlFlow::Continue(());
        let clean = remote.verify_async("main", go_on).await.unwrap();
        assert!(clean.is_clean() && clean.objects == 3, "{clean:?}");
        let mut names = bucket.names("segments").await;
        names.extend(bucket.names("refs").await.first().cloned());
        for name in names {
            let sound = bucket.read(&name).await;
            for at in 0..sound.len() + 2 {
                // The last rounds cut the object and add to it.
                let mut damaged = sound.to_vec();
                match damaged.get_mut(at) {
                    Some(byte) => *byte ^= 1,
                    None if at == sound.len() => damaged.truncate(at - 1),
                    None => damaged.push(0),
                }
                let is_longer = damaged.len() > sound.len();
                bucket.write(&name, damaged.into()).await;
                let root = TempDir::new().unwrap();
                let pulled = pull(&remote, root.path()).await;
                let verified = remote.verify_async("main", go_on).await;
                if has_ending(&name, "idx") || (has_ending(&name, "dat") && is_longer) {
                    // A pull computes the sidecar, and reads as much as the manifest says.
                    pulled.unwrap();
                    assert_eq!(digests(root.path()), local.digests());
                } else {
                    assert_names(&name, &pulled.unwrap_err());
                    assert!(files(root.path()).is_empty() || name.starts_with("refs"));
                }
                match verified {
                    Ok(report) => {
                        let problem = &report.problems[..];
                        assert_eq!(problem.len(), 1, "{name} {at}");
                        assert!(problem[0].object.ends_with(&name), "{name} {at}");
                    }
                    Err(error) => assert_names(&name, &error),
                }
            }
            bucket.write(&name, sound).await;
        }
    });
}

#[test]
fn h78_a_data_file_that_is_too_short_is_damaged_at_every_boundary_of_its_parts() {
    const PART: usize = 8 << 20;
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.store.put(vec![7; 2 * PART + 100]).unwrap();
        push(&remote, &local).await.unwrap();
        let names = bucket.names("segments").await;
        let name = names.iter().find(|name| has_ending(name, "dat")).unwrap();
        let sound = bucket.read(name).await;
        for bytes in [0, PART - 1, PART, PART + 1, 2 * PART, sound.len() - 1] {
            bucket.write(name, sound.slice(..bytes)).await;
            let root = TempDir::new().unwrap();
            assert_names(name, &pull(&remote, root.path()).await.unwrap_err());
            let go_on = |_: &_| ControlFlow::Continue(());
            let report = remote.verify_async("main", go_on).await.unwrap();
            assert_eq!(report.problems.len(), 1, "{bytes}: {report:?}");
            assert!(report.problems[0].object.ends_with(name), "{report:?}");
        }
    });
}

fn assert_names(name: &str, error: &Error) {
    match error {
        Error::Remote(RemoteError::Damaged { object, .. }) => {
            assert!(object.ends_with(name), "{object}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

async fn pull_until_it_hangs(faulty: &Arc<Faulty>, root: &Path) -> Option<Result<PullReport>> {
    let remote = remote(faulty.clone());
    let pull = pin!(pull(&remote, root));
    match select(pull, pin!(faulty.hangs())).await {
        Either::Left((pulled, _)) => Some(pulled),
        Either::Right(_) => None,
    }
}

#[test]
fn h78_a_pull_whose_requests_fail_makes_no_store_and_another_one_completes_it() {
    let runtime = runtime();
    let (local, bucket) = (Local::new(), Bucket::new());
    let faulty = Faulty::new(bucket.0.clone());
    local.put(1);
    runtime
        .block_on(push(&remote(faulty.clone()), &local))
        .unwrap();
    let mut cases = 0;
    for fault in Fault::ALL {
        for number in 0.. {
            let root = TempDir::new().unwrap();
            faulty.plan(number, fault);
            let pulled = runtime.block_on(pull_until_it_hangs(&faulty, root.path()));
            if !faulty.was_reached() {
                assert!(matches!(pulled, Some(Ok(_))), "{pulled:?}");
                break;
            }
            cases += 1;
            let case = format!("{fault:?} {number} {}: {pulled:?}", faulty.log()[number]);
            faulty.heal();
            if !matches!(pulled, Some(Ok(_))) && root.path().join("segments/MANIFEST").exists() {
                // What is ended goes on in threads for a moment, and holds the lock.
                let opened = loop {
                    match Store::open(root.path()) {
                        Err(Error::Locked { .. }) => std::thread::yield_now(),
                        opened => break opened,
                    }
                };
                let is_missing = matches!(opened, Err(Error::MissingSegment { .. }));
                assert!(is_missing, "{case}: {opened:?}");
            }
            let again = loop {
                match runtime.block_on(pull(&remote(faulty.clone()), root.path())) {
                    Err(Error::Locked { .. }) => std::thread::yield_now(),
                    again => break again,
                }
            };
            again.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(digests(root.path()), local.digests(), "{case}");
        }
    }
    assert!(cases > 40, "{cases}");
    println!("{cases} cases");
}

#[test]
fn a_pull_downloads_anew_what_has_rotted_in_the_folder() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        local.put(2);
        push(&remote, &local).await.unwrap();
        let root = TempDir::new().unwrap();
        pull(&remote, root.path()).await.unwrap();
        let sound = files(root.path());
        for (name, bytes) in &sound {
            let mut rotten = bytes.clone();
            let middle = rotten.len() / 2;
            rotten[middle] ^= 1;
            fs::write(root.path().join("segments").join(name), rotten).unwrap();
            pull(&remote, root.path()).await.unwrap();
            assert_eq!(files(root.path()), sound, "{name}");
        }
        assert_eq!(digests(root.path()), local.digests());
    });
}
