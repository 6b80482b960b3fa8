//! Models of shared memory that loom runs in every order of events.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_ -- --nocapture` runs them over the code
//! itself. Each model prints how many interleavings it went through. `src/segment/publication.rs`
//! models how these parts make up a segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::model::Builder;
use loom::thread;

use super::{AppendBuffer, AtomicBits};
use crate::sync::CountedArc;

/// Goes through all interleavings of `model`.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let explored = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&explored);
    Builder::new().check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let explored = explored.load(Ordering::Relaxed);
    eprintln!("{name}: {explored} interleavings");
    assert!(explored > 1);
}

#[test]
fn loom_bits_of_one_word_are_not_lost() {
    explore("bits of one word", || {
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
    explore("bytes of a buffer", || {
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
        // The buffer is used again only if no reader still has it.
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
