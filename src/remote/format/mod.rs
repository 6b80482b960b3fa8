#![doc = include_str!("../FORMAT.md")]

mod nonce;
mod ref_manifest;

pub use nonce::{Nonce, ParseNonceError};
pub use ref_manifest::{RefManifest, RefSegment, RefState};
