//! The names of our files.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::{FilePath, Folder};

/// The folder below the root that holds all files.
pub(super) const SEGMENTS: &str = "segments";
pub(super) const MANIFEST: &str = "MANIFEST";
/// Suffix of the name of a damaged manifest that is kept. From the second one on a number follows.
pub(super) const DAMAGED: &str = ".damaged";
/// The file in which the store keeps its knowledge of the refs in object stores that it pushes to.
pub(super) const REMOTE: &str = "REMOTE";
pub(super) const LOCK: &str = "LOCK";
pub(super) const TEMPORARY: &str = ".tmp";

/// The files of a segment. `Torn` holds bytes that recovery cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Data,
    Sidecar,
    Journal,
    Torn,
}

impl FileKind {
    const ALL: [Self; 4] = [Self::Data, Self::Sidecar, Self::Journal, Self::Torn];

    /// The files that go with a segment when it is removed, in that order.
    pub(super) const OF_SEGMENT: [Self; 3] = [Self::Data, Self::Sidecar, Self::Journal];

    const fn extension(self) -> &'static str {
        match self {
            Self::Data => "dat",
            Self::Sidecar => "idx",
            Self::Journal => "jnl",
            Self::Torn => "torn",
        }
    }
}

pub(super) fn segment_file_name(id: u32, kind: FileKind) -> String {
    format!("seg-{id:06}.{}", kind.extension())
}

/// Returns the segment and the kind of file that a name stands for, if the name is spelled exactly
/// as we spell it.
pub(super) fn parse_segment_file_name(name: &str) -> Option<(u32, FileKind)> {
    let (digits, extension) = name.strip_prefix("seg-")?.split_once('.')?;
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    let id = digits.parse().ok()?;
    (segment_file_name(id, kind) == name).then_some((id, kind))
}

pub(super) fn set_index_file_name(number: u32) -> String {
    format!("set-{number:06}.run")
}

/// Returns the number of the run that a name stands for, if the name is spelled exactly as we spell
/// it.
pub(super) fn parse_set_index_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("set-")?.strip_suffix(".run")?;
    let number = digits.parse().ok()?;
    (set_index_file_name(number) == name).then_some(number)
}

/// The file that a temporary would have become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemporaryOf {
    Manifest,
    Remote,
    SetIndex,
    Segment(u32, FileKind),
}

/// Returns the file that a temporary of ours would have become; `None` for the name of another
/// file.
pub(super) fn parse_temporary_name(name: &str) -> Option<TemporaryOf> {
    let name = name.strip_suffix(TEMPORARY)?;
    if name == MANIFEST {
        return Some(TemporaryOf::Manifest);
    }
    if name == REMOTE {
        return Some(TemporaryOf::Remote);
    }
    if parse_set_index_file_name(name).is_some() {
        return Some(TemporaryOf::SetIndex);
    }
    let (id, kind) = parse_segment_file_name(name)?;
    Some(TemporaryOf::Segment(id, kind))
}

/// Whether a file is a damaged manifest that was kept.
fn is_damaged_manifest_name(name: &str) -> bool {
    let suffix = name
        .strip_prefix(MANIFEST)
        .and_then(|rest| rest.strip_prefix(DAMAGED));
    suffix.is_some_and(|suffix| {
        let number = suffix.strip_prefix('-');
        suffix.is_empty() || number.is_some_and(|number| number.parse::<u64>().is_ok())
    })
}

/// A file that was being written, or still is.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) path: FilePath,
    pub(crate) of: TemporaryOf,
}

/// The files that the folder holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) data: BTreeSet<u32>,
    pub(crate) sidecars: BTreeSet<u32>,
    pub(crate) journals: BTreeSet<u32>,
    pub(crate) torn: BTreeSet<u32>,
    /// Runs of the set index.
    pub(crate) set_indexes: BTreeSet<u32>,
    pub(crate) temporaries: Vec<Temporary>,
    /// Damaged manifests that were kept.
    pub(crate) damaged_manifests: Vec<FilePath>,
    /// Names that are not ours. These files are left alone.
    pub(crate) foreign: Vec<OsString>,
}

impl Listing {
    /// Adds a file of the folder.
    pub(super) fn add(&mut self, name: OsString, folder: &Folder) {
        match name.to_str() {
            Some(ours) if self.add_ours(ours, folder) => {}
            _ => self.foreign.push(name),
        }
    }

    /// Adds a file if it is one of ours, and returns whether it is.
    fn add_ours(&mut self, name: &str, folder: &Folder) -> bool {
        if let Some(of) = parse_temporary_name(name) {
            let path = folder.file(name);
            self.temporaries.push(Temporary { path, of });
        } else if let Some(number) = parse_set_index_file_name(name) {
            self.set_indexes.insert(number);
        } else if let Some((id, kind)) = parse_segment_file_name(name) {
            let ids = match kind {
                FileKind::Data => &mut self.data,
                FileKind::Sidecar => &mut self.sidecars,
                FileKind::Journal => &mut self.journals,
                FileKind::Torn => &mut self.torn,
            };
            ids.insert(id);
        } else if is_damaged_manifest_name(name) {
            self.damaged_manifests.push(folder.file(name));
        } else {
            return [MANIFEST, LOCK, REMOTE].contains(&name);
        }
        true
    }

    /// Returns the highest id in the name of any file, temporaries included.
    pub(crate) fn highest_id(&self) -> Option<u32> {
        let of_temporaries = self.temporaries.iter().filter_map(|file| match file.of {
            TemporaryOf::Segment(id, _) => Some(id),
            TemporaryOf::Manifest | TemporaryOf::Remote | TemporaryOf::SetIndex => None,
        });
        [&self.data, &self.sidecars, &self.journals, &self.torn]
            .into_iter()
            .filter_map(|ids| ids.last().copied())
            .chain(of_temporaries)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h25_only_our_own_spelling_is_ours() {
        for (name, id, kind) in [
            ("seg-000007.dat", 7, FileKind::Data),
            ("seg-4294967295.idx", u32::MAX, FileKind::Sidecar),
            ("seg-000000.jnl", 0, FileKind::Journal),
            ("seg-1234567.torn", 1_234_567, FileKind::Torn),
        ] {
            assert_eq!(parse_segment_file_name(name), Some((id, kind)));
        }
        for name in [
            "seg-7.dat",
            "seg-+5.dat",
            "seg-+00005.dat",
            "seg-0000007.dat",
            "seg-4294967296.dat",
            "seg-000007.DAT",
            "seg-000007.dat.bak",
            "seg-000007",
            "seg-.dat",
            " seg-000007.dat",
            "set-000007.run",
        ] {
            assert_eq!(parse_segment_file_name(name), None, "{name}");
        }
        assert_eq!(parse_set_index_file_name("set-000007.run"), Some(7));
        for name in ["set-7.run", "set-+00007.run", "set-000007.dat", "set.idx"] {
            assert_eq!(parse_set_index_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn only_our_own_names_are_temporaries_and_kept_manifests() {
        for (name, of) in [
            ("MANIFEST.tmp", TemporaryOf::Manifest),
            ("REMOTE.tmp", TemporaryOf::Remote),
            (
                "seg-000001.idx.tmp",
                TemporaryOf::Segment(1, FileKind::Sidecar),
            ),
            ("set-000001.run.tmp", TemporaryOf::SetIndex),
        ] {
            assert_eq!(parse_temporary_name(name), Some(of), "{name}");
        }
        for name in ["MANIFEST.damaged", "MANIFEST.damaged-2"] {
            assert!(is_damaged_manifest_name(name), "{name}");
        }
        for name in ["MANIFEST", "MANIFEST.damaged-", "MANIFEST.damaged2"] {
            assert!(!is_damaged_manifest_name(name), "{name}");
        }
        for name in ["notes.tmp", "LOCK.tmp", "seg-1.dat.tmp", "MANIFEST"] {
            assert_eq!(parse_temporary_name(name), None, "{name}");
        }
    }
}
