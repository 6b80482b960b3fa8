//! A concurrent map from which nothing is removed, and that needs no help of the thread that asks.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use papaya::{Compute, Guard, HashMap, Operation, ResizeMode};
use seize::Collector;

/// A map of `papaya` whose values are replaced but never removed.
///
/// `papaya` frees what was replaced as soon as no thread reads it. For that every reader takes a guard,
/// which needs storage of its thread, and so a destructor of such storage that reads would panic; and
/// the first guard of each thread takes a lock of the whole process, which another thread may hold in
/// the moment of a fork, so that the child would wait for ever. Here, what was replaced is kept until
/// the map is dropped. That is little: the tables from which the map has grown, together no larger
/// than the one it has, and the entries of objects that were put again. So guards do nothing.
///
/// Maps are resized in the blocking mode of `papaya`: the thread that inserts moves all entries, and
/// readers never help or wait.
pub(crate) struct GrowOnlyMap<K, V, S> {
    map: HashMap<K, V, S>,
    replaced: Replaced,
}

impl<K, V, S> fmt::Debug for GrowOnlyMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrowOnlyMap").finish_non_exhaustive()
    }
}

impl<K, V, S> GrowOnlyMap<K, V, S>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    S: BuildHasher,
{
    /// Makes an empty map that need not grow before it has `capacity` entries.
    pub(crate) fn new(capacity: usize, hasher: S) -> Self {
        let map = HashMap::builder()
            .capacity(capacity)
            .hasher(hasher)
            .resize_mode(ResizeMode::Blocking)
            .shared_collector(Arc::clone(collector()))
            .build();
        Self {
            map,
            replaced: Replaced::default(),
        }
    }

    const fn guard(&self) -> UntilDrop<'_> {
        UntilDrop(&self.replaced)
    }

    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let value: *const V = self.map.get(key, &self.guard())?;
        // SAFETY: `papaya` lets a value live as long as the guard. Our guards all keep it for as long
        // as `self` lives, so it may be borrowed from `self`.
        Some(unsafe { &*value })
    }

    /// Inserts an entry unless there is one with this key. Returns whether it was inserted.
    pub(crate) fn insert_new(&self, key: K, value: V) -> bool {
        self.map.try_insert(key, value, &self.guard()).is_ok()
    }

    /// Inserts or replaces the entry with this key as `compute` says, which is called again if another
    /// thread was first. Returns whether an entry was inserted or replaced.
    pub(crate) fn compute(
        &self,
        key: K,
        mut compute: impl FnMut(Option<(&K, &V)>) -> Option<V>,
    ) -> Computed {
        let operation = |found: Option<(&K, &V)>| match compute(found) {
            Some(value) => Operation::Insert(value),
            None => Operation::Abort(()),
        };
        match self.map.compute(key, operation, &self.guard()) {
            Compute::Inserted(..) => Computed::Inserted,
            Compute::Updated { .. } => Computed::Replaced,
            Compute::Aborted(()) | Compute::Removed(..) => Computed::Nothing,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns what `map` makes of each entry, in no order. An entry that is inserted meanwhile may be
    /// among them or not.
    pub(crate) fn collect<T>(&self, map: impl Fn(&K, &V) -> T) -> Vec<T> {
        let guard = self.guard();
        let entries = self.map.iter(&guard);
        entries.map(|(key, value)| map(key, value)).collect()
    }
}

/// The change that [`GrowOnlyMap::compute`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    Inserted,
    Replaced,
    Nothing,
}

/// The collector that all maps name. It never gets anything to free, so that maps need no memory for
/// one of their own, and it does not matter that they share it.
fn collector() -> &'static Arc<Collector> {
    static COLLECTOR: OnceLock<Arc<Collector>> = OnceLock::new();
    COLLECTOR.get_or_init(|| Arc::new(Collector::new()))
}

/// Memory that a map no longer uses.
#[derive(Default)]
struct Replaced(Mutex<Vec<Retired>>);

struct Retired {
    pointer: *mut (),
    reclaim: unsafe fn(*mut (), &Collector),
}

// SAFETY: only maps whose keys and values are `Send` retire memory, and nobody but the `Replaced` that
// holds a `Retired` uses its pointer.
unsafe impl Send for Retired {}

impl Drop for Replaced {
    fn drop(&mut self) {
        let retired = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for Retired { pointer, reclaim } in retired.drain(..) {
            // SAFETY: `defer_retire` was told that this pointer may be given to this function when
            // nobody uses it any more. Whatever was borrowed from the map has ended, since the map is
            // being dropped.
            unsafe { reclaim(pointer, collector()) };
        }
    }
}

/// A guard that keeps everything until the map is dropped.
struct UntilDrop<'a>(&'a Replaced);

impl Guard for UntilDrop<'_> {
    fn refresh(&mut self) {}

    fn flush(&self) {}

    fn collector(&self) -> &Collector {
        collector()
    }

    /// Chooses the counter that the length is counted in; any number will do.
    fn thread_id(&self) -> usize {
        0
    }

    unsafe fn defer_retire<T>(&self, pointer: *mut T, reclaim: unsafe fn(*mut T, &Collector)) {
        // SAFETY: the two types differ in the type that a thin pointer points to, and functions that
        // differ in that only are called alike.
        let reclaim = unsafe {
            mem::transmute::<unsafe fn(*mut T, &Collector), unsafe fn(*mut (), &Collector)>(reclaim)
        };
        let pointer = pointer.cast();
        let retired = Retired { pointer, reclaim };
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(retired);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::RandomState;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Counts how many of its values exist.
    #[derive(Debug)]
    struct Counted(u32, Arc<AtomicUsize>);

    impl Counted {
        fn new(number: u32, count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::Relaxed);
            Self(number, Arc::clone(count))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_replaced_lives_as_long_as_the_map_and_no_longer() {
        let count = Arc::new(AtomicUsize::new(0));
        let map = GrowOnlyMap::new(0, RandomState::new());
        // Enough for the map to grow several times.
        for key in 0..300_u32 {
            assert!(map.insert_new(key, Counted::new(key, &count)));
            assert!(!map.insert_new(key, Counted::new(0, &count)));
        }
        let first = map.get(&7).unwrap();
        for number in 0..50 {
            let replaced = map.compute(7, |_| Some(Counted::new(number, &count)));
            assert_eq!(replaced, Computed::Replaced);
        }
        assert_eq!((first.0, map.get(&7).unwrap().0, map.len()), (7, 49, 300));
        assert_eq!(map.compute(7, |_| None), Computed::Nothing);
        assert_eq!(
            map.compute(300, |_| Some(Counted::new(1, &count))),
            Computed::Inserted
        );
        let mut keys = map.collect(|key, _| *key);
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..=300));
        assert_eq!(count.load(Ordering::Relaxed), 301 + 50);
        drop(map);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    /// A guard of `papaya` itself panics there, and so would end the process.
    #[test]
    fn h33_a_map_is_used_while_the_storage_of_a_thread_is_destroyed() {
        struct Uses(Cell<Option<Arc<GrowOnlyMap<u32, u32, RandomState>>>>);
        impl Drop for Uses {
            fn drop(&mut self) {
                let map = self.0.take().unwrap();
                assert!(map.insert_new(2, 2));
                assert_eq!((map.get(&1), map.collect(|_, _| ()).len()), (Some(&1), 2));
            }
        }
        thread_local!(static USES: Uses = const { Uses(Cell::new(None)) });

        let map = Arc::new(GrowOnlyMap::new(0, RandomState::new()));
        let used = Arc::clone(&map);
        let thread = thread::spawn(move || {
            USES.with(|uses| uses.0.set(Some(Arc::clone(&used))));
            assert!(used.insert_new(1, 1));
        });
        thread.join().unwrap();
        assert_eq!(map.get(&2), Some(&2));
    }
}
