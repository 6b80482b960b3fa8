//! Tests how the work of operations on all segments grows with their number.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use tempfile::TempDir;

    use crate::digest::Digest;
    use crate::dir::FileKind;
    use crate::format::{Entry, Manifest, SealedSegment, Sidecar, record};
    use crate::options::Options;
    use crate::recovery;
    use crate::recovery::reader::Reader;
    use crate::segment::Sealed;
    use crate::segment_set::SegmentSet;
    use crate::store::statistics::stats;
    use crate::visits::visits_of;

    const CONTENT: &[u8] = b"content";

    fn options() -> Options {
        Options::new().maps_max(16)
    }

    /// Makes a folder of `count` sealed segments. They hold the same object, so all are links to
    /// the same two files.
    fn make_segments(root: &Path, count: u32) {
        let dir = options().create_dir(root).unwrap();
        let len = u32::try_from(CONTENT.len()).unwrap();
        let entry = Entry {
            digest: Digest::of(CONTENT),
            offset: record::HEADER_BYTES,
            len,
        };
        let data = [&record::header(len)[..], CONTENT].concat();
        let sidecar = Sidecar::build(&mut [entry]);
        let (data_file, sidecar_file) = (root.join("data"), root.join("sidecar"));
        fs::write(&data_file, &data).unwrap();
        fs::write(&sidecar_file, sidecar.as_bytes()).unwrap();
        for id in 0..count {
            fs::hard_link(&data_file, dir.segment_path(id, FileKind::Data)).unwrap();
            fs::hard_link(&sidecar_file, dir.segment_path(id, FileKind::Sidecar)).unwrap();
        }
        let binding = SealedSegment {
            data_bytes: data.len() as u64,
            objects: 1,
            sidecar_checksum: sidecar.checksum(),
        };
        let manifest = Manifest {
            next_id: u64::from(count),
            sealed: (0..count).map(|id| (id, binding)).collect(),
            ..Manifest::default()
        };
        fs::write(dir.manifest_path(), manifest.encode()).unwrap();
    }

    /// Number of looks that each operation takes with `count` segments.
    fn looks_with(count: u32) -> BTreeMap<&'static str, u64> {
        let folder = TempDir::new().unwrap();
        make_segments(folder.path(), count);
        let options = options();
        let dir = options.open_dir(folder.path()).unwrap().unwrap();
        let mut looks = BTreeMap::new();

        let mut reader = Reader::default();
        let nothing = SegmentSet::default();
        let (taken, loaded) = visits_of(|| reader.load(&dir, &options, &nothing));
        let set = loaded.unwrap().0;
        assert_eq!(set.sealed().len(), count as usize);
        looks.insert("open a reader", taken);
        let (taken, loaded) = visits_of(|| reader.load(&dir, &options, &set));
        assert!(loaded.unwrap().0.is_same_as(&set));
        looks.insert("refresh", taken);

        let (taken, counted) = visits_of(|| stats(&set));
        assert_eq!(counted.objects, u64::from(count));
        looks.insert("stats", taken);

        let binding = *set.sealed()[0].binding();
        let open = |id| Sealed::open(&dir, id, options.reading(), binding);
        let newest = Arc::new(open(count - 1).unwrap());
        let (taken, _) = visits_of(|| set.with_sealed(Arc::clone(&newest)));
        looks.insert("publish a seal", taken);
        let odd: BTreeSet<u32> = (0..count).filter(|id| id % 2 == 1).collect();
        let outputs: Vec<Arc<Sealed>> = set.sealed().iter().take(odd.len()).cloned().collect();
        let (taken, _) = visits_of(|| set.with_replaced(&odd, &outputs));
        looks.insert("publish a compaction", taken);
        let (taken, _) = visits_of(|| set.with_run(&[], None));
        looks.insert("publish a run", taken);
        drop((set, outputs, newest));

        let (taken, opened) = visits_of(|| recovery::open_writer(&dir, &options));
        assert_eq!(opened.unwrap().set.sealed().len(), count as usize);
        looks.insert("open a writer", taken);

        // NEDB v3 leaves a store without a manifest.
        fs::remove_file(dir.manifest_path()).unwrap();
        let mut reader = Reader::default();
        let (taken, loaded) = visits_of(|| reader.load(&dir, &options, &nothing));
        let set = loaded.unwrap().0;
        looks.insert("open a reader without a manifest", taken);
        let (taken, loaded) = visits_of(|| reader.load(&dir, &options, &set));
        loaded.unwrap();
        looks.insert("refresh without a manifest", taken);
        looks
    }

    #[test]
    fn h67_operations_on_all_segments_take_work_in_proportion_to_their_number() {
        let few = looks_with(1000);
        let many = looks_with(32_000);
        eprintln!("1,000: {few:?}\n32,000: {many:?}");
        for (operation, taken) in many {
            assert!(taken > 0, "{operation} is not counted");
            // There are 32 times as many segments. The limit is twice that, for searches among
            // them; quadratic work would be a thousand times as much.
            let few = few[operation];
            assert!(taken <= 64 * few, "{operation}: {few} and {taken}");
        }
    }
}
