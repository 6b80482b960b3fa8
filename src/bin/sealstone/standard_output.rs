//! Whether the program was started with a standard output that it can write to.
//!
//! Rust opens `/dev/null` in place of a closed standard output (`sealstone ls >&-`), and takes a write
//! to a descriptor that is open for reading only as done. Both hide that nothing was printed, and only
//! code that runs before `main` can tell.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static WRITABLE: AtomicBool = AtomicBool::new(true);

/// Returns whether standard output could be written to when the program was started. Systems other
/// than Linux are not asked: there the answer is always yes.
pub fn was_writable() -> bool {
    WRITABLE.load(Ordering::Relaxed)
}

// SAFETY: the loader calls each function in this section once, in the C convention, before `main` and
// before another thread exists. `look` ignores the arguments and needs nothing that is set up later.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_BEFORE_MAIN: extern "C" fn() = look;

/// Asks the system for the mode of standard output. The standard library is not set up yet, so this
/// uses an atomic store of it and nothing else, allocates nothing, and cannot panic.
#[cfg(target_os = "linux")]
extern "C" fn look() {
    // SAFETY: `F_GETFL` takes no pointer, and for a descriptor that is not open it returns -1.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    let writable = flags != -1 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    WRITABLE.store(writable, Ordering::Relaxed);
}
