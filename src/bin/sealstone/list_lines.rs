//! The lines of a list, which is a file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::exit::Failure;
use crate::sources::unreadable;

/// The byte order mark of UTF-8. Some editors on Windows write it at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Opens a list, and returns it behind its name for messages. `-` is standard input.
pub fn open(path: &Path) -> Result<(String, Box<dyn BufRead>), Failure> {
    if path == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), Box::new(BufReader::new(file))))
}

/// Yields each line with its number, without the byte order mark and the line feed. `lines()` would
/// refuse a name that is not UTF-8.
pub fn lines(
    name: &str,
    list: impl BufRead,
) -> impl Iterator<Item = Result<(u64, Vec<u8>), Failure>> {
    (1..).zip(list.split(b'\n')).map(move |(number, line)| {
        let mut line = line.map_err(|error| {
            Failure::Io(format!("{name}: not read to its end: {error}; try again"))
        })?;
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok((number, line))
    })
}
