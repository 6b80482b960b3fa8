//! Modules that several test programs share.
#![allow(dead_code)] // Each of them uses a part of it.

pub mod layout;
pub mod nedb;
pub mod nedb_writer;
pub mod tally;
pub mod workload;
