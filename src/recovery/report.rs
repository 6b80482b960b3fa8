//! What was found and repaired when a store was opened.

use std::fmt;
use std::path::PathBuf;

/// What was repaired when the store was opened, in order. Empty after a clean close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The single repairs. `Display` tells each in a sentence.
    pub repairs: Vec<Repair>,
}

impl RecoveryReport {
    /// Whether nothing had to be repaired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.repairs.is_empty()
    }

    pub(crate) fn push(&mut self, repair: Repair) {
        #[cfg(feature = "tracing")]
        tracing::warn!(%repair, "recovery");
        self.repairs.push(repair);
    }
}

/// Something that was not as a clean close leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Repair {
    /// A temporary of an interrupted operation was removed.
    RemovedTemporary {
        /// The file.
        path: PathBuf,
    },
    /// A run of the set index is damaged and was removed; it is derived and made anew when it is
    /// needed.
    RemovedSetIndex {
        /// The number in its file's name.
        number: u32,
    },
    /// A removal that a crash had interrupted was finished.
    RemovedRetired {
        /// The segment that the manifest said is retired.
        segment: u32,
    },
    /// The manifest is damaged. Everything that was found is used, nothing is removed.
    IgnoredManifest {
        /// What is wrong with it.
        reason: String,
    },
    /// The damaged manifest was kept beside the new one.
    KeptManifest {
        /// The file.
        path: PathBuf,
    },
    /// A segment that no manifest knew was taken over together with its sidecar.
    AdoptedSegment {
        /// The segment.
        segment: u32,
        /// Number of its objects.
        objects: u64,
    },
    /// Another program, as NEDB v3, has appended to a segment that was sealed. What it appended was
    /// taken over.
    AdoptedTail {
        /// The segment.
        segment: u32,
        /// Number of the objects that were appended.
        objects: u64,
    },
    /// The manifest says that the segment is retired, but its file is not the one that the manifest
    /// means, or not everything that the manifest lists is there. It was taken over as data: objects
    /// that were dropped can be found again.
    KeptRetired {
        /// The segment.
        segment: u32,
    },
    /// A data file that was being written was taken over as data, since not everything that the manifest
    /// lists is there.
    KeptTemporary {
        /// The segment.
        segment: u32,
    },
    /// A sidecar was missing or damaged and was made anew, to the bit as it had been.
    RebuiltSidecar {
        /// The segment.
        segment: u32,
    },
    /// The journal of a segment is damaged and was made anew from the data. What was not marked as synced
    /// in the part that holds was read and hashed.
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
        /// Where they were saved; nowhere if they were all zero. Of a put of ours that was interrupted
        /// the first 64 KiB are saved.
        saved_as: Option<PathBuf>,
    },
    /// The front part of one record that a crash had left half-written was cut off, and there was no
    /// room to save it.
    UnsavedTail {
        /// The segment.
        segment: u32,
        /// How many bytes.
        bytes: u64,
        /// Why they were not saved.
        reason: String,
    },
    /// The end of a segment is not what was written, and there was no room to save it, so it was not cut
    /// off. Nothing more is appended to the segment.
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
        /// What was found.
        reason: String,
    },
    /// The data file of a sealed segment is missing, and the options allow that.
    MissingSegment {
        /// The segment.
        segment: u32,
    },
    /// A segment that the manifest lists is gone, and another program has written the store since: it has
    /// compacted it. The manifest no longer lists the segment.
    GoneSegment {
        /// The segment.
        segment: u32,
        /// How many objects it held; unknown if it was not sealed.
        objects: Option<u32>,
    },
    /// A file has a name of ours but holds no record. It was left alone.
    IgnoredFile {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Repair {
    #[expect(clippy::too_many_lines, reason = "there is a sentence for each repair")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovedTemporary { path } => {
                write!(
                    f,
                    "removed {}, left by an interrupted operation",
                    path.display()
                )
            }
            Self::RemovedRetired { segment } => {
                write!(
                    f,
                    "removed segment {segment}, which a compaction had replaced"
                )
            }
            Self::RemovedSetIndex { number } => {
                write!(
                    f,
                    "removed run {number} of the set index, which was damaged; it is made anew when it is needed"
                )
            }
            Self::IgnoredManifest { reason } => write!(
                f,
                "the manifest is damaged ({reason}), every segment that was found is used"
            ),
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
                saved_as: Some(path),
            } => write!(
                f,
                "cut {bytes} half-written bytes off segment {segment}, saved as {}",
                path.display()
            ),
            Self::CutTail {
                segment,
                bytes,
                saved_as: None,
            } => write!(f, "cut {bytes} zero bytes off segment {segment}"),
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
                "left {bytes} bytes at the end of segment {segment} that are not what was written, since they could not be saved: {reason}"
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
                write!(f, "segment {segment} is missing, its objects are not found")
            }
            Self::GoneSegment {
                segment,
                objects: Some(objects),
            } => write!(
                f,
                "segment {segment} with {objects} objects is gone: another program has compacted the store since; restore the segment from a backup if it was not meant to"
            ),
            Self::GoneSegment {
                segment,
                objects: None,
            } => write!(
                f,
                "segment {segment} is gone: another program has compacted the store since; restore the segment from a backup if it was not meant to"
            ),
            Self::IgnoredFile { path } => {
                write!(f, "{} holds no record and was left alone", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each repair with what its sentence has to say: which file, how much, and what to do.
    #[expect(clippy::too_many_lines, reason = "there is a sentence for each repair")]
    fn sentences() -> Vec<(Repair, &'static [&'static str])> {
        let path = PathBuf::from("folder/seg-000007.torn");
        let segment = 7;
        vec![
            (
                Repair::RemovedTemporary { path: path.clone() },
                &["folder/seg-000007.torn", "removed"],
            ),
            (
                Repair::RemovedSetIndex { number: 7 },
                &["run 7", "damaged", "made anew"],
            ),
            (
                Repair::RemovedRetired { segment },
                &["segment 7", "removed"],
            ),
            (
                Repair::IgnoredManifest {
                    reason: "line 3".to_owned(),
                },
                &["manifest", "line 3"],
            ),
            (
                Repair::AdoptedSegment {
                    segment,
                    objects: 12,
                },
                &["segment 7", "12 objects"],
            ),
            (
                Repair::RebuiltSidecar { segment },
                &["segment 7", "rebuilt"],
            ),
            (
                Repair::DamagedJournal { segment },
                &["journal", "segment 7", "damaged"],
            ),
            (
                Repair::RehashedTail { segment, bytes: 34 },
                &["segment 7", "34 bytes", "not marked as synced"],
            ),
            (
                Repair::CutTail {
                    segment,
                    bytes: 56,
                    saved_as: Some(path.clone()),
                },
                &[
                    "segment 7",
                    "56 half-written bytes",
                    "folder/seg-000007.torn",
                ],
            ),
            (
                Repair::CutTail {
                    segment,
                    bytes: 56,
                    saved_as: None,
                },
                &["segment 7", "56 zero bytes"],
            ),
            (
                Repair::ShortData {
                    segment,
                    missing_bytes: 78,
                },
                &["segment 7", "78 bytes", "`verify`", "backup"],
            ),
            (
                Repair::DamagedSegment {
                    segment,
                    reason: "a gap".to_owned(),
                },
                &["segment 7", "a gap", "backup"],
            ),
            (
                Repair::MissingSegment { segment },
                &["segment 7", "missing", "not found"],
            ),
            (
                Repair::GoneSegment {
                    segment,
                    objects: Some(12),
                },
                &[
                    "segment 7",
                    "12 objects",
                    "gone",
                    "another program",
                    "backup",
                ],
            ),
            (
                Repair::GoneSegment {
                    segment,
                    objects: None,
                },
                &["segment 7", "gone", "another program", "backup"],
            ),
            (
                Repair::KeptManifest { path: path.clone() },
                &["kept", "folder/seg-000007.torn"],
            ),
            (
                Repair::AdoptedTail {
                    segment,
                    objects: 12,
                },
                &["segment 7", "12 objects", "appended"],
            ),
            (
                Repair::KeptRetired { segment },
                &["segment 7", "kept", "dropped", "compaction"],
            ),
            (
                Repair::KeptTemporary { segment },
                &["segment 7", "took over"],
            ),
            (
                Repair::UnsavedTail {
                    segment,
                    bytes: 56,
                    reason: "no room".to_owned(),
                },
                &["segment 7", "56 bytes", "without saving", "no room"],
            ),
            (
                Repair::UncutTail {
                    segment,
                    bytes: 56,
                    reason: "no room".to_owned(),
                },
                &["segment 7", "56 bytes", "left", "no room"],
            ),
            (
                Repair::IgnoredFile { path },
                &["folder/seg-000007.torn", "left alone"],
            ),
        ]
    }

    #[test]
    fn a_report_is_clean_until_something_was_repaired() {
        let mut report = RecoveryReport::default();
        assert!(report.is_clean());
        report.push(Repair::MissingSegment { segment: 7 });
        assert!(!report.is_clean());
    }

    #[test]
    fn each_repair_says_what_was_found_and_where() {
        for (repair, parts) in sentences() {
            let sentence = repair.to_string();
            for part in parts {
                assert!(sentence.contains(part), "{sentence:?} lacks {part:?}");
            }
        }
    }
}
