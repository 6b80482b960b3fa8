//! Modules that several test programs share.
#![allow(dead_code)] // Each program uses a part of them.

pub mod hash;
pub mod layout;
pub mod nedb;
pub mod nedb_writer;
#[cfg(target_os = "linux")]
pub mod page_cache;
pub mod tally;
pub mod workload;
