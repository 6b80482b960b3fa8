use super::*;

/// Returns each repair with the words that its sentence must have: which file, how much, and what
/// to do.
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
fn a_report_is_clean_until_it_has_a_repair() {
    let mut report = RecoveryReport::default();
    assert!(report.is_clean());
    report.push(Repair::MissingSegment { segment: 7 });
    assert!(!report.is_clean());
}

#[test]
fn each_repair_names_the_file_and_what_was_wrong() {
    for (repair, parts) in sentences() {
        let sentence = repair.to_string();
        for part in parts {
            assert!(sentence.contains(part), "{sentence:?} lacks {part:?}");
        }
    }
}
