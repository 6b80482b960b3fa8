//! Reads of the data files without a store. They bound a get and a scan from below.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rand::RngExt;
use rustix::fs::{Advice, fadvise};

use super::{Job, Sample, measured, microseconds_each_of};
use crate::peer::Peer;
use crate::peers::Sealstone;

/// What Sealstone writes before each content.
const RECORD_HEADER_BYTES: usize = 4;
/// The bytes of each read in order.
const IN_ORDER_BYTES: usize = 128 << 10;

/// Returns the data files of Sealstone and their lengths.
fn data_files(folder: &Path) -> Vec<(File, u64)> {
    let folder = folder.join(Sealstone::FOLDER).join("segments");
    let entries = fs::read_dir(folder).expect("Sealstone has this folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .collect();
    paths.sort_unstable();
    let open = |path| {
        let file = File::open(path).expect("the file can be read");
        let bytes = file.metadata().expect("the file is there").len();
        (file, bytes)
    };
    paths.iter().map(open).collect()
}

/// Reads as many bytes as a record has, at random positions.
pub fn at_random(job: &Job, folder: &Path) -> Sample {
    let mut record = vec![0; RECORD_HEADER_BYTES + job.content_bytes()];
    let mut files = data_files(folder);
    for (file, bytes) in &mut files {
        fadvise(&*file, 0, None, Advice::Random).expect("this is Linux");
        *bytes = bytes.saturating_sub(record.len() as u64); // the last position
    }
    let positions: u64 = files.iter().map(|file| file.1).sum();
    let mut rng = job.rng();
    let mut draw = || {
        let mut position = rng.random_range(0..positions);
        let file = files.iter().find(|file| {
            let is_here = position < file.1;
            position -= if is_here { 0 } else { file.1 };
            is_here
        });
        (&file.expect("it is below the sum").0, position)
    };
    let mut draw_all = |count| (0..count).map(|_| draw()).collect::<Vec<_>>();
    let (before, picks) = (draw_all(job.gets_before), draw_all(job.gets));
    let mut read = |picks: &[(&File, u64)]| {
        for (file, position) in picks {
            let read = file.read_exact_at(&mut record, *position);
            read.expect("the file can be read");
            black_box(&record);
        }
    };
    read(&before);
    measured(folder, job.gets, || {
        let start = Instant::now();
        read(&picks);
        microseconds_each_of(start, job.gets)
    })
}

/// Reads all files in their order.
pub fn in_order(job: &Job, folder: &Path) -> Sample {
    let mut buffer = vec![0; IN_ORDER_BYTES];
    let files = data_files(folder);
    measured(folder, job.objects, || {
        let start = Instant::now();
        for (mut file, _) in files {
            while file.read(&mut buffer).expect("the file can be read") > 0 {
                black_box(&buffer);
            }
        }
        microseconds_each_of(start, job.objects)
    })
}
