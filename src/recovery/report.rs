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
    /// A segment that no manifest knew was taken over together with its sidecar.
    AdoptedSegment {
        /// The segment.
        segment: u32,
        /// Number of its objects.
        objects: u64,
    },
    /// A sidecar was missing or damaged and was made anew, to the bit as it had been.
    RebuiltSidecar {
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
        /// Where they were saved; nowhere if they were all zero.
        saved_as: Option<PathBuf>,
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
    /// A file has a name of ours but holds no record. It was left alone.
    IgnoredFile {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Repair {
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
            Self::AdoptedSegment { segment, objects } => {
                write!(f, "took over segment {segment} with {objects} objects")
            }
            Self::RebuiltSidecar { segment } => {
                write!(f, "rebuilt the index of segment {segment} from its data")
            }
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
