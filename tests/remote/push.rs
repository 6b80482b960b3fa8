//! What pushes do, and which they refuse.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use sealstone::remote::{PushOptions, Remote};
use sealstone::{Error, HashFunction, Options, RemoteError, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::Faulty;
use crate::{Local, push, push_with, pushed, remote, runtime};

#[test]
fn a_push_uploads_what_the_ref_does_not_list_and_no_more() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        let first = push(&remote, &local).await.unwrap();
        assert_eq!((first.number, first.segments), (2, first.uploaded_segments));
        assert_eq!(bucket.check("main").await, Some(local.digests()));

        let files = bucket.names("segments").await;
        local.put(2);
        let second = push(&remote, &local).await.unwrap();
        assert_eq!(second.number, 3);
        assert_eq!(second.uploaded_segments, second.segments - first.segments);
        assert_eq!(bucket.check("main").await, Some(local.digests()));
        let more = bucket.names("segments").await;
        assert!(files.iter().all(|file| more.contains(file)));
        assert_eq!(more.len(), 2 * second.segments);

        let third = push(&remote, &local).await.unwrap();
        assert_eq!((third.uploaded_segments, third.uploaded_bytes), (0, 0));
    });
}

#[test]
fn an_empty_store_is_pushed_and_goes_on() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        assert_eq!(push(&remote, &local).await.unwrap().segments, 0);
        local.store.put("").unwrap();
        push(&remote, &local).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

#[test]
fn a_compacted_store_is_pushed_without_what_it_dropped() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        local.put(2);
        push(&remote, &local).await.unwrap();
        let half: std::collections::BTreeSet<_> = local.digests().into_iter().step_by(2).collect();
        let compaction = local.store.begin_compaction().unwrap();
        compaction.finish(|digest| half.contains(digest)).unwrap();
        push(&remote, &local).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(half));
    });
}

#[test]
fn another_store_is_fenced_until_it_takes_over() {
    runtime().block_on(async {
        let (one, other, bucket) = (Local::new(), Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        one.put(1);
        other.put(2);
        push(&remote, &one).await.unwrap();
        let fenced = push(&remote, &other).await;
        assert!(is_fenced(&fenced), "{fenced:?}");
        assert_eq!(bucket.check("main").await, Some(one.digests()));

        let take_over = PushOptions::new().take_over(true);
        push_with(&remote, &other, &take_over).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(other.digests()));
        assert_eq!(bucket.newest("main").await.unwrap().epoch, 2);
        let fenced = push(&remote, &one).await;
        assert!(is_fenced(&fenced), "{fenced:?}");
        // The new writer goes on without asking, and asking is harmless.
        push_with(&remote, &other, &take_over).await.unwrap();
        push(&remote, &other).await.unwrap();
        assert_eq!(bucket.newest("main").await.unwrap().epoch, 2);
    });
}

#[test]
fn a_push_that_comes_between_is_not_taken_over() {
    runtime().block_on(async {
        let [first, one, other] = [Local::new(), Local::new(), Local::new()];
        let bucket = Bucket::new();
        let direct = remote(bucket.0.clone());
        first.put(1);
        one.put(2);
        other.put(3);
        push(&direct, &first).await.unwrap();
        let faulty = Faulty::new(bucket.0.clone());
        let (store, between) = (other.store.clone(), direct.clone());
        // After the requests for the newest manifest.
        faulty.call_at(6, move || {
            let (store, between) = (store.clone(), between.clone());
            Box::pin(async move {
                let go_on = |_: &_| ControlFlow::Continue(());
                let options = PushOptions::new().take_over(true);
                let pushed = between.push_async(&store, "main", &options, go_on);
                pushed.await.unwrap();
            })
        });
        let take_over = PushOptions::new().take_over(true);
        let fenced = push_with(&remote(faulty), &one, &take_over).await;
        assert!(is_fenced(&fenced), "{fenced:?}");
        assert_eq!(bucket.check("main").await, Some(other.digests()));
    });
}

fn is_fenced<T>(result: &sealstone::Result<T>) -> bool {
    matches!(result, Err(Error::Remote(RemoteError::Fenced { .. })))
}

/// Copies all files of a store, as a backup does.
fn copy(from: &TempDir) -> TempDir {
    let to = TempDir::new().unwrap();
    fs::create_dir(to.path().join("segments")).unwrap();
    for entry in fs::read_dir(from.path().join("segments")).unwrap() {
        let entry = entry.unwrap();
        let target = to.path().join("segments").join(entry.file_name());
        match fs::copy(entry.path(), target) {
            // The journal of a segment that has just been sealed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
    to
}

#[test]
fn an_older_backup_of_the_store_is_refused_at_every_age() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        let mut backups = Vec::new();
        for number in 1..5 {
            local.put(number);
            backups.push(copy(&local.folder));
            push(&remote, &local).await.unwrap();
        }
        let newest = copy(&local.folder);
        for (age, folder) in backups.into_iter().enumerate() {
            let backup = Local::open(folder);
            let refused = push(&remote, &backup).await;
            match refused {
                // This one was made before the store had a name as a writer.
                Err(Error::Remote(RemoteError::Fenced { .. })) if age == 0 => {}
                Err(Error::Remote(RemoteError::Diverged { .. })) if age > 0 => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bucket.check("main").await, Some(local.digests()));
        // Of the store and a copy of the same age, the first that pushes wins.
        let copied = Local::open(newest);
        copied.put(9);
        push(&remote, &copied).await.unwrap();
        local.put(10);
        let refused = push(&remote, &local).await;
        let is_diverged = matches!(refused, Err(Error::Remote(RemoteError::Diverged { .. })));
        assert!(is_diverged, "{refused:?}");
        assert_eq!(bucket.check("main").await, Some(copied.digests()));
    });
}

/// A backup of single files can have the newest `REMOTE` beside older segments. What is put after the
/// restore uses the ids again that the newer segments have.
#[test]
fn an_older_backup_with_a_newer_state_file_is_refused_however_much_is_put() {
    runtime().block_on(async {
        for puts in 0..8 {
            let (local, bucket, remote) = pushed().await;
            let backup = copy(&local.folder);
            local.put(2);
            local.put(3);
            push(&remote, &local).await.unwrap();
            let state = "segments/REMOTE";
            fs::copy(local.folder.path().join(state), backup.path().join(state)).unwrap();
            let backup = Local::open(backup);
            for number in 0..puts {
                backup.put(100 + number);
            }
            let refused = push(&remote, &backup).await;
            let is_diverged = matches!(refused, Err(Error::Remote(RemoteError::Diverged { .. })));
            assert!(is_diverged, "{puts}: {refused:?}");
            assert_eq!(bucket.check("main").await, Some(local.digests()));
            let take_over = PushOptions::new().take_over(true);
            push_with(&remote, &backup, &take_over).await.unwrap();
            push(&remote, &backup).await.unwrap();
            assert_eq!(bucket.check("main").await, Some(backup.digests()));
        }
    });
}

/// A compaction and a long put take their ids early and list their segments late, so a segment below those
/// that were pushed can be new.
#[test]
fn a_store_that_lists_a_segment_below_those_that_it_pushed_goes_on() {
    runtime().block_on(async {
        let (local, bucket, remote) = pushed().await;
        let half: std::collections::BTreeSet<_> = local.digests().into_iter().step_by(2).collect();
        let compaction = local.store.begin_compaction().unwrap();
        local.put(2);
        push(&remote, &local).await.unwrap();
        let newer = local.digests();
        compaction
            .finish(|digest| half.contains(digest) || newer.contains(digest))
            .unwrap();
        push(&remote, &local).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

#[test]
fn a_damaged_state_file_makes_another_writer_and_a_newer_one_is_refused() {
    runtime().block_on(async {
        let (local, _, remote) = pushed().await;
        let path = local.folder.path().join("segments/REMOTE");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[1..]).unwrap();
        assert!(is_fenced(&push(&remote, &local).await));
        let (body, _) = text.split_once("checksum").unwrap();
        let body = body.replacen("sealstone-remote 1", "sealstone-remote 2", 1);
        let checksum = sealstone::Digest::of(&body);
        fs::write(&path, format!("{body}checksum {checksum}\n")).unwrap();
        let refused = push(&remote, &local).await;
        let is_newer = matches!(
            refused,
            Err(Error::Remote(RemoteError::UnsupportedVersion { .. }))
        );
        assert!(is_newer, "{refused:?}");
    });
}

/// The path of the data file with the lowest id that holds anything.
fn first_data_file(folder: &TempDir) -> PathBuf {
    let files = fs::read_dir(folder.path().join("segments")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let is_data = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "dat");
    let holds = |path: &PathBuf| fs::metadata(path).unwrap().len() > 0;
    paths.filter(is_data).filter(holds).min().unwrap()
}

/// Flips a byte of each record in turn, its header included.
#[test]
fn a_damaged_record_is_not_pushed_and_the_error_names_it_and_the_remedy() {
    runtime().block_on(async {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let large = vec![7; 9 << 20];
        let contents: [&[u8]; 4] = [b"first", b"", &large, b"last"];
        store.put_many(&contents).unwrap();
        store.close().unwrap();
        let data = first_data_file(&folder);
        let sound = fs::read(&data).unwrap();
        let bucket = Bucket::new();
        let remote = remote(bucket.0.clone());
        // Sealed by the first push.
        let local = Local {
            store: Store::open(folder.path()).unwrap(),
            folder,
        };
        push(&remote, &local).await.unwrap();
        drop(local.store);
        let folder = local.folder;
        let places = [
            4,
            8,
            20,
            1 << 20,
            8 << 20,
            (8 << 20) + 100,
            sound.len() - 1,
            9,
            0,
        ];
        for at in places {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&data, &damaged).unwrap();
            let store = Store::open(folder.path()).unwrap();
            let go_on = |_: &_| ControlFlow::Continue(());
            let pushed = remote
                .push_async(&store, "other", &PushOptions::new(), go_on)
                .await;
            match pushed {
                Err(Error::Remote(error @ RemoteError::DamagedHere { .. })) => {
                    assert!(error.to_string().contains("push again"), "{error}");
                }
                other => panic!("{at}: {other:?}"),
            }
            let listed = bucket.newest("other").await.unwrap().state.unwrap();
            assert!(listed.segments.is_empty());
        }
        fs::write(&data, &sound[..sound.len() - 1]).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let go_on = |_: &_| ControlFlow::Continue(());
        let pushed = remote
            .push_async(&store, "other", &PushOptions::new(), go_on)
            .await;
        let is_short = matches!(pushed, Err(Error::Remote(RemoteError::ShortHere { .. })));
        assert!(is_short, "{pushed:?}");
    });
}

/// The remedy that the error gives.
#[test]
fn after_putting_again_and_a_compaction_a_store_that_was_damaged_is_pushed() {
    runtime().block_on(async {
        let (local, ..) = pushed().await;
        let path = first_data_file(&local.folder);
        let folder = local.folder;
        drop(local.store);
        let mut bytes = fs::read(&path).unwrap();
        bytes[50] ^= 1;
        fs::write(&path, bytes).unwrap();
        let other = Bucket::new();
        let remote = crate::remote(other.0.clone());
        let local = Local::open(folder);
        let digests = local.digests();
        assert!(push(&remote, &local).await.is_err());
        local.put(1);
        let compaction = local.store.begin_compaction().unwrap();
        compaction
            .finish(|digest| digests.contains(digest))
            .unwrap();
        push(&remote, &local).await.unwrap();
        assert_eq!(other.check("main").await, Some(digests));
    });
}

#[test]
fn stores_of_different_hash_functions_do_not_share_a_ref() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        push(&remote, &local).await.unwrap();
        let folder = TempDir::new().unwrap();
        let options = Options::new().hash_function(HashFunction::Blake2b256);
        let other = Local {
            store: options.open(folder.path()).unwrap(),
            folder,
        };
        let take_over = PushOptions::new().take_over(true);
        let refused = push_with(&remote, &other, &take_over).await;
        let is_other = matches!(
            refused,
            Err(Error::Remote(RemoteError::HashFunction { .. }))
        );
        assert!(is_other, "{refused:?}");
    });
}

#[test]
fn a_push_that_its_caller_ends_is_gone_on_with() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let faulty = Faulty::new(bucket.0.clone());
        let remote = remote(faulty.clone());
        // So many files that some are there before half of the bytes were read.
        (1..5).for_each(|number| local.put(number));
        let files = 2 * {
            // Seals what was put.
            local
                .store
                .checkpoint(TempDir::new().unwrap().path())
                .unwrap();
            local
                .store
                .stats()
                .segments
                .iter()
                .filter(|segment| segment.objects > 0)
                .count()
        };
        let ends_in_the_middle = |progress: &sealstone::remote::TransferProgress| {
            if progress.bytes_done * 2 > progress.bytes_total {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let options = PushOptions::new();
        let ended = remote
            .push_async(&local.store, "main", &options, ends_in_the_middle)
            .await;
        let is_cancelled = matches!(ended, Err(Error::Remote(RemoteError::Cancelled)));
        assert!(is_cancelled, "{ended:?}");
        let uploaded = bucket.names("segments").await.len();
        assert!(uploaded > 0 && uploaded < files, "{uploaded} of {files}");
        faulty.heal();
        push(&remote, &local).await.unwrap();
        let puts = faulty
            .log()
            .iter()
            .filter(|line| line.starts_with("put "))
            .count();
        assert_eq!(puts, files - uploaded);
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

/// The second one is to another ref: what both would write is the state of the store, not of the ref.
#[test]
fn of_two_pushes_of_one_store_at_once_the_second_is_refused() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        let go_on = |_: &_| ControlFlow::Continue(());
        let options = PushOptions::new();
        let to = |name| remote.push_async(&local.store, name, &options, go_on);
        let (first, second) = futures_util::future::join(to("main"), to("second")).await;
        first.unwrap();
        let is_running = matches!(second, Err(Error::Remote(RemoteError::PushRunning)));
        assert!(is_running, "{second:?}");
        assert_eq!(bucket.check("main").await, Some(local.digests()));
        assert_eq!(bucket.check("second").await, None);
        to("second").await.unwrap();
    });
}

#[test]
fn a_blocking_call_in_a_task_is_an_error_and_not_a_panic() {
    let (local, bucket) = (Local::new(), Bucket::new());
    let remote = remote(bucket.0);
    remote.push(&local.store, "main").unwrap();
    runtime().block_on(async move {
        let refused = remote.push(&local.store, "main");
        let is_inside = matches!(refused, Err(Error::Remote(RemoteError::InsideRuntime)));
        assert!(is_inside, "{refused:?}");
        drop(remote);
    });
}

/// The forked process does not have the threads that make requests.
#[cfg(unix)]
#[test]
#[expect(unsafe_code, reason = "the closure runs in a forked process")]
fn a_forked_process_does_not_wait_for_threads_that_it_lacks() {
    use std::os::unix::process::CommandExt as _;

    let (local, bucket) = (Local::new(), Bucket::new());
    let remote = remote(bucket.0);
    remote.push(&local.store, "main").unwrap();
    let mut command = std::process::Command::new("true");
    let push = move || match remote.push(&local.store, "main") {
        Err(Error::Forked) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    };
    // SAFETY: the call ends at a check that takes no lock.
    unsafe { command.pre_exec(push) };
    assert!(command.status().unwrap().success());
}

#[test]
fn a_read_only_store_is_not_pushed_and_a_bad_name_is_refused() {
    let (local, bucket) = (Local::new(), Bucket::new());
    let remote = remote(bucket.0);
    let reader = Options::new()
        .read_only(true)
        .open(local.folder.path())
        .unwrap();
    assert!(matches!(remote.push(&reader, "main"), Err(Error::ReadOnly)));
    let refused = remote.push(&local.store, "../main");
    let is_bad = matches!(refused, Err(Error::Remote(RemoteError::BadRefName { .. })));
    assert!(is_bad, "{refused:?}");
}

#[test]
fn a_folder_is_a_bucket() {
    let (local, folder) = (Local::new(), TempDir::new().unwrap());
    local.put(1);
    let url = format!("file://{}", folder.path().display());
    let remote = Remote::open(&url).unwrap();
    let first = remote.push(&local.store, "main").unwrap();
    assert_eq!(first.number, 2);
    local.put(2);
    assert_eq!(remote.push(&local.store, "main").unwrap().number, 3);
    let other = Local::new();
    assert!(is_fenced(&remote.push(&other.store, "main")));
}

#[test]
fn a_store_that_lacks_a_segment_is_not_pushed_unless_it_takes_over() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(bucket.0.clone());
        local.put(1);
        local.put(2);
        push(&remote, &local).await.unwrap();
        let before = local.digests();
        let Local { store, folder } = local;
        drop(store);
        std::fs::remove_file(folder.path().join("segments/seg-000000.dat")).unwrap();
        let options = Options::new().segment_bytes_max(1000);
        let store = options.allow_missing_segments(true).open(folder.path());
        let local = Local {
            store: store.unwrap(),
            folder,
        };
        let refused = push(&remote, &local).await;
        let is_refused = matches!(
            refused,
            Err(Error::Remote(RemoteError::MissingHere { segment: 0 }))
        );
        assert!(is_refused, "{refused:?}");
        assert_eq!(bucket.check("main").await, Some(before));
        let options = PushOptions::new().take_over(true);
        push_with(&remote, &local, &options).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}
