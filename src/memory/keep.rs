//! Files that stay in the system's memory while more than fits into it is read.

use std::fs::File;

/// Reads the first `len` bytes of a file and has the system keep them, while a walk reads more than
/// fits into memory. If the system refuses, only speed is lost.
///
/// What is read twice by its descriptor is given up last. Reads of a map that is advised
/// [random](super::Map::advise_random) do not count for that, so without this call the system gives
/// up an index, of which each page is read a hundred times, as soon as the data. The bytes go to the
/// null device by `sendfile`, which hands over pages and copies nothing: 10 MiB take 0.5 ms.
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
    use std::os::fd::AsRawFd;

    let Ok(mut at) = libc::off64_t::try_from(range.start) else {
        return false;
    };
    let mut left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    while left > 0 {
        // SAFETY: both descriptors are open, and `at` is the only memory that the call changes.
        let sent = unsafe { libc::sendfile64(to.as_raw_fd(), file.as_raw_fd(), &raw mut at, left) };
        match usize::try_from(sent) {
            Ok(sent @ 1..) => left = left.saturating_sub(sent),
            Ok(0) | Err(_) => return false,
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
