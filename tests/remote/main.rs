//! Stores in an object store: in memory, through a store whose requests fail, and in a folder.
#![cfg(feature = "remote")]

mod bucket;
mod faulty;
mod fixture;
mod gc;
mod pull;
mod push;
mod push_faults;
mod push_files;
mod reader;
mod repair;
mod schedules;
mod strange;
mod wire;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bucket::Bucket;
use object_store::ObjectStore;
use sealstone::remote::{PullReport, PushOptions, PushReport, Remote};
use sealstone::test_seam::{Folder, Operations};
use sealstone::{Digest, Options, Result, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A store in a folder of its own, whose segments hold few objects.
struct Local {
    store: Store,
    folder: TempDir,
}

impl Local {
    fn new() -> Self {
        Self::open(TempDir::new().unwrap())
    }

    fn open(folder: TempDir) -> Self {
        let store = open(&folder);
        Self { store, folder }
    }

    /// Puts objects that no other number has.
    fn put(&self, number: u8) {
        let content = |at: u8| vec![number; 100 + usize::from(at)];
        let contents: Vec<Vec<u8>> = (0..20).map(content).collect();
        self.store.put_many(&contents).unwrap();
    }

    fn digests(&self) -> BTreeSet<Digest> {
        self.store.digests().map(Result::unwrap).collect()
    }
}

/// Operations that flush nothing: power does not fail here, and a flush can take milliseconds.
#[derive(Debug)]
struct Unflushed;

impl Operations for Unflushed {
    fn sync_file(&self, _: &File, _: &Path, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Folder) -> io::Result<()> {
        Ok(())
    }
}

fn open(folder: &TempDir) -> Store {
    options().open(folder.path()).unwrap()
}

fn options() -> Options {
    let options = Options::new().segment_bytes_max(1000);
    options.operations(Arc::new(Unflushed))
}

/// A store that builds a run when the segments that no run covers hold at least this many objects. Since
/// a push seals the last segment, the first push after that many puts builds the run, and nothing does
/// before.
fn indexed(objects: u64) -> Local {
    indexed_in(TempDir::new().unwrap(), objects)
}

fn indexed_in(folder: TempDir, objects: u64) -> Local {
    let options = options().set_index_minimum(usize::MAX, objects);
    let store = options.open(folder.path()).unwrap();
    Local { store, folder }
}

fn remote(store: Arc<dyn ObjectStore>) -> Remote {
    Remote::with_object_store(store, Duration::ZERO)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A store that was pushed once.
async fn pushed() -> (Local, Bucket, Remote) {
    let (local, bucket) = (Local::new(), Bucket::new());
    let remote = remote(bucket.0.clone());
    local.put(1);
    push(&remote, &local).await.unwrap();
    (local, bucket, remote)
}

async fn push(remote: &Remote, local: &Local) -> Result<PushReport> {
    push_with(remote, local, &PushOptions::new()).await
}

async fn push_with(remote: &Remote, local: &Local, options: &PushOptions) -> Result<PushReport> {
    let go_on = |_: &_| ControlFlow::Continue(());
    remote
        .push_async(&local.store, "main", options, go_on)
        .await
}

async fn pull(remote: &Remote, root: &Path) -> Result<PullReport> {
    let go_on = |_: &_| ControlFlow::Continue(());
    remote.pull_async("main", root, go_on).await
}
