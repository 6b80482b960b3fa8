//! Collections, alone and beside pushes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use sealstone::remote::{GcOptions, GcReport, PushOptions, Remote};
use sealstone::{Error, RemoteError, Result};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::{Fault, Faulty};
use crate::{Local, pull, push, push_with, pushed, remote, runtime};

async fn gc(remote: &Remote, options: GcOptions) -> Result<GcReport> {
    let go_on = |_: &_| ControlFlow::Continue(());
    remote.gc_async(&options, go_on).await
}

/// Options that keep nothing for those who read old states.
fn at_once() -> GcOptions {
    GcOptions::new().grace(Duration::ZERO)
}

/// Waits until the clock of the bucket shows another time.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(2));
}

fn keep_half(local: &Local) {
    let half: BTreeSet<_> = local.digests().into_iter().step_by(2).collect();
    let compaction = local.store.begin_compaction().unwrap();
    compaction.finish(|digest| half.contains(digest)).unwrap();
}

/// The files that the newest manifest of the ref lists.
async fn listed(bucket: &Bucket) -> BTreeSet<String> {
    let state = bucket.newest("main").await.unwrap().state.unwrap();
    let stems = state
        .segments
        .values()
        .map(|segment| Bucket::stem("main", segment));
    stems
        .flat_map(|stem| [format!("{stem}.dat"), format!("{stem}.idx")])
        .collect()
}

#[test]
fn h74_a_collection_leaves_exactly_what_is_listed_and_no_more_after_the_grace_period() {
    runtime().block_on(async {
        let (local, bucket, remote) = pushed().await;
        keep_half(&local);
        push(&remote, &local).await.unwrap();
        let files = bucket.names("segments").await;
        let_time_pass();

        // Within the grace period everything stays.
        let report = gc(&remote, GcOptions::new()).await.unwrap();
        assert_eq!((report.files, report.manifests), (0, 0));
        assert_eq!(bucket.names("segments").await, files);
        // A dry run says what the same collection does, and does nothing.
        let dry = gc(&remote, at_once().dry_run(true)).await.unwrap();
        assert_eq!(bucket.names("segments").await, files);
        let report = gc(&remote, at_once()).await.unwrap();
        assert_eq!(report, dry);
        assert!(report.files > 0 && report.bytes > 0 && report.manifests == 2);
        let left: BTreeSet<String> = bucket.names("segments").await.into_iter().collect();
        assert_eq!(left, listed(&bucket).await);
        assert_eq!(bucket.check("main").await, Some(local.digests()));
        assert_eq!(bucket.names("gc").await, Vec::<String>::new());

        // The store goes on, and so does the next collection.
        local.put(2);
        push(&remote, &local).await.unwrap();
        let_time_pass();
        let report = gc(&remote, at_once()).await.unwrap();
        assert_eq!(report.files, 0);
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

/// A store that has pushed, with more to push, and its bucket.
async fn with_more_to_push() -> (Local, Bucket) {
    let (local, bucket) = (Local::new(), Bucket::new());
    local.put(1);
    push(&remote(bucket.0.clone()), &local).await.unwrap();
    local.put(2);
    (local, bucket)
}

/// The push sleeps right before it creates its manifest. Meanwhile other states are pushed and collected.
#[test]
fn h72_a_writer_that_slept_finds_its_number_taken_although_the_manifest_was_collected() {
    runtime().block_on(async {
        // Another store of the same contents tells which request it is.
        let (local, bucket) = with_more_to_push().await;
        let faulty = Faulty::new(bucket.0.clone());
        faulty.heal();
        push(&remote(faulty.clone()), &local).await.unwrap();
        let log = faulty.log();
        let creation = log
            .iter()
            .position(|line| line.starts_with("create refs/main"));
        let creation = creation.unwrap();

        let (local, bucket) = with_more_to_push().await;
        let before = bucket.newest("main").await.unwrap().number;
        let faulty = Faulty::new(bucket.0.clone());
        let other = std::sync::Arc::new(Local::new());
        let (meanwhile, direct) = (other.clone(), remote(bucket.0.clone()));
        faulty.call_at(creation, move || {
            let (other, direct) = (meanwhile.clone(), direct.clone());
            Box::pin(async move {
                for number in 3..7 {
                    other.put(number);
                    keep_half(&other);
                    let options = PushOptions::new().take_over(number == 3);
                    push_with(&direct, &other, &options).await.unwrap();
                    let_time_pass();
                    gc(&direct, at_once()).await.unwrap();
                }
            })
        });
        let refused = push(&remote(faulty.clone()), &local).await;
        let is_fenced = matches!(refused, Err(Error::Remote(RemoteError::Fenced { .. })));
        assert!(is_fenced, "{refused:?}");
        assert!(faulty.log()[creation].starts_with("create refs/main"));
        assert_eq!(bucket.check("main").await, Some(other.digests()));
        // Every number has its manifest, and that of the push that slept was emptied.
        let newest = bucket.newest("main").await.unwrap().number;
        let names = bucket.names("refs").await;
        assert_eq!(names.len() as u64, newest);
        let taken = &names[usize::try_from(newest - before - 1).unwrap()];
        let text = bucket.read(taken).await;
        let taken = sealstone::remote::format::RefManifest::parse(&text).unwrap();
        assert_eq!((taken.number, taken.state), (before + 1, None));
    });
}

/// A store that has pushed once, and what another push has uploaded before it was cut off.
async fn cut_off(bucket: &Bucket) -> Local {
    let local = Local::new();
    local.put(1);
    push(&remote(bucket.0.clone()), &local).await.unwrap();
    local.put(2);
    let faulty = Faulty::new(bucket.0.clone());
    faulty.plan(8, Fault::HangsBefore);
    let remote = remote(faulty.clone());
    {
        let (push, hangs) = (pin!(push(&remote, &local)), pin!(faulty.hangs()));
        let ended = select(push, hangs).await;
        assert!(matches!(ended, Either::Right(_)));
    }
    local
}

#[test]
fn h74_what_a_push_left_behind_is_removed_and_the_push_begins_anew() {
    runtime().block_on(async {
        let bucket = Bucket::new();
        let local = cut_off(&bucket).await;
        let_time_pass();
        let report = gc(&remote(bucket.0.clone()), at_once()).await.unwrap();
        assert!(report.files > 0);
        let left: BTreeSet<String> = bucket.names("segments").await.into_iter().collect();
        assert_eq!(left, listed(&bucket).await);
        push(&remote(bucket.0.clone()), &local).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

/// At each request of a push, a collection without a grace period runs.
#[test]
fn h74_a_collection_at_every_moment_of_a_push_takes_nothing_from_it() {
    let runtime = runtime();
    let mut restarts = 0;
    for number in 0.. {
        let bucket = Bucket::new();
        let local = Local::new();
        local.put(1);
        runtime
            .block_on(push(&remote(bucket.0.clone()), &local))
            .unwrap();
        keep_half(&local);
        local.put(2);
        let faulty = Faulty::new(bucket.0.clone());
        let collector = remote(bucket.0.clone());
        faulty.call_at(number, move || {
            let collector = collector.clone();
            Box::pin(async move {
                let_time_pass();
                gc(&collector, at_once()).await.unwrap();
            })
        });
        let remote = remote(faulty.clone());
        let report = runtime.block_on(push(&remote, &local)).unwrap();
        assert_eq!(
            runtime.block_on(bucket.check("main")),
            Some(local.digests()),
            "{number}"
        );
        if !faulty.was_reached() {
            assert!(number > 10 && restarts > 3, "{number} {restarts}");
            return;
        }
        let folders: BTreeSet<String> = faulty
            .log()
            .iter()
            .filter_map(|line| line.strip_prefix("put segments/main/"))
            .filter_map(|file| Some(file.split_once('/')?.0.to_owned()))
            .collect();
        restarts += folders.len() - 1;
        assert!(report.number >= 3);
    }
}

#[test]
fn h74_a_collection_whose_requests_fail_removes_nothing_that_is_listed() {
    let runtime = runtime();
    let mut cases = 0;
    for fault in Fault::ALL {
        for number in 0.. {
            let bucket = Bucket::new();
            let local = runtime.block_on(cut_off(&bucket));
            keep_half(&local);
            runtime
                .block_on(push(&remote(bucket.0.clone()), &local))
                .unwrap();
            let_time_pass();
            let faulty = Faulty::new(bucket.0.clone());
            faulty.plan(number, fault);
            let flaky = remote(faulty.clone());
            let collected = runtime.block_on(async {
                match select(pin!(gc(&flaky, at_once())), pin!(faulty.hangs())).await {
                    Either::Left((collected, _)) => Some(collected),
                    Either::Right(_) => None,
                }
            });
            if !faulty.was_reached() {
                collected.unwrap().unwrap();
                break;
            }
            cases += 1;
            let case = format!("{fault:?} {number} {}: {collected:?}", faulty.log()[number]);
            let expected = Some(local.digests());
            assert_eq!(runtime.block_on(bucket.check("main")), expected, "{case}");
            let_time_pass();
            runtime
                .block_on(gc(&remote(bucket.0.clone()), at_once()))
                .unwrap();
            assert_eq!(runtime.block_on(bucket.check("main")), expected, "{case}");
            let left = runtime.block_on(bucket.names("segments"));
            let left: BTreeSet<String> = left.into_iter().collect();
            assert_eq!(left, runtime.block_on(listed(&bucket)), "{case}");
            local.put(3);
            runtime
                .block_on(push(&remote(bucket.0.clone()), &local))
                .unwrap();
        }
    }
    assert!(cases > 60, "{cases}");
    println!("{cases} cases");
}

/// A store that has pushed, and a bucket in which another state is pushed, and the first one collected,
/// before request `number` from here on.
async fn collected_at(number: usize) -> (Local, std::sync::Arc<Faulty>) {
    let (local, bucket) = (Local::new(), Bucket::new());
    let direct = remote(bucket.0.clone());
    local.put(1);
    push(&direct, &local).await.unwrap();
    let faulty = Faulty::new(bucket.0.clone());
    let store = local.store.clone();
    faulty.call_at(number, move || {
        let (store, collector) = (store.clone(), direct.clone());
        Box::pin(async move {
            let compaction = store.begin_compaction().unwrap();
            compaction.finish(|_| false).unwrap();
            let go_on = |_: &_| ControlFlow::Continue(());
            let options = PushOptions::new();
            collector
                .push_async(&store, "main", &options, go_on)
                .await
                .unwrap();
            let_time_pass();
            gc(&collector, at_once()).await.unwrap();
        })
    });
    (local, faulty)
}

fn is_collected<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Remote(RemoteError::Collected { .. })))
}

/// The files are read after the three requests for the manifest.
const FIRST_FILE: usize = 3;

#[test]
fn h74_a_pull_of_a_state_that_was_collected_says_so() {
    runtime().block_on(async {
        let (_local, faulty) = collected_at(FIRST_FILE).await;
        let root = TempDir::new().unwrap();
        let pulled = pull(&remote(faulty), root.path()).await;
        assert!(is_collected(&pulled), "{pulled:?}");
    });
}

#[test]
fn h74_a_check_of_a_state_that_was_collected_says_so_and_reports_no_damage() {
    runtime().block_on(async {
        let (_local, faulty) = collected_at(FIRST_FILE).await;
        let remote = remote(faulty);
        let go_on = |_: &_| ControlFlow::Continue(());
        let checked = remote.verify_async("main", go_on).await;
        assert!(is_collected(&checked), "{checked:?}");
        assert!(remote.verify_async("main", go_on).await.unwrap().is_clean());
    });
}

#[test]
fn refs_do_not_share_files_and_each_is_collected_alone() {
    runtime().block_on(async {
        let (one, other, bucket) = (Local::new(), Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        one.put(1);
        other.put(1);
        let go_on = |_: &_| ControlFlow::Continue(());
        push(&remote, &one).await.unwrap();
        let options = PushOptions::new();
        remote
            .push_async(&other.store, "other", &options, go_on)
            .await
            .unwrap();
        keep_half(&one);
        push_with(&remote, &one, &options).await.unwrap();
        let_time_pass();
        let report = gc(&remote, at_once()).await.unwrap();
        assert_eq!(report.refs, 2);
        assert_eq!(bucket.check("other").await, Some(other.digests()));
        let refs = remote.list_async().await.unwrap();
        let names: Vec<&str> = refs.iter().map(|info| &info.name[..]).collect();
        assert_eq!(names, ["main", "other"]);
        assert_eq!((refs[0].objects, refs[1].objects), (10, 20));
    });
}
