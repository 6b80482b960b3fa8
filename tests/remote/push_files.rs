//! Pushes and pulls, and the file `REMOTE` in the folder of the store.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use sealstone::test_seam::{Folder, Operations};
use sealstone::{Error, Options, RemoteError, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::Faulty;
use crate::{Local, pull, push, remote, runtime};

/// What the replacement of `REMOTE` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Works,
    /// It waits until it works again.
    Waits,
    Fails,
}

/// Operations that flush nothing, and a file `REMOTE` whose replacement waits or fails.
#[derive(Clone, Debug)]
struct Gate(Arc<(Mutex<(Habit, usize)>, Condvar)>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new((Mutex::new((Habit::Works, 0)), Condvar::new())))
    }

    fn set(&self, habit: Habit) {
        self.0.0.lock().unwrap().0 = habit;
        self.0.1.notify_all();
    }

    /// Waits until a replacement waits.
    async fn is_reached(&self) {
        while self.0.0.lock().unwrap().1 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn open(&self, folder: &TempDir) -> Store {
        let options = Options::new().segment_bytes_max(1000);
        let options = options.operations(Arc::new(self.clone()));
        options.open(folder.path()).unwrap()
    }
}

impl Operations for Gate {
    fn sync_file(&self, _: &File, path: &Path, _: bool) -> io::Result<()> {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.contains("REMOTE") {
            return Ok(());
        }
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        if state.0 == Habit::Fails {
            return Err(io::Error::other("this flush was planned to fail"));
        }
        state.1 += 1;
        while state.0 == Habit::Waits {
            state = changed.wait(state).unwrap();
        }
        state.1 -= 1;
        Ok(())
    }

    fn sync_dir(&self, _: &Folder) -> io::Result<()> {
        Ok(())
    }
}

/// The replacement goes on in its thread. If the next push began before its end, the older file would take
/// the place of the newer one.
#[test]
fn a_push_that_was_dropped_holds_the_store_until_its_file_is_written() {
    let (gate, folder, bucket) = (Gate::new(), TempDir::new().unwrap(), Bucket::new());
    let local = Local {
        store: gate.open(&folder),
        folder,
    };
    let remote = remote(bucket.0.clone());
    local.put(1);
    runtime().block_on(async {
        push(&remote, &local).await.unwrap();
        local.put(2);
        gate.set(Habit::Waits);
        {
            let (push, reached) = (pin!(push(&remote, &local)), pin!(gate.is_reached()));
            let ended = select(push, reached).await;
            assert!(matches!(ended, Either::Right(_)));
        }
        let refused = push(&remote, &local).now_or_never();
        // The lock is held too, though the store is closed here.
        let Local { store, folder } = local;
        drop(store);
        let locked = Options::new().open(folder.path());
        // Before anything is asserted, as the end of the runtime waits for the thread.
        gate.set(Habit::Works);
        let is_running = matches!(refused, Some(Err(Error::Remote(RemoteError::PushRunning))));
        assert!(is_running, "{refused:?}");
        assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
        let store = loop {
            match Options::new().open(folder.path()) {
                Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                opened => break opened.unwrap(),
            }
        };
        let local = Local { store, folder };
        push(&remote, &local).await.unwrap();
        assert_eq!(bucket.check("main").await, Some(local.digests()));
    });
}

/// The file cannot be replaced from some request of a push on. Before the creation of the manifest, the push
/// fails. After it, the push is committed.
#[test]
fn a_push_that_was_committed_succeeds_although_its_file_cannot_be_written() {
    runtime().block_on(async {
        let mut committed = 0;
        for number in 0.. {
            let (gate, folder, bucket) = (Gate::new(), TempDir::new().unwrap(), Bucket::new());
            let store = gate.open(&folder);
            let local = Local { store, folder };
            let faulty = Faulty::new(bucket.0.clone());
            let remote = remote(faulty.clone());
            local.put(1);
            push(&remote, &local).await.unwrap();
            local.put(2);
            let failing = gate.clone();
            faulty.call_at(number, move || {
                failing.set(Habit::Fails);
                Box::pin(std::future::ready(()))
            });
            let pushed = push(&remote, &local).await;
            if !faulty.was_reached() {
                break;
            }
            gate.set(Habit::Works);
            if faulty.log()[number].starts_with("create refs") {
                assert_eq!(pushed.unwrap().number, 3);
                committed += 1;
            } else {
                assert!(matches!(pushed, Err(Error::Io { .. })), "{pushed:?}");
            }
            // After a flush that failed, a store takes nothing until it is opened anew.
            let Local { store, folder } = local;
            drop(store);
            let store = gate.open(&folder);
            let local = Local { store, folder };
            local.put(3);
            push(&remote, &local).await.unwrap();
            assert_eq!(bucket.check("main").await, Some(local.digests()));
        }
        assert_eq!(committed, 1);
    });
}

/// Opens the folder as soon as it is not locked any more.
#[test]
fn a_pulled_store_knows_what_was_pulled_when_it_can_be_opened() {
    let (local, bucket) = (Local::new(), Bucket::new());
    let remote = remote(bucket.0.clone());
    local.put(1);
    runtime().block_on(push(&remote, &local)).unwrap();
    let pushed = runtime().block_on(bucket.newest("main")).unwrap().push;
    for _ in 0..10 {
        let root = TempDir::new().unwrap();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| {
                while !root.path().join("segments/MANIFEST").exists() {
                    std::thread::yield_now();
                }
                let _store = loop {
                    match Store::open(root.path()) {
                        Err(Error::Locked { .. }) => std::thread::yield_now(),
                        opened => break opened.unwrap(),
                    }
                };
                fs::read_to_string(root.path().join("segments/REMOTE"))
            });
            runtime().block_on(pull(&remote, root.path())).unwrap();
            let text = opening.join().unwrap().unwrap();
            assert!(text.contains(&format!("pushed {pushed}\n")), "{text}");
        });
    }
}
