//! Tests what readers see of an unsealed segment while it grows, in schedules that shuttle chooses.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --lib shuttle_ -- --nocapture` runs these tests
//! with the schedules of the engine. Another thread can run at each access to an atomic, so a
//! schedule shows what a reader sees between any two steps of the appender. `ThreadSanitizer`
//! checks that the steps are ordered in memory too, in the tests of `active_index.rs` and of the
//! store.

use std::sync::Arc;

use super::expected::Expected;
use super::{Active, Appender};
use crate::digest::{Digest, Hashed};
use crate::dir::{Dir, System, Writing};
use crate::options::ReadMode;
use crate::sync::{Mutex, lock, thread};

/// The contents of [`CROSSING`] cross the end of a block, and none crosses two.
const BLOCK_BYTES: usize = 24;

fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SEALSTONE_SCHEDULES").ok();
    let schedules = schedules.map_or(1000, |schedules| schedules.parse().unwrap());
    shuttle::check_random(model, schedules);
    eprintln!("{name}: {schedules} random schedules");
}

fn appender(folder: &tempfile::TempDir, mode: ReadMode) -> Appender {
    let writing = Writing {
        operations: Arc::new(System),
        fast_fsync: false,
        write_block_bytes: BLOCK_BYTES,
    };
    let dir = Dir::create(folder.path(), writing).unwrap();
    Appender::create(&dir, 1, mode.into(), Expected::of_size(64)).unwrap()
}

fn read(active: &Active, content: &[u8]) -> Option<Vec<u8>> {
    let extent = active.find(&Digest::of(content))?.extent();
    let found = active.read(extent).unwrap();
    let found = found.expect("the file is shorter than a record that was found");
    Some(found.bytes().to_vec())
}

/// Asserts that each content that is found can be read. The records go through the buffer to the
/// file, and buffers are used again.
fn found_content_can_be_read(name: &str, mode: ReadMode, contents: &'static [&'static [u8]]) {
    explore(name, move || {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut appender = appender(&folder, mode);
        let active = Arc::clone(appender.active());
        let reader = thread::spawn(move || {
            let counted = active.records() as usize;
            for (number, content) in contents.iter().enumerate() {
                match read(&active, content) {
                    Some(bytes) => assert_eq!(bytes, *content),
                    None => assert!(number >= counted, "{number} of {counted}"),
                }
            }
        });
        for content in contents {
            appender.append(&Hashed::new(content)).unwrap();
        }
        reader.join().unwrap();
        appender.flush().unwrap();
        for content in contents {
            assert_eq!(read(appender.active(), content).unwrap(), *content);
        }
    });
}

const CROSSING: &[&[u8]] = &[b"0123456789abcdef", b"the second one", b"and the third"];

#[test]
fn shuttle_found_content_can_be_read_while_it_is_flushed_and_mapped() {
    found_content_can_be_read("flushed and mapped", ReadMode::Mmap, CROSSING);
}

#[test]
fn shuttle_found_content_can_be_read_while_it_is_flushed_and_not_mapped() {
    found_content_can_be_read("flushed and not mapped", ReadMode::Pread, CROSSING);
}

/// Content that is larger than a block goes to the file directly.
#[test]
fn shuttle_found_content_can_be_read_while_it_is_written_directly() {
    let contents: &[&[u8]] = &[b"short", b"longer than the buffer has room for", b"last"];
    found_content_can_be_read("written directly", ReadMode::Mmap, contents);
}

/// Two threads put the same content. A lookup before the lock, and another under it if records were
/// added since, leave one record.
#[test]
fn shuttle_content_that_two_threads_put_is_appended_once() {
    explore("put by two threads", || {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let appender = appender(&folder, ReadMode::Pread);
        let active = Arc::clone(appender.active());
        let appender = Arc::new(Mutex::new(appender));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (active, appender) = (Arc::clone(&active), Arc::clone(&appender));
                thread::spawn(move || {
                    let hashed = Hashed::new(b"content");
                    // Does what `View::of`, `is_duplicate` and `View::is_current` do in `engine/put.rs`.
                    let records = active.records();
                    if read(&active, b"content").is_some() {
                        return;
                    }
                    let mut appender = lock(&appender);
                    if active.records() == records || active.find(hashed.digest()).is_none() {
                        appender.append(&hashed).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(active.records(), 1);
    });
}
