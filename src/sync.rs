//! Locks, atomics, channels and threads: from the standard library, or from a checker that decides
//! which thread runs next.
//!
//! With `--cfg loom` the tests of `src/memory/interleavings.rs` go through every order in which
//! threads can run and every value that the memory orderings let them see. With `--cfg shuttle` the
//! tests of `src/segment/publication.rs` and `src/engine/schedules.rs` run a segment and the whole
//! engine, files included, in schedules chosen at random. All other builds, and every build of this
//! crate as a dependency, get the standard library.
//!
//! An [`Arc`](std::sync::Arc) is taken from here only where the code asks whether it is the last
//! handle.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

pub(crate) use variant::*;

/// Locks a mutex, even if another thread has panicked while it held the lock. A value that a lock
/// of this crate guards is whole at every moment at which the holder can panic; each lock says why
/// where it is declared.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a read lock, like [`lock`].
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a write lock, like [`lock`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until another thread notifies the condition, like [`lock`].
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let waited = condition.wait(guard);
    waited.unwrap_or_else(PoisonError::into_inner)
}

/// A count of events since a store was opened. Nothing is concluded from it, so it orders no memory.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a checker runs all threads in one thread of the system, so that none may start and await
/// threads of the system.
pub(crate) const IS_ONE_THREAD: bool = cfg!(all(test, any(loom, shuttle)));

#[cfg(not(all(test, any(loom, shuttle))))]
mod variant {
    pub(crate) use std::sync::{
        Arc as CountedArc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic, atomic as published, mpsc,
    };
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<std::sync::Arc<T>>;
}

/// With shuttle: locks, channels, and the atomics by which an unsealed segment is published, at each of
/// which another thread can run. The other atomics are the system's: some are read while a value is
/// made that other threads wait for by a lock of the system, which shuttle does not see. Shuttle knows
/// no memory orderings; loom and `ThreadSanitizer` check those.
#[cfg(all(test, shuttle))]
mod variant {
    pub(crate) use std::sync::{Arc as CountedArc, atomic};

    pub(crate) use shuttle::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic as published,
        mpsc,
    };
    pub(crate) use shuttle::thread;

    pub(crate) use super::switching::{ArcSwap, ArcSwapGuard};
}

/// With loom: the counted pointer and the atomics, which order memory that is shared without a
/// lock.
#[cfg(all(test, loom))]
mod variant {
    pub(crate) use std::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc,
    };
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use loom::sync::{Arc as CountedArc, atomic};
    pub(crate) use std::sync::atomic as published;

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<std::sync::Arc<T>>;
}

/// Types that shuttle lacks.
#[cfg(all(test, shuttle))]
mod switching {
    use std::sync::Arc;

    use shuttle::sync::atomic::{AtomicBool, Ordering};

    /// The pointer of `arc_swap`, with a chance for other threads to run before and after each use.
    pub(crate) struct ArcSwap<T> {
        pointer: arc_swap::ArcSwap<T>,
        turn: AtomicBool,
    }

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<Arc<T>>;

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self {
                pointer: arc_swap::ArcSwap::from_pointee(value),
                turn: AtomicBool::new(false),
            }
        }

        pub(crate) fn load(&self) -> ArcSwapGuard<T> {
            self.between_turns(|| self.pointer.load())
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.between_turns(|| self.pointer.load_full())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            self.between_turns(|| self.pointer.store(value));
        }

        pub(crate) fn rcu(&self, change: impl Fn(&Arc<T>) -> T) -> Arc<T> {
            loop {
                let old = self.load_full();
                let new = Arc::new(change(&old));
                let met = self.between_turns(|| self.pointer.compare_and_swap(&old, new));
                if Arc::ptr_eq(&met, &old) {
                    return old;
                }
            }
        }

        fn between_turns<R>(&self, work: impl FnOnce() -> R) -> R {
            self.turn.load(Ordering::SeqCst);
            let result = work();
            self.turn.load(Ordering::SeqCst);
            result
        }
    }

    impl<T> std::fmt::Debug for ArcSwap<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("ArcSwap").finish_non_exhaustive()
        }
    }
}
