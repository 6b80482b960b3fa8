//! Whether this process was forked.

#[cfg(all(target_os = "linux", not(miri)))]
use memmap2::MmapMut;
use memmap2::MmapRaw;

/// A mark that tells whether this process was forked since it was made, without a system call on
/// Linux, which empties the page in a forked process.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: Option<MmapRaw>,
    process: u32,
}

impl ForkMark {
    pub(crate) fn new() -> Self {
        Self {
            page: Self::page(),
            process: std::process::id(),
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn page() -> Option<MmapRaw> {
        let mut page = MmapMut::map_anon(1).ok()?;
        // SAFETY: the page is private memory of ours, as the call requires. It is emptied in a
        // forked process only, before any code there can read it.
        let advised = unsafe { libc::madvise(page.as_mut_ptr().cast(), 1, libc::MADV_WIPEONFORK) };
        page[0] = 1;
        (advised == 0).then(|| page.into())
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn page() -> Option<MmapRaw> {
        None
    }

    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        match &self.page {
            // SAFETY: the mapping has a byte, lives as long as `self`, and nobody writes to it: it
            // is empty from the start of a forked process.
            Some(page) => unsafe { page.as_ptr().read_volatile() == 0 },
            None => self.process != std::process::id(),
        }
    }
}
