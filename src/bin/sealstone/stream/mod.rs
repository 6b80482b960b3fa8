//! The stream of objects that `export` writes and `import` reads.
//!
//! It has a head, any number of records, and an end. Numbers are little-endian.
//!
//! | part | bytes | content |
//! |---|---:|---|
//! | head | 8 | `sealstrm` |
//! | | 4 | the version, 1 |
//! | | 16 | the name of the hash function, filled up with zeros |
//! | record | 1 | `R` |
//! | | 32 | the digest of the content |
//! | | 4 | the length of the content |
//! | | | the content |
//! | end | 1 | `E` |
//! | | 8 | the number of records |
//! | | 8 | the length of all contents together |
//!
//! Nothing follows the end. A stream that was cut has no end, one that lost a record has another
//! number of records, and a record that was changed has content with another digest. [`Reader`] finds
//! the first two. Its caller compares the digests, because hashing many contents together is faster.
//!
//! The module uses nothing of the program around it, so that other programs can parse with it, such as
//! one that feeds the parser with random bytes.

mod reader;
mod writer;

pub use reader::{Reader, StreamError};
pub use writer::Writer;

const MAGIC: &[u8; 8] = b"sealstrm";
const VERSION: u32 = 1;
/// Bytes of the name of the hash function.
const NAME_BYTES: usize = 16;
const RECORD: u8 = b'R';
const END: u8 = b'E';
