//! The examples of the guide do what their pages say.

mod backup;
#[path = "../../src/guide/backup.rs"]
mod backup_tool;
#[path = "../../src/guide/block_store.rs"]
mod block_store;
#[path = "../../src/guide/build_cache.rs"]
mod build_cache;
mod examples;
mod moving_from_nedb;
#[path = "../../src/guide/nedb_adapter.rs"]
mod nedb_adapter;
