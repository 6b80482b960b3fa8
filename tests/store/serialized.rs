//! What is serialized is read back as it was.

use std::fmt::Debug;
use std::fs;
use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::common::hash::new_options;
use crate::common::layout::{data_name, file, scratch, sidecar_name};
use crate::common::workload::content;
use sealstone::{
    CompactionStats, HashFunction, Problem, RecoveryReport, Repair, SegmentState, StoreStats,
    TrimStats, VerifyReport,
};

/// Checks that a value is the same after it was written as JSON and read.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
}

/// The store has a sealed segment, a segment that is appended to, and counts of events.
#[test]
fn statistics_of_a_store_and_of_a_compaction_come_back() {
    let folder = scratch();
    let store = new_options().open(folder.path()).unwrap();
    let live = store.put(content(1, 100)).unwrap();
    store.put(content(2, 100)).unwrap();
    drop(store.begin_compaction().unwrap());
    let stats = store.stats();
    assert!(stats.events.seals == 1 && stats.segments.len() == 2);
    comes_back(&stats);
    let compacted = store.compact(|digest| *digest == live).unwrap();
    assert_eq!(compacted.dropped_objects, 1);
    comes_back(&compacted);
    for state in [
        SegmentState::Active,
        SegmentState::Sealing,
        SegmentState::Sealed,
    ] {
        comes_back(&state);
    }
    HashFunction::ALL.iter().for_each(comes_back);
    comes_back(&live);
}

#[test]
fn the_report_on_a_damaged_store_comes_back() {
    let folder = scratch();
    let root = folder.path();
    let store = new_options().open(root).unwrap();
    for number in 0..2 {
        store.put(content(number, 100)).unwrap();
        drop(store.begin_compaction().unwrap());
    }
    store.close().unwrap();
    for name in [data_name(0), sidecar_name(1)] {
        let path = file(root, &name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
    fs::write(file(root, "seg-000009.idx.tmp"), "unfinished").unwrap();
    let store = new_options().read_only(true).open(root).unwrap();
    let report = store.verify(|_| ControlFlow::Continue(())).unwrap();
    let [_] = report.corrupt[..] else {
        panic!("one object is damaged: {report:?}");
    };
    assert!(!report.problems.is_empty() && !report.leftovers.is_empty());
    comes_back(&report);

    let store = new_options().open(root).unwrap();
    assert!(!store.recovery().is_clean());
    comes_back(store.recovery());
}

#[test]
fn a_problem_is_a_sentence_for_people_and_a_variant_for_programs() {
    let problem = Problem::ShortData { segment: 7 };
    let expected = json!({
        "segment": 7,
        "run": null,
        "what": problem.what(),
        "kind": { "ShortData": { "segment": 7 } },
    });
    assert_eq!(serde_json::to_value(&problem).unwrap(), expected);
    for problem in [
        problem,
        Problem::MissingManifest,
        Problem::DamagedRun { run: 3 },
        Problem::DamagedManifest {
            reason: "line 3".to_owned(),
        },
    ] {
        comes_back(&problem);
    }
}

/// An application that keeps reports can read those of an older version, which had fewer fields.
#[test]
fn fields_that_a_report_lacks_are_empty() {
    fn read<T: DeserializeOwned>() -> T {
        serde_json::from_value(json!({})).unwrap()
    }
    assert_eq!(read::<StoreStats>(), StoreStats::default());
    assert_eq!(read::<CompactionStats>(), CompactionStats::default());
    assert_eq!(read::<TrimStats>(), TrimStats::default());
    assert_eq!(read::<VerifyReport>(), VerifyReport::default());
    assert_eq!(read::<RecoveryReport>(), RecoveryReport::default());
}

#[test]
fn an_unknown_repair_is_refused() {
    let unknown = json!({ "MovedMountains": { "segment": 7 } });
    assert!(serde_json::from_value::<Repair>(unknown).is_err());
    comes_back(&Repair::KeptRetired { segment: 7 });
}
