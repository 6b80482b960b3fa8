//! Which segments may hold an object: the runs and sidecars of one state of a ref, which are local.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::format::RefSegment;
use super::super::refs::Stored;
use crate::digest::{Digest, HashFunction};
use crate::format::Sidecar;
use crate::run::Run;
use crate::segment::file_bytes::FileBytes;

/// The sidecar of a segment, mapped or in memory.
pub(super) type LocalSidecar = Arc<Sidecar<FileBytes>>;

/// The index of one state.
pub(super) struct Index {
    pub(super) newest: Stored,
    runs: Vec<IndexedRun>,
    /// Sorted by id.
    segments: Vec<Arc<IndexedSegment>>,
    /// The positions of the segments that no run covers. Their sidecars are here.
    uncovered: Vec<usize>,
}

/// A run, and where its segments are in the list of all segments.
struct IndexedRun {
    digest: Digest,
    run: Arc<Run>,
    /// By ordinal. `None` if the state does not list the segment, or another run covers it too.
    segments: Vec<Option<usize>>,
}

/// A segment that the state lists.
pub(super) struct IndexedSegment {
    pub(super) id: u32,
    pub(super) listed: RefSegment,
    /// The sidecar, once it is local.
    pub(super) sidecar: OnceLock<LocalSidecar>,
    /// Whether the local sidecar was found damaged, so that a reload has to download it.
    pub(super) is_damaged: AtomicBool,
    /// What requests for its objects have cost, in bytes.
    pub(super) asked_bytes: AtomicU64,
}

/// Where an object may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The position of the segment.
    pub(super) segment: usize,
    /// Where the content begins in the data file.
    pub(super) offset: u64,
    /// The length of the content, if a sidecar says it. Then the object is there for sure.
    pub(super) len: Option<u32>,
}

/// A run whose local file is damaged.
#[derive(Debug)]
pub(super) struct DamagedRun;

impl Index {
    /// Puts the runs and segments of a state together. The sidecars of the segments that no run covers are
    /// still to come.
    pub(super) fn new(
        newest: Stored,
        runs: Vec<(Digest, Arc<Run>)>,
        segments: Vec<Arc<IndexedSegment>>,
    ) -> Self {
        let position = |id: &u32| segments.binary_search_by_key(id, |segment| segment.id).ok();
        let mut covered = HashSet::new();
        let mut resolve = |(digest, run): (Digest, Arc<Run>)| {
            let header = run.index().header();
            let of_state = header.segments.iter().map(|(id, binding)| {
                let at = position(id)?;
                let fits = segments[at].listed.sealed == *binding;
                (fits && covered.insert(at)).then_some(at)
            });
            let resolved = of_state.collect();
            IndexedRun {
                digest,
                run,
                segments: resolved,
            }
        };
        let runs = runs.into_iter().map(&mut resolve).collect();
        let is_uncovered = |at: &usize| !covered.contains(at);
        let uncovered = (0..segments.len()).filter(is_uncovered).collect();
        Self {
            newest,
            runs,
            segments,
            uncovered,
        }
    }

    pub(super) fn hash_function(&self) -> HashFunction {
        let state = self.newest.state();
        state.map(|state| state.hash_function).unwrap_or_default()
    }

    pub(super) fn segments(&self) -> &[Arc<IndexedSegment>] {
        &self.segments
    }

    /// The segments that no run covers.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &Arc<IndexedSegment>> {
        self.uncovered.iter().map(|&at| &self.segments[at])
    }

    /// The runs that hold as far as they were read.
    pub(super) fn sound_runs(&self) -> impl Iterator<Item = (Digest, &Arc<Run>)> {
        let sound = self.runs.iter().filter(|indexed| !indexed.run.is_damaged());
        sound.map(|indexed| (indexed.digest, &indexed.run))
    }

    /// Whether all files hold as far as they were read.
    pub(super) fn is_sound(&self) -> bool {
        let is_damaged = |segment: &Arc<IndexedSegment>| segment.is_damaged.load(Ordering::Relaxed);
        self.sound_runs().count() == self.runs.len() && !self.segments.iter().any(is_damaged)
    }

    /// Returns the segments by id, for the index of the next state.
    pub(super) fn segments_by_id(&self) -> BTreeMap<u32, &Arc<IndexedSegment>> {
        let segments = self.segments.iter();
        segments.map(|segment| (segment.id, segment)).collect()
    }

    /// Whether the state may list an object; if not, it does not. Takes less time than
    /// [`places`](Self::places), which looks into the local sidecars of covered segments, too.
    pub(super) fn may_list(&self, digest: &Digest) -> bool {
        self.places_in_runs(digest).next().is_some()
            || self.places_in_sidecars(digest).next().is_some()
    }

    /// Returns where an object may be. If there is no place, the state does not list the object. A place
    /// without a length can be that of another object, for less than one object in 8,000: the sidecar of its
    /// segment is not local, or does not have the object there.
    pub(super) fn places(
        &self,
        digest: &Digest,
    ) -> impl Iterator<Item = Result<Place, DamagedRun>> {
        let with_len = move |place: Place| {
            let sidecar = self.segments[place.segment].sidecar.get();
            let mut entries = sidecar.into_iter().flat_map(|sidecar| sidecar.find(digest));
            let entry = entries.find(|entry| entry.offset == place.offset);
            Place {
                len: entry.map(|entry| entry.len),
                ..place
            }
        };
        let in_runs = self.places_in_runs(digest);
        let in_runs = in_runs.map(move |place| place.map(with_len));
        in_runs.chain(self.places_in_sidecars(digest).map(Ok))
    }

    /// Returns where an object may be in the segments that runs cover. None of the places has a length.
    fn places_in_runs(&self, digest: &Digest) -> impl Iterator<Item = Result<Place, DamagedRun>> {
        self.runs.iter().flat_map(move |indexed| {
            let found = indexed.run.find(indexed.run.probe(digest));
            found.filter_map(|location| match location {
                Err(_) => Some(Err(DamagedRun)),
                Ok(location) => {
                    let ordinal = location.ordinal().index();
                    let segment = indexed.segments.get(ordinal).copied().flatten()?;
                    Some(Ok(Place {
                        segment,
                        offset: location.offset(),
                        len: None,
                    }))
                }
            })
        })
    }

    /// Returns where an object is in the segments that no run covers.
    fn places_in_sidecars(&self, digest: &Digest) -> impl Iterator<Item = Place> {
        self.uncovered.iter().flat_map(move |&segment| {
            let sidecar = self.segments[segment].sidecar.get();
            let entries = sidecar.into_iter().flat_map(|sidecar| sidecar.find(digest));
            entries.map(move |entry| Place {
                segment,
                offset: entry.offset,
                len: Some(entry.len),
            })
        })
    }
}

impl IndexedSegment {
    pub(super) fn new(id: u32, listed: RefSegment) -> Self {
        Self {
            id,
            listed,
            sidecar: OnceLock::new(),
            is_damaged: AtomicBool::new(false),
            asked_bytes: AtomicU64::new(0),
        }
    }
}
