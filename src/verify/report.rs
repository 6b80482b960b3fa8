//! What a verification reports.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Problem;
use crate::digest::Digest;

/// How far [`Store::verify`](crate::Store::verify) has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Content that was checked, in bytes.
    pub bytes_done: u64,
    /// Content of the whole store, in bytes.
    pub bytes_total: u64,
    /// Objects that were checked.
    pub objects_done: u64,
}

/// The result of [`Store::verify`](crate::Store::verify).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Copies of objects that were checked.
    pub objects: u64,
    /// Their content, in bytes.
    pub bytes: u64,
    /// Copies whose content is damaged or lost, by segment and offset.
    pub corrupt: Vec<CorruptObject>,
    /// Damage that did not hit the content of an object.
    pub problems: Vec<Problem>,
    /// Files that an interrupted operation or an earlier repair left, and files that are not the
    /// store's. They are not damage: a store that has some can be [clean](Self::is_clean).
    pub leftovers: Vec<Leftover>,
    /// Whether the callback ended the verification early, so that the rest was not checked.
    pub cancelled: bool,
}

impl VerifyReport {
    /// Whether everything was checked and no damage was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.corrupt.is_empty() && self.problems.is_empty() && !self.cancelled
    }
}

/// A copy of an object whose bytes are not its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CorruptObject {
    /// The segment that holds the copy.
    pub segment: u32,
    /// Where its content begins in the segment's data file, in bytes.
    pub offset: u64,
    /// Length of its content in bytes.
    pub len: u32,
    /// The object.
    pub digest: Digest,
}

/// A file in the folder that the store does not need. `Display` says what it is and what becomes of
/// it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self")
)]
#[non_exhaustive]
pub enum Leftover {
    /// A damaged manifest that an opening kept beside the new one.
    DamagedManifest {
        /// The file.
        path: PathBuf,
    },
    /// A file that was not written to its end. A writer may still be writing it.
    Temporary {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that an opening cut off the end of a segment.
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not the store's. It is never touched.
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl Leftover {
    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::DamagedManifest { path }
            | Self::Temporary { path }
            | Self::Torn { path }
            | Self::Foreign { path } => path,
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedManifest { path } => write!(
                f,
                "{}: a damaged manifest that was kept; remove it when you no longer need it \
                 (`sealstone verify --repair --remove-leftovers`)",
                path.display()
            ),
            Self::Temporary { path } => write!(
                f,
                "{}: an interrupted operation left this file, or a writer is writing it; the next \
                 opening as a writer removes it",
                path.display()
            ),
            Self::Torn { path } => write!(
                f,
                "{}: bytes that were cut off the end of a segment; remove them when you no longer \
                 need them (`sealstone verify --repair --remove-leftovers`)",
                path.display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{}: not a file of the store, which leaves it alone; move it away",
                path.display()
            ),
        }
    }
}

/// A leftover in its serialized form: for a reader its path and its sentence, which stay when variants are
/// added, and for a program the leftover itself.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Leftover")]
struct Serialized {
    path: PathBuf,
    what: String,
    #[serde(with = "Leftover")]
    kind: Leftover,
}

#[cfg(feature = "serde")]
impl serde::Serialize for Leftover {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Serialized {
            path: self.path().to_owned(),
            what: self.to_string(),
            kind: self.clone(),
        };
        form.serialize(serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Leftover {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Serialized::deserialize(deserializer).map(|form| form.kind)
    }
}
