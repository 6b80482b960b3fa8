//! What threads share: the standard library's, or that of a checker which decides who runs next.
//!
//! With `--cfg loom` the tests of `src/memory/interleavings.rs` go through every order in which
//! threads can run and every value that the memory orderings let them see. With `--cfg shuttle` those
//! of `src/segment/publication.rs` and `src/engine/schedules.rs` run a segment and the whole engine,
//! files and all, in schedules chosen at random. Everything else, and every build of this crate as a
//! dependency, gets the standard library.
//!
//! An [`Arc`](std::sync::Arc) is taken from here only where the code asks whether it is the last.

use std::sync::PoisonError;

pub(crate) use variant::*;

/// Locks, also after a panic of another thread that held the lock. What a lock of this crate guards
/// is whole at every moment at which its holder can panic; each lock says why where it is declared.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for one of several readers.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for the one writer.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Whether all threads share one of the system's, so that none may wait for one of its own.
pub(crate) const IS_ONE_THREAD: bool = cfg!(all(test, any(loom, shuttle)));

#[cfg(not(all(test, any(loom, shuttle))))]
mod variant {
    pub(crate) use std::sync::{
        Arc as CountedArc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
        mpsc,
    };
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<std::sync::Arc<T>>;
}

/// With shuttle: what threads wait for, and the atomics, at each of which another thread can run.
/// It knows no memory orderings; those are left to loom and to `ThreadSanitizer`.
#[cfg(all(test, shuttle))]
mod variant {
    pub(crate) use std::sync::Arc as CountedArc;

    pub(crate) use shuttle::sync::{
        Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, mpsc,
    };
    pub(crate) use shuttle::thread;

    pub(crate) use super::switching::{ArcSwap, ArcSwapGuard};
}

/// With loom: what orders memory that is shared without a lock.
#[cfg(all(test, loom))]
mod variant {
    pub(crate) use std::sync::{
        Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc,
    };
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use loom::sync::{Arc as CountedArc, atomic};

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<std::sync::Arc<T>>;
}

/// What shuttle lacks.
#[cfg(all(test, shuttle))]
mod switching {
    use std::sync::Arc;

    use shuttle::sync::atomic::{AtomicBool, Ordering};

    /// The pointer itself, with a chance for others before and after each use of it.
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
