//! Printing: standard output, whose reader may go away, and the words for counts and sizes.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Stdout, Write};

use serde::Serialize;

use crate::standard_output;
use crate::terminal::visible;

/// As much as a pipe holds.
const BUFFER_BYTES: usize = 64 << 10;

/// Why nothing can be printed if standard output was unwritable from the start.
pub const READ_ONLY: &str = "it is open for reading only";

/// Standard output. When its reader goes away (`sealstone ls | head`), the rest is thrown away and is
/// not an error, so that the exit code still says how the work itself went.
pub struct Output {
    stdout: BufWriter<Stdout>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It is open for reading only.
    ReadOnly,
    ReaderGone,
    /// A write failed, and the caller has the error.
    Failed,
}

impl Output {
    pub fn stdout() -> Self {
        let state = if standard_output::is_writable() {
            State::Open
        } else {
            State::ReadOnly
        };
        Self {
            stdout: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()),
            state,
        }
    }

    /// Returns whether the reader has gone away, so that a command that only prints can stop.
    pub fn reader_is_gone(&self) -> bool {
        self.state == State::ReaderGone
    }

    /// Prints lines that contain names of files. On a terminal, control characters of a name are
    /// escaped.
    pub fn names(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        if self.stdout.get_ref().is_terminal() {
            self.write_all(&visible(lines))?;
        } else {
            self.write_all(lines)?;
        }
        Ok(())
    }

    /// Prints a JSON document, or one line of a stream of them.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut *self, value).map_err(io::Error::from)?;
        self.write_all(b"\n")?;
        Ok(())
    }

    /// Writes what is still buffered. A failure that a caller was told of before is not repeated.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if self.state == State::Open {
            self.flush()?;
        }
        Ok(())
    }

    fn settle<T>(&mut self, result: io::Result<T>, if_reader_is_gone: T) -> io::Result<T> {
        let error = match result {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::BrokenPipe => {
                self.state = State::ReaderGone;
                Ok(if_reader_is_gone)
            }
            // `write_all` retries after this kind.
            ErrorKind::Interrupted => Err(error),
            _ => {
                self.state = State::Failed;
                Err(unwritable(&error))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.state {
            State::Open | State::Failed => {
                let result = self.stdout.write(bytes);
                self.settle(result, bytes.len())
            }
            State::ReaderGone => Ok(bytes.len()),
            State::ReadOnly => Err(unwritable(&READ_ONLY)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.state {
            State::Open | State::Failed => {
                let result = self.stdout.flush();
                self.settle(result, ())
            }
            // `write` has returned the error if there was anything to print.
            State::ReaderGone | State::ReadOnly => Ok(()),
        }
    }
}

/// Returns the error of a standard output that cannot be written to for this reason.
pub fn unwritable(reason: &impl Display) -> io::Error {
    io::Error::other(format!(
        "standard output: {reason}; free some space or send it elsewhere"
    ))
}

/// Returns a number with its noun: `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", indicatif::HumanCount(number))
}

/// Returns a size in words: `4.00 KiB (4,096 bytes)`, or only `12 bytes` below 1,024.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        count(bytes, "byte")
    } else {
        let exact = count(bytes, "byte");
        format!("{} ({exact})", indicatif::HumanBytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_given_in_bytes_and_if_it_is_large_in_a_larger_unit_too() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1200, "file"), "1,200 files");
        assert_eq!(size(12), "12 bytes");
        assert_eq!(size(4096), "4.00 KiB (4,096 bytes)");
    }
}
