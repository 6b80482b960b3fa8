//! Whether standard input was closed when the program began (`sealstone put - <&-`).

/// Returns whether standard input was closed. Rust opens `/dev/null` in its place before `main`, for
/// reading and writing, while a shell opens it for reading only. So a `/dev/null` that a caller has opened
/// for both counts as closed, too: nothing was meant to be read from it, either. On systems other than
/// Unix, which are not asked, the answer is always no.
pub fn is_closed() -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{OFlags, fcntl_getfl};
        use same_file::Handle;

        let mode = fcntl_getfl(std::io::stdin()).map(|flags| flags & OFlags::ACCMODE);
        mode.is_ok_and(|mode| mode == OFlags::RDWR)
            && Handle::stdin()
                .is_ok_and(|stdin| Handle::from_path("/dev/null").is_ok_and(|null| stdin == null))
    }
    #[cfg(not(unix))]
    false
}
