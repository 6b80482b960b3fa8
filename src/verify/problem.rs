//! What can be wrong in a store besides the content of its objects.

use std::fmt;

/// Damage that did not hit the content of an object. `Display` says where it is, what is wrong, and
/// what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self")
)]
#[non_exhaustive]
pub enum Problem {
    /// The manifest is damaged.
    DamagedManifest {
        /// What is wrong with it.
        reason: String,
    },
    /// There is no manifest, although the store had one.
    MissingManifest,
    /// The data file of a segment is missing.
    MissingData {
        /// The segment.
        segment: u32,
    },
    /// The data file of an unsealed segment is shorter than it was when it was synced.
    ShortData {
        /// The segment.
        segment: u32,
    },
    /// The data file of a sealed segment does not have the length that it was sealed with.
    WrongDataLength {
        /// The segment.
        segment: u32,
        /// Length of the file, in bytes.
        found_bytes: u64,
        /// Length that the manifest says, in bytes.
        expected_bytes: u64,
    },
    /// The length that stands before a content is damaged. The content is whole and can be read.
    DamagedRecordLength {
        /// The segment.
        segment: u32,
        /// Where the content begins in the segment's data file, in bytes.
        offset: u64,
    },
    /// The index of a segment may lack objects.
    IncompleteIndex {
        /// The segment.
        segment: u32,
        /// Why it may lack some.
        reason: String,
    },
    /// The sidecar of a segment is damaged.
    DamagedSidecar {
        /// The segment.
        segment: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A damaged sidecar could not be replaced.
    UnwrittenSidecar {
        /// The segment.
        segment: u32,
        /// Why not.
        reason: String,
    },
    /// A segment has an index or a journal, and no data file.
    OrphanedIndex {
        /// The segment.
        segment: u32,
    },
    /// The journal of an unsealed segment is damaged.
    DamagedJournal {
        /// The segment.
        segment: u32,
    },
    /// The manifest does not list a segment that holds objects.
    UnlistedSegment {
        /// The segment.
        segment: u32,
    },
    /// A run of the set index is damaged. Runs are derived and not synced: a crash can leave a run
    /// damaged, and nothing is lost by that.
    DamagedRun {
        /// The number in the name of its file.
        run: u32,
    },
}

impl Problem {
    /// Returns the segment that has the problem. `None` if a run has it, or the store as a whole.
    #[must_use]
    pub const fn segment(&self) -> Option<u32> {
        match *self {
            Self::DamagedManifest { .. } | Self::MissingManifest | Self::DamagedRun { .. } => None,
            Self::MissingData { segment }
            | Self::ShortData { segment }
            | Self::WrongDataLength { segment, .. }
            | Self::DamagedRecordLength { segment, .. }
            | Self::IncompleteIndex { segment, .. }
            | Self::DamagedSidecar { segment, .. }
            | Self::UnwrittenSidecar { segment, .. }
            | Self::OrphanedIndex { segment }
            | Self::DamagedJournal { segment }
            | Self::UnlistedSegment { segment } => Some(segment),
        }
    }

    /// Returns the run of the set index that has the problem, if it is one.
    #[must_use]
    pub const fn run(&self) -> Option<u32> {
        match *self {
            Self::DamagedRun { run } => Some(run),
            _ => None,
        }
    }

    /// Says what is wrong and what to do about it, without the name of the segment.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::DamagedManifest { reason } => format!(
                "the manifest is damaged ({reason}); open the store as a writer to replace it"
            ),
            Self::MissingManifest => {
                "the manifest is missing, so the store cannot know whether segments are missing \
                 too; open it as a writer, which makes a new manifest from the files"
                    .to_owned()
            }
            Self::MissingData { .. } => {
                "the data file is missing; restore it from a backup".to_owned()
            }
            Self::ShortData { .. } => {
                "the data file is shorter than when it was synced; restore it from a \
                 backup"
                    .to_owned()
            }
            Self::WrongDataLength {
                found_bytes,
                expected_bytes,
                ..
            } => format!(
                "the data file has {found_bytes} bytes instead of {expected_bytes}; restore it \
                 from a backup"
            ),
            Self::DamagedRecordLength { offset, .. } => format!(
                "the length of the record at offset {offset} is damaged; nothing is lost, since \
                 its content is whole and can be read; put the content again, and compact"
            ),
            Self::IncompleteIndex { reason, .. } => format!(
                "objects may be missing from the index: {reason}; restore the segment's files \
                 from a backup"
            ),
            Self::DamagedSidecar { reason, .. } => format!(
                "the sidecar is damaged ({reason}); verify through a handle that can write \
                 (`sealstone verify --repair`), which writes it again"
            ),
            Self::UnwrittenSidecar { reason, .. } => format!(
                "the sidecar could not be written again: {reason}; mend the cause and verify again"
            ),
            Self::OrphanedIndex { .. } => {
                "there is an index or a journal and no data file; restore the data file from a \
                 backup, or remove these files if you removed the segment on purpose"
                    .to_owned()
            }
            Self::DamagedJournal { .. } => {
                "the journal is damaged, so the store cannot know what was synced; open it as a \
                 writer, which makes a new journal from the data"
                    .to_owned()
            }
            Self::UnlistedSegment { .. } => {
                "the manifest does not list this segment: the manifest is older, or another \
                 program wrote the segment, so the store cannot know whether there were others; \
                 open it as a writer to take over the segment"
                    .to_owned()
            }
            Self::DamagedRun { run } => format!(
                "run {run} of the set index is damaged; nothing is lost, and a handle that can \
                 write replaces it"
            ),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(segment) = self.segment() {
            write!(f, "segment {segment}: ")?;
        }
        f.write_str(&self.what())
    }
}

/// A problem in its serialized form: for a reader its segment, its run and its sentence, which stay when
/// variants are added, and for a program the problem itself.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Problem")]
struct Serialized {
    segment: Option<u32>,
    run: Option<u32>,
    what: String,
    #[serde(with = "Problem")]
    kind: Problem,
}

#[cfg(feature = "serde")]
impl serde::Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Serialized {
            segment: self.segment(),
            run: self.run(),
            what: self.what(),
            kind: self.clone(),
        };
        form.serialize(serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Problem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Serialized::deserialize(deserializer).map(|form| form.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_segment_once_and_ends_with_the_remedy() {
        let short = Problem::ShortData { segment: 7 };
        assert_eq!(
            short.to_string(),
            "segment 7: the data file is shorter than when it was synced; restore it from a backup"
        );
        assert_eq!((short.segment(), short.run()), (Some(7), None));
        let run = Problem::DamagedRun { run: 3 };
        assert_eq!(run.to_string(), run.what());
        assert_eq!((run.segment(), run.run()), (None, Some(3)));
    }
}
