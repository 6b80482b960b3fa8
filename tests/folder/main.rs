//! What is in the folder: files of ours from every version, those of NEDB v3, and what somebody else made of them.

#[path = "../common/mod.rs"]
mod common;

mod compat;
mod fixtures;
mod hostile;
mod moments;
mod nedb_sidecars;
mod readers;
mod recovery;
mod turns;
