//! Which syncs of the engine are needed: without any one of them a violation is found, or a reason
//! explains why there is none (C2).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use crate::common::hash::hash_function;
use crate::explore::{self, Exploration, Plan, scratch};
use crate::log::Event;
use crate::number_from;

/// Syncs whose absence alone no crash shows, and why. They are identified by the synced file or
/// folder and the functions that led there.
const EXPLAINED: [(&str, &str); 8] = [
    (
        "file in replace: resume_journal < recover",
        "a journal is never needed, and each of its frames carries a checksum of all before it, so \
         the frames that are left are right",
    ),
    (
        "folder in replace: resume_journal < recover",
        "the old journal may note bytes that were cut off. But nothing is acknowledged before the \
         first sync after opening, which makes both the name of the active segment and this one \
         durable, or before the segment is sealed, which needs no journal",
    ),
    (
        "folder in replace: adopt_sealed < open_unlisted",
        "the folder is synced again before the manifest that lists the segment",
    ),
    (
        "folder in replace: finish < open_writer",
        "the next opening repeats what this one did; the files of segments that the manifest no \
         longer lists as retired were gone for good before",
    ),
    (
        "folder in replace: commit < seal",
        "data and sidecar are durable, and the next opening adopts them if the manifest does not \
         list them; but it must read them to do so, and lacks what the manifest binds together",
    ),
    (
        "folder in replace: commit < forget_retired",
        "the old manifest lists segments whose files were gone for good before; the next opening \
         forgets them as well, and compares a segment that another program made under such an id \
         with the line",
    ),
    (
        "folder: checkpoint < checkpoint",
        "the first sync keeps the empty segment above from outliving the names of the segments \
         below, which few crashes cause; `h12_a_checkpoint_is_durable_when_it_returns` watches the \
         order. The second makes the name of that segment durable, without which the next opening \
         creates another",
    ),
    (
        "folder: finish < open_writer",
        "files that a killed process had removed come back if the power fails in the next opening; \
         these lives end with a loss of power",
    ),
];

/// Returns the sites of all syncs in some lives and after their crashes, with their counts.
fn sites() -> BTreeMap<String, u64> {
    let folder = scratch();
    let mut sites = BTreeMap::new();
    let mut note = |events: &[Event]| {
        for event in events {
            if let Event::SyncFile(_, Some(site)) | Event::SyncDir(_, Some(site)) = event {
                *sites.entry(site.to_string()).or_default() += 1;
            }
        }
    };
    for seed in 1..=24 {
        explore::sample(folder.path(), seed, &mut note);
    }
    sites
}

/// Returns after how many images the absence of a sync is noticed, and by which violation.
fn notices(site: &str, images: u64) -> Option<(u64, String)> {
    let explored = Exploration::run(Plan {
        function: hash_function(),
        first_seed: 1,
        images,
        unsynced: Some(site.to_owned()),
        with_sites: true,
        moments_every: 8,
        random_images: 2,
        nested_every: 100,
    });
    let violation = explored.violation.lock().unwrap().take()?;
    if std::env::var("SHOWALL").is_ok() {
        eprintln!("{violation}");
    }
    let first_line = violation.lines().next().unwrap_or_default().to_owned();
    Some((explored.counts.checked.load(Relaxed), first_line))
}

/// Returns the name of a site without line numbers, which change.
fn without_lines(site: &str) -> String {
    let frames = site.split(" < ").map(|frame| match frame.split_once(" (") {
        Some((function, _line)) => function,
        None => frame,
    });
    frames.collect::<Vec<_>>().join(" < ")
}

/// `SEALSTONE_CRASH_SITES` chooses sites whose names hold this.
#[test]
#[ignore = "takes minutes; prints the table"]
fn the_absence_of_each_sync_is_noticed_or_explained() {
    let images = number_from("SEALSTONE_CRASH_IMAGES").unwrap_or(20_000);
    let chosen = std::env::var("SEALSTONE_CRASH_SITES").unwrap_or_default();
    let sites = sites();
    assert!(
        sites.len() > 30,
        "{sites:?}; a stripped program does not name places: build it with `--profile traced`"
    );
    let mut wrong = Vec::new();
    let (mut noticed, mut explained) = (0, 0);
    for (site, count) in sites.iter().filter(|(site, _)| site.contains(&chosen)) {
        let name = without_lines(site);
        let why = EXPLAINED.iter().find(|(explained, _)| *explained == name);
        let before = wrong.len();
        match (notices(site, images), why) {
            (Some((images, what)), None) => {
                noticed += 1;
                eprintln!("{images:8} images: {site} ({count} times): {what}");
            }
            (None, Some((_, why))) => {
                explained += 1;
                eprintln!("      explained: {site} ({count} times): {why}");
            }
            (Some((images, what)), Some(_)) => {
                wrong.push(format!("{site} is needed: after {images} images {what}"));
            }
            (None, None) => wrong.push(format!("{site} ({name}, {count} times) is not noticed")),
        }
        for wrong in &wrong[before..] {
            eprintln!("          WRONG: {wrong}");
        }
    }
    eprintln!("{noticed} are noticed, {explained} are explained");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
