//! Files that stay in the system's memory while more than fits into it is read.

use std::fs::File;

/// Reads the first `len` bytes of a file and has the system keep them, while a walk reads more than
/// fits into memory. If the system refuses, only speed is lost.
///
/// When Linux makes room, it keeps pages that were read twice through a descriptor, and gives up others
/// first. A read through a map that is advised [random](super::Map::advise_random) does not count.
/// So without this call an index goes as early as the data of a walk, although the walk reads each
/// page of the index a hundred times. `sendfile` hands the pages over to the null device and copies
/// nothing: 10 MiB take 0.5 ms.
pub(crate) fn keep_in_memory(file: &File, len: u64, null_device: &File) {
    #[cfg(not(target_os = "linux"))]
    let _ = (file, len, null_device);
    #[cfg(target_os = "linux")]
    {
        let mut begin = 0;
        // Each block is read twice before the next, so that it is read from the disk once.
        while begin < len {
            let end = len.min(begin + BLOCK_BYTES);
            let sent = [(); 2].map(|()| send(file, begin..end, null_device));
            if sent.contains(&false) {
                return;
            }
            begin = end;
        }
    }
}

/// Bytes that are read twice before the next.
#[cfg(target_os = "linux")]
const BLOCK_BYTES: u64 = 1 << 20;

/// Sends bytes of a file to another. Returns whether all of them were there and could be sent.
#[cfg(target_os = "linux")]
fn send(file: &File, range: std::ops::Range<u64>, to: &File) -> bool {
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        // The call moves `at`.
        if !matches!(rustix::fs::sendfile(to, file, Some(&mut at), left), Ok(1..)) {
            return false;
        }
    }
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_sent_up_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 300_000]).unwrap();
        let null_device = File::options().write(true).open("/dev/null").unwrap();
        keep_in_memory(&file, u64::MAX >> 1, &null_device);
        let is_sent = |range| send(&file, range, &null_device);
        assert!(
            [0..0, 0..1, 4095..200_000, 0..300_000]
                .into_iter()
                .all(is_sent)
        );
        assert!(!is_sent(299_999..300_001) && !is_sent(1 << 40..1 << 41));
        assert!(!send(&null_device, 0..10, &file));
    }
}
