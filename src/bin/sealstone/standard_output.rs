//! Whether the program was started with a standard output that it can write to.
//!
//! Rust opens `/dev/null` in place of a standard output that is closed (`sealstone ls >&-`), and takes
//! a write to a descriptor that was opened for reading as done. Both hide that nothing was printed.
//! Only code that runs before `main` can still see it.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static WRITABLE: AtomicBool = AtomicBool::new(true);

/// Returns whether standard output could be written to when the program was started. Systems other
/// than Linux are not asked: there the answer is always yes.
pub fn was_writable() -> bool {
    WRITABLE.load(Ordering::Relaxed)
}

// SAFETY: the loader calls each function in this section once, before `main` and before any other
// thread exists, in the C convention; the arguments that it passes are ignored. `look` keeps what such
// a function has to observe.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_BEFORE_MAIN: extern "C" fn() = look;

/// Asks the system for the mode of standard output. This runs before the standard library is set up,
/// so it calls nothing of it but an atomic store, allocates nothing and cannot panic.
#[cfg(target_os = "linux")]
extern "C" fn look() {
    // SAFETY: `F_GETFL` takes no pointer, and a descriptor that is not open is an error, not undefined.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    let writable = flags != -1 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    WRITABLE.store(writable, Ordering::Relaxed);
}
