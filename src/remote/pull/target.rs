//! The folder into which a ref is pulled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::format::{RefSegment, RefState};
use crate::dir::{Dir, FileKind, WritableFile, WriterLock, is_vacant};
use crate::engine::{finish_copy, manifest_of_copy};
use crate::error::{Error, RemoteError, Result};
use crate::format::{Manifest, SealedSegment, Sidecar};
use crate::options::Options;
use crate::segment::Data;
use crate::segment::sidecar::{check, open_sidecar, rebuild_sidecar, sidecar_fits};

/// A locked folder whose manifest lists what the ref does. Until all files are there, opening it is
/// an error that says which segment is missing.
#[derive(Clone)]
pub(super) struct Target(Arc<Inner>);

struct Inner {
    dir: Dir,
    lock: WriterLock,
    /// The id of the empty segment above all others, which is created last.
    above: Option<u32>,
    missing: BTreeMap<u32, RefSegment>,
}

impl Target {
    /// Makes the folder ready. Fails, and has changed nothing, if it holds something that the ref does not
    /// list.
    pub(super) fn prepare(root: &Path, wanted: &RefState) -> Result<Self> {
        let options = Options::new();
        let dir = if let Some(dir) = options.open_dir(root)? {
            dir
        } else {
            let not_empty = || Error::NotEmpty {
                path: root.to_owned(),
            };
            if !is_vacant(root)? {
                return Err(not_empty());
            }
            options.create_new_dir(root)?.ok_or_else(not_empty)?
        };
        let lock = dir.lock()?;
        let sealed: BTreeMap<u32, SealedSegment> = wanted
            .segments
            .iter()
            .map(|(&id, segment)| (id, segment.sealed))
            .collect();
        let (manifest, above) = manifest_of_copy(wanted.hash_function, sealed, 0);
        let emptied = require_part(&dir, root, &manifest)?;

        let mut missing = BTreeMap::new();
        for (&id, segment) in &wanted.segments {
            if !is_there(&dir, id, &segment.sealed, wanted, root)? {
                missing.insert(id, *segment);
            }
        }
        let files = missing.values().flat_map(|RefSegment { sealed, .. }| {
            let sidecar = Sidecar::<&[u8]>::encoded_bytes(sealed.objects);
            [sealed.data_bytes, sidecar]
        });
        dir.require_space(files)?;
        for id in emptied {
            dir.remove_segment(id)?;
        }
        // It comes first, so that an opening of an interrupted pull reports the missing segments.
        dir.replace_manifest(&manifest.encode())?;
        Ok(Self(Arc::new(Inner {
            dir,
            lock,
            above,
            missing,
        })))
    }

    /// The segments whose files are to be downloaded.
    pub(super) fn missing(&self) -> impl Iterator<Item = (u32, RefSegment)> {
        self.0.missing.iter().map(|(&id, &segment)| (id, segment))
    }

    /// Begins to write a data file, under a temporary name.
    pub(super) fn begin_data(&self, id: u32) -> Result<WritableFile> {
        self.0.dir.create_segment_temporary(id, FileKind::Data)
    }

    /// Makes the files of a segment durable and gives them their names.
    pub(super) fn publish(
        &self,
        id: u32,
        data: &WritableFile,
        sidecar: &Sidecar<Vec<u8>>,
    ) -> Result<()> {
        let dir = &self.0.dir;
        data.sync()?;
        dir.rename_into_place(data.path())?;
        // Syncs the folder too. Without its sidecar, the data is checked anew by the next pull.
        dir.replace_segment_file(id, FileKind::Sidecar, sidecar.as_bytes())
    }

    /// The folder of the store.
    pub(super) fn dir(&self) -> &Dir {
        &self.0.dir
    }

    /// The highest id that the store will have used.
    pub(super) fn highest_id(&self) -> u32 {
        self.0.above.unwrap_or(u32::MAX)
    }

    /// Makes the folder a store that can be opened.
    pub(super) fn finish(self) -> Result<()> {
        let Inner {
            dir, lock, above, ..
        } = &*self.0;
        finish_copy(dir, *above)?;
        lock.make_known(dir);
        Ok(())
    }
}

/// Fails unless all that the folder holds is in the manifest. Returns the segments that are empty and
/// not in it.
fn require_part(dir: &Dir, root: &Path, wanted: &Manifest) -> Result<Vec<u32>> {
    let listing = dir.list()?;
    let refuse = |reason: String| {
        let path: PathBuf = root.to_owned();
        Err(RemoteError::NotAPart { path, reason }.into())
    };
    let listed = match dir.read_manifest()?.as_deref().map(Manifest::parse) {
        Some(Ok(manifest)) => manifest,
        Some(Err(error)) => return refuse(format!("its manifest cannot be read ({error})")),
        None if listing.data.is_empty() => Manifest::default(),
        None => return refuse("it holds segments and no manifest".to_owned()),
    };
    if !listed.sealed.is_empty() && listed.hash_function != wanted.hash_function {
        return refuse("it names its objects by another hash function".to_owned());
    }
    for (id, segment) in &listed.sealed {
        if wanted.sealed.get(id) != Some(segment) {
            return refuse(format!("it lists segment {id}, which the ref does not"));
        }
    }
    if let Some(id) = listed.unsealed.keys().chain(listed.retired.keys()).next() {
        return refuse(format!(
            "its segment {id} is not sealed, or is about to be removed"
        ));
    }
    let mut empty = Vec::new();
    for id in listing.data {
        if listed.sealed.contains_key(&id) {
            continue;
        }
        match dir.data_bytes(id)? {
            Some(0) => empty.push(id),
            Some(_) => {
                return refuse(format!(
                    "it holds segment {id}, which the ref does not list"
                ));
            }
            None => {}
        }
    }
    Ok(empty)
}

/// Whether the files of a segment are there and hold. Makes a missing or damaged sidecar of data that
/// holds. Fails if the data has another length.
fn is_there(
    dir: &Dir,
    id: u32,
    sealed: &SealedSegment,
    wanted: &RefState,
    root: &Path,
) -> Result<bool> {
    match dir.data_bytes(id)? {
        None | Some(0) => return Ok(sealed.data_bytes == 0 && sidecar_fits(dir, id, sealed)?),
        Some(bytes) if bytes == sealed.data_bytes => {}
        Some(bytes) => {
            let reason = format!(
                "its segment {id} has {bytes} bytes, not {}",
                sealed.data_bytes
            );
            let path = root.to_owned();
            return Err(RemoteError::NotAPart { path, reason }.into());
        }
    }
    // It counts when all of it was checked, whoever put it there.
    let mut reading = Options::new().reading();
    reading.hash_function = wanted.hash_function;
    let data = Data::open(dir, id, reading, sealed.data_bytes)?;
    let rebuilt = rebuild_sidecar(&data, Some(sealed), data.hash_on_this_thread())?;
    if rebuilt.doubt.is_some() {
        // It has rotted, and is downloaded anew.
        return Ok(false);
    }
    if !is_sidecar_right(dir, id, sealed)? {
        dir.replace_segment_file(id, FileKind::Sidecar, rebuilt.sidecar.as_bytes())?;
    }
    Ok(true)
}

/// Whether the sidecar is there and every byte of it is right.
fn is_sidecar_right(dir: &Dir, id: u32, sealed: &SealedSegment) -> Result<bool> {
    if !sidecar_fits(dir, id, sealed)? {
        return Ok(false);
    }
    let bytes = open_sidecar(dir, id, Options::new().reading())?;
    Ok(check(bytes, sealed).is_ok())
}
