//! Several processes, and processes that end or move while a store is open.

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod descriptors;
mod kill;
mod lock;
mod moved;
mod read_only_mount;
mod strange;
mod writer;
