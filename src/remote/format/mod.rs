#![doc = include_str!("../FORMAT.md")]

mod names;
mod nonce;
mod ref_manifest;
mod writer_state;

pub use names::RefName;
pub(super) use names::{
    CLOCKS, FolderFile, NUMBER_MAX, PROBES, REFS, RefFileKind, SEGMENTS, manifest_name,
    manifest_number,
};
pub use nonce::{Nonce, ParseNonceError};
pub use ref_manifest::{RefManifest, RefRun, RefSegment, RefState};
pub use writer_state::{KnownRef, Uploading, WriterState};
