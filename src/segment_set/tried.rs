//! The records that one lookup has hashed in vain.

use std::collections::BTreeMap;

use super::ObjectCopy;
use crate::format::record;

/// The records that a lookup has hashed, none of which is the object that it looks for. However
/// many entries and locations lead to a record, it is hashed once: otherwise somebody who forges an
/// index would choose how long a lookup takes.
///
/// The entries of a sidecar or a journal do not overlap, so an entry is hashed unless that very
/// record was. The locations of a run can lead anywhere; of records that overlap, one is hashed.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// The end of a record by its segment and its beginning.
    ends: BTreeMap<(u32, u64), u64>,
}

impl Tried {
    /// Notes that this copy was hashed in vain.
    pub(super) fn insert(&mut self, copy: &ObjectCopy<'_>) {
        let entry = copy.entry();
        self.insert_record(copy.segment_id(), entry.offset, entry.len as usize);
    }

    /// Notes that this record was hashed in vain. `offset` and `len` are those of the content.
    pub(super) fn insert_record(&mut self, segment: u32, offset: u64, len: usize) {
        let end = offset.saturating_add(len as u64);
        self.ends.insert((segment, begin_of(offset)), end);
    }

    /// Whether this very copy was hashed.
    pub(super) fn has(&self, copy: &ObjectCopy<'_>) -> bool {
        let entry = copy.entry();
        self.contains(copy.segment_id(), entry.offset, entry.len as usize)
    }

    fn contains(&self, segment: u32, offset: u64, len: usize) -> bool {
        let end = self.ends.get(&(segment, begin_of(offset)));
        end == Some(&offset.saturating_add(len as u64))
    }

    /// Whether a byte of this record was hashed.
    pub(super) fn overlaps(&self, segment: u32, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64);
        let before = self.ends.range((segment, 0)..(segment, end)).next_back();
        before.is_some_and(|(_, &before_end)| before_end > begin_of(offset))
    }
}

/// Where a record begins, header included, so that the empty object's record has bytes too.
const fn begin_of(offset: u64) -> u64 {
    offset.saturating_sub(record::HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use tempfile::TempDir;

    use crate::digest::Digest;
    use crate::digest::work::hashed_bytes;
    use crate::dir::{Dir, FileKind};
    use crate::error::{Error, Result};
    use crate::format::{Entry, Manifest, Sidecar};
    use crate::options::{Options, ReadMode, VerifyReads};
    use crate::segment::Sealed;
    use crate::segment::sidecar::binding_of;
    use crate::{Store, indexing};

    use super::*;

    #[test]
    fn hashed_records_are_known_to_the_byte() {
        let mut tried = Tried::default();
        assert!(!tried.overlaps(1, 104, 10) && !tried.contains(1, 104, 10));
        tried.insert_record(1, 104, 10);
        tried.insert_record(1, 204, 0);
        assert!(tried.contains(1, 104, 10) && !tried.contains(1, 104, 9));
        for (offset, len, overlaps) in [
            (90, 10, false),
            (90, 11, true),
            (104, 0, true),
            (104, 10, true),
            (108, 1, true),
            (117, 500, true),
            (118, 82, false),
            (118, 83, true),
            (204, 0, true),
            (208, 9, false),
            (4, usize::MAX, true),
        ] {
            assert_eq!(tried.overlaps(1, offset, len), overlaps, "{offset} {len}");
            assert!(!tried.overlaps(0, offset, len) && !tried.overlaps(2, offset, len));
        }
    }

    // --- The bytes that a lookup hashes are bounded, however indexes are forged or damaged ---

    const CONTENT_BYTES: u32 = 64 << 10;
    const FORGED_ENTRIES: u32 = 400;
    const SEGMENT: u32 = 0;

    /// A content in which any aligned four bytes can be taken for the length of a record.
    fn content() -> Vec<u8> {
        (CONTENT_BYTES / 4)
            .to_le_bytes()
            .repeat(CONTENT_BYTES as usize / 4)
    }

    /// A digest that no content has.
    const ABSENT: [u8; 32] = [7; 32];

    /// Options for every way of reading. Nothing is indexed in the background, so that no other run
    /// is built.
    fn all_options() -> impl Iterator<Item = Options> {
        let modes = [ReadMode::Mmap, ReadMode::Pread];
        let modes = modes.into_iter().flat_map(|mode| {
            let verifies = [VerifyReads::EveryRead, VerifyReads::FirstRead].into_iter();
            verifies.map(move |verify| (mode, verify))
        });
        modes.map(|(mode, verify)| {
            let options = Options::new().set_index_minimum(usize::MAX, u64::MAX);
            options.read_mode(mode).verify_reads(verify)
        })
    }

    /// A store of one sealed segment that holds `contents`, and its data file.
    fn sealed_store(root: &Path, contents: &[&[u8]]) -> Dir {
        let options = Options::new();
        let store = options.open(root).unwrap();
        store.put_many(contents).unwrap();
        drop(store.begin_compaction().unwrap());
        store.close().unwrap();
        options.open_dir(root).unwrap().unwrap()
    }

    fn entry(offset: u64, len: u32) -> Entry {
        Entry {
            digest: Digest::from(ABSENT),
            offset,
            len,
        }
    }

    /// Replaces the sidecar by one of `entries`, and changes the manifest to match.
    fn forge_sidecar(dir: &Dir, mut entries: Vec<Entry>) -> Sidecar<Vec<u8>> {
        let sidecar = Sidecar::build(&mut entries);
        let sidecar_path = dir.segment_path(SEGMENT, FileKind::Sidecar);
        fs::write(&sidecar_path, sidecar.as_bytes()).unwrap();
        let mut manifest = Manifest::parse(&dir.read_manifest().unwrap().unwrap()).unwrap();
        let data_bytes = manifest.sealed[&SEGMENT].data_bytes;
        let binding = binding_of(&sidecar, data_bytes);
        manifest.sealed.insert(SEGMENT, binding);
        let path = sidecar_path.with_file_name("MANIFEST");
        fs::write(path, manifest.encode()).unwrap();
        sidecar
    }

    /// Builds a run from the forged sidecar.
    fn forge_run(dir: &Dir, sidecar: &Sidecar<Vec<u8>>) {
        let reading = Options::new().reading();
        let data_bytes = fs::metadata(dir.segment_path(SEGMENT, FileKind::Data));
        let data_bytes = data_bytes.unwrap().len();
        let forged = Sealed::with_sidecar(dir, SEGMENT, reading, data_bytes, sidecar).unwrap();
        let built = indexing::build(dir, 1, &[Arc::new(forged)], || false).unwrap();
        assert!(built.is_some());
    }

    /// Four hundred entries for one record, and as many for places in it that look like records.
    fn forged_entries() -> [Vec<Entry>; 2] {
        let at_one_place = (0..FORGED_ENTRIES).map(|_| entry(4, CONTENT_BYTES));
        let within = (0..FORGED_ENTRIES).map(|n| entry(8 + 4 * u64::from(n), CONTENT_BYTES / 4));
        [at_one_place.collect(), within.collect()]
    }

    /// Looks the digest up in each way, and returns the bytes that the first lookup hashed and the
    /// bytes that the most expensive later lookup hashed.
    fn work_of_gets(
        store: &Store,
        digest: &Digest,
        mut see: impl FnMut(Result<bool, Error>),
    ) -> [u64; 2] {
        let first = hashed_bytes(|| see(store.get(digest).map(|found| found.is_some())));
        let both = [*digest, Digest::from(ABSENT)];
        let mut see_many = |store: &Store| {
            // Two digests make a batch, which is hashed in lanes.
            for result in store.get_many(&both).into_iter().take(1) {
                see(result.map(|found| found.is_some()));
            }
        };
        let many = hashed_bytes(|| see_many(store));
        let again = hashed_bytes(|| see(store.get(digest).map(|found| found.is_some())));
        let contains = hashed_bytes(|| _ = store.contains(digest));
        assert_eq!(contains, 0);
        [first, many.max(again)]
    }

    #[test]
    fn h66_a_get_hashes_a_record_once_however_many_entries_lead_to_it() {
        for entries in forged_entries() {
            for with_run in [false, true] {
                for options in all_options() {
                    let folder = TempDir::new().unwrap();
                    let dir = sealed_store(folder.path(), &[&content()]);
                    let sidecar = forge_sidecar(&dir, entries.clone());
                    let sidecar_bytes = sidecar.as_bytes().len() as u64;
                    if with_run {
                        forge_run(&dir, &sidecar);
                    }
                    let store = options.open(folder.path()).unwrap();
                    assert_eq!(store.stats().set_index_runs, u64::from(with_run));
                    let [first, later] = work_of_gets(&store, &Digest::from(ABSENT), |result| {
                        assert!(matches!(
                            result,
                            Err(Error::CorruptIndex { segment: 0, .. })
                        ));
                    });
                    // The first lookup hashes the sidecar, the pages of the run, the data from
                    // which the sidecar is rebuilt, and the records to which the run leads.
                    let derived_bytes = sidecar_bytes + (64 << 10);
                    let data_bytes = u64::from(CONTENT_BYTES);
                    assert!(
                        first <= 2 * data_bytes + derived_bytes,
                        "{first} {options:?}"
                    );
                    // Both digests that are asked for are absent.
                    assert!(later <= 2 * data_bytes, "{later} {options:?}");
                    if !with_run {
                        let held = store.get(Digest::of(content())).unwrap();
                        assert!(held.is_some_and(|held| held[..] == content()));
                    }
                }
            }
        }
    }

    /// Up to four paths of a lookup lead to the same record even without forgery.
    #[test]
    fn h66_a_damaged_record_is_hashed_once_in_a_get() {
        let damaged = content();
        for with_run in [false, true] {
            for options in all_options() {
                let folder = TempDir::new().unwrap();
                let dir = sealed_store(folder.path(), &[&damaged, b"another"]);
                let options = if with_run {
                    options.set_index_minimum(1, 0)
                } else {
                    options
                };
                let store = options.open(folder.path()).unwrap();
                while store.stats().set_index_runs != u64::from(with_run) {
                    std::thread::yield_now();
                }
                store.close().unwrap();
                let path = dir.segment_path(SEGMENT, FileKind::Data);
                let mut data = fs::read(&path).unwrap();
                data[1000] ^= 1;
                fs::write(&path, data).unwrap();

                let store = options.open(folder.path()).unwrap();
                let digest = Digest::of(&damaged);
                // This first get checks the sidecar and the page of the run.
                assert!(store.get(digest).is_err());
                let works = work_of_gets(&store, &digest, |result| {
                    assert!(matches!(result, Err(Error::Corrupt { segment: 0, .. })));
                });
                assert_eq!(works, [u64::from(CONTENT_BYTES); 2], "{options:?}");
            }
        }
    }
}
