//! The examples of the guide do what their pages say.

mod moving_from_nedb;
#[path = "../../src/guide/nedb_adapter.rs"]
mod nedb_adapter;
