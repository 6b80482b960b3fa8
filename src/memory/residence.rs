//! Which pages of a mapped file are in memory, and giving up those that are not needed any more.

use std::fs::File;
use std::ops::Range;

use super::map::{Map, PAGE_BYTES};

impl Map {
    /// Returns the parts of the readable bytes that are on the disk only, in order, by whole pages. Pass
    /// the file that is mapped. `None` if the system does not say.
    pub(crate) fn parts_on_disk(&self, file: &File) -> Option<Vec<Range<u64>>> {
        let pages = self.residence(file)?;
        let mut begin = 0;
        let mut parts = Vec::new();
        for same in pages.chunk_by(|a, b| a == b) {
            let end = begin + (same.len() * PAGE_BYTES) as u64;
            if same[0] == 0 {
                parts.push(begin..end);
            }
            begin = end;
        }
        Some(parts)
    }

    /// For each page, 1 if it is in memory and 0 if it is not. `None` if the system does not say.
    fn residence(&self, file: &File) -> Option<Vec<u8>> {
        #[cfg(not(target_os = "linux"))]
        let _ = file;
        #[cfg(target_os = "linux")]
        if is_owned(file) && rustix::param::page_size() == PAGE_BYTES {
            let bytes = self.bytes();
            let mut pages = vec![0; bytes.len().div_ceil(PAGE_BYTES)];
            // SAFETY: The range is mapped for as long as `self` is borrowed, and begins at a page, since
            // a map does. The system fills a byte for each page of the range, and `pages` has as many.
            let result = unsafe {
                let begin = bytes.as_ptr().cast_mut().cast();
                libc::mincore(begin, bytes.len(), pages.as_mut_ptr())
            };
            if result == 0 {
                // The other bits have no meaning.
                for page in &mut pages {
                    *page &= 1;
                }
                return Some(pages);
            }
        }
        None
    }

    /// Takes the pages of a range out of the page table, so that the system can give them up. A read
    /// enters a page again, from memory if it is still there.
    pub(crate) fn forget(&self, range: Range<u64>) {
        #[cfg(not(target_os = "linux"))]
        let _ = range;
        #[cfg(target_os = "linux")]
        if let (Some((begin, end)), Some(raw)) = (self.pages_of(range), self.raw()) {
            // SAFETY: The map is read-only and of a file, so a page that is read again has the bytes of
            // the file, as before.
            let _ = unsafe {
                raw.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, begin, end - begin)
            };
        }
    }
}

/// Whether this process owns a file. Of a file that a process neither owns nor may write, Linux says that
/// all pages are in memory.
#[cfg(target_os = "linux")]
fn is_owned(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;

    let user = rustix::process::geteuid();
    user.is_root()
        || file
            .metadata()
            .is_ok_and(|metadata| metadata.uid() == user.as_raw())
}

/// Has the system give up a part of a file that is in memory and that nobody has in a page table.
pub(crate) fn give_up(file: &File, part: Range<u64>) {
    #[cfg(not(target_os = "linux"))]
    let _ = (file, part);
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(part.end.saturating_sub(part.start)) {
        // If it is refused, the system gives up the part when it makes room.
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(file, part.start, Some(len), advice);
    }
}
