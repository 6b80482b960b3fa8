//! What readers may see of an unsealed segment while it grows, in every order of events (loom).
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_ -- --nocapture` runs this over the code
//! itself, with chunks of one record, lines of two slots and buffers of few bytes, so that a few
//! records go through all that grows. Each model says how many interleavings it went through.
//!
//! Files are outside of it: that a record is read from the map only after it was written to the file
//! is seen by the order in which the two are told to the map.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use loom::model::Builder;
use loom::thread;

use super::active_index::ActiveIndexWriter;
use super::bits::AtomicBits;
use super::{Active, Appender, Extent};
use crate::digest::{Digest, Hashed};
use crate::dir::{Dir, System};
use crate::format::Entry;
use crate::memory::AppendBuffer;
use crate::options::ReadMode;
use crate::sync::{CountedArc, Mutex};

/// Goes through all interleavings of `model`; with a bound, through those with no more than so many
/// moments in which a thread is interrupted that could have gone on.
fn explore(name: &str, preemption_bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let explored = Arc::new(AtomicU64::new(0));
    let mut builder = Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound = builder.preemption_bound.or(preemption_bound);
    let counted = Arc::clone(&explored);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let explored = explored.load(Ordering::Relaxed);
    eprintln!("{name}: {explored} interleavings");
    assert!(explored > 1);
}

fn entry(number: u32, offset: u64) -> Entry {
    Entry {
        digest: Digest::of(&number.to_le_bytes()),
        offset,
        len: number + 1,
    }
}

/// The slots become more twice, and the records go on to further chunks and shelves.
#[test]
fn loom_a_record_that_is_counted_is_found() {
    counted_records_are_found("two records", 2, None);
    counted_records_are_found("three records", 3, Some(3));
}

fn counted_records_are_found(name: &str, records: u32, preemption_bound: Option<usize>) {
    explore(name, preemption_bound, move || {
        let mut writer = ActiveIndexWriter::new(Vec::new());
        let index = Arc::clone(writer.shared());
        let reader = thread::spawn(move || {
            let counted = index.len();
            for number in 0..records {
                let expected = entry(number, u64::from(number));
                let extent = Extent {
                    offset: expected.offset,
                    len: expected.len,
                };
                match index.find(&expected.digest) {
                    Some(found) => assert_eq!(found, extent),
                    None => assert!(number >= counted, "{number} of {counted}"),
                }
            }
        });
        for number in 0..records {
            writer.insert(&entry(number, u64::from(number)));
        }
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_list_of_the_records_has_all_that_are_counted() {
    explore("a list of the records", Some(3), || {
        // There is room for one more before the slots become more.
        let found = (0..3).map(|number| entry(number, number.into()));
        let mut writer = ActiveIndexWriter::new(found.collect());
        let index = Arc::clone(writer.shared());
        let reader = thread::spawn(move || {
            let counted = index.len() as usize;
            let current = index.current_entries();
            let all = index.entries();
            assert!(all.len() >= counted && current.len() >= counted);
            for (number, found) in (0..).zip(&all) {
                assert_eq!(*found, entry(number, u64::from(number)));
            }
            for found in &current {
                assert_eq!(*found, entry(found.len - 1, found.offset));
            }
        });
        for number in 3..5 {
            writer.insert(&entry(number, u64::from(number)));
        }
        reader.join().unwrap();
    });
}

/// A copy takes the place of a damaged one: one of the two is found at any time, and never the first
/// after the second.
#[test]
fn loom_a_record_that_is_put_again_is_found_all_the_time() {
    explore("a record that is put again", None, || {
        let mut writer = ActiveIndexWriter::new(vec![entry(7, 10)]);
        let index = Arc::clone(writer.shared());
        let reader = thread::spawn(move || {
            let mut seen = 10;
            for _ in 0..2 {
                let found = index.find(&entry(7, 0).digest).unwrap();
                assert!(found.offset == 10 || found.offset == 20);
                assert!(found.offset >= seen && found.len == 8);
                seen = found.offset;
            }
            assert!(index.objects() >= 1);
        });
        writer.insert(&entry(7, 20));
        writer.insert(&entry(8, 30));
        reader.join().unwrap();
        assert_eq!(writer.shared().objects(), 2);
    });
}

#[test]
fn loom_two_readers_find_what_they_see_counted() {
    explore("two readers", Some(3), || {
        let mut writer = ActiveIndexWriter::new(Vec::new());
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let index = Arc::clone(writer.shared());
                thread::spawn(move || {
                    for number in 0..index.len() {
                        let expected = entry(number, u64::from(number));
                        let found = index.find(&expected.digest).unwrap();
                        assert_eq!((found.offset, found.len), (expected.offset, expected.len));
                    }
                })
            })
            .collect();
        for number in 0..2 {
            writer.insert(&entry(number, u64::from(number)));
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn loom_bits_of_one_word_are_not_lost() {
    explore("bits of one word", None, || {
        let bits = Arc::new(AtomicBits::new(64));
        let threads: Vec<_> = (0..3)
            .map(|bit| {
                let bits = Arc::clone(&bits);
                thread::spawn(move || bits.set(bit))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(bits.count(), 3);
    });
}

#[test]
fn loom_bytes_of_a_buffer_are_read_after_they_were_written() {
    explore("bytes of a buffer", None, || {
        let mut writer = AppendBuffer::with_capacity(6);
        let readers: Vec<_> = (0..1)
            .map(|_| {
                let buffer = CountedArc::clone(writer.shared());
                thread::spawn(move || {
                    for (at, expected) in [(0, b"ab"), (2, b"cd"), (4, b"ef")] {
                        if let Some(bytes) = buffer.slice(at, 2) {
                            assert_eq!(bytes, expected);
                        }
                    }
                })
            })
            .collect();
        assert!(writer.append([b"a", b"b"]));
        assert!(writer.append([b"cd", b""]));
        // Used again by then only if both readers are done with it.
        if writer.clear() {
            assert!(writer.append([b"x", b"y"]));
        } else {
            assert!(writer.append([b"ef", b""]));
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// Each of the contents below crosses the end of a block, and none crosses two.
const BLOCK_BYTES: usize = 24;

fn appender(folder: &tempfile::TempDir, mode: ReadMode) -> Appender {
    let dir = Dir::create(folder.path(), Arc::new(System), false, BLOCK_BYTES).unwrap();
    dir.create_all().unwrap();
    Appender::create(&dir, 1, mode, 64, 0).unwrap()
}

fn read(active: &Active, content: &[u8]) -> Option<Vec<u8>> {
    let extent = active.find(&Digest::of(content))?;
    let found = active.read(extent).unwrap();
    let found = found.expect("the file is shorter than a record that was found");
    Some(found.bytes(extent.len as usize).to_vec())
}

/// Records go through the buffer to the file, and the buffer that was used before is used again.
fn what_is_found_is_read(name: &str, mode: ReadMode, contents: &'static [&'static [u8]]) {
    explore(name, Some(3), move || {
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

#[test]
fn loom_what_is_found_is_read_while_it_is_flushed_and_mapped() {
    let contents: &[&[u8]] = &[b"0123456789abcdef", b"the second one", b"and the third"];
    what_is_found_is_read("flushed and mapped", ReadMode::Mmap, contents);
}

#[test]
fn loom_what_is_found_is_read_while_it_is_flushed_and_not_mapped() {
    let contents: &[&[u8]] = &[b"0123456789abcdef", b"the second one", b"and the third"];
    what_is_found_is_read("flushed and not mapped", ReadMode::Pread, contents);
}

/// Content that is larger than the buffer goes to the file directly.
#[test]
fn loom_what_is_found_is_read_while_it_is_written_directly() {
    let contents: &[&[u8]] = &[b"short", b"longer than the buffer has room for", b"last"];
    what_is_found_is_read("written directly", ReadMode::Mmap, contents);
}

/// Two threads put one content: the look before the lock, and the look under it if something was put
/// since, leave one record.
#[test]
fn loom_a_content_that_two_threads_put_is_appended_once() {
    explore("put by two threads", Some(3), || {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let appender = appender(&folder, ReadMode::Pread);
        let active = Arc::clone(appender.active());
        let appender = Arc::new(Mutex::new(appender));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (active, appender) = (Arc::clone(&active), Arc::clone(&appender));
                thread::spawn(move || {
                    let hashed = Hashed::new(b"content");
                    // As `View::of`, `is_held` and `View::is_current` in `store/write.rs`.
                    let records = active.records();
                    if read(&active, b"content").is_some() {
                        return;
                    }
                    let mut appender = appender.lock().unwrap_or_else(PoisonError::into_inner);
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
