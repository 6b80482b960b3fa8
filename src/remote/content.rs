//! The segments and runs of a store, and which of their files a push has to upload.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::base::Base;
use super::format::{FolderFile, Nonce, RefFileKind, RefRun, RefSegment, RefState};
use super::upload::Source;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::segment::Sealed;
use crate::segment_set::{ResolvedRun, SegmentSet};
use crate::store::Store;
use crate::threads::in_own_threads;

/// The segments and runs of a store that is pushed.
pub(super) struct Content {
    pub(super) set: Arc<SegmentSet>,
    /// The runs of the set index that hold, by the digests of their files.
    runs: BTreeMap<Digest, ResolvedRun>,
    /// The highest segment id that the store has used.
    pub(super) highest_id: u32,
}

/// The work of a push onto a base, and the state that it makes.
pub(super) struct Plan {
    /// The state to push.
    pub(super) state: RefState,
    /// The files to upload.
    pub(super) files: BTreeMap<FolderFile, Source>,
    /// The number of segments that the base does not list.
    pub(super) new_segments: usize,
}

impl Content {
    pub(super) fn of(store: &Store) -> Result<Self> {
        let (set, highest_id) = store.sealed_set()?;
        let runs = set.runs().iter().filter_map(|resolved| {
            let run = resolved.run();
            // A reader can do without a run, and a push writes nothing that does not hold.
            let holds = !run.is_damaged() && run.all_pages_hold();
            holds.then(|| (Digest::of(run.index().as_bytes()), resolved.clone()))
        });
        Ok(Self {
            runs: runs.collect(),
            set,
            highest_id,
        })
    }

    /// Drops the runs that the base does not list and that do not lead to all objects of their
    /// segments. A reader would not find the others.
    pub(super) fn drop_wrong_runs(mut self, base: &Base) -> Result<Self> {
        let listed = base.listed().map(|state| &state.runs);
        let is_listed = |digest: &Digest| listed.is_some_and(|runs| runs.contains_key(digest));
        let is_right = |resolved: &ResolvedRun| {
            in_own_threads(|| resolved.leads_to_all_objects())
                .map_err(Error::io(resolved.run().path()))?
        };
        let mut wrong = Vec::new();
        for (digest, resolved) in &self.runs {
            if !is_listed(digest) && !is_right(resolved)? {
                wrong.push(*digest);
            }
        }
        self.runs.retain(|digest, _| !wrong.contains(digest));
        Ok(self)
    }

    /// Whether the store may have gone on from a state that it pushed. An id is never used again, so a store
    /// that holds other records under the same id has gone back behind that state.
    pub(super) fn may_follow(&self, pushed: &RefState) -> bool {
        self.set.sealed().iter().all(|sealed| {
            let listed = pushed.segments.get(&sealed.id());
            listed.is_none_or(|listed| listed.sealed == *sealed.binding())
        })
    }

    /// Says what a push onto the base has to do. Segments and runs that the base lists stay in their folders,
    /// and the files of the others go into `folder`. Two segments with the same records have one name.
    pub(super) fn plan(&self, base: &Base, folder: Nonce) -> Plan {
        let listed = listed(base);
        let listed_runs = base.listed().map(|state| &state.runs);
        let mut state = RefState {
            hash_function: self.set.hash_function(),
            segments: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        let mut files = BTreeMap::new();
        let mut add = |digest, kind, source| {
            let file = FolderFile {
                folder,
                digest,
                kind,
            };
            files.insert(file, source);
        };
        let mut new_segments = 0;
        for sealed in self.set.sealed() {
            let known = listed.get(&key(sealed)).copied();
            if known.is_none() {
                new_segments += 1;
                let digest = sealed.binding().sidecar_checksum;
                add(digest, RefFileKind::Data, Source::Data(Arc::clone(sealed)));
                let source = Source::Sidecar(Arc::clone(sealed));
                add(digest, RefFileKind::Sidecar, source);
            }
            let segment = RefSegment {
                sealed: *sealed.binding(),
                folder: known.unwrap_or(folder),
            };
            state.segments.insert(sealed.id(), segment);
        }
        for (digest, resolved) in &self.runs {
            let run = resolved.run();
            let known = listed_runs.and_then(|runs| runs.get(digest)).copied();
            if known.is_none() {
                let source = Source::Run(Arc::clone(run), *digest);
                add(*digest, RefFileKind::Run, source);
            }
            let bytes = run.file_bytes();
            let run = known.unwrap_or(RefRun { bytes, folder });
            state.runs.insert(*digest, run);
        }
        Plan {
            state,
            files,
            new_segments,
        }
    }
}

/// The words of a segment, without its id. They tell whether a ref has its files.
type Key = (Digest, u64, u32);

fn key(sealed: &Sealed) -> Key {
    let binding = sealed.binding();
    (
        binding.sidecar_checksum,
        binding.data_bytes,
        binding.objects,
    )
}

/// The segments that the base lists, and the folders of their files.
fn listed(base: &Base) -> BTreeMap<Key, Nonce> {
    let segments = base
        .listed()
        .into_iter()
        .flat_map(|state| state.segments.values());
    let listed = segments.map(|RefSegment { sealed, folder }| {
        let key = (sealed.sidecar_checksum, sealed.data_bytes, sealed.objects);
        (key, *folder)
    });
    listed.collect()
}
