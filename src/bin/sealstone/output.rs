//! Standard output that survives a closed pipe, and lines for standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::Path;

use serde::Serialize;

/// Standard output. When its reader goes away (`sealstone ls | head`), what follows is thrown
/// away and is not an error, so that the exit code still says how the work itself went.
pub struct Output {
    stdout: BufWriter<Stdout>,
    closed: bool,
}

impl Output {
    pub fn stdout() -> Self {
        Self {
            stdout: BufWriter::new(io::stdout()),
            closed: false,
        }
    }

    /// Nobody reads any more: a command that only prints can stop.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// A JSON document, or a line of many.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.json_value(value)?;
        self.write_all(b"\n")?;
        Ok(())
    }

    pub fn json_value(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(self, value).map_err(io::Error::from)?;
        Ok(())
    }

    pub fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.flush()?)
    }

    fn settle<T>(&mut self, result: io::Result<T>, if_closed: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(if_closed)
            }
            // `write_all` retries these by their kind.
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("standard output: {error}; free some space or send it elsewhere"),
            )),
            done => done,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let result = self.stdout.write(bytes);
        self.settle(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.stdout.flush();
        self.settle(result, ())
    }
}

/// A line on standard error. Unlike `eprintln!` it does not panic if nobody can read it.
pub fn complain(message: impl Display) {
    say(format_args!("sealstone: {message}"));
}

/// A line on standard error, as it is.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// `DIGEST  PATH` as coreutils' `b2sum` writes it: a name that would break the line is escaped,
/// and a backslash before the digest says so. On Unix the bytes of the name are kept as they are.
pub fn checksum_line(digest: &impl Display, path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_encoded_bytes();
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            _ => escaped.push(byte),
        }
    }
    let mark = if escaped.len() == name.len() {
        ""
    } else {
        "\\"
    };
    let mut line = format!("{mark}{digest}  ").into_bytes();
    line.append(&mut escaped);
    line.push(b'\n');
    line
}

/// `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", indicatif::HumanCount(number))
}

/// `4.00 KiB (4,096 bytes)`; small sizes only once.
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
    fn names_that_would_break_a_line_are_escaped_as_b2sum_does() {
        let line = |name: &str| String::from_utf8(checksum_line(&"d1", Path::new(name))).unwrap();
        assert_eq!(line("plain name"), "d1  plain name\n");
        assert_eq!(line("a\nb"), "\\d1  a\\nb\n");
        assert_eq!(line("a\\b\r"), "\\d1  a\\\\b\\r\n");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1200, "file"), "1,200 files");
        assert_eq!(size(12), "12 bytes");
        assert_eq!(size(4096), "4.00 KiB (4,096 bytes)");
    }
}
