//! Sealstone: a content-addressed object store. This is its file format.
#![deny(unsafe_code)]

mod digest;
mod error;
pub mod format;

pub use digest::{DIGEST_BYTES, Digest, DigestMismatch, Hashed, ParseDigestError};
pub use error::{Error, Result};
