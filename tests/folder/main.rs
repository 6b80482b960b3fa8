//! A store opens folders of every kind: of each version, of NEDB v3, and changed by other programs.

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
