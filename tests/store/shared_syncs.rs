//! Threads that sync at the same time share the work, and each sync covers what was put before it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use tempfile::TempDir;

use crate::common::hash::new_options;
use crate::common::workload::{Kind, Verdict, content, eventually, seam};

const THREADS: u64 = 8;
const OBJECT_BYTES: usize = 100;

/// While the first sync waits for the disk, the other threads put and flush. The next sync is for all of
/// them; a thread that had not yet noted its flush then may need one more.
#[test]
fn h9_syncs_that_wait_for_another_share_the_next_one() {
    let folder = TempDir::new().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let (sender, begun) = mpsc::channel();
    let operations = seam(move |step| {
        if step.is(Kind::SyncFile, ".dat") && counted.fetch_add(1, Ordering::AcqRel) == 0 {
            sender.send(()).unwrap();
            let all = THREADS * (OBJECT_BYTES as u64 + 4);
            let is_flushed = || fs::metadata(&step.path).unwrap().len() == all;
            eventually("all threads have flushed", is_flushed);
        }
        Verdict::Go
    });
    let store = new_options().operations(operations);
    let store = store.open(folder.path()).unwrap();
    let put_and_sync = |number| {
        store.put(content(number, OBJECT_BYTES)).unwrap();
        store.sync().unwrap();
    };
    thread::scope(|scope| {
        scope.spawn(|| put_and_sync(0));
        begun.recv().unwrap();
        for number in 1..THREADS {
            scope.spawn(move || put_and_sync(number));
        }
    });
    let syncs = syncs.load(Ordering::Acquire);
    assert!((2..=3).contains(&syncs), "{syncs} syncs");
}
