//! What a store cannot have more of: room on the disk, bytes in a file, file descriptors, address
//! space, maps, segments, letters in a path.
//!
//! The limits are real ones, set in processes of their own: the test program starts itself again. By
//! default samples are tried; everything, in a few minutes: `SEALSTONE_LIMITS=all cargo test --release
//! --test limits -- --nocapture`.

#![cfg(unix)]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod full_disk;
mod life;
mod path;
mod resources;
mod segments;

/// How far the values of a limit that are tried lie apart.
fn stride(default: usize) -> usize {
    if is_long() { 1 } else { default }
}

fn is_long() -> bool {
    std::env::var_os("SEALSTONE_LIMITS").is_some_and(|value| value == "all")
}
