//! The lines of a list, which is a file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::exit::Failure;
use crate::sources::{cut_off, unreadable};

/// The byte order mark of UTF-8. Some editors on Windows write it at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The longest line, in bytes: many times as long as a path, and no matter for the memory.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The name of standard input in messages.
pub const STANDARD_INPUT: &str = "standard input";

/// Opens a list, and returns it behind its name for messages. `-` is standard input.
pub fn open(path: &Path) -> Result<(String, Box<dyn BufRead>), Failure> {
    if path == Path::new("-") {
        return Ok((STANDARD_INPUT.to_owned(), Box::new(io::stdin().lock())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), Box::new(BufReader::new(file))))
}

/// Yields each line with its number, without the byte order mark and the line feed. [`BufRead::lines`]
/// would refuse a name that is not UTF-8.
pub fn lines<R: BufRead>(name: &str, list: R) -> Lines<'_, R> {
    Lines {
        name,
        list,
        number: 0,
    }
}

pub struct Lines<'a, R> {
    name: &'a str,
    list: R,
    number: u64,
}

impl<R: Read> Lines<'_, BufReader<R>> {
    /// Returns whether the next line can be had without waiting for it.
    pub fn has_next(&self) -> bool {
        self.list.buffer().contains(&b'\n')
    }
}

impl<R: BufRead> Iterator for Lines<'_, R> {
    type Item = Result<(u64, Vec<u8>), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let mut limited = (&mut self.list).take(LINE_BYTES_MAX);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(cut_off(Path::new(self.name), &error))),
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == LINE_BYTES_MAX {
            let (name, number) = (self.name, self.number);
            let text = format!(
                "{name}, line {number}: it is longer than {LINE_BYTES_MAX} bytes; nothing was done \
                 with it; end each line with a line feed"
            );
            return Some(Err(Failure::Usage(text)));
        }
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Some(Ok((self.number, line)))
    }
}
