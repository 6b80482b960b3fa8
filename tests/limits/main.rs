//! Resources that a store may run out of: room on the disk, bytes in a file, file descriptors,
//! address space, maps, segments, letters in a path.
//!
//! The limits are real ones, set in processes of their own: the test program starts itself again.
//! By default it tries samples. `SEALSTONE_LIMITS=all cargo test --release --test limits --
//! --nocapture` tries everything, in a few minutes.

#![cfg(unix)]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod full_disk;
mod life;
mod path;
mod resources;
mod segments;

/// Returns the distance between two values of a limit that are tried.
fn stride(default: usize) -> usize {
    if is_long() { 1 } else { default }
}

fn is_long() -> bool {
    std::env::var_os("SEALSTONE_LIMITS").is_some_and(|value| value == "all")
}
