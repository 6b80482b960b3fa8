//! What threads share: the standard library's, or that of a checker which decides who runs next.
//!
//! With `--cfg loom` the tests of `src/segment/interleavings.rs` go through every order in which
//! threads can run and every value that the memory orderings let them see. With `--cfg shuttle` those
//! of `src/store/schedules.rs` run the whole engine, files and all, in schedules chosen at random.
//! Everything else, and every build of this crate as a dependency, gets the standard library.
//!
//! An [`Arc`](std::sync::Arc) is taken from here only where it is asked whether it is the last.

pub(crate) use variant::*;

/// Whether all threads share one of the system's, so that none may wait for one of its own.
pub(crate) const IS_ONE_THREAD: bool = cfg!(all(test, any(loom, shuttle)));

#[cfg(not(all(test, any(loom, shuttle))))]
mod variant {
    pub(crate) use std::sync::{
        Arc as CountedArc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, atomic, mpsc,
    };
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;

    pub(crate) type ArcSwapGuard<T> = arc_swap::Guard<std::sync::Arc<T>>;
}

/// Of shuttle: what threads wait for. Its atomics know no orderings, so those are left to loom.
#[cfg(all(test, shuttle))]
mod variant {
    pub(crate) use std::sync::{Arc as CountedArc, OnceLock, atomic};

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, mpsc};
    pub(crate) use shuttle::thread;

    pub(crate) use super::switching::{ArcSwap, ArcSwapGuard};
}

/// Of loom: all that orders memory.
#[cfg(all(test, loom))]
mod variant {
    pub(crate) use std::sync::mpsc;
    pub(crate) use std::thread;

    pub(crate) use loom::sync::{
        Arc as CountedArc, Mutex, MutexGuard, RwLock, RwLockReadGuard, atomic,
    };

    pub(crate) use super::ordering::{ArcSwap, ArcSwapGuard, OnceLock};
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

/// What loom lacks. No more is promised here than by the originals, except that an [`ArcSwap`] also
/// orders whoever stores behind those who loaded.
#[cfg(all(test, loom))]
mod ordering {
    use std::sync::{Arc, PoisonError};

    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        is_set: AtomicBool,
        setting: Mutex<()>,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self {
                is_set: AtomicBool::new(false),
                setting: Mutex::new(()),
                value: std::sync::OnceLock::new(),
            }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            let is_set = self.is_set.load(Ordering::Acquire);
            self.value.get().filter(|_| is_set)
        }

        pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.get() {
                return value;
            }
            let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
            let value = self.value.get_or_init(value);
            self.is_set.store(true, Ordering::Release);
            value
        }
    }

    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    pub(crate) type ArcSwapGuard<T> = Arc<T>;

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> ArcSwapGuard<T> {
            self.load_full()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            let old = self.swap(value);
            drop(old);
        }

        pub(crate) fn rcu(&self, change: impl Fn(&Arc<T>) -> T) -> Arc<T> {
            let mut pointer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = Arc::new(change(&pointer));
            std::mem::replace(&mut *pointer, new)
        }

        fn swap(&self, value: Arc<T>) -> Arc<T> {
            let mut pointer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *pointer, value)
        }
    }
}
