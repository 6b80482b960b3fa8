//! Damage in a bucket, and the remedy that its errors give: a store that holds everything takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt as _;
use sealstone::remote::{GcOptions, GcReport, PushOptions, RefReport, Remote};
use sealstone::{Error, Options, RemoteError, Result, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::{Local, Unflushed, pull, push, push_with, remote, runtime};

/// A store of which each push also uploads a run of the set index.
fn local_with_runs() -> Local {
    let folder = TempDir::new().unwrap();
    let options = Options::new().segment_bytes_max(1000);
    let options = options.set_index_minimum(1, 1);
    let options = options.operations(Arc::new(Unflushed));
    let store = options.open(folder.path()).unwrap();
    Local { store, folder }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A byte is another one.
    Flip,
    /// The last byte is missing.
    Cut,
    /// Nothing is left of the content.
    Empty,
    /// The object is missing.
    Remove,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Flip, Self::Cut, Self::Empty, Self::Remove];

    async fn inflict(self, bucket: &Bucket, name: &str) {
        let mut bytes = bucket.read(name).await.to_vec();
        match self {
            Self::Flip => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Self::Cut => drop(bytes.pop()),
            Self::Empty => bytes.clear(),
            Self::Remove => return bucket.0.delete(&name.into()).await.unwrap(),
        }
        bucket.write(name, bytes.into()).await;
    }
}

async fn verify(remote: &Remote) -> Result<RefReport> {
    let go_on = |_: &_| ControlFlow::Continue(());
    remote.verify_async("main", go_on).await
}

/// Waits until the clock of the bucket shows another time.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Collects and keeps nothing for those who read old states.
async fn gc(remote: &Remote) -> Result<GcReport> {
    let go_on = |_: &_| ControlFlow::Continue(());
    let at_once = GcOptions::new().grace(Duration::ZERO);
    remote.gc_async(&at_once, go_on).await
}

async fn take_over(remote: &Remote, local: &Local) -> u64 {
    let options = PushOptions::new().take_over(true);
    let report = push_with(remote, local, &options).await.unwrap();
    assert_eq!(report.uploaded_segments, report.segments);
    report.number
}

async fn is_whole(remote: &Remote, bucket: &Bucket, local: &Local, case: &str) {
    let report = verify(remote).await.unwrap();
    assert!(report.is_clean(), "{case}: {report:?}");
    assert_eq!(bucket.check("main").await, Some(local.digests()), "{case}");
    let root = TempDir::new().unwrap();
    pull(remote, root.path()).await.unwrap();
    let pulled = Store::open(root.path()).unwrap();
    let digests: BTreeSet<_> = pulled.digests().map(Result::unwrap).collect();
    assert_eq!(digests, local.digests(), "{case}");
}

/// Both the store that has pushed and another one that holds the same can mend the ref.
#[test]
fn taking_over_mends_a_ref_of_which_a_file_is_damaged_or_missing() {
    runtime().block_on(async {
        for ending in [".dat", ".idx", ".run"] {
            for damage in Damage::ALL {
                for is_writer in [true, false] {
                    let case = format!("{ending} {damage:?} {is_writer}");
                    let (local, bucket) = (local_with_runs(), Bucket::new());
                    let remote = remote(bucket.0.clone());
                    local.put(1);
                    push(&remote, &local).await.unwrap();
                    let root = TempDir::new().unwrap();
                    pull(&remote, root.path()).await.unwrap();

                    let names = bucket.names("segments").await;
                    let name = names.iter().rfind(|name| name.ends_with(ending));
                    damage.inflict(&bucket, name.expect(ending)).await;
                    assert!(!verify(&remote).await.unwrap().is_clean(), "{case}");
                    let pulled = crate::open(&root);
                    let pulled = Local {
                        store: pulled,
                        folder: root,
                    };
                    let mender = if is_writer { &local } else { &pulled };
                    take_over(&remote, mender).await;
                    is_whole(&remote, &bucket, mender, &case).await;
                    mender.put(2);
                    push(&remote, mender).await.unwrap();
                    is_whole(&remote, &bucket, mender, &case).await;
                }
            }
        }
    });
}

/// The ref that is damaged is the first of three by its name, and then the second.
#[test]
fn a_damaged_ref_is_listed_and_keeps_no_collection_from_the_others() {
    runtime().block_on(async {
        for damaged in ["a", "b"] {
            let bucket = Bucket::new();
            let remote = remote(bucket.0.clone());
            let go_on = |_: &_| ControlFlow::Continue(());
            for name in ["a", "b", "c"] {
                let local = Local::new();
                for number in [1, 2] {
                    local.put(number);
                    let options = PushOptions::new();
                    let push = remote.push_async(&local.store, name, &options, go_on);
                    push.await.unwrap();
                    let compaction = local.store.begin_compaction().unwrap();
                    compaction.finish(|_| false).unwrap();
                }
            }
            let names = bucket.names(&format!("refs/{damaged}")).await;
            Damage::Flip.inflict(&bucket, &names[0]).await;
            let refs = remote.list_async().await.unwrap();
            let names: Vec<&str> = refs.iter().map(|info| &info.name[..]).collect();
            assert_eq!(names, ["a", "b", "c"]);
            for info in &refs {
                let is_damaged = info.name == damaged;
                assert_eq!(info.problem.is_some(), is_damaged, "{info:?}");
                assert_eq!((info.number, info.objects == 0), (3, is_damaged));
            }

            let_time_pass();
            let mut files = BTreeMap::new();
            for name in ["a", "b", "c"] {
                let names = bucket.names(&format!("segments/{name}")).await;
                files.insert(name, names.len());
            }
            let failed = gc(&remote).await;
            let is_damaged = matches!(failed, Err(Error::Remote(RemoteError::Damaged { .. })));
            assert!(is_damaged, "{failed:?}");
            for name in ["a", "b", "c"] {
                let left = bucket.names(&format!("segments/{name}")).await.len();
                assert_eq!(left < files[name], name != damaged, "{name}");
            }
        }
    });
}

#[test]
fn a_collection_keeps_what_a_damaged_or_missing_manifest_may_need_for_the_grace_period() {
    runtime().block_on(async {
        for damage in [Damage::Flip, Damage::Remove] {
            let (local, bucket) = (Local::new(), Bucket::new());
            let remote = remote(bucket.0.clone());
            for number in 1..4 {
                local.put(number);
                push(&remote, &local).await.unwrap();
                let compaction = local.store.begin_compaction().unwrap();
                compaction.finish(|_| false).unwrap();
            }
            // Manifest 3 of 4, which lists files that no other manifest lists.
            let names = bucket.names("refs/main").await;
            damage.inflict(&bucket, &names[1]).await;
            let_time_pass();
            let files = bucket.names("segments").await;
            let go_on = |_: &_| ControlFlow::Continue(());
            let in_grace = remote.gc_async(&GcOptions::new(), go_on).await;
            assert_eq!(in_grace.unwrap().files, 0);
            assert_eq!(bucket.names("segments").await, files);
            assert!(gc(&remote).await.unwrap().files > 0);
            assert!(bucket.names("segments").await.len() < files.len());
            assert!(verify(&remote).await.unwrap().is_clean());
            push(&remote, &local).await.unwrap();
            gc(&remote).await.unwrap();
        }
    });
}

/// All combinations of the newest manifest and those below it.
#[test]
fn taking_over_mends_a_ref_of_which_the_newest_manifest_is_damaged() {
    runtime().block_on(async {
        for damage in [Damage::Flip, Damage::Cut, Damage::Empty] {
            for damaged in 1..=3 {
                let case = format!("{damage:?} {damaged}");
                let (local, bucket) = (local_with_runs(), Bucket::new());
                let remote = remote(bucket.0.clone());
                local.put(1);
                push(&remote, &local).await.unwrap();
                local.put(2);
                push(&remote, &local).await.unwrap();
                let ref_id = bucket.newest("main").await.unwrap().ref_id;
                for name in &bucket.names("refs").await[..damaged] {
                    damage.inflict(&bucket, name).await;
                }
                for failed in [
                    verify(&remote).await.map(drop),
                    push(&remote, &local).await.map(drop),
                ] {
                    let is_damaged =
                        matches!(failed, Err(Error::Remote(RemoteError::Damaged { .. })));
                    assert!(is_damaged, "{case}: {failed:?}");
                }
                local.put(3);
                assert_eq!(take_over(&remote, &local).await, 4, "{case}");
                is_whole(&remote, &bucket, &local, &case).await;
                let newest = bucket.newest("main").await.unwrap();
                assert_eq!(newest.ref_id == ref_id, damaged < 3, "{case}");
                assert_eq!(newest.epoch, if damaged < 3 { 2 } else { 1 }, "{case}");
                local.put(4);
                push(&remote, &local).await.unwrap();
                is_whole(&remote, &bucket, &local, &case).await;
                let_time_pass();
                assert!(gc(&remote).await.unwrap().files > 0, "{case}");
                is_whole(&remote, &bucket, &local, &case).await;
            }
        }
    });
}
