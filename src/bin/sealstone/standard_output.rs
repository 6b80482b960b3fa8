//! Whether standard output can be written to.
//!
//! Rust takes a write to a descriptor that is open for reading only as done, which hides that nothing
//! was printed. A standard output that is closed (`sealstone ls >&-`) is not found: Rust opens
//! `/dev/null` in its place before `main`, and that cannot be told from a `/dev/null` of the caller.

#[cfg(unix)]
use rustix::fs::{OFlags, fcntl_getfl};

/// Returns whether standard output is open for writing. On systems other than Unix, which are not
/// asked, the answer is always yes.
pub fn is_writable() -> bool {
    #[cfg(unix)]
    {
        let mode = fcntl_getfl(std::io::stdout()).map(|flags| flags & OFlags::ACCMODE);
        mode.is_ok_and(|mode| mode != OFlags::RDONLY)
    }
    #[cfg(not(unix))]
    true
}
