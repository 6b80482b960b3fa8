//! Limits of a process, counted over all its stores: maps of files, and files that are held open.
//!
//! A process that has used up its maps is aborted when it next starts a thread or allocates memory.
//! So the stores stop long before, and read by system calls from there on.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The maps of files.
pub(crate) static MAPS: Quota = Quota::new();
/// The files of sealed segments that are held open because they are not mapped.
static FILES: Quota = Quota::new();

/// The number of units of one resource that the process has taken.
#[derive(Debug)]
pub(crate) struct Quota {
    taken: AtomicUsize,
}

/// One unit of a quota, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken(&'static Quota);

impl Quota {
    const fn new() -> Self {
        Self {
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes one unit, unless `max` are taken already.
    pub(crate) fn take(&'static self, max: usize) -> Option<Taken> {
        let one_more = |taken: usize| (taken < max).then_some(taken.saturating_add(1));
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Taken(self))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The use of a map. The less a use gains from a map, the sooner it is refused one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MapUse {
    /// A run of the set index, which every lookup asks.
    SetIndex,
    /// Records, which every read needs.
    Data,
    /// A file that is read in order, which works without a map too.
    Walk,
    /// A sidecar, which puts of objects that are held already, walks and compactions ask.
    Sidecar,
}

impl MapUse {
    /// The number of maps of all uses together from which on this use is refused another.
    pub(crate) const fn limit(self, maps_max: usize) -> usize {
        match self {
            Self::SetIndex => maps_max,
            Self::Data => maps_max - maps_max / 16,
            Self::Walk => maps_max / 2,
            Self::Sidecar => maps_max - maps_max / 4,
        }
    }
}

/// The number of maps that all stores of the process may have together: half of the maps that the
/// process could still make when this was first called. The other half is for threads, memory and
/// libraries.
pub(crate) fn maps_max() -> usize {
    static MAPS_MAX: AtomicUsize = AtomicUsize::new(0);
    // An atomic, since a forked process could wait for a lock in vain. Two threads that get here
    // together find nearly the same number.
    let known = MAPS_MAX.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let found = (system_maps_max().saturating_sub(present_maps()) / 2).max(1);
    MAPS_MAX.store(found, Ordering::Relaxed);
    found
}

/// The limit of Linux unless it is configured otherwise.
#[cfg(target_os = "linux")]
const MAX_MAP_COUNT_DEFAULT: usize = 65_530;

#[cfg(target_os = "linux")]
fn system_maps_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let count = text.ok().and_then(|text| text.trim().parse().ok());
    count.unwrap_or(MAX_MAP_COUNT_DEFAULT)
}

#[cfg(target_os = "linux")]
fn present_maps() -> usize {
    let maps = std::fs::read("/proc/self/maps").unwrap_or_default();
    maps.split(|&byte| byte == b'\n').count()
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
fn system_maps_max() -> usize {
    usize::MAX
}

#[cfg(not(target_os = "linux"))]
fn present_maps() -> usize {
    0
}

/// A file that is held open.
#[derive(Debug)]
pub(crate) struct HeldFile {
    file: File,
    _counted: Taken,
}

impl HeldFile {
    /// Holds a file open, or closes it if the stores of the process hold as many as they may.
    pub(crate) fn hold(file: File) -> Option<Self> {
        let counted = FILES.take(files_max())?;
        Some(Self {
            file,
            _counted: counted,
        })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

/// The number of files that the stores may hold open: half of the present limit of the process.
#[cfg(all(unix, not(miri)))]
fn files_max() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

/// The number of files that the stores may hold open: every Windows allows a process many times as
/// many.
#[cfg(any(not(unix), miri))]
const fn files_max() -> usize {
    4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h60_a_quota_is_never_exceeded_and_a_returned_unit_can_be_taken_again() {
        static QUOTA: Quota = Quota::new();
        let taken: Vec<Taken> = (0..3).map(|_| QUOTA.take(3).unwrap()).collect();
        assert!(QUOTA.take(3).is_none());
        assert!(QUOTA.take(4).is_some());
        drop(taken);
        assert!(QUOTA.take(1).is_some());
        assert!(QUOTA.take(0).is_none());
    }

    #[test]
    fn h60_the_set_index_is_the_last_to_be_refused_a_map() {
        for maps_max in [0, 1, 15, 16, 32_765, usize::MAX] {
            let limits = [MapUse::Sidecar, MapUse::Data, MapUse::SetIndex];
            let limits = limits.map(|map_use| map_use.limit(maps_max));
            assert!(limits.is_sorted(), "{limits:?}");
            assert_eq!(limits[2], maps_max);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn h60_maps_stop_well_below_the_limit_of_the_system() {
        assert!(maps_max() <= system_maps_max() / 2);
        assert!(present_maps() > 0);
    }
}
