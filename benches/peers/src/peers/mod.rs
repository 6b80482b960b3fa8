//! The stores that are compared, a file for each.

mod fjall;
mod lmdb;
mod parity_db;
mod redb;
pub mod sealstone;

pub use self::fjall::Fjall;
pub use self::lmdb::Lmdb;
pub use self::parity_db::ParityDb;
pub use self::redb::Redb;
pub use self::sealstone::{FirstRead, PinnedReader, PinnedReaderFirstRead, Sealstone};
