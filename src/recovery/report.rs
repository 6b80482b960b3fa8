//! The report on what was repaired when a store was opened.

use std::fmt;
use std::path::{Path, PathBuf};

/// The repairs of an opening, in order. Empty after a clean close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The repairs. `Display` says each in a sentence.
    pub repairs: Vec<Repair>,
}

impl RecoveryReport {
    /// Whether nothing had to be repaired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.repairs.is_empty()
    }

    /// The files that this opening has kept, and that nothing reads.
    pub(crate) fn kept_files(&self) -> impl Iterator<Item = &Path> {
        self.repairs.iter().filter_map(|repair| match repair {
            Repair::KeptManifest { path }
            | Repair::CutTail {
                saved_as: Some(path),
                ..
            } => Some(&**path),
            _ => None,
        })
    }

    pub(crate) fn push(&mut self, repair: Repair) {
        #[cfg(feature = "tracing")]
        tracing::warn!(%repair, "recovery");
        self.repairs.push(repair);
    }
}

/// A repair, or damage that could not be repaired: something that a clean close does not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Repair {
    /// A temporary of an interrupted operation was removed.
    RemovedTemporary {
        /// The file.
        path: PathBuf,
    },
    /// A damaged run of the set index was removed. It is derived, and made anew when it is needed.
    RemovedSetIndex {
        /// The number in its file's name.
        number: u32,
    },
    /// A removal that a crash had interrupted was finished.
    RemovedRetired {
        /// The segment, which the manifest called retired.
        segment: u32,
    },
    /// The manifest is damaged. Everything that was found is used, and nothing is removed.
    IgnoredManifest {
        /// What is wrong with it.
        reason: String,
    },
    /// The damaged manifest was kept beside the new one.
    KeptManifest {
        /// The file.
        path: PathBuf,
    },
    /// A segment that the manifest did not list was taken over together with its sidecar.
    AdoptedSegment {
        /// The segment.
        segment: u32,
        /// Number of its objects.
        objects: u64,
    },
    /// Another program, such as NEDB v3, has appended to a sealed segment. The appended records
    /// were taken over.
    AdoptedTail {
        /// The segment.
        segment: u32,
        /// Number of the objects that were appended.
        objects: u64,
    },
    /// The manifest calls the segment retired, but its file is not the one that the manifest means,
    /// or a file that the manifest lists is missing. The segment was taken over as data: objects
    /// that were dropped can be found again.
    KeptRetired {
        /// The segment.
        segment: u32,
    },
    /// A data file that was not written to its end was taken over as data, since a file that the
    /// manifest lists is missing.
    KeptTemporary {
        /// The segment.
        segment: u32,
    },
    /// A sidecar was missing or damaged and was made anew, exactly as it had been.
    RebuiltSidecar {
        /// The segment.
        segment: u32,
    },
    /// The journal of a segment was damaged and was made anew from the data. Records that the valid
    /// part of the journal did not mark as synced were read and hashed.
    DamagedJournal {
        /// The segment.
        segment: u32,
    },
    /// Records that were not marked as synced were read and hashed.
    RehashedTail {
        /// The segment.
        segment: u32,
        /// How many bytes.
        bytes: u64,
    },
    /// The end of a segment that a crash had left half-written was cut off.
    CutTail {
        /// The segment.
        segment: u32,
        /// How many bytes.
        bytes: u64,
        /// The file in which they were saved; `None` if they were all zero. If they are the
        /// beginning of a put that was interrupted, only the first 64 KiB are saved.
        saved_as: Option<PathBuf>,
    },
    /// The front part of one record that a crash had left half-written was cut off. There was no
    /// room to save it.
    UnsavedTail {
        /// The segment.
        segment: u32,
        /// How many bytes.
        bytes: u64,
        /// Why they were not saved.
        reason: String,
    },
    /// The end of a segment has other bytes than were written. There was no room to save them, so
    /// they were not cut off, and nothing more is appended to the segment.
    UncutTail {
        /// The segment.
        segment: u32,
        /// How many bytes.
        bytes: u64,
        /// Why they were not saved.
        reason: String,
    },
    /// A data file is shorter than it was when it was synced. Reading a lost object is
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    ShortData {
        /// The segment.
        segment: u32,
        /// How many bytes are missing.
        missing_bytes: u64,
    },
    /// Sidecar and data of a segment are both damaged; nothing was changed.
    DamagedSegment {
        /// The segment.
        segment: u32,
        /// The damage that was found in the index.
        reason: String,
    },
    /// The data file of a segment is missing, and the options allow that.
    MissingSegment {
        /// The segment.
        segment: u32,
    },
    /// A segment that the manifest listed is gone, since another program has compacted the store.
    /// The manifest no longer lists it.
    GoneSegment {
        /// The segment.
        segment: u32,
        /// How many objects it held; `None` if it was not sealed.
        objects: Option<u32>,
    },
    /// A file has one of our names but holds no record. It was left alone.
    IgnoredFile {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovedTemporary { path } => {
                let path = path.display();
                write!(f, "removed {path}, left by an interrupted operation")
            }
            Self::RemovedRetired { segment } => {
                write!(
                    f,
                    "removed segment {segment}, which a compaction had replaced"
                )
            }
            Self::RemovedSetIndex { number } => write!(
                f,
                "removed run {number} of the set index, which was damaged; it is made anew when it is needed"
            ),
            Self::IgnoredManifest { reason } => {
                write!(
                    f,
                    "the manifest is damaged ({reason}), so every segment that was found is used"
                )
            }
            Self::KeptManifest { path } => {
                write!(f, "kept the damaged manifest as {}", path.display())
            }
            Self::AdoptedTail { segment, objects } => write!(
                f,
                "took over {objects} objects that another program had appended to segment {segment}"
            ),
            Self::KeptRetired { segment } => write!(
                f,
                "kept segment {segment}, which the manifest calls retired, since manifest and files do not fit; objects that were dropped can be found again until the next compaction"
            ),
            Self::KeptTemporary { segment } => write!(
                f,
                "took over what was written of segment {segment}, since manifest and files do not fit"
            ),
            Self::AdoptedSegment { segment, objects } => {
                write!(f, "took over segment {segment} with {objects} objects")
            }
            Self::RebuiltSidecar { segment } => {
                write!(f, "rebuilt the index of segment {segment} from its data")
            }
            Self::DamagedJournal { segment } => write!(
                f,
                "the journal of segment {segment} was damaged and was made anew from the data"
            ),
            Self::RehashedTail { segment, bytes } => write!(
                f,
                "read and hashed {bytes} bytes of segment {segment} that were not marked as synced"
            ),
            Self::CutTail {
                segment,
                bytes,
                saved_as,
            } => fmt_cut_tail(f, *segment, *bytes, saved_as.as_deref()),
            Self::UnsavedTail {
                segment,
                bytes,
                reason,
            } => write!(
                f,
                "cut {bytes} bytes of one half-written record off segment {segment} without saving them: {reason}"
            ),
            Self::UncutTail {
                segment,
                bytes,
                reason,
            } => write!(
                f,
                "left {bytes} bytes at the end of segment {segment} that are not the bytes that were written, since they could not be saved: {reason}"
            ),
            Self::ShortData {
                segment,
                missing_bytes,
            } => write!(
                f,
                "segment {segment} lacks its last {missing_bytes} bytes; run `verify` to see which objects are lost, and restore the file from a backup"
            ),
            Self::DamagedSegment { segment, reason } => write!(
                f,
                "the index of segment {segment} is damaged: {reason}; restore the segment's files from a backup"
            ),
            Self::MissingSegment { segment } => {
                write!(
                    f,
                    "segment {segment} is missing, so its objects are not found"
                )
            }
            Self::GoneSegment { segment, objects } => fmt_gone_segment(f, *segment, *objects),
            Self::IgnoredFile { path } => {
                write!(f, "{} holds no record and was left alone", path.display())
            }
        }
    }
}

fn fmt_cut_tail(
    f: &mut fmt::Formatter<'_>,
    segment: u32,
    bytes: u64,
    saved_as: Option<&Path>,
) -> fmt::Result {
    match saved_as {
        Some(path) => write!(
            f,
            "cut {bytes} half-written bytes off segment {segment}, saved as {}",
            path.display()
        ),
        None => write!(f, "cut {bytes} zero bytes off segment {segment}"),
    }
}

fn fmt_gone_segment(f: &mut fmt::Formatter<'_>, segment: u32, objects: Option<u32>) -> fmt::Result {
    write!(f, "segment {segment}")?;
    if let Some(objects) = objects {
        write!(f, " with {objects} objects")?;
    }
    f.write_str(
        " is gone: another program has compacted the store since; restore the segment from a backup \
         if it should not have done so",
    )
}

#[cfg(test)]
mod tests;
