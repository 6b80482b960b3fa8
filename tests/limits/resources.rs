//! Limits on a process.

use std::fs;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sealstone::{Digest, Error, Options};
use tempfile::TempDir;

use crate::common::workload::{
    EMFILE, assert_holds, assert_same, assert_undamaged, assert_verifies, contents, copy_store,
    eventually, names, put_all, settle, walk,
};
use crate::life::{Life, options};
use crate::{child, stride};

const EFBIG: i32 = 27;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const SIGABRT: i32 = 6;

/// Keeps the process under a limit until it is dropped.
struct Limited(Resource, Rlimit);

impl Limited {
    fn new(resource: Resource, current: u64) -> Self {
        let before = getrlimit(resource);
        let limit = Rlimit {
            current: Some(current),
            maximum: before.maximum,
        };
        setrlimit(resource, limit).unwrap();
        Self(resource, before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(self.0, self.1).unwrap();
    }
}

fn reports(error: &Error, codes: &[i32]) -> bool {
    match error {
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(code) => codes.contains(&code),
            // The store reports this in its own words.
            None => source.kind() == ErrorKind::WouldBlock && codes.contains(&EAGAIN),
        },
        Error::Poisoned { .. } => true,
        _ => false,
    }
}

/// Runs a life under every limit of a range, each in a folder of its own.
fn live_under(resource: Resource, limits: impl Iterator<Item = u64>, code: i32) {
    let (mut lives, mut refused, mut done) = (0, 0, 0);
    for limit in limits {
        let folder = TempDir::new().unwrap();
        let mut life = Life::default();
        let limited = Limited::new(resource, limit);
        life.live(folder.path(), &|error| reports(error, &[code]));
        drop(limited);
        lives += 1;
        refused += life.refused;
        done += life.done;
        life.assert_ends_well(folder.path());
    }
    println!("\nfound: {resource:?}: {lives} limits, {refused} calls refused, {done} done");
    assert!(refused > 20 && done > lives, "{lives} {refused} {done}");
}

/// The child of the next test. In an ordinary test run it does nothing.
#[test]
fn lives_with_short_files() {
    if child::folder_of_child().is_some() {
        // The last lengths are beyond the largest file, so no limit touches these lives.
        live_under(Resource::Fsize, (0..5200).step_by(stride(53)), EFBIG);
    }
}

#[test]
fn h1_a_limit_on_the_length_of_files_is_an_error_at_every_byte_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    // Without the trap, the signal would end the process, which is the default.
    let setup = "trap '' XFSZ && exec \"$0\" \"$@\"";
    let test = "resources::lives_with_short_files";
    child::assert_success(&child::run(&[], setup, test, folder.path()));
}

/// The child of the next test. In an ordinary test run it does nothing.
#[test]
fn lives_with_few_descriptors() {
    if child::folder_of_child().is_some() {
        live_under(Resource::Nofile, 3..50, EMFILE);
    }
}

#[test]
fn h32_any_number_of_file_descriptors_is_enough_or_an_error() {
    let folder = TempDir::new().unwrap();
    let test = "resources::lives_with_few_descriptors";
    let setup = "exec \"$0\" \"$@\"";
    child::assert_success(&child::run(&[], setup, test, folder.path()));
}

/// The child of the next test: opens a store, reads it, puts, syncs and compacts with this much
/// address space left. In an ordinary test run it does nothing.
#[test]
fn lives_with_little_memory() {
    let Some(folder) = child::folder_of_child() else {
        return;
    };
    let left: u64 = fs::read_to_string(folder.join("left"))
        .unwrap()
        .parse()
        .unwrap();
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let held = contents(0, 60, 100_000);
    let new = contents(1000, 20, 100_000);
    let limited = Limited::new(Resource::As, pages * 4096 + left);
    let is_expected = |error: &Error| reports(error, &[ENOMEM, EAGAIN]);
    let say = |what: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("\nfound: {what}\n").as_bytes())
            .unwrap();
    };
    let refused = |error: Error| {
        assert!(is_expected(&error), "{error:?}");
        say("refused");
    };
    match options()
        .segment_bytes_max(1 << 20)
        .open(folder.join("store"))
    {
        Ok(store) => {
            say("opened");
            for (digest, content) in &held {
                match store.get(digest) {
                    Ok(object) => assert!(object.as_deref() == Some(&content[..])),
                    Err(error) => refused(error),
                }
            }
            for content in new.values() {
                let _ = store.put(content).map_err(refused);
            }
            let _ = store.sync().map(|()| say("synced")).map_err(refused);
            let is_live = |digest: &_| held.contains_key(digest);
            let compacted = store.compact(is_live);
            let _ = compacted.map(|_| say("compacted")).map_err(refused);
        }
        Err(error) => refused(error),
    }
    drop(limited);
}

/// Rust ends a process that cannot get memory, which is like kill -9 to the store.
#[test]
#[cfg(target_os = "linux")]
fn h32_little_address_space_is_an_error_or_slower_and_loses_nothing() {
    let held = contents(0, 60, 100_000);
    let (mut ended, mut complete, mut refused, mut unbegun) = (0, 0, 0, 0);
    let lefts = (0..400_u64).map(|left| left * (128 << 10));
    let lefts: Vec<u64> = lefts.step_by(stride(13)).collect();
    for &left in &lefts {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("store");
        let store = options().segment_bytes_max(1 << 20).open(&root).unwrap();
        put_all(&store, &held);
        store.close().unwrap();
        fs::write(folder.path().join("left"), left.to_string()).unwrap();
        let test = "resources::lives_with_little_memory";
        let output = child::run(&[], "exec \"$0\" \"$@\"", test, folder.path());
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        // The standard library itself panics in a new thread for which it cannot allocate a signal
        // stack.
        let panics = err.matches("panicked at").count();
        let beginnings = err
            .matches("failed to allocate an alternative stack")
            .count();
        assert!(panics == beginnings, "{left}: {out}\n{err}");
        unbegun += beginnings;
        if output.status.success() {
            complete += usize::from(out.contains("found: compacted"));
            refused += usize::from(out.contains("found: refused"));
        } else {
            let is_abort = output.status.signal() == Some(SIGABRT);
            assert!(is_abort, "{left}: {}\n{out}\n{err}", output.status);
            ended += 1;
        }
        let store = options().open(&root).unwrap();
        assert_undamaged(&store);
        assert_holds(&store, &held);
        assert_verifies(&store);
    }
    let limits = lefts.len();
    eprintln!(
        "found: As: {limits} limits, {complete} without an error, {refused} with errors, \
         {ended} out of memory, {unbegun} threads that could not begin"
    );
    assert!(complete > 0 && refused > 0, "{complete} {refused}");
}

/// The child of the next test: does one thing in which threads share the work, when no more threads
/// can start. In an ordinary test run it does nothing.
#[test]
fn works_without_another_thread() {
    let Some(folder) = child::folder_of_child() else {
        return;
    };
    let work = fs::read_to_string(folder.join("work")).unwrap();
    let root = folder.join("store");
    let options = || options().segment_bytes_max(4 << 20);
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let threads_before = threads();
    let store = options().open(&root).unwrap();
    let mut held = contents(0, 2200, 4000);
    put_all(&store, &held);
    store.sync().unwrap();
    settle(&root);
    // These syncs make a long journal of many frames.
    for small in (10_000..18_000).step_by(100) {
        let small = contents(small, 100, 100);
        put_all(&store, &small);
        store.sync().unwrap();
        held.extend(small);
    }
    let copied = folder.join("copied");
    copy_store(&root, &copied);
    let journal = &names(&copied, &[".jnl"])[0];
    let journal = fs::metadata(copied.join("segments").join(journal)).unwrap();
    assert!(journal.len() > 256 << 10, "{}", journal.len());
    // Two threads are the store's, and no others have shared work yet.
    eventually("no other thread is left", || {
        threads() == threads_before + 2
    });
    let refused = |error: Error| assert!(reports(&error, &[EAGAIN]), "{error:?}");
    let limited = Limited::new(Resource::Nproc, 0);
    match thread::Builder::new().spawn(|| ()) {
        Err(error) => assert_eq!(error.raw_os_error(), Some(EAGAIN)),
        Ok(_) => return println!("\nfound: nothing, since threads are not limited here"),
    }
    match &work[..] {
        "put_many" => {
            let new = contents(5000, 3000, 4000);
            let all: Vec<&[u8]> = new.values().map(Vec::as_slice).collect();
            store.put_many(&all).unwrap();
            assert_holds(&store, &new);
        }
        "get_many" => {
            let digests: Vec<Digest> = held.keys().copied().collect();
            for (digest, object) in digests.iter().zip(store.get_many(&digests)) {
                assert!(object.unwrap().as_deref() == Some(&held[digest][..]));
            }
        }
        // A verification and a compaction need threads of their own.
        "verify" => {
            refused(store.verify(|_| ControlFlow::Continue(())).unwrap_err());
            drop(limited);
            assert_verifies(&store);
        }
        "compact" => {
            let middle = held.keys().nth(1000).unwrap();
            refused(store.compact(|digest| digest >= middle).unwrap_err());
            assert_same(&walk(&store), &held);
            drop(limited);
            store.compact(|digest| digest >= middle).unwrap();
            assert_same(&walk(&store), &held.clone().split_off(middle));
        }
        "compare sidecars that no manifest names" => {
            fs::remove_file(copied.join("segments/MANIFEST")).unwrap();
            let reader = Options::new().read_only(true).open(&copied).unwrap();
            assert_same(&walk(&reader), &held);
        }
        // A writer needs threads for its work in the background.
        "recover by the journal" | "recover by hashing" => {
            if work == "recover by hashing" {
                for journal in names(&copied, &[".jnl"]) {
                    fs::remove_file(copied.join("segments").join(journal)).unwrap();
                }
            }
            refused(options().open(&copied).unwrap_err());
            drop(limited);
            assert_same(&walk(&options().open(&copied).unwrap()), &held);
        }
        _ => panic!("{work}"),
    }
    store.close().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn h32_without_other_threads_the_caller_does_the_work_or_gets_an_error() {
    for work in [
        "put_many",
        "get_many",
        "verify",
        "compact",
        "compare sidecars that no manifest names",
        "recover by the journal",
        "recover by hashing",
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("work"), work).unwrap();
        let test = "resources::works_without_another_thread";
        child::assert_success(&child::run_as_nobody(test, folder.path()));
    }
}
